"""Stopping: what runs is finished, or put back without using up an attempt."""

import asyncio
import threading

import pytest

from crash.watching import ended, until
from litequeue import Queue, current_job


@pytest.fixture(params=["apsw", "sqlite3"])
def queue(request, database):
    with Queue(database, driver=request.param, durability="normal") as queue:
        yield queue


def test_stop_lets_what_runs_end_and_claims_no_more(queue):
    begun, go = threading.Event(), threading.Event()

    @queue.task
    def work(n: int):
        begun.set()
        go.wait(10)

    jobs = work.enqueue_many([(1,), (2,)])
    with queue.worker(threads=1) as worker:
        assert begun.wait(10)
        worker.stop()
        go.set()
    assert sorted(str(job.refresh().status) for job in jobs) == ["queued", "succeeded"]


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_what_does_not_end_within_the_grace_is_released_and_runs_elsewhere(queue, kind):
    begun = threading.Event()

    def plain():
        begun.set()
        while current_job().attempt == 1:
            pass
        return current_job().attempt

    async def coroutine():
        begun.set()
        if current_job().attempt == 1:
            await asyncio.Event().wait()
        return current_job().attempt

    task = queue.task(name="long")({"plain": plain, "coroutine": coroutine}[kind])
    job = task.enqueue()
    with queue.worker(grace=0.05) as worker:
        assert begun.wait(10)
    record = queue.engine.jobs.look_up(job.id)
    assert (record.status, record.failures, record.deaths, record.errors) == ("queued", 0, 0, ())
    assert worker.released == 1
    with queue.worker():
        assert job.result(10) == 2


def test_a_thread_blocked_outside_python_is_left_behind_and_its_job_released(queue, caplog):
    begun, go = threading.Event(), threading.Event()

    @queue.task
    def blocked():
        begun.set()
        go.wait(20)

    job = blocked.enqueue()
    with queue.worker(grace=0):
        assert begun.wait(10)
    go.set()
    record = queue.engine.jobs.look_up(job.id)
    assert (record.status, record.failures, queue.engine.workers.list()) == ("queued", 0, [])
    [left] = [each for each in caplog.records if "still runs here" in each.getMessage()]
    assert left.levelname == "WARNING"
    released = f"blocked[{job.id}] was released though it still runs here; it may run again elsewhere; it is here:"
    assert released in left.getMessage()


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_stop_now_releases_at_once_whatever_the_grace(queue, kind):
    begun = threading.Event()

    def plain():
        begun.set()
        while True:
            pass

    async def coroutine():
        begun.set()
        await asyncio.Event().wait()

    job = queue.task(name="endless")({"plain": plain, "coroutine": coroutine}[kind]).enqueue()
    with queue.worker(grace="1h") as worker:
        assert begun.wait(10)
        worker.stop(now=True)
    assert job.refresh().status == "queued"


def test_a_function_that_ends_itself_as_cancelled_when_it_is_released_is_released(queue):
    from litequeue import JobCancelled

    begun = threading.Event()

    @queue.task
    def watchful():
        begun.set()
        while not current_job().cancelled:
            pass
        raise JobCancelled

    job = watchful.enqueue()
    with queue.worker(grace=0):
        assert begun.wait(10)
    assert job.refresh().status == "queued"


def test_the_results_of_all_that_ended_are_stored(queue):
    @queue.task
    def number(n: int) -> int:
        return n

    jobs = number.enqueue_many([(n,) for n in range(2000)])
    with queue.worker(threads=4) as worker:
        until(lambda: worker.settled > 200)
    states = [str(job.refresh().status) for job in jobs]
    assert set(states) <= {"succeeded", "queued"}
    assert states.count("succeeded") == worker.settled - worker.released
    assert all(job.result(0) == n for n, job in enumerate(jobs) if job.status == "succeeded")


def test_a_job_cancelled_while_the_worker_drains_is_cancelled(queue):
    begun = threading.Event()

    @queue.task
    async def endless():
        begun.set()
        await asyncio.Event().wait()

    job = endless.enqueue()
    with queue.worker() as worker:
        assert begun.wait(10)
        worker.stop()
        job.cancel()
    assert ended(job, 1).status == "cancelled"


def test_a_limit_holds_while_the_worker_drains(queue):
    begun = threading.Event()

    @queue.task(timeout=0.5)
    def endless():
        begun.set()
        while True:
            pass

    job = endless.enqueue()
    with queue.worker(grace="20s"):
        assert begun.wait(10)
    assert job.refresh().errors[0].type.endswith("JobTimeout")


def test_an_application_that_fails_inside_the_block_still_drains(queue):
    begun = threading.Event()

    @queue.task
    async def work() -> str:
        begun.set()
        await asyncio.sleep(0.05)
        return "done"

    async def application():
        async with queue.worker():
            job = await work.aenqueue()
            await asyncio.to_thread(begun.wait, 10)
            raise KeyError(job.id)

    with pytest.raises(KeyError) as caught:
        asyncio.run(application())
    assert queue.job(caught.value.args[0]).status == "succeeded"


def test_a_worker_whose_file_is_deleted_stops_loudly(queue):
    from litequeue.errors import StoreReplaced

    @queue.task
    def removes():
        queue.path.unlink()

    removes.enqueue()
    with pytest.raises(StoreReplaced, match="was deleted"):
        queue.worker().run()


def test_a_worker_whose_file_is_replaced_stops_loudly(queue, tmp_path):
    from litequeue.errors import StoreReplaced

    @queue.task
    def replaces():
        (tmp_path / "new.db").touch()
        (tmp_path / "new.db").replace(queue.path)

    replaces.enqueue()
    with pytest.raises(StoreReplaced, match="was replaced"):
        queue.worker().run()
