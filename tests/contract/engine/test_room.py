"""`max_pending=`: a full task refuses calls, or lets them wait."""

import asyncio
import pickle
import threading

import pytest

from contract.engine.needing import needs
from litequeue import PartlyEnqueued, QueueFull, StoreError, every
from litequeue.core.engine import Feature

NEEDS = {Feature.MAX_PENDING}


@pytest.fixture
def few(rig):
    return rig.queue.task(name="few", max_pending=2)(lambda a=0: a)


def test_a_full_task_refuses_a_call_and_takes_one_when_a_job_has_begun(rig, few):
    few.enqueue(1), few.enqueue(2)
    with pytest.raises(QueueFull) as full:
        few.enqueue(3)
    assert str(pickle.loads(pickle.dumps(full.value))) == str(full.value)
    with pytest.raises(QueueFull):
        asyncio.run(few.aenqueue(3))
    rig.work()
    assert few.enqueue(3).status == "queued"


def test_a_worker_in_the_process_takes_such_jobs_too(rig, few):
    if Feature.EMBEDDED not in rig.engine.features:
        pytest.skip("no worker beside the caller")
    with rig.queue.worker(threads=1):
        waiting = few.using(wait_for_room="20s")
        assert [waiting.enqueue(number).result(20) for number in range(20)] == list(range(20))


def test_many_in_chunks_tell_which_were_stored(few):
    with pytest.raises(PartlyEnqueued) as partly:
        few.enqueue_many([(number,) for number in range(5)], chunk=1)
    assert len(partly.value.jobs) == 2
    assert isinstance(partly.value.__cause__, QueueFull)


def test_a_call_waits_for_room_no_longer_than_it_is_told(few):
    few.enqueue_many([(1,), (2,)])
    waiting = few.using(wait_for_room=0.02)
    with pytest.raises(QueueFull, match=r"waited 0\.02 s"):
        waiting.enqueue(3)
    with pytest.raises(QueueFull, match=r"waited 0\.02 s"):
        asyncio.run(waiting.aenqueue(3))
    with pytest.raises(QueueFull, match="never"):  # at once
        few.using(wait_for_room="1h").enqueue_many([(number,) for number in range(3)])


def test_a_call_that_waits_is_stored_when_a_worker_makes_room(rig, few):
    few.enqueue_many([(1,), (2,)])
    stored = []
    waiting = few.using(wait_for_room="30s")
    caller = threading.Thread(target=lambda: stored.extend(waiting.enqueue_many([(3,), (4,)])))
    caller.start()
    with rig.worker():
        caller.join(25)
        assert [job.result(20) for job in stored] == [3, 4]


def test_a_wait_that_cannot_end_is_refused(rig, few):
    with pytest.raises(ValueError, match="has no max_pending="):
        rig.tasks.add.using(wait_for_room="1s")
    with pytest.raises(ValueError, match="wait_for_room= or on_commit="):
        few.using(wait_for_room="1s", on_commit=True)
    with pytest.raises(ValueError, match="wait_for_room= waits in enqueue"):
        few.using(wait_for_room="1s").new_job(rig.queue, 1)


@needs(Feature.TRANSACTION)
def test_a_wait_inside_a_transaction_is_refused(rig, few):
    with rig.queue.transaction() as connection:
        with pytest.raises(ValueError, match="wait_for_room= or within="):
            few.using(within=connection).using(wait_for_room="1s")
        with pytest.raises(StoreError, match="nothing can be waited for inside a transaction"):
            few.using(wait_for_room="1s").enqueue(1)
        few.using(within=connection).enqueue_many([(1,), (2,)])
        with pytest.raises(QueueFull):
            few.using(within=connection).enqueue(3)
        with pytest.raises(QueueFull):
            few.enqueue(3)
    assert rig.stored() == 2


@needs(Feature.TRANSACTION)
def test_coroutines_in_a_transaction_are_refused_alike(rig, few):
    async def enqueue():
        async with rig.queue.atransaction() as connection:
            with pytest.raises(StoreError, match="nothing can be waited for"):
                await few.using(wait_for_room="1s").aenqueue(0)
            await few.aenqueue(1)
            await few.using(within=connection).aenqueue(2)
            for call in (few, few.using(within=connection)):
                with pytest.raises(QueueFull):
                    await call.aenqueue(3)

    asyncio.run(enqueue())
    assert rig.stored() == 2


@needs(Feature.SCHEDULES)
def test_ticks_are_never_refused(rig):
    few = rig.queue.task(name="few", max_pending=1)(lambda: None)
    few.enqueue()
    rig.queue.schedules.add("s", few.s(), every("1h"))
    rig.queue.schedules.trigger_now("s")
    assert rig.stored() == 2
    with pytest.raises(QueueFull):
        few.enqueue()


@pytest.mark.parametrize("most", [0, -1, True, 1.5, "3"])
def test_a_bound_that_is_no_number_of_jobs_is_refused(rig, most):
    with pytest.raises(ValueError, match="max_pending must be a whole number from 1"):
        rig.queue.task(name="odd", max_pending=most)(lambda: None)
