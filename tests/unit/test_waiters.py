"""Who waits for a job's end, in a process that hears others end it."""

import gc
import threading

import pytest

from litequeue import Queue


@pytest.fixture
def ears():
    """The threads that listen since the test began; one of a test before may yet wait for a job left behind."""

    def listening():
        return {thread for thread in threading.enumerate() if thread.name == "litequeue-ear"}

    others = listening()
    return lambda: listening() - others


def wait_for_end(queue):
    @queue.task(name="never")
    def never(): ...

    with pytest.raises(TimeoutError):
        never.enqueue().result(0.01)


def test_the_thread_that_listens_ends_with_a_queue_that_is_dropped(database, ears):
    queue = Queue(database)
    wait_for_end(queue)
    [ear] = ears()
    del queue
    gc.collect()
    ear.join(10)
    assert not ear.is_alive()
    assert list(database.with_name("app.db-litequeue").glob("done-*")) == []


def test_the_thread_that_listens_ends_with_a_queue_that_is_closed(database, ears):
    with Queue(database) as queue:
        wait_for_end(queue)
        [ear] = ears()
    ear.join(10)
    assert not ear.is_alive()


def test_a_stray_message_wakes_nobody_and_ends_nothing(database, ears):
    with Queue(database) as queue:
        wait_for_end(queue)
        queue.store._done_bell.ring(b"\xff\xfe no text")
        queue.store._done_bell.ring(b"12 13")
        wait_for_end(queue)
        assert len(ears()) == 1
