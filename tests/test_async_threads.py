"""Coroutines read and write in threads of our own: those of the application may be busy, or gone."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from crash.watching import until
from litequeue import Queue, Status

LATER = """
import asyncio, threading
from litequeue import Queue

queue = Queue("app.db", driver={driver!r})

@queue.task
def add(a: int, b: int) -> int:
    return a + b

async def serve():
    threading.main_thread().join()
    job = await add.aenqueue(1, 1)
    async with queue.worker(threads=1):
        assert await job.aresult(timeout=20) == 2
    assert (await queue.ajob(job.id)).status == "succeeded"
    assert len(await queue.ajobs()) == 1
    async with queue.atransaction():
        await add.aenqueue(2, 2)
    print("works", flush=True)

threading.Thread(target=lambda: asyncio.run(serve())).start()
"""


@pytest.mark.parametrize("driver", ["apsw", "sqlite3"])
def test_coroutines_work_on_in_a_thread_that_outlives_the_main_thread(tmp_path, driver):
    (tmp_path / "server.py").write_text(LATER.format(driver=driver))
    command = [sys.executable, "server.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.returncode) == ("works\n", 0), ran.stderr


@pytest.fixture
def queue(database, driver):
    with Queue(database, driver=driver, durability="normal") as queue:
        yield queue


def with_a_full_executor(main):
    """Run it on a loop whose default executor has something else to do until that has ended."""
    over = threading.Event()

    async def application():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, over.wait, 60)
        try:
            return await asyncio.wait_for(main(), 30)
        finally:
            over.set()
            await busy

    return asyncio.run(application())


def test_no_async_method_waits_for_the_applications_executor(queue):
    @queue.task
    def add(a: int, b: int) -> int:
        return a + b

    @queue.task
    async def greet(name: str) -> str:
        return f"hello {name}"

    async def main():
        job = await add.using(delay="1h").aenqueue(1, 2)
        assert (await queue.ajob(job.id)).status is Status.SCHEDULED
        assert [each.id for each in await queue.ajobs()] == [job.id]
        with pytest.raises(TimeoutError, match="still scheduled"):
            await job.aresult(timeout=0.05)
        assert await job.acancel()
        await job.aretry()
        assert (await job.arefresh()).status is Status.QUEUED
        async with queue.atransaction():
            inside = await greet.aenqueue("you")
        async with queue.worker(threads=1):
            return await inside.aresult(timeout=20), await job

    assert with_a_full_executor(main) == ("hello you", 3)


def test_jobs_that_wait_for_jobs_do_not_wait_for_each_other(queue):
    """As many as there are slots wait, while others are stored, looked up and run."""

    @queue.task
    def leaf(n: int) -> int:
        return n

    @queue.task
    async def parent(n: int) -> int:
        children = [await leaf.aenqueue(n), await leaf.aenqueue(1)]
        return sum([await child.aresult(timeout=60) for child in children])

    async def main():
        async with queue.worker(threads=2, coroutines=40):
            jobs = [await parent.aenqueue(n) for n in range(40)]
            return [await job.aresult(timeout=60) for job in jobs]

    assert with_a_full_executor(main) == [n + 1 for n in range(40)]


@contextmanager
def a_long_read(queue):
    """Another thread reads for as long as the block lasts."""
    reads, over = threading.Event(), threading.Event()

    def look(_db):
        reads.set()
        over.wait(60)

    thread = threading.Thread(target=queue.engine.kernel.read, args=(look,))
    thread.start()
    assert reads.wait(20)
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("way", ["result", "aresult"])
@pytest.mark.parametrize("timeout", [0, 0.1])
def test_a_time_limit_holds_while_others_read(queue, way, timeout):
    job = queue.task(name="t")(lambda: None).enqueue()

    async def aresult():
        await job.aresult(timeout=timeout)

    with a_long_read(queue), pytest.raises(TimeoutError, match=rf"job {job.id} .*waited {timeout:g} s"):  # not in 60 s
        if way == "result":
            job.result(timeout=timeout)
        else:
            asyncio.run(aresult())


def test_a_time_limit_holds_while_others_read_what_was_looked_up_before(queue, monkeypatch):
    monkeypatch.setattr("litequeue.ipc.result_waiters.SAFETY_POLL", 0.05)
    job = queue.task(name="t")(lambda: None).enqueue()

    async def main():
        waiting = asyncio.ensure_future(job.aresult(timeout=1.0))
        await queue.ajob(job.id)
        await queue.ajob(job.id)
        with a_long_read(queue), pytest.raises(TimeoutError, match=f"job {job.id} "):
            await waiting

    asyncio.run(main())


def test_a_job_that_has_ended_gives_its_result_without_any_time(queue):
    @queue.task
    def add(a: int, b: int) -> int:
        return a + b

    job = add.enqueue(1, 2)
    queue.worker(threads=1).run(until_idle=True)

    async def main():
        return await job.aresult(timeout=0)

    assert (job.result(timeout=0), asyncio.run(main())) == (3, 3)


# The threads


OURS = {"litequeue-reader", "litequeue-listing", "litequeue-writer"}


def threads():
    return {thread for thread in threading.enumerate() if thread.name in OURS}


async def use(queue):
    task = queue.tasks.get("t") or queue.task(name="t")(lambda: None)
    job = await task.aenqueue()
    await queue.ajob(job.id)
    await queue.ajobs(limit=1)


@pytest.mark.parametrize("way", ["closed", "dropped"])
def test_the_threads_of_a_queue_end_with_it(database, way, monkeypatch):
    monkeypatch.setattr("litequeue.core.background.IDLE", 3600.0)
    before = threads()
    queue = Queue(database)
    asyncio.run(use(queue))
    mine = threads() - before
    assert mine
    if way == "closed":
        queue.close()
    else:
        del queue
    until(lambda: gc.collect() >= 0 and not any(thread.is_alive() for thread in mine))  # a last call may yet return


def test_threads_that_have_nothing_to_do_end_and_others_take_their_place(queue, monkeypatch):
    monkeypatch.setattr("litequeue.core.background.IDLE", 0.01)
    before = threads()
    for _ in range(3):
        asyncio.run(use(queue))
        until(lambda: threads() <= before)


def test_a_closed_loop_leaves_the_threads_to_others(queue):
    """A program that ends its loop amid a read, and goes on with another."""

    async def abandon():
        queue.engine.kernel.soon(lambda: begun.set() or over.wait(60))
        await asyncio.to_thread(begun.wait, 20)

    begun, over = threading.Event(), threading.Event()
    asyncio.run(abandon())
    over.set()
    asyncio.run(use(queue))


def test_a_read_that_nobody_awaits_any_more_is_not_begun(queue):
    looked, over = [], threading.Event()

    async def main():
        first = queue.engine.kernel.soon(lambda: over.wait(60))
        second = queue.engine.kernel.soon(lambda: looked.append(True))
        second.cancel()
        over.set()
        await first
        await use(queue)

    asyncio.run(main())
    assert looked == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(queue):
    asyncio.run(use(queue))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.run(asyncio.wait_for(use(queue), 20))
            code = 0
        finally:
            os._exit(code)
    ended = []
    until(lambda: ended.append(os.waitpid(child, os.WNOHANG)) or ended[-1][0], deadline=60)
    assert os.waitstatus_to_exitcode(ended[-1][1]) == 0
    asyncio.run(use(queue))
    assert len(queue.jobs()) == 3


# Listings have a connection and a thread of their own


@contextmanager
def a_long_listing(queue):
    """Another thread lists for as long as the block lasts."""
    begun, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=queue.engine.kernel.read_listing, args=(lambda _db: begun.set() or over.wait(60),))
    thread.start()
    assert begun.wait(20)
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_look_up_does_not_wait_for_a_listing(queue):
    job = queue.task(name="t")(lambda: 5).enqueue()
    queue.worker(threads=1).run(until_idle=True)

    async def main():
        kernel, over = queue.engine.kernel, threading.Event()
        listing = kernel.listed_soon(lambda: kernel.read_listing(lambda _db: over.wait(60)))
        try:
            found = (await queue.ajob(job.id)).id, await job.aresult(timeout=20)
            assert not listing.done()
        finally:
            over.set()
        await listing
        return found

    with a_long_listing(queue):
        assert (queue.job(job.id).id, job.result(timeout=20)) == (job.id, 5)
    assert asyncio.run(asyncio.wait_for(main(), 20)) == (job.id, 5)


def test_a_short_listing_does_not_wait_for_a_long_one_of_another_coroutine(queue, monkeypatch):
    monkeypatch.setattr("litequeue.sqlite.jobs.listing.FIRST_BLOCK", 5)
    monkeypatch.setattr("litequeue.sqlite.jobs.listing.BLOCK", 5)
    queue.task(name="t")(lambda: 5).enqueue_many([()] * 200)

    async def main():
        long = asyncio.ensure_future(queue.ajobs(task="none"))
        await asyncio.sleep(0)
        found = await queue.ajobs(limit=1)
        assert not long.done()
        return len(found), await long

    assert asyncio.run(main()) == (1, [])
