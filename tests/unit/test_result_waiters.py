"""Who waits for a job's end, in a process that hears others end it."""

import asyncio
import gc
import threading
import time

import pytest

from contract.jobs import SUCCEEDED, Hands
from crash.watching import until
from litequeue import Queue
from litequeue.ipc.result_waiters import Waiter

DEADLINE = 20


@pytest.fixture
def listeners():
    """The threads that listen since the test began; one of a test before may yet wait for a job left behind."""

    def listening():
        return {thread for thread in threading.enumerate() if thread.name == "litequeue-listener"}

    others = listening()
    return lambda: listening() - others


@pytest.fixture
def names(database):
    """The names by which this process hears of ends."""
    return lambda: list(database.with_name("app.db-litequeue").glob("done-*"))


def wait_for_end(queue):
    @queue.task(name="never")
    def never(): ...

    with pytest.raises(TimeoutError):
        never.enqueue().result(0.01)


def await_end(queue):
    async def main():
        with pytest.raises(TimeoutError):
            await queue.task(name="awaited")(lambda: None).enqueue().aresult(0.01)

    asyncio.run(main())


def test_a_thread_that_waits_listens_itself(database, listeners, names):
    with Queue(database) as queue:
        wait_for_end(queue)
        assert listeners() == set()
        assert len(names()) == 1
    assert names() == []


def test_the_name_goes_with_a_queue_that_is_dropped(database, names):
    queue = Queue(database)
    wait_for_end(queue)
    del queue
    gc.collect()
    assert names() == []


def test_the_thread_that_listens_for_coroutines_ends_with_a_queue_that_is_dropped(database, listeners, names):
    queue = Queue(database)
    await_end(queue)
    [listener] = listeners()
    del queue
    # the thread may hold what it listens for at a collection's moment, amid a message: the next one takes it
    until(lambda: gc.collect() is not None and not listener.is_alive(), "the thread ends")
    assert names() == []


def test_the_thread_that_listens_for_coroutines_ends_with_a_queue_that_is_closed(database, listeners):
    with Queue(database) as queue:
        await_end(queue)
        [listener] = listeners()
    listener.join(DEADLINE)
    assert not listener.is_alive()


def test_a_stray_message_wakes_nobody_and_ends_nothing(database, names):
    with Queue(database) as queue:
        wait_for_end(queue)
        queue.store._done_notifier.ring(b"\xff\xfe no text")
        queue.store._done_notifier.ring(b"12 13")
        with pytest.raises(TimeoutError):
            queue.tasks["never"].enqueue().result(0.01)
        assert len(names()) == 1


# ---- who listens, with nothing but the notifier to rely on


@pytest.fixture
def waiting(open_queue, monkeypatch):
    """Enqueue three jobs, and let another store, as another process would, end them one by one."""
    monkeypatch.setattr("litequeue.ipc.result_waiters.SAFETY_POLL", 3600.0)
    queue, other = open_queue(), open_queue()
    jobs = queue.task(name="add")(lambda: 5).enqueue_many([()] * 3)
    hands = Hands(other.store)

    def end_next():
        hands.settle((hands.take(), SUCCEEDED))

    return queue, jobs, end_next


def listening(queue):
    return queue.store._waiters._listening


def start(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def test_when_the_thread_that_listens_leaves_another_one_does(waiting):
    queue, jobs, end_next = waiting
    ends = []
    started = []
    for job in jobs:
        started.append(start(lambda job=job: ends.append(job.result(DEADLINE))))
        until(lambda: len(queue.store._waiters._waiting) == len(started))
    for thread in started:
        end_next()
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert ends == [5, 5, 5]
    assert listening(queue) is None


def test_a_thread_listens_for_the_coroutines_of_its_process_and_leaves_them_one_that_does(waiting, listeners):
    queue, jobs, end_next = waiting

    async def main():
        thread = start(jobs[0].result, DEADLINE)
        until(lambda: listening(queue) is not None)
        rest = [asyncio.ensure_future(job.aresult(DEADLINE)) for job in jobs[1:]]
        await asyncio.sleep(0.05)
        assert listeners() == set()
        for waits in (asyncio.to_thread(thread.join, DEADLINE), *rest):
            await asyncio.to_thread(end_next)
            await waits
        assert len(listeners()) == 1

    asyncio.run(main())


def test_a_thread_that_is_told_just_before_it_listens_does_not_sleep(waiting):
    _, jobs, _ = waiting
    waiter = Waiter(jobs[0].id)
    waiter.wake()
    assert waiter.listen(None, 3600.0) == []


def test_a_wait_goes_on_by_looking_when_the_listener_is_closed_under_it(waiting, monkeypatch):
    queue, jobs, end_next = waiting
    monkeypatch.setattr("litequeue.ipc.result_waiters.SAFETY_POLL", 0.01)
    thread = start(jobs[0].result, DEADLINE)
    until(lambda: listening(queue) is not None)
    queue.store._waiters._listener.close()
    end_next()
    thread.join(DEADLINE)
    assert not thread.is_alive()


@pytest.mark.parametrize("number", [1, 2])
def test_threads_that_wait_hear_on_when_the_queue_is_closed_under_them(waiting, number):
    queue, jobs, end_next = waiting
    threads = [start(job.result, DEADLINE) for job in jobs[:number]]
    until(lambda: len(queue.store._waiters._waiting) == number)
    listener = queue.store._waiters._listener
    queue.close()
    until(lambda: queue.store._waiters._listener not in (None, listener) and listening(queue) is not None)
    for thread in threads:
        end_next()
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_coroutines_that_wait_hear_on_when_the_queue_is_closed_under_them(waiting):
    queue, jobs, end_next = waiting

    async def main():
        waits = asyncio.ensure_future(jobs[0].aresult(DEADLINE))
        await asyncio.to_thread(until, lambda: listening(queue) is not None)
        listener = queue.store._waiters._listener
        await asyncio.to_thread(queue.close)
        await asyncio.to_thread(until, lambda: queue.store._waiters._listener not in (None, listener))
        await asyncio.to_thread(end_next)
        assert await waits == 5

    asyncio.run(main())


def test_a_wait_that_is_cancelled_as_it_is_told_of_something_is_cancelled(waiting):
    queue, jobs, _ = waiting

    async def main():
        waits = asyncio.ensure_future(jobs[0].aresult(DEADLINE))
        await asyncio.to_thread(until, lambda: listening(queue) is not None)
        await asyncio.sleep(0.05)
        [waiter] = queue.store._waiters._waiting[jobs[0].id]
        waiter.event.set()
        await asyncio.sleep(0)  # what waits for the event is done, and whoever waits has not been resumed
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(waits, 5)

    asyncio.run(main())


def test_a_thread_that_waits_looks_seldom(open_queue, monkeypatch):
    queue = open_queue()
    looks, plain = [], queue.store.has_ended
    monkeypatch.setattr(queue.store, "has_ended", lambda job_id: looks.append(job_id) or plain(job_id))
    monkeypatch.setattr(queue.store._waiters, "_monotonic", time.monotonic)
    with pytest.raises(TimeoutError):
        queue.task(name="never")(lambda: None).enqueue().result(0.3)
    assert len(looks) <= 5
