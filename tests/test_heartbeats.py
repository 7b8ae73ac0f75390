"""`current_job().heartbeat()`: a sign of life, and what the next attempt is told."""

import subprocess
import sys
import threading
import time

import pytest

import child_jobs
from crash.watching import ended, until
from litequeue import EncodeError, Fenced, Queue, Unsupported, current_job
from litequeue.core.streams import MOST_DETAILS
from litequeue.serialization.encryption import EncryptedCodec, new_key


@pytest.fixture(params=["apsw", "sqlite3"])
def queue(request, database):
    with Queue(database, driver=request.param, durability="normal") as queue:
        yield queue


@pytest.fixture
def run(queue):
    def running(task, *arguments):
        with queue.worker(threads=1, coroutines=1):
            job = task.enqueue(*arguments)
            ended(job, 60)
        return job.refresh()

    return running


WHERE = pytest.mark.parametrize(
    ("name", "options"),
    [("beats", {}), ("abeats", {}), ("beats", {"process": True}), ("abeats", {"process": True})],
    ids=["thread", "loop", "child", "loop of a child"],
)


@WHERE
def test_a_run_that_gives_no_sign_of_life_is_stopped_and_the_next_one_knows_how_far_it_was(queue, run, name, options):
    options = options | {"heartbeat_timeout": "0.4s", "timeout": "60s", "retries": 1, "backoff": 0}
    beats = queue.task(**options)(getattr(child_jobs, name))
    job = run(beats, 3, 0.01)
    assert job.result(timeout=0) == [2, {"row": 2}]
    assert [error.type for error in job.errors] == ["litequeue.JobTimeout"]
    assert "called heartbeat() no more for 400ms, its heartbeat_timeout" in job.errors[0].message


@WHERE
def test_a_run_that_gives_them_goes_on_for_longer(queue, run, name, options):
    beats = queue.task(heartbeat_timeout="0.5s", timeout="2s", **options)(getattr(child_jobs, name))
    job = run(beats, 40, 0.05)  # as long as its limit, which stops it in the end
    assert "ran longer than its limit of 2 s" in job.errors[0].message


def test_a_death_leaves_the_details_to_the_next_attempt(queue, run):
    assert run(queue.task(process=True)(child_jobs.beats_and_dies)).result(timeout=0) == "as far as here"


PROGRAM = """
import os, sys
from litequeue import Queue, current_job

queue = Queue(sys.argv[1], durability="normal")

@queue.task
def pack():
    job = current_job()
    if job.heartbeat_details is None:
        job.heartbeat("half of it")
        with queue.transaction():
            pass  # which takes it into the file, at the latest
        os.kill(os.getpid(), 9)
    return job.heartbeat_details

if sys.argv[2:]:
    pack.enqueue()
queue.worker(threads=1).run(until_idle=True)
print(queue.jobs()[0].refresh().result(timeout=0))
"""


def test_so_does_the_death_of_the_worker(database):
    for more, code, printed in (["new"], -9, ""), ([], 0, "half of it\n"):
        command = [sys.executable, "-c", PROGRAM, database, *more]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (ran.returncode, ran.stdout) == (code, printed), ran.stderr


def test_details_stay_until_others_come(queue, run):
    seen = []

    @queue.task(retries=2, backoff=0)
    def pack() -> None:
        job = current_job()
        seen.append(job.heartbeat_details)
        if job.tries == 1:
            job.heartbeat([1])
            job.heartbeat([1, 2])
            job.heartbeat()
            seen.append(job.heartbeat_details)
        if job.tries < 3:
            raise ValueError

    run(pack)
    assert seen == [None, [1, 2], [1, 2], [1, 2]]


def test_a_retried_job_has_them_and_a_new_one_has_not(queue, run):
    seen = []

    @queue.task
    def pack() -> None:
        seen.append(current_job().heartbeat_details)
        current_job().heartbeat(len(seen))
        raise ValueError

    job = run(pack)
    job.retry()
    with queue.worker(threads=1):
        ended(job, 30)
    run(pack)
    assert seen == [None, 1, None]


def test_they_pass_the_codec(database):
    with Queue(database, codec=EncryptedCodec(new_key())) as queue:

        @queue.task(retries=1, backoff=0)
        def pack() -> object:
            if current_job().tries == 1:
                current_job().heartbeat("a secret")
                raise ValueError
            return current_job().heartbeat_details

        job = pack.enqueue()
        queue.worker(threads=1).run(until_idle=True)
        assert job.result(timeout=0) == "a secret"
        with queue.transaction() as db:
            [(details,)] = db.execute("SELECT details FROM litequeue_heartbeats")
        assert b"secret" not in details


def test_what_cannot_be_kept_is_refused_at_once(queue, run):
    raised = []

    @queue.task
    def pack() -> None:
        for details in (object(), "x" * MOST_DETAILS):
            try:
                current_job().heartbeat(details)
            except EncodeError as error:
                raised.append(str(error))
        with current_job().completing():
            current_job().heartbeat("inside")
        try:
            current_job().heartbeat()
        except Unsupported as error:
            raised.append(str(error))

    assert run(pack).status == "succeeded"
    assert "at most 64 KiB of details" in raised[1]
    assert "call heartbeat() before the end of that block" in raised[2]


def test_a_run_whose_job_another_worker_has_is_told(queue):
    lost, go = threading.Event(), threading.Event()

    @queue.task
    def pack() -> None:
        assert go.wait(20)
        while not lost.is_set():
            try:
                current_job().heartbeat("late")
            except Fenced:
                lost.set()
                raise
            time.sleep(0.005)

    with queue.worker(threads=1) as worker:
        job = pack.enqueue()
        until(lambda: job.refresh().status == "running")
        queue.engine.runs.rescue(worker._loop.id, None, blame=False)
        go.set()
        assert lost.wait(20)
        job.cancel()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(0, "at least 100ms"), ("10ms", "at least 100ms"), ("soon", "heartbeat_timeout"), (-1, "not be negative")],
)
def test_an_option_that_could_not_be_meant_is_refused(queue, wrong, words):
    with pytest.raises(ValueError, match=words):
        queue.task(heartbeat_timeout=wrong)(lambda: None)
