"""The event loop of a worker: nothing may block it for a job; one that is blocked is named and replaced."""

import asyncio
import json
import logging
import subprocess
import sys
import threading

import pytest

from crash.watching import status_of, until
from litequeue import JobFailed, Queue, Status, as_completed, wait_all
from litequeue.worker.executor.event_loop import EventLoop

HINT = "await job"


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


@pytest.fixture
def soon(monkeypatch):
    """A loop that does not answer is named after a second, and what does not stop is left behind at once."""
    monkeypatch.setattr("litequeue.worker.executor.coroutine_pool.ANSWER_WITHIN", 1.0)
    monkeypatch.setattr("litequeue.worker.executor.event_loop.ASK_EVERY", 0.05)
    monkeypatch.setattr("litequeue.worker.loop.POLL", 0.05)
    monkeypatch.setattr("litequeue.worker.running_jobs.LATE_GRACE", 0.05)


# Waiting for a job on the loop that may have to run it


def blocking_wait(job):
    return job.result(timeout=20)


async def in_a_coroutine(job):
    return job.result(timeout=20)


async def in_a_plain_function(job):
    return blocking_wait(job)


async def for_all(job):
    return wait_all([job], timeout=20)[0].result()


async def for_each(job):
    return next(each.result() for each in as_completed([job], timeout=20))


async def for_the_end_of_a_cancel(job):
    job.cancel(wait=20)
    return job.result(timeout=20)


async def in_a_callback(job):
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def callback():
        try:
            done.set_result(job.result(timeout=20))
        except RuntimeError as error:
            done.set_exception(error)

    loop.call_soon(callback)
    return await done


WAYS = pytest.mark.parametrize(
    "wait", [in_a_coroutine, in_a_plain_function, in_a_callback, for_all, for_each, for_the_end_of_a_cancel]
)


@WAYS
def test_a_coroutine_that_waits_for_a_job_without_await_is_told_to_await_it(queue, wait):
    @queue.task
    async def leaf():
        return "leaf"

    @queue.task
    async def parent():
        return await wait(leaf.enqueue())

    with queue.worker(threads=1):
        with pytest.raises(JobFailed, match=HINT):
            parent.enqueue().result(timeout=20)
        assert leaf.enqueue().result(timeout=20) == "leaf"  # the loop runs on


@WAYS
def test_so_is_the_application_on_the_loop_that_it_shares_with_a_worker(queue, wait):
    @queue.task
    async def leaf():
        return "leaf"

    async def application():
        async with queue.worker(threads=1):
            job = leaf.enqueue()
            with pytest.raises(RuntimeError, match=HINT):
                await wait(job)
            assert await job == "leaf"
        return await wait(job)  # the worker has left this loop

    assert asyncio.run(application()) == "leaf"


def test_a_second_queue_on_the_same_file_is_no_way_around_it(queue, database):
    @queue.task
    async def parent():
        with Queue(database) as again:
            return again.job(parent.enqueue().id).result(timeout=20)

    with queue.worker(threads=1), pytest.raises(JobFailed, match=HINT):
        parent.enqueue().result(timeout=20)


def test_on_other_loops_and_in_threads_a_result_is_waited_for_as_ever(queue):
    @queue.task
    async def leaf():
        return "leaf"

    async def notebook():
        return leaf.enqueue().result(timeout=20)

    @queue.task
    async def parent():
        return await asyncio.to_thread(lambda: leaf.enqueue().result(timeout=20))

    with queue.worker(threads=1):
        assert asyncio.run(notebook()) == "leaf"
        assert parent.enqueue().result(timeout=20) == "leaf"


def test_a_worker_of_plain_functions_alone_needs_no_loop_so_it_may_be_blocked(queue):
    @queue.task
    def add(a: int, b: int) -> int:
        return a + b

    async def application():
        async with queue.worker(threads=1):
            return add.enqueue(1, 2).result(timeout=20)

    assert asyncio.run(application()) == 3


def test_a_worker_is_not_waited_for_on_the_loop_that_it_needs(queue):
    @queue.task
    async def leaf(): ...

    async def application():
        async with queue.worker() as worker:
            with pytest.raises(RuntimeError, match="async with"):
                worker.__exit__()

    asyncio.run(application())


