"""Waits for many jobs: what they ask the file, what they leave behind, and jobs that are not, or no longer, there."""

import asyncio
import gc
import os
import threading
from collections import Counter

import pytest

from contract.jobs import FAILED, SUCCEEDED, Hands
from crash.watching import until
from litequeue import JobFailed, JobNotFound, Queue, StoreError, as_completed, await_all, wait_all

DEADLINE = 20
MANY = 1_000


@pytest.fixture
def reads(queue, monkeypatch):
    """How often the connection for look-ups was asked for."""
    counted, plain = Counter(), queue.engine.kernel.look_ups.read

    def read(look):
        counted["reads"] += 1
        return plain(look)

    monkeypatch.setattr(queue.engine.kernel.look_ups, "read", read)
    return lambda: counted["reads"]


def ended_jobs(queue, count=MANY):
    jobs = queue.task(name="add")(lambda: 5).enqueue_many([()] * count)
    hands = Hands(queue.engine)
    hands.settle(*((job, SUCCEEDED) for job in hands.claim(count)))
    return jobs


def jobs_of(queue, count):
    return queue.task(name="add")(lambda: 5).enqueue_many([()] * count)


def table_of(queue):
    return queue.engine.kernel.waiters._table


async def gathered(jobs):
    return await asyncio.gather(*jobs)


async def as_ended(jobs):
    return [await job async for job in as_completed(jobs, timeout=DEADLINE)]


def waiting(way, jobs, ends):
    """Have a thread wait for the jobs in this way, and put their results into `ends`."""

    def wait():
        if way == "for":
            ends.extend(job.result() for job in as_completed(jobs))
        else:
            ends.extend(asyncio.run(gathered(jobs) if way == "gather" else as_ended(jobs)))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_coroutines_that_wait_for_many_jobs_read_them_together(queue, reads):
    jobs = ended_jobs(queue)
    assert asyncio.run(gathered(jobs)) == [5] * MANY
    assert reads() < MANY / 10


def test_coroutines_that_load_many_jobs_read_them_together(queue, reads):
    jobs = ended_jobs(queue)

    async def main():
        await asyncio.gather(*(job.arefresh() for job in jobs))

    asyncio.run(main())
    assert {job.status for job in jobs} == {"succeeded"}
    assert reads() < MANY / 10


def test_a_wait_for_all_and_the_results_after_it_read_the_jobs_together(queue, reads):
    jobs = ended_jobs(queue)
    assert [job.result() for job in wait_all(jobs, timeout=DEADLINE)] == [5] * MANY
    assert [job.result() for job in as_completed(jobs)] == [5] * MANY
    assert asyncio.run(as_ended(jobs)) == [5] * MANY
    assert reads() < MANY / 10
    assert not table_of(queue)


@pytest.mark.parametrize("way", ["for", "async for", "gather"])
def test_an_end_wakes_those_alone_that_wait_for_it(open_queue, way):
    queue, hands = open_queue(), Hands(open_queue().engine)
    jobs = jobs_of(queue, 100)

    ends = []
    waits = waiting(way, jobs, ends)
    until(lambda: len(table_of(queue).awaited()) == 100)
    for _ in range(50):
        hands.settle((hands.take(), SUCCEEDED))
    until(lambda: len(table_of(queue).awaited()) == 50)
    hands.settle(*((job, SUCCEEDED) for job in hands.claim(100)))
    waits.join(DEADLINE)
    assert ends == [5] * 100
    assert not table_of(queue)


def test_a_loop_that_is_left_leaves_nothing(queue):
    jobs = [*ended_jobs(queue, 2), *queue.tasks["add"].enqueue_many([()] * 20)]
    for _ in as_completed(jobs):
        break
    until(lambda: not table_of(queue))

    async def main():
        async for _ in as_completed(jobs):
            break
        waits = asyncio.ensure_future(await_all(jobs))
        gathering = asyncio.gather(*jobs)
        await asyncio.to_thread(until, lambda: len(table_of(queue).awaited()) >= 20)
        waits.cancel()
        gathering.cancel()
        for each in (waits, gathering):
            with pytest.raises(asyncio.CancelledError):
                await each
        await asyncio.to_thread(until, lambda: not table_of(queue))

    asyncio.run(main())


def test_a_loop_that_the_collection_of_garbage_ends_leaves_nothing(queue):
    ends = iter(as_completed([*ended_jobs(queue, 1), *queue.tasks["add"].enqueue_many([()] * 20)]))
    next(ends)
    ends.itself = ends
    del ends
    gc.collect()
    until(lambda: not table_of(queue))


def test_a_loop_goes_on_after_an_error(queue, monkeypatch):
    monkeypatch.setattr("litequeue.job_waits.LOOK", 10.0)  # which jobs have ended is found in time on any machine
    first, *rest = jobs_of(queue, 3)
    ends = iter(as_completed([first, *rest], timeout=0))
    for _ in range(2):
        with pytest.raises(TimeoutError, match="3 of 3 jobs"):
            next(ends)
    Hands(queue.engine).settle((Hands(queue.engine).take(), SUCCEEDED))
    assert next(ends) is first
    with pytest.raises(TimeoutError, match="2 of 3 jobs"):
        next(ends)
    until(lambda: not table_of(queue))


