"""Workers on record that are dead, or are taken for dead: they are reaped, and their jobs are released."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from crash.watching import status_of, until
from litequeue import Queue, StoreBusy
from litequeue.core.store import Demand, NewWorker
from litequeue.ipc.process_identity import Identity, alive
from litequeue.ipc.process_lock import ProcessLock, open_directory, take, tokens
from litequeue.testing import ManualClock
from litequeue.worker import maintenance
from litequeue.worker.maintenance import Maintenance


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", "{}", '{"pid": "x", "host": 3}', "\x00", '{"pid": null}'])
def test_an_identity_of_someone_else_is_nobody_we_know(text):
    assert alive(Identity.from_text(text)) is None


def test_a_foreign_workers_row_keeps_no_other_from_being_rescued(queue):
    queue.task(name="work")(lambda: None)
    with queue.transaction() as db:
        for token, identity in (("a", "no JSON"), ("b", "{}"), ("c", Identity.current().to_text())):
            db.execute(
                "INSERT INTO litequeue_workers (token, identity, tasks, threads, coroutines, started_at, beat_at)"
                " VALUES (?, ?, '[]', 1, 1, 1, 1)",
                (token, identity),
            )
    Maintenance(queue.engine, ManualClock(), "observer", frozenset({"work"})).reap()
    assert [worker.token for worker in queue.engine.workers.list()] == ["c"]  # this process lives


HOLDER = """
import ctypes, os, sys, time
from litequeue import Queue
queue = Queue(sys.argv[1])

@queue.task(name="work")
def work():
    if ctypes.CDLL(None).fork() == 0:  # no hook of Python's runs
        time.sleep(60)
        os._exit(0)
    print("running", flush=True)
    time.sleep(60)

queue.worker().run()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_child_that_holds_its_dead_parents_lock_does_not_hide_the_death(queue, database):
    queue.task(name="work")(lambda: None)
    job = queue.tasks["work"].enqueue()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(database)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout.readline() == "running\n"
        process.kill()
        process.wait(20)
        keeper = Maintenance(queue.engine, ManualClock(), "observer", frozenset({"work"}))
        [token] = tokens(queue.engine.directory)
        assert take(queue.engine.directory, token) is None  # the lock is held
        keeper.reap()
        assert status_of(job) == "queued"
        assert queue.engine.jobs.look_up(job.id).deaths == 1
        assert tokens(queue.engine.directory) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="boots are told apart by /proc")
@pytest.mark.parametrize(("boot", "deaths"), [("an earlier one", 0), (Identity.current().boot, 1)])
def test_jobs_of_a_worker_that_went_down_with_the_machine_are_released_without_a_death(queue, boot, deaths):
    queue.task(name="work")(lambda: None)
    store, identity = queue.engine, replace(Identity.current(), boot=boot)
    lock = ProcessLock(open_directory(queue.path), "down", 1)
    new = NewWorker(token="down", identity=identity.to_text(), queues=None, tasks=("work",), threads=1, coroutines=0)
    number, job = store.workers.register(new), queue.tasks["work"].enqueue()
    store.runs.claim(number, [Demand(frozenset({"work"}), 1)], None)
    lock.abandon([f"{job.id}:1"])  # the kernel frees the lock; what the worker ran is noted
    Maintenance(store, ManualClock(), "observer", frozenset({"work"})).tick(0, idle=False)
    record = store.jobs.look_up(job.id)
    assert (record.status, record.deaths, record.failures) == ("queued", deaths, 0)


def test_a_burial_that_fails_keeps_what_the_dead_had_noted(queue, monkeypatch, caplog):
    queue.task(name="work")(lambda: None)
    store, clock = queue.engine, ManualClock()
    keeper = Maintenance(store, clock, "observer", frozenset({"work"}))
    lock = ProcessLock(open_directory(queue.path), "dead", 1)
    new = NewWorker(
        token="dead", identity=Identity.current().to_text(), queues=None, tasks=("work",), threads=1, coroutines=0
    )
    number, job = store.workers.register(new), queue.tasks["work"].enqueue()
    store.runs.claim(number, [Demand(frozenset({"work"}), 1)], None)
    lock.abandon([f"{job.id}:1"])  # as if its process had died amid the run

    def busy(*args, **kwargs):
        raise StoreBusy("the file was locked")

    with monkeypatch.context() as patch, pytest.raises(StoreBusy):
        patch.setattr(store.runs, "rescue", busy)
        keeper.tick(0, idle=False)
    clock.advance(2)
    keeper.tick(0, idle=False)
    record = store.jobs.look_up(job.id)
    assert (record.status, record.deaths) == ("queued", 1)
    assert "is gone: its process died; 1 jobs released" in caplog.text


def test_a_full_worker_that_was_declared_dead_learns_it_by_its_beat(queue, monkeypatch):
    monkeypatch.setattr(maintenance, "BEAT_EVERY", 0.05)
    begun, go = threading.Event(), threading.Event()

    @queue.task
    def slow():
        begun.set()
        assert go.wait(20)

    with queue.worker(threads=1) as working:
        slow.enqueue()
        assert begun.wait(20)
        number = working.id
        queue.engine.runs.rescue(number, None, blame=False)
        until(lambda: working.id != number)
        go.set()
