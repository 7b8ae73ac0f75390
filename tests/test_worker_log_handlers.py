"""A handler of logs that raises or stands still costs a worker no thread and no end of a run."""

import logging
import threading

import pytest

from crash.watching import ended, status_of
from litequeue import Queue


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


@pytest.mark.parametrize("error", [ConnectionError("the log server is away"), SystemExit(3)])
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_handler_of_logs_that_raises_costs_no_thread_and_no_place(queue, monkeypatch, kind, error):
    def plain(n): ...

    async def coroutine(n): ...

    class Away(logging.Handler):
        def emit(self, record):
            raise error

    log = logging.getLogger("litequeue")
    monkeypatch.setattr(log, "handlers", [Away()])
    monkeypatch.setattr(log, "propagate", False)
    log.setLevel(logging.INFO)
    try:
        jobs = queue.task({"plain": plain, "coroutine": coroutine}[kind]).enqueue_many([(n,) for n in range(5)])
        with queue.worker(threads=2, coroutines=2, grace=1):
            assert [job.result(timeout=20) for job in jobs] == [None] * 5
    finally:
        log.setLevel(logging.NOTSET)


@pytest.fixture
def stuck(monkeypatch):
    """A handler of logs that stands still at what says that a run ended, until `go` is set."""

    class Stuck(logging.Handler):
        def __init__(self):
            super().__init__()
            self.reached, self.go = threading.Event(), threading.Event()

        def emit(self, record):
            if hasattr(record, "outcome"):
                self.reached.set()
                assert self.go.wait(60)

    handler, log = Stuck(), logging.getLogger("litequeue")
    monkeypatch.setattr(log, "handlers", [handler])
    monkeypatch.setattr(log, "propagate", False)
    log.setLevel(logging.INFO)
    yield handler
    handler.go.set()
    log.setLevel(logging.NOTSET)


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_an_end_is_on_record_while_a_handler_of_logs_stands_still(queue, soon, stuck, kind, end):
    def plain():
        ran.append(None)
        if end == "failed":
            raise ZeroDivisionError

    async def coroutine():
        plain()

    ran, task = [], queue.task({"plain": plain, "coroutine": coroutine}[kind])
    with queue.worker(threads=2, coroutines=2, grace=0.2) as working:
        job = task.enqueue()
        assert stuck.reached.wait(20)
        record = ended(job)
        stuck.go.set()
    assert (record.status, record.attempt, len(ran), working.lost) == (end, 1, 1, 0)


def test_what_ends_while_a_handler_of_logs_stands_still_is_not_lost_with_its_worker(queue, stuck):
    @queue.task
    def fail():
        raise ZeroDivisionError

    with queue.worker(threads=2, grace=0.2):
        job = fail.enqueue()
        assert stuck.reached.wait(20)
    assert status_of(job) == "failed"
