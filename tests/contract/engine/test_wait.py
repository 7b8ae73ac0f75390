"""Wait: threads and coroutines that want a result."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from crash.watching import until
from litequeue import JobFailed, JobNotFound, as_completed, await_all, wait_all


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


# ---- many jobs at once


def test_jobs_are_looked_up_together(rig):
    ids = [job.id for job in rig.tasks.add.enqueue_many([(number,) for number in range(3)])]
    rig.work()
    expected = {job_id: rig.engine.jobs.look_up(job_id) for job_id in ids}
    asked = [*ids, ids[0], "999999"]
    assert rig.engine.jobs.look_up_many(asked) == expected
    assert asyncio.run(looked_up(rig, asked)) == expected
    assert rig.engine.jobs.look_up_many([], timeout=0) == {}


async def looked_up(rig, ids):
    return await rig.engine.jobs.alook_up_many(ids, timeout=10)


def test_a_watch_tells_once_of_each_job_that_has_ended_or_is_not_there(rig):
    before = rig.tasks.add.enqueue(1)
    rig.work()
    after = rig.tasks.fail.enqueue()
    told, looked = [], threading.Event()

    def tell(ids):
        told.extend(ids)
        if not ids:
            looked.set()

    stop = rig.engine.jobs.watch([before.id, after.id, "999999"], tell)
    assert looked.wait(10)
    assert sorted(told) == sorted([before.id, "999999"])
    rig.work()
    until(lambda: len(told) == 3)
    assert told[2] == after.id
    stop()
    stop()


def test_all_jobs_are_waited_for_however_they_end(rig):
    good, bad = rig.tasks.add.enqueue(1), rig.tasks.fail.enqueue()
    with rig.worker():
        jobs = wait_all([bad, good, bad], timeout=10)
    assert jobs == [bad, good, bad]
    assert [job.status for job in jobs] == ["failed", "succeeded", "failed"]
    assert good.result() == 2
    with pytest.raises(JobFailed, match="no"):
        bad.result()


def test_coroutines_wait_for_all_jobs(rig):
    async def main():
        jobs = await rig.tasks.add.aenqueue_many([(number,) for number in range(30)])
        assert await await_all(jobs, timeout="10s") == jobs
        return [await job for job in jobs]

    with rig.worker():
        assert asyncio.run(main()) == list(range(1, 31))


def test_jobs_are_yielded_as_they_end(rig):
    first, last = rig.tasks.add.enqueue(1), rig.tasks.add.using(delay="1h").enqueue(2)
    ends = iter(as_completed([last, first], timeout=20))
    with rig.worker():
        assert [next(ends).result()] == [2]
        last.cancel()
        assert next(ends) is last
    assert last.status == "cancelled"
    assert list(ends) == []


def test_coroutines_get_jobs_as_they_end(rig):
    async def main():
        jobs = await rig.tasks.add.aenqueue_many([(number,) for number in range(30)])
        return [await job async for job in as_completed([*jobs, *jobs], timeout=20)]

    with rig.worker():
        assert sorted(asyncio.run(main())) == list(range(1, 31))


def test_a_wait_for_many_that_is_over_tells_how_many_have_not_ended(rig, monkeypatch):
    monkeypatch.setattr("litequeue.job_waits.LOOK", 10.0)  # which jobs have ended is found in time on any machine
    ended = rig.tasks.add.enqueue(1)
    rig.work()
    jobs = [rig.tasks.add.enqueue(number) for number in range(5)]
    ids = ", ".join(job.id for job in jobs[:3])
    text = f"^5 of 6 jobs have not ended: {ids} and 2 more; waited 0 s$"
    with pytest.raises(TimeoutError, match=text):
        wait_all([ended, *jobs], timeout=0)
    with pytest.raises(TimeoutError, match=text):
        asyncio.run(all_of([ended, *jobs]))
    seen = []
    with pytest.raises(TimeoutError, match=f"^1 of 2 jobs has not ended: {jobs[0].id}; waited 0.05 s$"):
        seen.extend(job.result() for job in as_completed([jobs[0], ended], timeout=0.05))


async def all_of(jobs):
    await await_all(jobs, timeout=0)


def test_a_job_that_is_not_there_keeps_no_other_from_its_end(rig):
    rig.work()
    job, gone = rig.tasks.add.enqueue(1), rig.tasks.add.enqueue(2)
    gone.id = "999999"
    rig.work()
    assert {each.id for each in as_completed([gone, job], timeout=10)} == {job.id, "999999"}
    assert job.result() == 2
    with pytest.raises(JobNotFound):
        gone.result(0)
    with pytest.raises(JobNotFound):
        gone.status  # noqa: B018
