"""A process that is not allowed to write any more, and then is again: `python -m tests.crash.starved FILE SCENE`.

A limit on the size of files stands for a full disk: it needs no mount and no root.
"""

from __future__ import annotations

import logging
import resource
import sys
import threading

import litequeue.worker.maintenance
from litequeue import Queue, StoreError
from tests.crash.watching import ended, until

_refused = threading.Event()


class _Refusals(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if "the file could not be written" in record.getMessage():
            _refused.set()


def disk(*, full: bool) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096 if full else hard, hard))


def declare(path: str) -> tuple[Queue, threading.Event, threading.Event]:
    queue = Queue(path)
    begun, go = threading.Event(), threading.Event()

    @queue.task(name="hold")
    def hold() -> str:
        begun.set()
        go.wait(30)
        return "done"

    return queue, begun, go


def callers_are_told(path: str) -> None:
    """Whoever enqueues gets a StoreError, and nothing is stored."""
    queue, _, _ = declare(path)
    disk(full=True)
    try:
        queue.tasks["hold"].enqueue()
    except StoreError as error:
        print("told:", error)
    disk(full=False)
    queue.tasks["hold"].enqueue()
    assert len(queue.jobs()) == 1


def worker_goes_on(path: str) -> None:
    """What ended while nothing could be written is settled when it can."""
    queue, begun, go = declare(path)
    with queue.worker(threads=2):
        job = queue.tasks["hold"].enqueue()
        assert begun.wait(20)
        disk(full=True)
        go.set()
        assert _refused.wait(20)
        disk(full=False)
        record = ended(job)
        assert (record.status, record.attempt) == ("succeeded", 1), record
        assert queue.tasks["hold"].enqueue().result(20) == "done"


def worker_may_leave(path: str) -> None:
    """A worker that is told to stop now does so; its job is put back by another, in the same process even."""
    queue, begun, go = declare(path)
    litequeue.worker.maintenance.BEAT_EVERY = litequeue.worker.maintenance.DEATHS_EVERY = 0.1
    job = queue.tasks["hold"].enqueue()
    with queue.worker(threads=1) as worker:
        assert begun.wait(20)
        disk(full=True)
        worker.stop(now=True)
    disk(full=False)
    go.set()
    with queue.worker(threads=1):
        assert job.result(20) == "done"
    until(lambda: queue.engine.workers.list() == [])


if __name__ == "__main__":
    logging.getLogger("litequeue").addHandler(_Refusals())
    {"callers": callers_are_told, "worker": worker_goes_on, "leave": worker_may_leave}[sys.argv[2]](sys.argv[1])
    print("sound")
