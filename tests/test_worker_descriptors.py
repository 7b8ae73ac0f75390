"""A worker whose descriptors are closed by other code, or that gets none: it ends, and writes to no wrong file."""

import contextlib
import gc
import os
import resource
import socket
import sys
import threading

import pytest

import descriptors
from crash.watching import ended, status_of, until
from idle_workers import IdleWorkers
from litequeue import Queue, StoreError
from litequeue.ipc import notifier, process_lock


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="looks for a socket by its name")
def test_a_worker_whose_descriptors_were_closed_ends_and_releases_what_runs(queue, soon):
    begun, go = threading.Event(), threading.Event()

    @queue.task
    def slow():
        begun.set()
        go.wait(20)

    working = queue.worker(threads=2, name="careless")
    with pytest.raises(OSError, match="notifier's descriptor was closed"), working:
        job = slow.enqueue()
        assert begun.wait(20)
        # what the worker has yet to open must not take the number of what is closed: both connections that read
        assert [job.id, job.refresh().id] == [queue.jobs()[0].id] * 2
        [listener] = descriptors.sockets_of_listeners(queue.engine.directory)
        os.close(listener)
        until(lambda: not any(thread.name == "litequeue-careless" for thread in threading.enumerate()))
        go.set()
    assert status_of(job) == "queued"
    assert queue.engine.workers.list() == []


def test_an_idle_worker_whose_lock_was_closed_claims_nothing_that_it_hears_of(queue, database, monkeypatch):
    """Other workers may take it for dead, and the number of its lock may be another file's by now."""
    ran, idle = [], IdleWorkers(queue, monkeypatch)
    queue.task(name="work")(lambda: ran.append(True))
    with Queue(database, durability="normal") as other:
        work = other.task(name="work")(lambda: None)
        with pytest.raises(OSError, match="lock"), queue.worker(threads=2, name="careless"):
            idle.at_rest()
            [lock] = queue.engine.directory.glob("*.lock")
            for number in descriptors.of_file(lock):
                os.close(number)
            job = work.enqueue()
            until(lambda: not any(thread.name == "litequeue-careless" for thread in threading.enumerate()))
        job.refresh()
        assert (ran, job.status, job.attempt) == ([], "queued", 0)


def test_a_worker_whose_descriptors_are_closed_while_it_ends_writes_no_more(queue, monkeypatch, while_it_ends):
    begun, closed, astray = threading.Event(), threading.Event(), []

    def watched(name, write):
        def writes(*args, **options):
            if closed.is_set():
                astray.append(name)
            return write(*args, **options)

        return writes

    for part, name in ((queue.engine.workers, "beat"), (queue.engine.runs, "settle"), (queue.engine.runs, "rescue")):
        monkeypatch.setattr(part, name, watched(name, getattr(part, name)))

    @queue.task
    def careless():
        begun.set()
        assert closed.wait(20)

    def close():
        descriptors.overwrite(lock)
        closed.set()

    with pytest.raises(OSError, match="closed by code that does not own it"), queue.worker(threads=1) as working:
        job = careless.enqueue()
        assert begun.wait(20)
        [token] = process_lock.tokens(queue.engine.directory)
        lock = descriptors.of_file(queue.engine.directory / f"{token}.lock")
        while_it_ends(working, close)
    assert (astray, job.refresh().status) == ([], "running")
    dead_process = process_lock.take(queue.engine.directory, token)
    assert dead_process.executing == {f"{job.id}:1"}
    dead_process.release()
    for number in lock:
        with contextlib.suppress(OSError):  # the worker has closed what it took for its own
            os.close(number)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one below which Linux hands out numbers")
def test_a_worker_that_cannot_start_for_want_of_descriptors_leaves_nothing_behind(queue, monkeypatch):
    monkeypatch.setattr(notifier, "LOOK_EVERY", 0.0)
    queue.task(name="work")(lambda: None)
    with queue.worker():  # whatever is made once
        ended(queue.tasks["work"].enqueue())

    gc.collect()  # what earlier tests left is not to be collected while this one counts
    queue.tasks["work"].enqueue()  # the notifier looks for listeners, and lets go of those that are gone
    fillers = [os.open(os.devnull, os.O_RDONLY)]
    while fillers[-1] < max(descriptors.numbers()):  # no gap is left below the limit
        fillers.append(os.open(os.devnull, os.O_RDONLY))
    before, limits, failures = descriptors.numbers(), resource.getrlimit(resource.RLIMIT_NOFILE), []
    for spare in range(20):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + 1 + spare, limits[1]))
        try:
            with queue.worker():
                queue.tasks["work"].enqueue()
        except (OSError, StoreError) as error:
            failures.append(error)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert process_lock.tokens(queue.engine.directory) == []
    assert 0 < len(failures) < 20
    queue.tasks["work"].enqueue()
    assert len(descriptors.numbers()) == len(before)
    for filler in fillers:
        os.close(filler)
