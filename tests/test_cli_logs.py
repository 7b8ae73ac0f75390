"""The command `logs`: what the runs of a job have logged, also as they go on."""

import logging
import signal
import subprocess
import sys
import threading

import pytest
from click.testing import CliRunner

from crash.watching import until
from litequeue import Queue, current_job
from litequeue.cli import main

SHOP = logging.getLogger("litequeue's test of the command logs")


@pytest.fixture
def queue(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SHOP.disabled = False  # as another test may leave it
    SHOP.setLevel(logging.INFO)
    with Queue("app.db", durability="normal", job_logs="4KiB") as queue:
        yield queue
    SHOP.setLevel(logging.NOTSET)


@pytest.fixture
def pack(queue):
    @queue.task(name="pack", retries=1, backoff=0)
    def pack(*texts):
        for text in texts:
            SHOP.info(text)
        if "fail once" in texts and current_job().attempt == 1:
            raise ValueError("torn")

    return pack


def call(*arguments, code=0):
    result = CliRunner().invoke(main, ["logs", *arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def texts(output):
    return [line.split(": ", 1)[-1] for line in output.splitlines()]


def work(queue):
    queue.worker(threads=1).run(until_idle=True)


def test_the_lines_of_each_run_are_printed(queue, pack):
    pack.enqueue("one", "fail once")
    work(queue)
    lines = texts(call("app.db", "1").stdout)
    assert lines[2] == "the run failed, and the job is tried again: ValueError: torn"
    assert lines == ["one", "fail once", lines[2], "-- run 2 --", "one", "fail once"]
    assert texts(call("app.db", "1", "--attempt", "2").stdout) == ["-- run 2 --", "one", "fail once"]
    assert call("app.db", "1", "--follow").stdout == call("app.db", "1").stdout


def test_what_a_terminal_would_obey_is_not_printed(queue, pack):
    pack.enqueue("red \x1b[31m and \x9b")
    work(queue)
    assert texts(call("app.db", "1").stdout) == ["red  [31m and  "]


def test_a_job_without_lines_says_how_to_keep_them(queue, pack):
    queue.task(name="plain", job_logs=False)(print).enqueue()
    pack.enqueue()
    work(queue)
    for number in ("1", "2"):
        found = call("app.db", number)
        assert found.stdout == ""
        assert f"no log lines of job {number} are kept; a task keeps them with @queue.task(job_logs=" in found.stderr
    assert "no log lines of run 3 of job 1" in call("app.db", "1", "--attempt", "3").stderr


def test_follow_goes_on_over_the_runs_until_the_job_has_ended(queue, soon):
    go = threading.Event()

    @queue.task(name="slow", retries=1, backoff=0)
    def slow():
        SHOP.info("first of %d", current_job().attempt)
        go.wait(30)
        SHOP.info("second of %d", current_job().attempt)
        if current_job().attempt == 1:
            raise ValueError("torn")

    slow.enqueue()
    program = [sys.executable, "-m", "litequeue", "logs", "app.db", "1", "--follow"]
    with queue.worker(threads=1), subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout.readline().endswith("first of 1\n")
        go.set()
        rest = follower.communicate(timeout=60)[0]
    assert follower.returncode == 0
    kept = [line for line in rest.splitlines() if "the run failed" not in line]
    assert texts("\n".join(kept)) == ["second of 1", "-- run 2 --", "first of 2", "second of 2"]


def test_ctrl_c_ends_it_quietly(queue, pack):
    pack.using(delay="1h").enqueue("never")
    program = [sys.executable, "-c", "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"]
    program[-1] += (
        "from litequeue.cli import main; print('here', flush=True); main(['logs', 'app.db', '1', '--follow'])"
    )
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(program, text=True, **streams) as follower:
        assert follower.stdout.readline() == "here\n"
        until(lambda: waits_in_file(follower.pid))
        follower.send_signal(signal.SIGINT)
        output, errors = follower.communicate(timeout=60)
    assert (follower.returncode, output, errors) == (0, "", "")


def waits_in_file(pid):
    """Whether the process has the file open, and has begun to wait."""
    with open(f"/proc/{pid}/stat") as stat:
        sleeps = stat.read().rpartition(")")[2].split()[0] == "S"
    with open(f"/proc/{pid}/maps") as maps:
        return sleeps and "app.db-shm" in maps.read()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["app.db"], "give the id of one job"),
        (["app.db", "1", "2"], "give the id of one job"),
        (["app.db", "1", "--follow", "--attempt", "1"], "leave out --attempt"),
        (["app.db", "1", "--attempt", "0"], "--attempt"),
    ],
)
def test_a_command_that_is_not_valid_says_why(queue, arguments, said):
    assert said in call(*arguments, code=2).stderr


def test_a_job_that_is_not_there_is_an_error(queue):
    for more in ([], ["--follow"]):
        assert "no job 7 in this file" in call("app.db", "7", *more, code=1).stderr
