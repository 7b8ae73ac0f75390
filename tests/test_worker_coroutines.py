"""The loop's side of a worker, at moments that a whole worker meets only by chance."""

import asyncio
import threading

import pytest

from crash.watching import ended, until
from litequeue import JobCancelled, Queue
from litequeue.core.outcome import Cancelled
from litequeue.core.records import Claimed
from litequeue.ipc.process_lock import ProcessLock, open_directory
from litequeue.worker.executor.context import with_limits
from litequeue.worker.executor.coroutine_pool import CoroutinePool
from litequeue.worker.executor.mailbox import Mailbox
from litequeue.worker.executor.pool import Setup
from litequeue.worker.executor.thread_pool import ThreadPool


@pytest.fixture
def queue(database):
    with Queue(database) as queue:
        yield queue


def pool_of(queue, task, mailbox, loop=None):
    process_lock = ProcessLock(open_directory(queue.engine.path), "ab" * 16, 3)
    tasks = {task.name: with_limits(task, queue.defaults)}
    setup = Setup(tasks, queue.defaults, queue.clock, queue.engine.runs, process_lock)
    return CoroutinePool(3, setup, mailbox, first_slot=0, loop=loop), mailbox


def claimed(number):
    return Claimed(str(number), 1, "t", "default", b"[[],{}]", 0, 0, 0, None, None, None, 1_000.0)


def test_a_coroutine_cancelled_between_its_creation_and_its_first_step_ends(queue):
    @queue.task(name="t")
    async def never(): ...

    class Cancelling(dict):
        def __setitem__(self, key, run):
            super().__setitem__(key, run)
            run.cancel_requested = True
            coroutines.interrupt(run)

    coroutines, mailbox = pool_of(queue, never, Mailbox(lambda: None, settle=None))
    mailbox.running = Cancelling()
    try:
        coroutines.start([claimed(number) for number in range(3)], 0.0)
        until(lambda: len(mailbox.ended) == 3 and coroutines.free == 3)
        assert all(end.outcome == Cancelled() or end.outcome.result == b"null" for end in mailbox.ended)
    finally:
        coroutines.stop()


def test_what_waits_in_line_begins_as_others_end_and_never_more_than_the_limit(queue):
    at_once, most = set(), []

    @queue.task
    async def step(number: int):
        at_once.add(number)
        most.append(len(at_once))
        await asyncio.sleep(0)
        at_once.remove(number)

    step.enqueue_many([(number,) for number in range(500)])
    queue.worker(coroutines=3).run(until_idle=True)
    assert (len(most), max(most)) == (500, 3)


def test_a_job_that_waits_in_line_for_a_coroutine_can_be_cancelled(queue):
    @queue.task
    async def short(): ...

    @queue.task
    async def long():
        begun.set()
        while not let_go.is_set():
            await asyncio.sleep(0.001)

    begun, let_go = threading.Event(), threading.Event()
    short.enqueue_many([() for _ in range(100)])
    with queue.worker(coroutines=1):
        long.enqueue()
        assert begun.wait(10)
        waiting = short.enqueue()
        assert waiting.cancel()
        let_go.set()
        with pytest.raises(JobCancelled):
            waiting.result(timeout=10)


def test_while_the_applications_loop_stands_still_its_jobs_are_for_others(queue):
    @queue.task
    async def where():
        return threading.get_ident()

    ran = set()

    async def application():
        async with queue.worker() as worker:
            assert await where.enqueue().aresult(timeout=10) == threading.get_ident()
            jobs = where.enqueue_many([() for _ in range(20)])
            elsewhere = queue.worker()
            with elsewhere:  # a loop of its own
                thread = threading.Thread(target=lambda: ran.update(job.result(timeout=10) for job in jobs))
                thread.start()
                thread.join()  # this blocks the loop
            await asyncio.sleep(0.1)
            assert await where.enqueue().aresult(timeout=10) == threading.get_ident()
            return worker.claimed

    claimed = asyncio.run(application())
    assert len(ran) == 1
    assert threading.get_ident() not in ran
    assert claimed <= 22  # taken once and given back once: not again and again while nothing can begin


def test_whoever_asked_for_room_while_the_loop_stood_still_is_told_when_it_goes_on(queue):
    @queue.task(name="t")
    async def nothing(): ...

    loop, told = asyncio.new_event_loop(), []
    coroutines, _ = pool_of(queue, nothing, Mailbox(lambda: told.append(True), settle=None), loop)
    for asks in (True, False):
        told.clear()
        coroutines.start([claimed(1)], 0.0)
        assert not asks or coroutines.free == 0
        until(lambda: loop.run_until_complete(asyncio.sleep(0.001)) or (told and not coroutines.busy))
        assert len(told) == 1 + asks  # of the job's end, and of the room
        assert (coroutines.free, coroutines.busy) == (3, 0)
    loop.close()


def test_a_coroutine_that_cancels_itself_fails(queue):
    @queue.task
    async def work():
        asyncio.current_task().cancel()
        await asyncio.sleep(10)

    with queue.worker():
        assert ended(work.enqueue()).status == "failed"


def test_the_loop_is_there_before_an_idle_thread_may_claim_a_coroutine(queue, monkeypatch):
    """Else both start one; what ran on the one that was forgotten kept its slot, and a stop waited for it."""
    warmed = []
    for pool in (ThreadPool, CoroutinePool):

        def warming(self, *given, warm=pool.warm):
            warmed.append(type(self))
            warm(self, *given)

        monkeypatch.setattr(pool, "warm", warming)

    @queue.task
    async def work(): ...

    with queue.worker(threads=1, coroutines=1):
        until(lambda: len(warmed) > 1)
    assert warmed[:2] == [CoroutinePool, ThreadPool]
