"""Wait: threads and coroutines that want a result."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from litequeue import JobNotFound


def test_threads_wait_for_one_job(rig):
    job = rig.tasks.add.enqueue(1)
    with ThreadPoolExecutor(20) as pool:
        waits = [pool.submit(job.result, 10) for _ in range(20)]
        rig.work()
        assert [wait.result() for wait in waits] == [2] * 20


def test_coroutines_wait_for_many_jobs(rig):
    async def main():
        jobs = await rig.tasks.add.aenqueue_many([(number,) for number in range(30)])
        return await asyncio.wait_for(asyncio.gather(*jobs), 20)

    with rig.worker():
        assert asyncio.run(main()) == list(range(1, 31))


def test_a_wait_that_is_over_tells_what_the_job_does(rig):
    job = rig.tasks.add.enqueue(1)
    text = rf"^job {job.id} \(add\) is still queued.*; waited 0\.05 s$"
    with pytest.raises(TimeoutError, match=text):
        job.result(0.05)
    with pytest.raises(TimeoutError, match=text):
        asyncio.run(wait(job, 0.05))
    with pytest.raises(TimeoutError):
        job.result(0)


async def wait(job, timeout):
    return await job.aresult(timeout)


def test_a_wait_is_over_soon_after_the_end(rig):
    job = rig.tasks.add.using(delay=0.2).enqueue(1)
    with rig.worker():
        job.result(10)
        noticed = time.time()
    assert noticed - job.refresh().finished_at.timestamp() < 5


def test_a_job_that_has_ended_is_not_waited_for(rig):
    job = rig.tasks.add.enqueue(1)
    rig.work()
    assert job.result(0) == 2
    assert asyncio.run(wait(job, 0)) == 2


def test_a_job_that_is_not_there_is_not_waited_for(rig):
    with pytest.raises(JobNotFound):
        rig.engine.jobs.wait("999999", 5)
