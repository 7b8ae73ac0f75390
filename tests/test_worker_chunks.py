"""A chunk on a worker: one job that calls its function once an item, and ends between or inside the calls."""

import asyncio
import threading
from datetime import date

import pytest

from crash.watching import until
from litequeue import JobCancelled, JobFailed, Queue, current_job


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


def chunk_of(task, items):
    """Enqueue one chunk, and return its job."""
    [job] = task.chunks(items, len(items)).jobs
    return job


def test_a_chunk_runs_as_one_job(queue):
    @queue.task
    def square(x: int) -> int:
        return x * x

    @queue.task
    async def asquare(x: int) -> int:
        await asyncio.sleep(0)
        return x * x

    jobs = [chunk_of(task, [1, 2, 3]) for task in (square, asquare)]
    with queue.worker():
        assert [job.result(20) for job in jobs] == [[1, 4, 9], [1, 4, 9]]
    assert [job.refresh().attempt for job in jobs] == [1, 1]


def test_each_result_of_a_chunk_comes_as_annotated_wherever_its_job_is_looked_up(queue):
    @queue.task
    def first(year: int) -> date:
        return date(year, 1, 1)

    dates = [date(2025, 1, 1), date(2026, 1, 1)]
    with queue.worker():
        group = first.chunks([2025, 2026], 2)
        assert group.results(20) == [dates]
    assert [queue.job(group.jobs[0].id).result(0), queue.group(group.id).results(0)] == [dates, [dates]]


def test_a_chunk_is_stopped_inside_a_call_at_its_limit(queue):
    called = []

    @queue.task(timeout=0.1)
    def work(x):
        called.append(x)
        while x == 2:
            pass

    @queue.task(timeout=0.1)
    async def awork(x):
        called.append(x)
        if x == 2:
            await asyncio.Event().wait()

    with queue.worker():
        for task in (work, awork):
            called.clear()
            with pytest.raises(JobFailed, match=r"ran longer than its limit of 0\.1 s"):
                chunk_of(task, [1, 2, 3]).result(20)
            assert 3 not in called


def test_a_cancelled_chunk_makes_no_further_call(queue):
    called, begun = [], threading.Event()

    @queue.task
    def work(x):
        called.append(x)
        begun.set()
        until(lambda: current_job().cancelled)

    with queue.worker():
        job = chunk_of(work, [1, 2])
        assert begun.wait(20)
        job.cancel()
        with pytest.raises(JobCancelled):
            job.result(20)
    assert called == [1]
