"""Tasks that may have so many queued jobs: what counts, what is refused whole, and what makes room."""

import asyncio
import threading

import pytest

from contract.jobs import FAILED, RELEASED, START, Hands, new, put, retried, snoozed
from contract.test_store_position import park
from litequeue.core.records import NewJobs, Status
from litequeue.errors import KeyConflict, QueueFull, StoreError
from litequeue.ipc import room_waiters


def offer(store, calls=1, most=2, **fields):
    return store.jobs.submit([new(max_pending=most, **fields) for _ in range(calls)])


def stored(store):
    return sum(count.jobs for count in store.jobs.counts())


def test_one_job_more_than_may_be_queued_is_refused_and_nothing_is_stored(store):
    offer(store), offer(store)
    with pytest.raises(QueueFull, match=r"queued jobs of add: max_pending=2; wait") as refused:
        offer(store)
    assert (refused.value.task, refused.value.max_pending, refused.value.calls) == ("add", 2, 1)
    with pytest.raises(QueueFull):
        asyncio.run(store.jobs.asubmit([new(max_pending=2)]))
    assert stored(store) == 2


def test_jobs_of_all_queues_of_the_task_count_and_those_of_other_tasks_do_not(store):
    put(store, "other"), put(store, queue="b"), put(store, queue="c")
    with pytest.raises(QueueFull):
        offer(store, queue="a")
    offer(store, most=3)


def test_jobs_of_all_versions_of_a_task_count_and_those_of_tasks_with_like_names_do_not(store):
    put(store, "add2"), put(store, "adder"), put(store, "ad")
    put(store, "add@2")
    park(store, [put(store, "add@3")])
    with pytest.raises(QueueFull, match="queued jobs of add:"):
        offer(store, task="add@2")


def test_parked_jobs_count_as_they_are_queued(store):
    park(store, [put(store), put(store)])
    with pytest.raises(QueueFull):
        offer(store)


def test_scheduled_waiting_running_and_ended_jobs_do_not_count(store):
    hands = Hands(store)
    put(store), put(store)
    running, failed = hands.claim(2)
    hands.settle((failed, FAILED))
    waiting = put(store)
    store.kernel.writer.run(lambda db: db.rows("UPDATE litequeue_jobs SET state = 2 WHERE id = ?", (int(waiting),)))
    put(store, run_at=START + 60)
    assert len(offer(store, calls=2)) == 2
    assert store.jobs.look_up(running.id).status is Status.RUNNING


def test_what_is_scheduled_is_never_refused_nor_is_what_returns(store, clock):
    hands = Hands(store)
    offer(store, calls=2)
    retrying, sleeping, released = hands.take(), hands.take(), None
    offer(store)
    released = hands.take()
    offer(store, calls=2)
    hands.settle((retrying, retried(0)), (sleeping, snoozed(0)), (released, RELEASED))
    offer(store, run_at=START + 60)
    store.jobs.cancel(put(store))
    clock.advance(1)
    assert len(hands.claim(9)) == 5


@pytest.mark.parametrize("shape", [list, lambda jobs: NewJobs(jobs[0], [job.payload for job in jobs])])
@pytest.mark.parametrize("inside", [False, True])
def test_many_fit_whole_or_are_refused_whole(store, shape, inside):
    offer(store)

    def give(count):
        jobs = shape([new(max_pending=4)] * count)
        if inside:
            with store.transactions.transaction():
                return store.jobs.submit(jobs)
        return store.jobs.submit(jobs)

    with pytest.raises(QueueFull, match="4 calls more do not fit"):
        give(4)
    assert stored(store) == 1
    assert len(give(3)) == 3


def test_more_calls_at_once_than_may_ever_be_queued_say_so(store):
    with pytest.raises(QueueFull, match=r"never: give enqueue_many\(\) at most 2 calls"):
        offer(store, calls=3)


def test_an_error_of_one_call_leaves_a_callers_transaction_as_it_was(store):
    offer(store)
    with store.transactions.transaction():
        offer(store)
        with pytest.raises(QueueFull):
            offer(store)
        with pytest.raises(QueueFull):
            offer(store, calls=2, key="k")
    assert stored(store) == 2


def test_a_call_whose_key_is_held_is_its_job_and_needs_no_room(store):
    [first] = offer(store, key="k")
    offer(store)
    assert offer(store, key="k")[0].id == first.id
    with pytest.raises(QueueFull):
        offer(store, key="other")
    with pytest.raises(KeyConflict):
        offer(store, key="k", payload=b"[2]")


def test_a_retry_by_hand_needs_no_room(store):
    hands = Hands(store)
    [failed] = offer(store)
    hands.settle((hands.take(), FAILED))
    offer(store, calls=2)
    store.jobs.retry(failed.id)
    assert store.jobs.look_up(failed.id).status is Status.QUEUED


def test_no_more_entries_are_counted_than_may_be_queued(store):
    store.jobs.submit(NewJobs(new(), [b"[]"] * 500))
    assert [store.kernel.count_queued("add", most) for most in (1, 10, 1_000)] == [1, 10, 500]


def wait_for(store, calls=1, most=2):
    """Wait in a thread of its own; returns it, once it waits."""
    full = QueueFull("add", most, calls)
    waiter = threading.Thread(target=store.jobs.wait_for_room, args=(full, 30), daemon=True)
    waiter.start()
    while not any(wanted.calls == calls for wanted in list(store.kernel.rooms._waiting.values())):
        waiter.join(0.001)
    return waiter


def test_a_claim_here_wakes_who_waits_for_room(store, monkeypatch):
    monkeypatch.setattr(room_waiters, "LOOK_EVERY", 20.0)
    offer(store, calls=2)
    waiter = wait_for(store)
    Hands(store).take()
    waiter.join(15)
    assert not waiter.is_alive()


def test_a_claim_of_another_process_is_seen_at_the_next_look(open_store, store, monkeypatch):
    monkeypatch.setattr(room_waiters, "LOOK_EVERY", 0.05)
    offer(store, calls=2)
    waiter = wait_for(store)
    other = open_store()
    other.jobs.cancel(other.jobs.list()[0].id)
    waiter.join(15)
    assert not waiter.is_alive()


def test_a_coroutine_waits_too_and_one_look_is_for_all(store, monkeypatch):
    monkeypatch.setattr(room_waiters, "LOOK_EVERY", 20.0)
    offer(store, calls=2)

    async def waits():
        waiting = [asyncio.ensure_future(store.jobs.await_room(QueueFull("add", 2, 1), 30)) for _ in range(2)]
        while len(store.kernel.rooms._waiting) < 2:
            await asyncio.sleep(0)
        Hands(store).claim(2)
        await asyncio.wait_for(asyncio.gather(*waiting), 15)

    asyncio.run(waits())
    assert store.kernel.rooms._waiting == {}


def test_a_small_wait_does_not_pass_a_large_one_that_came_first(store, monkeypatch):
    monkeypatch.setattr(room_waiters, "LOOK_EVERY", 20.0)
    offer(store, calls=2)
    large = wait_for(store, calls=2)
    small = wait_for(store, calls=1)
    hands = Hands(store)
    hands.take()
    store.kernel.rooms._look()
    assert large.is_alive()
    assert small.is_alive()
    hands.take()
    large.join(15)
    store.kernel.rooms.stir()
    small.join(15)
    assert [large.is_alive(), small.is_alive()] == [False, False]


def test_nothing_is_waited_for_inside_a_transaction(store):
    with store.transactions.transaction(), pytest.raises(StoreError, match="neither a job's end nor room"):
        store.jobs.check_may_wait()
