"""Keys for a time: held from the enqueue for so long, whatever becomes of the job and of the clock."""

import pytest

from contract.jobs import CANCELLED, FAILED, START, SUCCEEDED, Hands, new, put, status
from litequeue.core.engine import Submitted
from litequeue.core.records import Status
from litequeue.errors import JobNotFound, KeyConflict

SAME, OTHER = b"[1]", b"[2]"
DAY = 86_400.0


def timed(store, span=10.0, payload=SAME, **fields):
    [submitted] = store.jobs.submit(
        [new(key="k", key_for=span, payload=payload, created_at=store.clock.now(), **fields)]
    )
    return submitted


@pytest.mark.parametrize("outcome", [SUCCEEDED, FAILED, CANCELLED])
def test_the_key_is_held_through_the_end_of_the_job_and_free_when_its_time_is_over(store, clock, outcome):
    first, hands = timed(store), Hands(store)
    clock.advance(3)
    hands.settle((hands.take(), outcome))
    clock.advance(6.9)
    assert timed(store) == Submitted(first.id, False)
    clock.advance(0.2)
    second = timed(store)
    assert second.fresh
    assert second.id != first.id


def test_the_key_is_free_after_its_time_while_its_job_still_runs(store, clock):
    first, hands = timed(store), Hands(store)
    assert hands.take().id == first.id
    clock.advance(11)
    assert timed(store).fresh
    assert status(store, first.id) is Status.RUNNING


def test_a_call_with_other_arguments_is_that_one_job_too_unless_it_says_otherwise(store):
    first = timed(store)
    assert timed(store, payload=OTHER) == Submitted(first.id, False)
    assert store.jobs.look_up(first.id).payload != OTHER
    with pytest.raises(KeyConflict, match=f"held by job {first.id}"):
        timed(store, on_conflict="raise")
    assert timed(store, payload=OTHER, on_conflict="replace") == Submitted(first.id, False)
    assert store.jobs.look_up(first.id).payload == OTHER


def test_a_cancelled_job_keeps_its_key_until_the_time_is_over(store, clock):
    first = timed(store)
    store.jobs.cancel(first.id)
    clock.advance(9)
    assert timed(store) == Submitted(first.id, False)


@pytest.mark.parametrize("many", [1, 130])  # ends by the statement for one, and by the one for a hundred
def test_a_job_is_kept_as_long_as_its_key_is_held(store, clock, many):
    first, hands = timed(store, span=3 * DAY), Hands(store)
    others = [put(store, created_at=store.clock.now()) for _ in range(many - 1)]
    hands.settle(*[(job, SUCCEEDED) for job in hands.claim(many)], keep_for=60.0)
    clock.advance(2 * DAY)
    store.maintenance.prune()
    assert timed(store, span=3 * DAY) == Submitted(first.id, False)
    assert status(store, first.id) is Status.SUCCEEDED
    for other in others[:-1]:
        with pytest.raises(JobNotFound):
            store.jobs.look_up(other)
    clock.advance(1.1 * DAY)
    store.maintenance.prune()
    assert store.kernel.read(lambda db: db.rows("SELECT * FROM litequeue_timed_keys")) == []


def test_a_clock_that_is_set_back_holds_no_key_for_longer_than_its_time(store, clock):
    first = timed(store)
    clock.step(-3_600)
    assert timed(store) == Submitted(first.id, False)  # seen now: from here on ten seconds
    clock.advance(9)
    assert timed(store) == Submitted(first.id, False)
    clock.advance(2)
    assert timed(store).fresh


def test_a_retry_after_the_time_leaves_the_key_to_the_job_that_holds_it_now(store, clock):
    first, hands = timed(store), Hands(store)
    hands.settle((hands.take(), FAILED))
    with_key = timed(store)
    assert with_key.id == first.id
    clock.advance(11)
    second = timed(store)
    store.jobs.retry(first.id)
    assert status(store, first.id) is Status.QUEUED
    assert timed(store) == Submitted(second.id, False)


def test_a_retry_within_the_time_keeps_the_key(store, clock):
    first, hands = timed(store), Hands(store)
    hands.settle((hands.take(), FAILED))
    store.jobs.retry(first.id)
    assert timed(store) == Submitted(first.id, False)


def test_what_is_undone_in_a_transaction_holds_no_key(store):
    with pytest.raises(ZeroDivisionError), store.transactions.transaction():
        timed(store)
        raise ZeroDivisionError
    with store.transactions.transaction():
        first = timed(store)
        with pytest.raises(KeyConflict):
            timed(store, on_conflict="raise")
    assert timed(store).id == first.id


def test_an_orphaned_time_of_a_key_is_found_and_deleted(store):
    from litequeue.sqlite.admin import repair

    timed(store)
    store.kernel.writer.run(lambda db: db.rows("DELETE FROM litequeue_jobs"))
    assert store.admin.orphans() == {"times of keys": 1}
    assert store.admin.repair(lambda db: repair.drop_orphans(db, START, None)) == "1 times of keys deleted"
    assert store.admin.orphans() == {}
