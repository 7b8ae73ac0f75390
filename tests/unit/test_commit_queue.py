"""Who writes next, without a connection: what may come to pass between two looks at the line."""

import asyncio
import threading
from itertools import chain

import pytest

from litequeue.errors import StoreError
from litequeue.sqlite.commit import commit_queue as line_module
from litequeue.sqlite.commit.commit_queue import CommitQueue, Entry

DEADLINE = 30.0


def unwanted():
    pytest.fail("no thread is to be called")


@pytest.fixture
def line():
    return CommitQueue(unwanted)


def work(db): ...


def enter(line, loop, entry):
    """Let a coroutine of this loop queue up, and the loop then stand still; return its task."""
    waiting = loop.create_task(line.wait_async(entry))
    loop.run_until_complete(asyncio.sleep(0))
    return waiting


@pytest.fixture
def loop():
    made = asyncio.new_event_loop()
    yield made
    made.close()


def test_a_thread_whose_turn_it_is_keeps_its_place_though_it_has_not_taken_the_lead_yet(line, loop, monkeypatch):
    monkeypatch.setattr(line_module, "LOOK_EVERY", 0.001)
    monkeypatch.setattr(line_module, "LOOKS", 10**6)
    thread, coroutine = Entry(None), Entry(None)
    assert line.wait(thread)
    waiting = enter(line, loop, coroutine)
    loop.run_until_complete(asyncio.sleep(0.02))  # a timer of the same loop: looks have come before it
    assert not waiting.done()
    line.leave(thread)
    loop.run_until_complete(waiting)
    assert line.connection_lock.locked()


class TakenJustBefore:
    """A lock that another takes between the look at it and the first attempt to take it."""

    def __init__(self):
        self.lock, self.attempts = threading.Lock(), 0
        self.locked, self.release = self.lock.locked, self.lock.release

    def acquire(self, blocking=True):
        self.attempts += 1
        if self.attempts == 1:
            self.lock.acquire()
        return self.lock.acquire(blocking)


def test_a_lead_that_is_taken_between_look_and_grasp_is_waited_for(line, loop):
    line.connection_lock = TakenJustBefore()
    waiting = enter(line, loop, Entry(None))
    assert line.connection_lock.attempts == 1
    assert not waiting.done()
    line.connection_lock.release()
    line.tell_next()
    loop.run_until_complete(waiting)
    assert line.connection_lock.locked()


def test_a_lead_offered_to_a_closed_loop_goes_to_the_next_in_line(line, loop, monkeypatch):
    monkeypatch.setattr(line_module, "LOOK_EVERY", 3600.0)
    closed = asyncio.new_event_loop()
    with line.connection_lock:
        gone = enter(line, closed, Entry(None))
        closed.set_exception_handler(lambda *_: None)  # which is told of a task that never ended
        closed.close()
        waiting = enter(line, loop, Entry(None))
    line.tell_next()
    loop.run_until_complete(asyncio.wait_for(waiting, DEADLINE))
    assert line.connection_lock.locked()
    line.connection_lock.release()
    assert line.free, "the one that is gone is still in line"
    gone.get_coro().close()


def test_work_that_another_has_begun_is_not_refused_when_no_thread_can_be_called():
    """A thread that ends took it between the look at the line and the call."""

    def refuse():
        batch.extend(line.take_batch(10))
        raise RuntimeError("can't start new thread")

    async def main():
        entry = Entry(work)
        waiting = asyncio.ensure_future(line.wait_async(entry))
        await asyncio.sleep(0)
        assert batch == [entry]
        assert not entry.done
        entry.value, entry.done = "done", True
        line.finish(batch)
        await waiting
        return entry.outcome()

    batch, line = [], CommitQueue(refuse)
    assert asyncio.run(main()) == "done"


def test_work_is_refused_when_no_thread_can_be_called():
    def refuse():
        raise RuntimeError("can't start new thread")

    with pytest.raises(StoreError, match="can't start new thread"):
        asyncio.run(CommitQueue(refuse).wait_async(Entry(work)))


def test_a_coroutine_whose_word_was_lost_looks_by_itself(loop, monkeypatch):
    """As by a Ctrl-C in the thread that leads, between the commit and the word."""
    monkeypatch.setattr(line_module, "LOOK_EVERY", 0.02)
    line, entry = CommitQueue(lambda: None), Entry(work)
    waiting = enter(line, loop, entry)
    wake = line_module.wake
    monkeypatch.setattr(line_module, "wake", lambda *_: True)
    [begun] = line.take_batch(10)
    begun.value, begun.done = 5, True
    line.finish([begun])
    monkeypatch.setattr(line_module, "wake", wake)
    loop.run_until_complete(asyncio.wait_for(waiting, DEADLINE))
    assert entry.outcome() == 5


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [((0, 0, 0), [3]), ((60, 60, 60, 60), [2, 2]), ((0, 500, 0, 0), [2, 2]), ((100, 100), [1, 1])],
)
def test_a_batch_ends_where_its_bytes_are_enough(loop, monkeypatch, sizes, batches):
    monkeypatch.setattr(line_module, "BUDGET", 100)
    line = CommitQueue(lambda: None)
    waiting = [enter(line, loop, Entry(work, size=size)) for size in sizes]
    taken = [line.take_batch(10) for _ in batches]
    assert [len(batch) for batch in taken] == batches
    begun = list(chain(*taken))
    for entry in begun:
        entry.done = True
    line.finish(begun)
    loop.run_until_complete(asyncio.gather(*waiting))