def test_a_cancelled_step_of_a_loop_loses_no_job(queue):
    jobs, hands = jobs_of(queue, 2), Hands(queue.engine)

    async def main():
        ends = aiter(as_completed(jobs, timeout=DEADLINE))
        step = asyncio.ensure_future(anext(ends))
        await asyncio.to_thread(until, lambda: table_of(queue))
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        await asyncio.to_thread(lambda: hands.settle(*((job, SUCCEEDED) for job in hands.claim(2))))
        return [job.id async for job in ends]

    assert sorted(asyncio.run(main())) == sorted(job.id for job in jobs)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_loop_goes_on_when_the_queue_is_closed_under_it(open_queue, blocking):
    queue, hands = open_queue(), Hands(open_queue().engine)
    jobs, ends = jobs_of(queue, 2), []
    waits = threading.Thread(
        target=lambda: ends.extend(
            [job.result() for job in as_completed(jobs)] if blocking else asyncio.run(as_ended(jobs))
        )
    )
    waits.start()
    until(lambda: queue.engine.kernel.waiters.listener)
    listener = queue.engine.kernel.waiters.listener
    queue.close()
    until(lambda: queue.engine.kernel.waiters.listener not in ("", listener))
    hands.settle(*((job, SUCCEEDED) for job in hands.claim(2)))
    waits.join(DEADLINE)
    assert ends == [5, 5]


def test_jobs_of_several_queues_are_waited_for_together(tmp_path, driver):
    with Queue(tmp_path / "a.db", driver=driver) as one, Queue(tmp_path / "b.db", driver=driver) as other:
        jobs = [
            queue.task(name="twice")(lambda n: 2 * n).enqueue(21 + place) for place, queue in enumerate((one, other))
        ]
        assert jobs[0].id == jobs[1].id
        with one.worker(), other.worker():
            assert sorted(job.result() for job in as_completed(jobs, timeout=DEADLINE)) == [42, 44]
            assert wait_all(jobs) == jobs


def test_a_job_that_is_pruned_meanwhile_is_not_found_and_the_others_end(queue, monkeypatch):
    monkeypatch.setattr("litequeue.ipc.result_waiters.SAFETY_POLL", 0.01)
    gone, job = jobs_of(queue, 2)
    ends = as_completed([gone, job], timeout=DEADLINE)
    waits, yielded = threading.Thread(target=lambda: yielded.extend(ends)), []
    waits.start()
    until(lambda: len(table_of(queue).awaited()) == 2)
    with queue.transaction() as db:
        db.execute("DELETE FROM litequeue_jobs WHERE id = ?", (int(gone.id),))
    until(lambda: yielded == [gone])
    hands = Hands(queue.engine)
    hands.settle((hands.take(), SUCCEEDED))
    waits.join(DEADLINE)
    assert yielded[1].result() == 5
    for ask in (gone.result, lambda: gone.status):
        with pytest.raises(JobNotFound):
            ask()


@pytest.mark.parametrize("blocking", [True, False])
def test_a_job_of_a_transaction_that_was_rolled_back_is_not_found(queue, blocking):
    task = queue.task(name="add")(lambda: 5)
    with pytest.raises(ZeroDivisionError), queue.transaction():
        never = task.enqueue()
        1 / 0  # noqa: B018
    queue.clock.advance(1)
    other = task.enqueue()
    assert never.id == other.id
    if blocking:
        [first] = [next(iter(as_completed([never, other], timeout=DEADLINE)))]
    else:
        first = asyncio.run(anext_of([never, other]))
    assert first is never
    with pytest.raises(JobNotFound, match="rolled back"):
        never.result(0)
    hands = Hands(queue.engine)
    hands.settle((hands.take(), SUCCEEDED))
    assert wait_all([other, never], timeout=DEADLINE)[0].result() == 5


async def anext_of(jobs):
    return await anext(aiter(as_completed(jobs, timeout=DEADLINE)))


def test_the_jobs_of_a_transaction_that_was_committed_are_waited_for(queue):
    with queue.transaction():
        jobs = jobs_of(queue, 3)
    hands = Hands(queue.engine)
    hands.settle(*((job, SUCCEEDED) for job in hands.claim(3)))
    assert asyncio.run(as_ended(jobs)) == [5] * 3


def test_a_wait_inside_a_transaction_is_refused(queue):
    job = jobs_of(queue, 1)[0]
    with queue.transaction():
        for wait in (lambda: wait_all([job]), lambda: iter(as_completed([job])), lambda: asyncio.run(await_all([job]))):
            with pytest.raises(StoreError, match="inside a transaction"):
                wait()
    assert wait_all([]) == []


def test_the_result_of_a_job_that_was_waited_for_is_that_of_then_until_it_is_loaded_again(queue):
    job, hands = jobs_of(queue, 1)[0], Hands(queue.engine)
    hands.settle((hands.take(), FAILED))
    wait_all([job])
    queue.job(job.id).retry()
    for _ in range(2):
        with pytest.raises(JobFailed):
            job.result(0)
    assert job.refresh().status == "queued"
    with pytest.raises(TimeoutError):
        job.result(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork")
def test_a_loop_goes_on_in_the_child_of_a_fork(queue):
    first, second = jobs_of(queue, 2)
    hands = Hands(queue.engine)
    hands.settle((hands.take(), SUCCEEDED))
    ends = iter(as_completed([first, second], timeout=DEADLINE))
    assert next(ends) is first
    child = os.fork()
    if not child:
        os._exit(7 if next(ends, None) is second and second.status == "succeeded" else 1)
    hands.settle((hands.take(), SUCCEEDED))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert next(ends) is second


def test_ids_that_are_none_are_not_found(store):
    asked = ["01", "1.0", " 1", "x", "", "9" * 30, "9" * 5_000]
    hands = Hands(store)
    assert store.jobs.look_up_many(asked) == {}
    assert hands.claim(1) == []
