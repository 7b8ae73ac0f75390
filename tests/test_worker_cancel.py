"""A cancel reaches a job wherever it is: waiting, in line, running in a thread or on the loop."""

import asyncio
import threading

import pytest

from contract.jobs import Hands
from crash.watching import ended, until
from litequeue import JobCancelled, Queue, Retry, Snooze, current_job
from litequeue.worker.executor.mailbox import Mailbox


@pytest.fixture(params=["apsw", "sqlite3"])
def queue(request, database):
    with Queue(database, driver=request.param, durability="normal") as queue:
        yield queue


def test_a_job_that_waits_in_the_queue_never_runs(queue):
    ran: list[str] = []

    @queue.task
    def work():
        ran.append("work")

    job = work.enqueue()
    assert job.cancel()
    queue.worker().run(until_idle=True)
    assert (job.refresh().status, ran) == ("cancelled", [])
    with pytest.raises(JobCancelled):
        job.result(1)


def test_a_scheduled_job_never_runs(queue):
    @queue.task
    def work(): ...

    job = work.using(delay="1h").enqueue()
    assert job.cancel()
    assert job.refresh().status == "cancelled"


@pytest.mark.parametrize("end", [Snooze("1h"), Retry(delay="1h")])
def test_a_cancelled_job_that_would_have_come_back_is_kept_as_long_as_its_result(queue, end):
    @queue.task(retries=1, result_ttl="1h")
    def work():
        queue.job(current_job().id).cancel()
        raise end

    job = work.enqueue()
    queue.worker().run(until_idle=True)
    assert job.refresh().status == "cancelled"
    assert queue.engine.maintenance.next_prune() == pytest.approx(job.finished_at.timestamp() + 3600)


def test_what_is_released_unbegun_is_kept_as_a_cancelled_job_if_that_was_asked_for(queue):
    @queue.task(name="add")
    def add(): ...

    hands, job = Hands(queue.engine), add.enqueue()
    mailbox = Mailbox(lambda: None, queue.engine.runs.settle)
    mailbox.release([hands.take()], queue.clock.now(), 3600.0)
    job.cancel()
    assert queue.engine.runs.settle(mailbox.take()) == []
    assert job.refresh().status == "cancelled"
    assert queue.engine.maintenance.next_prune() == pytest.approx(job.finished_at.timestamp() + 3600)


def test_a_running_coroutine_is_cancelled(queue):
    begun, cleaned = threading.Event(), threading.Event()

    @queue.task(retries=5)
    async def endless():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    with queue.worker():
        job = endless.enqueue()
        assert begun.wait(10)
        assert job.cancel()
        assert ended(job).status == "cancelled"
        assert cleaned.is_set()


def test_a_running_function_sees_that_it_is_cancelled(queue):
    begun = threading.Event()

    @queue.task
    def watchful():
        begun.set()
        until(lambda: current_job().cancelled)
        raise JobCancelled

    with queue.worker():
        job = watchful.enqueue()
        assert begun.wait(10)
        assert job.cancel()
        assert ended(job).status == "cancelled"


def test_a_function_that_pays_no_heed_to_a_cancel_ends_as_it_ends(queue):
    begun, go = threading.Event(), threading.Event()

    @queue.task
    def heedless() -> str:
        begun.set()
        go.wait(10)
        return "done"

    with queue.worker():
        job = heedless.enqueue()
        assert begun.wait(10)
        job.cancel()
        go.set()
        assert job.result(10) == "done"


def test_a_cancelled_function_that_fails_is_not_tried_again(queue):
    begun, go = threading.Event(), threading.Event()

    @queue.task(retries=5, backoff=0)
    def broken():
        begun.set()
        go.wait(10)
        raise ValueError

    with queue.worker():
        job = broken.enqueue()
        assert begun.wait(10)
        job.cancel()
        go.set()
        record = ended(job)
        assert (record.status, len(record.errors)) == ("cancelled", 1)


def test_a_job_claimed_and_in_line_for_a_thread_is_cancelled(queue):
    begun, go = threading.Event(), threading.Event()
    ran: list[int] = []

    @queue.task
    def quick(n: int):
        ran.append(n)
        if n == 50:
            begun.set()
            go.wait(10)

    with queue.worker(threads=1) as worker:
        jobs = quick.enqueue_many([(n,) for n in range(400)])
        assert begun.wait(10)
        jobs[60].cancel()
        assert ended(jobs[60]).status == "cancelled"
        go.set()
        assert [ended(job).status for job in jobs].count("succeeded") == 399
        assert worker.lost == 0
    assert 60 not in ran


def test_a_coroutine_that_swallows_its_cancel_ends_as_it_ends(queue):
    begun = threading.Event()

    @queue.task
    async def stubborn() -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "done all the same"

    @queue.task
    async def other() -> str:
        return "fine"

    with queue.worker(coroutines=1):
        job = stubborn.enqueue()
        assert begun.wait(10)
        job.cancel()
        assert job.result(10) == "done all the same"
        assert other.enqueue().result(10) == "fine"


def test_coroutines_cancelled_at_the_very_moment_they_begin_all_end(queue):
    @queue.task
    async def endless():
        await asyncio.Event().wait()

    begun: set[int] = set()

    @queue.task
    async def together(n: int):
        begun.add(n)
        while len(begun) < 50:
            await asyncio.sleep(0.01)

    with queue.worker(coroutines=50):
        for _ in range(20):
            jobs = endless.enqueue_many([()] * 20)
            for job in jobs:
                job.cancel()
            assert {ended(job).status for job in jobs} == {"cancelled"}
        for job in together.enqueue_many([(n,) for n in range(50)]):
            job.result(20)  # none of the fifty places was lost


def test_a_job_that_has_ended_cannot_be_cancelled(queue):
    @queue.task
    def work(): ...

    job = work.enqueue()
    queue.worker().run(until_idle=True)
    assert not job.cancel()
    assert job.refresh().status == "succeeded"


def test_a_cancelled_job_can_be_retried(queue):
    @queue.task
    def work() -> str:
        return "done"

    job = work.enqueue()
    job.cancel()
    job.retry()
    with queue.worker():
        assert job.result(10) == "done"
