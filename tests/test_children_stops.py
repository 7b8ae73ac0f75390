"""Workers with child processes are stopped in every way: what runs there ends or is released; no process is left."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest

import child_jobs
from child_processes import children_of, is_gone, needs_proc, number_in
from command_line import Command
from crash.watching import ended, until
from litequeue import Queue

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="signals, /proc"), needs_proc]

APP = """
import child_jobs
from litequeue import Queue
queue = Queue("app.db", durability="normal")
options = {"process": True}
for name in ("pid", "gated", "gated_once", "gated_coroutine", "hangs", "hangs_in_c", "swallows_all", "cleans_up"):
    queue.task(**options)(getattr(child_jobs, name))
"""
SLOW_IMPORT = """
import os, sys, time
if "litequeue.worker.child.main" in sys.modules:
    open("importing", "w").close()
    time.sleep(600)
"""


class InItsSession(Command):
    """A `litequeue` process that leads a session, as a terminal or a service manager starts it."""

    def __init__(self, folder, *arguments):
        command = [sys.executable, "-c", "import os; os.setsid(); from litequeue.cli import main; main()", *arguments]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"NO_COLOR": "1", "PYTHONPATH": os.path.dirname(__file__)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self._changed = threading.Condition()
        self._closed = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def signal_all(self, number):
        """Send it to the whole group, as a terminal does."""
        os.killpg(self.process.pid, number)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def queue(folder):
    with Queue(folder / "app.db", durability="normal") as queue:
        yield queue


@pytest.fixture
def start(folder):
    started = []

    def starting(*arguments):
        started.append(InItsSession(folder, "run", "app:queue", *arguments))
        started[-1].wait_for(r"(serving|tasks) ")
        return started[-1]

    yield starting
    for each in started:
        each.clean_up()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_to_the_whole_group_lets_what_runs_end(queue, start, tmp_path, number):
    """Children are in sessions of their own; and one to which it is sent all the same goes on."""
    run = start("--children", "2")
    jobs = [queue.enqueue("gated", str(tmp_path / name), str(tmp_path / "gate")) for name in "ab"]
    waiting = queue.enqueue("gated", str(tmp_path / "c"), str(tmp_path / "gate"))
    pids = [number_in(tmp_path / name) for name in "ab"]
    run.signal_all(number)
    run.wait_for("stop")
    for pid in pids:
        os.kill(pid, number)
    (tmp_path / "gate").touch()
    assert run.ends() == 0
    assert [job.refresh().status for job in jobs] == ["succeeded"] * 2
    assert [job.attempt for job in jobs] == [1, 1]
    assert waiting.refresh().status == "queued"
    assert all(is_gone(pid) for pid in pids)


@pytest.mark.parametrize("name", ["hangs", "hangs_in_c", "swallows_all"])
def test_when_the_grace_is_over_what_runs_is_released_and_its_process_gone(queue, start, tmp_path, name):
    run = start("--children", "1", "--grace", "0.2s")
    job = queue.enqueue(name, str(tmp_path / "begun"))
    pid = number_in(tmp_path / "begun")
    run.signal_all(signal.SIGTERM)
    assert run.ends() == 75
    assert is_gone(pid)
    assert (job.refresh().status, job.errors) == ("queued", ())


def test_a_function_cleans_up_when_the_grace_is_over(queue, start, tmp_path):
    run = start("--children", "1", "--grace", "0.1s")
    job = queue.enqueue("cleans_up", str(tmp_path / "begun"), str(tmp_path / "noted"))
    number_in(tmp_path / "begun")
    run.signal_all(signal.SIGTERM)
    assert run.ends() == 75
    assert job.refresh().status == "queued"
    assert (tmp_path / "noted").exists()


@pytest.mark.slow
def test_a_second_signal_releases_at_once(queue, start, tmp_path):
    run = start("--children", "1", "--grace", "10m")
    job = queue.enqueue("hangs_in_c", str(tmp_path / "begun"))
    pid = number_in(tmp_path / "begun")
    run.signal_all(signal.SIGINT)
    run.signal_until(signal.SIGINT, "releasing running jobs now")
    assert run.ends() == 75
    assert is_gone(pid)
    assert job.refresh().status == "queued"


@pytest.mark.parametrize("arguments", [[], ["--processes", "1"]], ids=["alone", "supervised"])
def test_when_a_worker_is_killed_its_children_die_and_the_job_runs_again(queue, start, folder, tmp_path, arguments):
    first = start("--children", "1", *arguments)
    job = queue.enqueue("gated_once", str(tmp_path / "begun"), str(tmp_path / "gate"))
    pid = number_in(tmp_path / "begun")
    (worker,) = children_of(first.process.pid) if arguments else {first.process.pid}
    os.kill(worker, signal.SIGKILL)
    until(lambda: is_gone(pid), "the child in C code dies with its worker")
    (tmp_path / "gate").touch()
    if not arguments:
        start("--children", "1")
    assert ended(job).status == "succeeded"
    assert job.refresh().attempt == 2


@pytest.mark.slow
def test_several_processes_have_children_each_and_leave_none(queue, start, tmp_path):
    run = start("--processes", "2", "--children", "2", "--grace", "0.2s")
    jobs = [queue.enqueue("hangs_in_c", str(tmp_path / str(n))) for n in range(4)]
    pids = [number_in(tmp_path / str(n)) for n in range(4)]
    run.signal_all(signal.SIGINT)
    assert run.ends() == 75
    assert all(is_gone(pid) for pid in pids)
    assert {(job.refresh().status, len(job.errors)) for job in jobs} == {("queued", 0)}


@pytest.mark.slow
def test_a_reload_gives_children_the_new_code(queue, start, folder, tmp_path):
    (folder / "moving.py").write_text("def version() -> int:\n    return 1\n")
    (folder / "app.py").write_text(APP + "import moving\nqueue.task(process=True)(moving.version)\n")
    run = start("--reload", "--children", "1")
    assert queue.enqueue("version").result(timeout=30) == 1
    (folder / "moving.py").write_text("def version() -> int:\n    return 22222\n")
    until(lambda: queue.enqueue("version").result(timeout=30) == 22222)
    run.signal_all(signal.SIGINT)
    assert run.ends() == 0


def test_a_stop_while_children_are_starting_waits_for_none(queue, start, folder, tmp_path):
    (folder / "slow.py").write_text(SLOW_IMPORT + "def f(): ...\n")
    (folder / "app.py").write_text(APP + "import slow\nqueue.task(process=True)(slow.f)\n")
    run = start("--children", "2")
    job = queue.enqueue("f")
    until((folder / "importing").exists)
    children = children_of(run.process.pid)
    assert children
    run.signal_all(signal.SIGTERM)
    assert run.ends() == 0
    assert all(is_gone(pid) for pid in children)
    assert (job.refresh().status, job.errors) == ("queued", ())


def test_all_jobs_that_are_ready_run_until_idle(queue, folder, tmp_path):
    jobs = [queue.enqueue("pid") for _ in range(20)]
    run = InItsSession(folder, "run", "app:queue", "--until-idle", "--children", "2")
    try:
        assert run.ends() == 0
    finally:
        run.clean_up()
    assert {job.refresh().status for job in jobs} == {"succeeded"}


# ---- embedded


@pytest.fixture
def task(queue):
    def declared(name, **options):
        return queue.task(process=True, **options)(getattr(child_jobs, name))

    return declared


def test_the_end_of_a_block_waits_for_what_runs(queue, task, tmp_path):
    gated = task("gated")
    before = children_of()
    with queue.worker(children=1):
        job = gated.enqueue(str(tmp_path / "begun"), str(tmp_path / "gate"))
        number_in(tmp_path / "begun")
        (tmp_path / "gate").touch()
    assert job.refresh().status == "succeeded"
    assert children_of() == before


def test_the_end_of_a_block_kills_what_does_not_end_within_the_grace(queue, task, tmp_path):
    hangs = task("hangs_in_c_with_the_interpreter", delivery="at_most_once")
    with queue.worker(children=1, grace=0):
        job = hangs.enqueue(str(tmp_path / "begun"))
        pid = number_in(tmp_path / "begun")
    assert is_gone(pid)
    assert [error.type for error in job.refresh().errors] == ["Interrupted"]


def test_an_async_block_does_too(queue, task, tmp_path):
    gated = task("gated_coroutine")
    before = children_of()

    async def main():
        async with queue.worker(children=1):
            job = await gated.aenqueue(str(tmp_path / "begun"), str(tmp_path / "gate"))
            while not (tmp_path / "begun").exists():
                await asyncio.sleep(0.01)
            (tmp_path / "gate").touch()
            return await job.aresult(timeout=30)

    assert asyncio.run(main()) not in before | {os.getpid()}
    assert children_of() == before


def test_an_error_in_the_block_leaves_no_child(queue, task, tmp_path):
    hangs = task("hangs_in_c")
    before = children_of()
    with contextlib.suppress(ZeroDivisionError), queue.worker(children=2, grace=0.1):
        job = hangs.enqueue(str(tmp_path / "begun"))
        number_in(tmp_path / "begun")
        raise ZeroDivisionError
    assert children_of() == before
    assert job.refresh().status == "queued"


def test_a_program_that_ends_without_a_stop_leaves_no_child(queue, folder, tmp_path):
    program = (
        "import app, os, time\n"
        "worker = app.queue.worker(children=1)\nworker.__enter__()\n"
        "app.queue.enqueue('hangs_in_c', 'begun')\n"
        "while not os.path.exists('begun'): time.sleep(0.01)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}
    subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, timeout=60, check=True)
    until(lambda: is_gone(number_in(folder / "begun")))


# ---- recycling


def test_a_child_ends_after_so_many_jobs(queue, task):
    pid = task("pid")
    before = children_of()
    with queue.worker(children=1, max_jobs_per_child=3):
        pids = [pid.enqueue().result(timeout=30) for _ in range(9)]
        until(lambda: len(children_of() - before) <= 1, "no zombie is left")
    assert [pids.count(each) for each in dict.fromkeys(pids)] == [3, 3, 3]
    assert children_of() == before


def test_a_child_that_holds_too_much_memory_is_replaced_after_its_job(queue, task, caplog):
    caplog.set_level("INFO", "litequeue")
    grows = task("keeps")
    with queue.worker(children=1, max_memory_per_child="150MB"):
        pids = [grows.enqueue(60_000_000).result(timeout=30) for _ in range(6)]
    assert 2 <= len(set(pids)) < 6
    assert "more than max_memory_per_child (150 MB): it is replaced" in caplog.text


def test_no_job_is_lost_where_each_child_runs_one(queue, task):
    pid = task("pid")
    jobs = pid.enqueue_many([()] * 20)
    with queue.worker(children=2, max_jobs_per_child=1):
        assert len({job.result(timeout=60) for job in jobs}) == 20
    assert {(job.refresh().attempt, len(job.errors)) for job in jobs} == {(1, 0)}
