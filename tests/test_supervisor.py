"""Several worker processes under one supervisor: started, replaced and stopped, as real processes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from command_line import DEADLINE, Command, make_folder
from crash.watching import until
from litequeue import Queue
from litequeue.worker.supervisor import Supervisor


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path)


@pytest.fixture
def queue(folder):
    """The app's queue, seen from here: it knows the task `gated` by name."""
    with Queue(folder / "app.db", durability="normal") as queue:
        queue.task(name="gated")(lambda: None)
        yield queue


@pytest.fixture
def start(folder):
    started = []

    def starting(*arguments):
        started.append(Command(folder, "run", "app:queue", *arguments))
        return started[-1]

    yield starting
    (folder / "gate").touch()  # workers whose supervisor is killed below finish what runs
    for command in started:
        command.clean_up()


def pid_of(match):
    return int(match[1])


def serving(command, processes):
    """Wait until that many worker processes work."""
    command.wait_for(r"\[(\d+)\] INFO +worker-\d+ has started", processes)


def test_as_many_workers_as_asked_for_share_the_jobs(start, queue, folder):
    jobs = queue.tasks["gated"].enqueue_many([()] * 6)
    command = start("--processes", "3", "--threads", "2")
    begun = {pid_of(match) for match in command.wait_for(r"begins in (\d+)", 6)}
    assert len(begun) == 3
    (folder / "gate").touch()
    assert {job.result(timeout=DEADLINE) for job in jobs} == {"through"}
    command.signal(signal.SIGTERM)
    assert command.ends() == 0
    assert {job.refresh().status for job in jobs} == {"succeeded"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_every_worker_finish(start, queue, folder, number):
    job = queue.tasks["gated"].enqueue()
    command = start("--processes", "2")
    command.wait_for("begins")
    serving(command, 2)
    command.signal(number)
    command.wait_for(": finishing running jobs, up to", 2)
    (folder / "gate").touch()
    assert command.ends() == 0
    assert job.refresh().status == "succeeded"
    assert queue.engine.workers.list() == []


def test_the_second_signal_puts_jobs_back_and_exits_75(start, queue):
    job = queue.tasks["gated"].enqueue()
    command = start("--processes", "2")
    command.wait_for("begins")
    serving(command, 2)
    command.signal(signal.SIGINT)
    command.wait_for(": finishing running jobs, up to", 2)
    command.signal_until(signal.SIGINT, "releasing running jobs now")
    assert command.ends() == 75
    assert job.refresh().status == "queued"


def test_a_worker_that_is_killed_is_replaced_and_its_job_finishes(start, queue, folder):
    job = queue.tasks["gated"].enqueue()
    command = start("--processes", "2")
    [first] = command.wait_for(r"begins in (\d+)")
    os.kill(pid_of(first), signal.SIGKILL)
    assert f"{pid_of(first)} was killed by SIGKILL" in command.wait_for("starting another")[0].string
    _, second = command.wait_for(r"begins in (\d+)", 2)
    assert pid_of(second) != pid_of(first)
    (folder / "gate").touch()
    job.result(timeout=DEADLINE)
    command.signal(signal.SIGTERM)
    assert command.ends() == 0
    assert job.refresh().attempt == 2


def test_workers_end_in_good_order_when_their_supervisor_is_killed(start, queue, folder):
    job = queue.tasks["gated"].enqueue()
    command = start("--processes", "2")
    command.wait_for("begins")
    serving(command, 2)
    command.signal(signal.SIGKILL)
    command.wait_for("the supervisor has ended", 2)
    (folder / "gate").touch()
    command.ends()  # and its output, which the workers hold open
    command.wait_for("has stopped", 2)
    assert job.refresh().status == "succeeded"
    assert queue.engine.workers.list() == []


def test_with_until_idle_all_end_when_the_work_is_done(start, queue, folder):
    (folder / "gate").touch()
    jobs = queue.tasks["gated"].enqueue_many([()] * 20)
    assert start("--processes", "3", "--until-idle").ends() == 0
    assert {job.refresh().status for job in jobs} == {"succeeded"}


def test_with_until_idle_a_worker_that_is_killed_again_and_again_is_replaced_after_a_pause(start, queue, folder):
    job = queue.tasks["gated"].enqueue()
    command = start("--processes", "1", "--until-idle")
    for times in (1, 2):
        *_, victim = command.wait_for(r"begins in (\d+)", times)
        os.kill(pid_of(victim), signal.SIGKILL)
    command.wait_for("starting another in 500ms")
    (folder / "gate").touch()
    assert command.ends() == 0
    assert job.refresh().status == "succeeded"


def test_a_module_that_raises_on_import_is_shown_once_and_exits_1(start, folder):
    (folder / "app.py").write_text("raise RuntimeError('boom')\n")
    command = start("--processes", "4")
    assert command.ends() == 1
    assert len(command.wait_for("^RuntimeError: boom")) == 1


def test_a_typo_exits_2(start, folder):
    (folder / "app.py").rename(folder / "apps.py")
    command = start("--processes", "4")
    assert command.ends() == 2
    command.wait_for("did you mean 'apps'")


def test_workers_that_die_at_start_several_times_in_a_row_stop_everything(start, queue, folder):
    command = start("--processes", "2")
    serving(command, 2)
    (folder / "app.py").write_text("raise RuntimeError('boom')\n")
    victim, _ = command.wait_for(r"\[(\d+)\] INFO +worker-\d+ has started", 2)
    os.kill(pid_of(victim), signal.SIGKILL)
    assert command.ends() == 1
    assert len(command.wait_for("^RuntimeError: boom")) == 3


def test_workers_that_keep_ending_with_an_error_leave_no_exit_code_of_0(folder):
    (folder / "ends.py").write_text("import os, sys; os.write(0, b'+'); sys.exit(1)")
    watched = (
        "import sys; from litequeue.worker.supervisor import Supervisor\n"
        "sys.exit(Supervisor(lambda first: [sys.executable, 'ends.py'], 1).run())"
    )
    process = subprocess.Popen([sys.executable, "-c", watched], cwd=folder, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "starting another in" in line:  # it waits, and no worker runs
            process.send_signal(signal.SIGTERM)
            break
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 1


def test_ctrl_c_in_a_terminal_reaches_the_supervisor_alone(start):
    command = start("--processes", "1")
    [worker] = command.wait_for(r"\[(\d+)\] INFO +serving")
    assert os.getsid(pid_of(worker)) == os.getpgid(pid_of(worker)) == pid_of(worker)


def test_the_workers_log_as_their_supervisor_was_told_to(start):
    command = start("--processes", "2", "--until-idle", "--log-format", "json")
    assert command.ends() == 0
    assert len({json.loads(line)["pid"] for line in command.lines}) == 2


def test_a_worker_that_cannot_end_is_killed_when_the_grace_is_long_over():
    """As a child whose interpreter waits for a thread, at its very end."""
    deaf = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.write(0, b'+'); time.sleep(600)"
    supervisor = Supervisor(lambda _first: [sys.executable, "-c", deaf], 2, patience=0.2)

    def when_all_work():
        until(lambda: len(supervisor.children) == 2 and all(child.ready for child in supervisor.children))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=when_all_work)
    thread.start()
    assert supervisor.run() == 75
    thread.join()


def test_functions_that_do_not_stop_do_not_keep_the_command_from_ending(start, queue, folder):
    queue.task(name="stuck")(lambda: None)
    job = queue.tasks["stuck"].enqueue()
    command = start("--grace", "0.1s")
    command.wait_for("is stuck")
    command.signal(signal.SIGTERM)
    assert command.ends() == 75
    assert job.refresh().status == "queued"


@pytest.mark.parametrize("arguments", [(), ("--processes", "1")])
def test_a_child_that_a_task_forks_can_be_terminated(start, queue, arguments):
    queue.task(name="stops_a_child")(lambda: None)
    job = queue.tasks["stops_a_child"].enqueue()
    command = start("--until-idle", *arguments)
    assert command.ends() == 0
    assert job.result(0) == -signal.SIGTERM
    assert "SIGTERM" not in command.output


@pytest.mark.parametrize("pause", [0.02, 0.05, 0.1])
def test_a_second_signal_at_the_very_end_changes_no_exit_code(start, queue, pause):
    command = start()
    command.wait_for("serving")
    until(lambda: queue.engine.workers.list())
    command.signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        command.process.wait(pause)
    with contextlib.suppress(ProcessLookupError):
        command.signal(signal.SIGTERM)
    assert command.ends() == 0
