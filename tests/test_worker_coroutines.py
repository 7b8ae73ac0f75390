"""The loop's side of a worker, at moments that a whole worker meets only by chance."""

import threading

import pytest

from litequeue import Queue
from litequeue.coroutines import Coroutines
from litequeue.execute import Run
from litequeue.job import Claimed
from litequeue.outcome import Cancelled


@pytest.fixture
def queue(database):
    with Queue(database) as queue:
        yield queue


def claimed(number):
    return Claimed(str(number), 1, "t", "default", b"[[],{}]", 0, 0, 0, None, None, None, 1_000.0)


def test_a_coroutine_cancelled_between_its_creation_and_its_first_step_ends(queue):
    @queue.task(name="t")
    async def never(): ...

    def begin(job, slot):
        run = Run(job, never, queue.clock, queue.store, 60.0, 60.0)
        run.cancel_requested = True
        coroutines.interrupt(run)
        return run

    def end(run, outcome, slot):
        ends.append(outcome)
        if len(ends) == 3:
            over.set()

    ends, over = [], threading.Event()
    coroutines = Coroutines(3, begin, end, first_slot=0, loop=None)
    try:
        coroutines.start([claimed(number) for number in range(3)])
        assert over.wait(10)
        assert coroutines.free == 3
        assert all(outcome == Cancelled() or outcome.result == b"null" for outcome in ends)
    finally:
        coroutines.stop()
