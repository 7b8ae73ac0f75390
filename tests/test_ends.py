"""What an end does to the jobs of an embedded worker, and of a supervised one: in threads and on the loop alike.

The table in docs/reliability.md names these tests, and those of a single worker process.
"""

import os
import signal
import subprocess
import sys

import pytest

from command_line import Command
from crash.stops import heeding
from crash.watching import ended, until
from litequeue import Queue

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")]

APP = """
import asyncio, ctypes, os, time
from pathlib import Path
from litequeue import JobCancelled, Queue, current_job

queue = Queue("app.db", durability="normal")

def begin(name):
    Path(f"{name}-begun").write_text(str(os.getpid()))

@queue.task
def slow() -> str:
    begin("slow")
    while not Path("gate").exists():
        if current_job().cancelled:
            raise JobCancelled
        time.sleep(0.01)
    return "done"

@queue.task
async def aslow() -> str:
    begin("aslow")
    while not Path("gate").exists():
        await asyncio.sleep(0.01)
    return "done"

@queue.task
def crashes_once() -> str:
    if not Path("crashed").exists():
        Path("crashed").touch()
        ctypes.string_at(0)
    return "done"
"""

EMBEDDED = """
from app import queue, time
with queue.worker(threads=2, coroutines=1):
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def queue(folder):
    with Queue(folder / "app.db", durability="normal") as queue:
        for name in ("slow", "aslow", "crashes_once"):
            queue.task(name=name)(lambda: None)
        yield queue


@pytest.fixture
def embedded(folder):
    started = []

    def starting():
        with heeding():
            started.append(subprocess.Popen([sys.executable, "-c", EMBEDDED], cwd=folder, stderr=subprocess.DEVNULL))
        return started[-1]

    yield starting
    for program in started:
        program.kill()
        program.wait()


@pytest.fixture
def supervised(folder):
    command = Command(folder, "run", "app:queue", "--processes", "1", "--threads", "2")
    yield command
    command.clean_up()


def begun(folder):
    """Return the process in which both jobs have begun."""
    names = [folder / f"{name}-begun" for name in ("slow", "aslow")]
    until(lambda: all(name.exists() and name.read_text() for name in names))
    return int(names[0].read_text())


def end(queue, how, worker):
    """End the worker process: by a signal, or by a job in it."""
    if how == "kill":
        os.kill(worker, signal.SIGKILL)
        return []
    return [queue.tasks["crashes_once"].enqueue()]


def assert_run_again(queue, jobs):
    """Each counted one death and no failure, and succeeded in its second run."""
    assert [job.result(timeout=30) for job in jobs] == ["done"] * len(jobs)
    records = [queue.engine.jobs.look_up(job.id) for job in jobs]
    assert [(record.deaths, record.failures) for record in records] == [(1, 0)] * len(jobs)


@pytest.mark.parametrize("how", ["kill", "crash"])
def test_a_death_of_an_embedded_worker_is_counted_and_its_jobs_run_again(queue, folder, embedded, how):
    jobs = [queue.tasks[name].enqueue() for name in ("slow", "aslow")]
    program = embedded()
    jobs += end(queue, how, begun(folder))
    assert program.wait(30) < 0
    (folder / "gate").touch()
    embedded()
    assert_run_again(queue, jobs)


@pytest.mark.parametrize("how", ["kill", "crash"])
def test_a_death_of_a_supervised_worker_is_counted_and_its_jobs_run_again(queue, folder, supervised, how):
    jobs = [queue.tasks[name].enqueue() for name in ("slow", "aslow")]
    jobs += end(queue, how, begun(folder))
    supervised.wait_for("starting another")
    (folder / "gate").touch()
    assert_run_again(queue, jobs)


def test_limits_and_cancels_hold_in_a_supervised_worker(queue, folder, supervised):
    limited = [queue.tasks[name].using(timeout=0.2).enqueue() for name in ("slow", "aslow")]
    assert [ended(job).errors[-1].type.rpartition(".")[2] for job in limited] == ["JobTimeout", "JobTimeout"]
    for name in ("slow", "aslow"):
        (folder / f"{name}-begun").unlink()
    cancelled = [queue.tasks[name].enqueue() for name in ("slow", "aslow")]
    begun(folder)
    for job in cancelled:
        job.cancel()
    assert [ended(job).status for job in cancelled] == ["cancelled", "cancelled"]
    supervised.signal(signal.SIGTERM)
    assert supervised.ends() == 0
