"""A worker ends though the store, its maintenance or its notifier fails meanwhile; no job is lost."""

import errno
import os
import socket
import threading
from collections import Counter

import pytest

from crash.watching import ended, status_of
from descriptors import sockets_of_listeners
from litequeue import Queue, StoreError
from litequeue.ipc.process_lock import tokens
from litequeue.testing import ManualClock
from litequeue.worker import loop
from litequeue.worker.maintenance import Maintenance


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


def test_the_block_ends_also_while_the_store_refuses_and_the_jobs_run_again(queue, soon, monkeypatch, caplog):
    monkeypatch.setattr(loop, "LAST_SETTLE", 0.1)
    begun, refusing, ran = threading.Event(), threading.Event(), Counter()

    @queue.task
    def work():
        ran["n"] += 1
        begun.set()
        assert refusing.wait(20)

    def refuse(*_args, **_kwargs):
        raise StoreError("the disk is full")

    with queue.worker(threads=1, grace=0.2):
        job = work.enqueue()
        assert begun.wait(20)
        for name in ("claim", "settle", "rescue"):
            monkeypatch.setattr(queue.engine.runs, name, refuse)
        refusing.set()
    assert "these jobs will run again" in caplog.text
    monkeypatch.undo()
    assert status_of(job) == "running"
    with queue.worker(threads=1):
        assert ended(job).status == "succeeded"
    assert ran["n"] == 2


def test_maintenance_that_fails_while_a_worker_ends_does_not_keep_it_from_ending(queue, while_it_ends, caplog):
    begun, failed = threading.Event(), threading.Event()

    @queue.task
    def slow():
        begun.set()
        assert failed.wait(20)

    def fail():
        failed.set()
        raise OSError(errno.EMFILE, "Too many open files")

    with queue.worker() as working:
        job = slow.enqueue()
        assert begun.wait(20)
        while_it_ends(working, fail)
    assert ended(job).status == "succeeded"
    assert "maintenance failed while the worker was ending" in caplog.text


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="looks for a socket by its name")
def test_a_worker_whose_notifier_breaks_while_it_ends_settles_what_runs(queue, while_it_ends):
    begun, broken, looks = threading.Event(), threading.Event(), []

    @queue.task
    def slow():
        begun.set()
        assert broken.wait(20)

    def break_notifier():
        if not looks:
            [listener] = sockets_of_listeners(queue.engine.directory)
            os.close(listener)
        elif len(looks) > 1:  # it has slept, or tried to, at least once
            broken.set()
        looks.append(None)

    with queue.worker() as working:
        job = slow.enqueue()
        assert begun.wait(20)
        # what the worker has yet to open must not take the number of what is closed: both connections that read
        assert [job.id, job.refresh().id] == [queue.jobs()[0].id] * 2
        while_it_ends(working, break_notifier)
    assert ended(job).status == "succeeded"


def test_an_interrupt_while_a_worker_deregisters_reaches_the_caller_and_its_jobs_are_released(queue, monkeypatch):
    queue.task(name="work")(lambda: None)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    working = queue.worker()
    with pytest.raises(KeyboardInterrupt), working:
        monkeypatch.setattr(queue.engine.runs, "rescue", interrupted)
    monkeypatch.undo()
    assert len(tokens(queue.engine.directory)) == 1
    Maintenance(queue.engine, ManualClock(), "observer", frozenset({"work"})).tick(0, idle=False)
    assert (queue.engine.workers.list(), tokens(queue.engine.directory)) == ([], [])