# A loop that does not answer


def status(database):
    command = [sys.executable, "-m", "litequeue", "status", str(database), "--check", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return ran.returncode, ran.stderr, json.loads(ran.stdout)["workers"]


def threads_of_loops():
    return {thread for thread in threading.enumerate() if thread.name == "litequeue-loop"}


@pytest.fixture
def blocked(queue):
    """A task whose first run blocks its loop until the gate opens, as `time.sleep` does, and then awaits."""
    begun, gate, after = threading.Event(), threading.Event(), []

    async def block():
        begun.set()
        gate.wait(60)
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            after.append("cancelled")
            raise
        after.append("went on")
        return "late"

    block.begun, block.gate, block.after = begun, gate, after
    yield block
    gate.set()


def test_a_loop_that_a_coroutine_blocks_is_named_and_replaced(queue, database, blocked, soon, caplog):
    task = queue.task(name="blocks", timeout="1s")(blocked)

    @queue.task
    async def other():
        await asyncio.sleep(0)
        return "other"

    before = threads_of_loops()
    with queue.worker(threads=1):
        culprit = task.enqueue()
        assert blocked.begun.wait(20)
        [old] = threads_of_loops() - before
        innocent = other.enqueue()  # a new loop runs it
        assert innocent.result(timeout=20) == "other"
        with pytest.raises(JobFailed, match="JobTimeout"):
            culprit.result(timeout=20)
        [record] = [record for record in caplog.records if "has not answered" in record.getMessage()]
        assert record.levelno == logging.ERROR
        assert f"blocks[{culprit.id}]" in record.getMessage()
        assert "gate.wait(60)" in record.getMessage()  # the stack of its thread

        code, problems, [worker] = status(database)
        assert (code, worker["loop_silent_since"] is None) == (1, False)
        assert "its event loop has not answered" in problems

        blocked.gate.set()
        old.join(20)  # once nothing is left on it
        assert not old.is_alive()
        assert blocked.after == ["cancelled"]
        until(lambda: status(database)[0] == 0)
        assert culprit.refresh().status is Status.FAILED  # what it did later counts no more
        assert other.enqueue().result(timeout=20) == "other"


def test_what_still_counts_on_a_replaced_loop_ends_as_usual(queue, blocked, soon):
    task = queue.task(name="blocks", timeout="1h")(blocked)

    @queue.task
    async def bystander():
        waits.set()
        while not blocked.begun.is_set():
            await asyncio.sleep(0.001)
        return "bystander"

    @queue.task
    async def other():
        return threading.get_ident()

    waits = threading.Event()
    with queue.worker(threads=1) as worker:
        beside = bystander.enqueue()
        assert waits.wait(20)
        long = task.enqueue()
        assert blocked.begun.wait(20)
        idents = {other.enqueue().result(timeout=20)}
        blocked.gate.set()
        assert (long.result(timeout=20), beside.result(timeout=20)) == ("late", "bystander")
        idents.add(other.enqueue().result(timeout=20))
        assert len(idents) == 1  # nothing begins on the old one any more
    assert (worker.settled - worker.released, worker.lost) == (4, 0)


def test_a_stop_beside_a_blocked_loop_ends_within_the_grace_and_releases_the_job(queue, blocked):
    job = queue.task(name="blocks", timeout="1h")(blocked).enqueue()
    with queue.worker(threads=1, grace=0.1) as worker:
        assert blocked.begun.wait(20)
    assert blocked.after == []  # it blocks still
    record = queue.engine.jobs.look_up(job.id)
    assert (record.status, record.failures, record.deaths) == ("queued", 0, 0)
    assert worker.released >= 1  # and once more where it was put back before it began


def test_the_applications_loop_is_not_replaced_but_named_once_and_again_when_it_answers(queue, database, soon, caplog):
    caplog.set_level(logging.WARNING, "litequeue")

    @queue.task
    async def where():
        return threading.get_ident()

    def messages():
        texts = [record.getMessage() for record in caplog.records]
        return [text for text in texts if text.startswith("the application's event loop")]

    async def application():
        async with queue.worker(threads=1) as worker:
            await where.enqueue()
            job = where.enqueue()
            until(lambda: len(messages()) == 1)  # this blocks the loop
            silent = status(database)
            assert worker.claimed <= 3  # handed over, claimed, and then left to others
            assert await job == threading.get_ident()
            await asyncio.to_thread(until, lambda: len(messages()) == 2)
            assert await where.enqueue() == threading.get_ident()
        return silent

    code, _, [worker] = asyncio.run(application())
    blocked, answers = messages()
    assert (code, worker["loop_silent_since"] is None) == (1, False)
    assert "no coroutine is claimed until it answers" in blocked
    assert "until(lambda" in blocked
    assert "answers again" in answers


@pytest.mark.parametrize("way", ["exit", "stop"])
def test_a_coroutine_that_ends_its_loop_ends_no_other(queue, way):
    async def leave():
        if way == "stop":
            asyncio.get_running_loop().stop()
        else:
            sys.exit(3)

    @queue.task
    async def ends():
        task = asyncio.ensure_future(leave())
        await asyncio.sleep(0.01)
        return task.done()

    @queue.task
    async def other():
        return "other"

    with queue.worker(threads=1):
        assert ends.enqueue().result(timeout=20) is True
        assert other.enqueue().result(timeout=20) == "other"


def test_a_worker_whose_start_is_cancelled_does_not_stay_behind(queue):
    @queue.task
    async def leaf(): ...

    async def application():
        entering = asyncio.ensure_future(queue.worker(name="half").__aenter__())
        await asyncio.sleep(0)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering

    asyncio.run(application())
    until(lambda: not any(thread.name == "litequeue-half" for thread in threading.enumerate()))
    assert queue.engine.workers.list() == []


def test_a_worker_whose_application_has_closed_its_loop_says_so(queue, soon, caplog):
    @queue.task
    async def leaf(): ...

    def says_so():
        return [record for record in caplog.records if "runs no coroutines any more" in record.getMessage()]

    worker = queue.worker(threads=1)
    asyncio.run(worker.__aenter__())
    job = leaf.enqueue()
    until(says_so)
    worker.__exit__()
    assert len(says_so()) == 1
    assert job.refresh().status is Status.QUEUED


def test_silence_is_added_up_from_look_to_look(monkeypatch):
    """While a process is stopped as a whole nobody looks, and no loop can answer."""
    monkeypatch.setattr("litequeue.worker.executor.event_loop.ASK_EVERY", 0.0)
    monkeypatch.setattr("litequeue.worker.executor.event_loop.LARGEST_STEP", 0.01)
    loop = asyncio.new_event_loop()
    at = EventLoop(loop, "")
    assert at.silence(ask=True) == 0
    threading.Event().wait(0.05)
    assert 0 < at.silence(ask=True) <= 0.01
    loop.run_until_complete(asyncio.sleep(0))  # it answers
    assert at.silence(ask=False) == 0
    at.stop()
    loop.close()


def test_a_loop_that_ends_releases_its_coroutines(queue):
    begun = threading.Event()

    @queue.task
    async def endless():
        begun.set()
        await asyncio.Event().wait()

    job = endless.enqueue()

    async def application():
        working = queue.worker()
        await working.__aenter__()
        await asyncio.to_thread(begun.wait, 20)
        return working

    working = asyncio.run(application())
    until(lambda: status_of(job) == "scheduled")
    working.__exit__()
    record = queue.engine.jobs.look_up(job.id)
    assert (record.failures, len(record.errors)) == (0, 0)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has eager tasks since 3.12")
def test_coroutines_end_also_on_a_loop_that_begins_tasks_eagerly(queue):
    @queue.task
    async def at_once(n: int) -> int:
        return n

    async def application():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with queue.worker(coroutines=2):
            jobs = await at_once.aenqueue_many([(n,) for n in range(10)])
            return [await job.aresult(timeout=20) for job in jobs]

    assert asyncio.run(application()) == list(range(10))
