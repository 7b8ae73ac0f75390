"""A worker runs plain functions and coroutines, together, beside the code that started it."""

import asyncio
import contextvars
import threading

import pytest

from crash.watching import ended, until
from litequeue import JobFailed, Queue, current_job


@pytest.fixture(params=["apsw", "sqlite3"])
def queue(request, database):
    with Queue(database, driver=request.param, durability="normal") as queue:
        yield queue


def test_a_plain_function_and_a_coroutine_give_their_results(queue):
    @queue.task
    def add(a: int, b: int) -> int:
        return a + b

    @queue.task
    async def multiply(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a * b

    with queue.worker(threads=1):
        assert (add.enqueue(2, 3).result(10), multiply.enqueue(2, 3).result(10)) == (5, 6)


def test_threads_and_coroutines_run_at_the_same_time(queue):
    meeting = threading.Barrier(2, timeout=10)

    @queue.task
    def plain():
        meeting.wait()

    @queue.task
    async def coroutine():
        await asyncio.to_thread(meeting.wait)

    jobs = [plain.enqueue(), coroutine.enqueue()]
    with queue.worker(threads=1, coroutines=1):
        assert [ended(job).status for job in jobs] == ["succeeded", "succeeded"]


def test_as_many_plain_jobs_run_at_once_as_there_are_threads(queue):
    meeting = threading.Barrier(3, timeout=10)

    @queue.task
    def meet():
        meeting.wait()

    jobs = meet.enqueue_many([()] * 3)
    with queue.worker(threads=3):
        assert [ended(job).status for job in jobs] == ["succeeded"] * 3


def test_coroutines_run_on_the_applications_own_loop(queue):
    @queue.task
    async def loop_here() -> int:
        return id(asyncio.get_running_loop())

    async def application():
        async with queue.worker():
            return await (await loop_here.aenqueue()) == id(asyncio.get_running_loop())

    assert asyncio.run(application())


def test_aresult_and_await_give_the_result_of_a_plain_function(queue):
    @queue.task
    def double(n: int) -> int:
        return 2 * n

    async def application():
        async with queue.worker(threads=1):
            job = await double.aenqueue(4)
            return await job.aresult(10), await job

    assert asyncio.run(application()) == (8, 8)


def test_a_worker_in_a_with_block_ends_with_the_block_and_finishes_what_runs(queue):
    begun = threading.Event()

    @queue.task
    def work() -> str:
        begun.set()
        return "done"

    job = work.enqueue()
    with queue.worker(threads=1):
        assert begun.wait(10)
    assert job.refresh().status == "succeeded"
    assert queue.engine.workers.list() == []


def test_the_worker_goes_off_the_record_and_leaves_no_lock_when_it_ends(queue):
    with queue.worker():
        assert len(queue.engine.workers.living()) == 1
    assert list(queue.engine.directory.glob("*.lock")) == []


def test_a_worker_cannot_be_started_twice(queue):
    with queue.worker() as worker, pytest.raises(RuntimeError, match="already been started"):
        worker.__enter__()


def test_a_worker_that_runs_beside_the_code_cannot_be_run_as_well(queue):
    with queue.worker() as worker, pytest.raises(RuntimeError, match="already been started"):
        worker.run()


def test_a_timeout_without_a_worker_says_how_to_start_one(queue):
    @queue.task
    def never(): ...

    with pytest.raises(TimeoutError, match=r"never.* is still queued: no worker is running; start one"):
        never.enqueue().result(0.01)


def test_a_timeout_says_that_the_living_workers_do_not_know_the_task(queue, database):
    @queue.task
    def known(): ...

    with Queue(database, driver=queue.engine.driver_name) as other:

        @other.task
        def unknown(): ...

        with queue.worker(), pytest.raises(TimeoutError, match="no running worker has its task"):
            unknown.enqueue().result(0.05)


def test_a_timeout_says_that_nobody_serves_the_queue(queue):
    @queue.task(queue="slow")
    def lonely(): ...

    with (
        queue.worker(queues=["fast"]),
        pytest.raises(TimeoutError, match="has its task serves its queue 'slow'"),
    ):
        lonely.enqueue().result(0.05)


def test_a_timeout_of_aresult_says_that_the_job_is_running(queue):
    go = threading.Event()

    @queue.task
    def wait_for_it():
        current_job().progress(1)
        go.wait(10)

    async def application():
        async with queue.worker():
            job = await wait_for_it.aenqueue()
            await asyncio.to_thread(until, lambda: job.refresh().status == "running")
            try:
                with pytest.raises(TimeoutError, match="is still running"):
                    await job.aresult(0.05)
            finally:
                go.set()

    asyncio.run(application())


def test_a_job_is_a_snapshot_until_it_is_refreshed(queue):
    @queue.task
    def quick(): ...

    job = quick.enqueue()
    with queue.worker():
        ended(job)
        assert job.status == "queued"
        assert job.refresh().status == "succeeded"


def test_a_failed_job_runs_again_after_retry(queue):
    broken = threading.Event()
    broken.set()

    @queue.task
    def mend() -> str:
        if broken.is_set():
            raise OSError("broken")
        return "whole"

    with queue.worker():
        job = mend.enqueue()
        with pytest.raises(JobFailed, match="OSError: broken"):
            job.result(10)
        broken.clear()
        job.retry()
        assert job.result(10) == "whole"


def test_a_job_enqueued_by_a_job_of_the_same_process_starts_at_once(queue):
    @queue.task
    def inner() -> str:
        return "inner"

    @queue.task
    def outer() -> str:
        return inner.enqueue().id

    with queue.worker(threads=1):
        assert queue.job(outer.enqueue().result(10)).result(10) == "inner"


def test_progress_is_seen_by_others_while_the_job_runs(queue):
    seen = threading.Event()

    @queue.task
    def report():
        current_job().progress(3, 10, "halfway")
        assert seen.wait(10)

    with queue.worker():
        job = report.enqueue()
        progress = until(lambda: job.refresh().progress)
        seen.set()
        assert (progress.done, progress.total, progress.note) == (3, 10, "halfway")
        assert ended(job).status == "succeeded"


def test_current_job_outside_a_task_says_where_it_works():
    with pytest.raises(LookupError, match="inside a task"):
        current_job()


def test_current_job_knows_its_id_attempt_and_key_in_threads_and_on_the_loop(queue, monkeypatch):
    monkeypatch.setattr("litequeue.worker.executor.claim_size.PATIENCE", 60.0)  # a claim that is released counts, too

    @queue.task
    def plain() -> list:
        return [current_job().id, current_job().attempt, current_job().key]

    @queue.task
    async def coroutine() -> list:
        await asyncio.sleep(0)
        return [current_job().id, current_job().attempt, current_job().key]

    with queue.worker():
        for task in (plain, coroutine):
            job = task.using(key="k").enqueue()
            assert job.result(10) == [job.id, 1, "k"]


def test_a_worker_serves_only_the_queues_it_was_given(queue):
    @queue.task
    def where() -> str:
        return "here"

    slow, fast = where.using(queue="slow").enqueue(), where.using(queue="fast").enqueue()
    queue.worker(queues=["fast"]).run(until_idle=True)
    assert (fast.refresh().status, slow.refresh().status) == ("succeeded", "queued")


@pytest.mark.parametrize(
    "options", [{"threads": 0}, {"threads": 10**30}, {"coroutines": True}, {"queues": []}, {"grace": -1}, {"name": ""}]
)
def test_a_worker_refuses_options_that_make_no_sense(queue, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        queue.worker(**options)


def test_queues_given_as_one_text_is_a_mistake(queue):
    with pytest.raises(TypeError, match=r"write \['email'\]"):
        queue.worker(queues="email")


def test_a_context_variable_set_by_one_job_is_not_there_for_the_next(queue):
    user = contextvars.ContextVar("user", default="nobody")

    @queue.task
    def look(name: str) -> str:
        before = user.get()
        user.set(name)
        return before

    with queue.worker(threads=1):
        assert [look.enqueue(name).result(20) for name in ("ann", "bob", "cyd")] == ["nobody"] * 3
