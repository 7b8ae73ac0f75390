"""Waits for many jobs that other processes end."""

import asyncio

from litequeue import as_completed, wait_all

OTHER_PROCESSES = True


def test_jobs_that_another_process_ends_are_yielded(rig, start_worker):
    start_worker(threads=2)
    jobs = rig.tasks.add.enqueue_many([(number,) for number in range(300)])
    assert sorted(job.result() for job in as_completed(jobs, timeout=60)) == list(range(1, 301))

    async def main():
        again = await rig.tasks.add.aenqueue_many([(number,) for number in range(300)])
        gathered = asyncio.gather(*again)
        assert len([job async for job in as_completed(again, timeout=60)]) == 300
        return await gathered

    assert asyncio.run(main()) == list(range(1, 301))
    assert len(wait_all(rig.tasks.add.enqueue_many([(1,)] * 300), timeout=60)) == 300
