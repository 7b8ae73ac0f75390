"""Keys: one job for one key, for as long as its scope says."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from contract.engine.needing import needs
from crash.watching import until
from litequeue import KeyConflict
from litequeue.core.engine import Feature

NEEDS = {Feature.KEYS}


@pytest.mark.parametrize("scope", ["kept", "unfinished"])
def test_the_same_call_under_a_held_key_is_the_same_job(rig, scope):
    keyed = rig.tasks.add.using(key="k", key_scope=scope)
    first, again = keyed.enqueue(1), keyed.enqueue(1)
    assert first.id == again.id
    assert rig.stored() == 1
    assert first.key == "k"


def test_a_key_is_held_until_the_end_or_as_long_as_the_job_is_kept(rig):
    short, long = (rig.tasks.add.using(key=scope, key_scope=scope) for scope in ("unfinished", "kept"))
    first = [short.enqueue(1), long.enqueue(1)]
    rig.work()
    assert [short.enqueue(1) == first[0], long.enqueue(1) == first[1]] == [False, True]


def test_another_call_under_a_held_key_is_refused_and_the_holder_is_told(rig):
    keyed = rig.tasks.add.using(key="k")
    first = keyed.enqueue(1)
    with pytest.raises(KeyConflict) as caught:
        keyed.enqueue(2)
    assert caught.value.job_id == first.id
    assert rig.stored() == 1


def test_on_conflict_raise_refuses_the_same_call_as_well(rig):
    keyed = rig.tasks.add.using(key="k", on_conflict="raise")
    keyed.enqueue(1)
    with pytest.raises(KeyConflict):
        keyed.enqueue(1)


@needs(Feature.REPLACE)
def test_on_conflict_replace_puts_the_new_call_in_the_place_of_a_queued_one(rig):
    keyed = rig.tasks.add.using(key="k", on_conflict="replace")
    keyed.enqueue(1)
    latest = keyed.enqueue(10)
    rig.work()
    assert latest.result(5) == 11


@needs(Feature.KEY_QUEUED)
def test_a_key_of_scope_queued_is_free_when_its_job_begins(rig):
    keyed = rig.tasks.until_cancelled.using(key="k", key_scope="queued")
    first = keyed.enqueue()
    assert keyed.enqueue() == first
    with rig.worker(threads=1):
        until(lambda: first.refresh().status == "running")
        second = keyed.enqueue()
        assert second != first
        second.cancel()
        first.cancel()
        first.result(10)


def test_a_key_is_of_one_task(rig):
    one, other = rig.tasks.add.using(key="k").enqueue(1), rig.tasks.echo.using(key="k").enqueue(1)
    assert one != other


def test_a_unique_task_has_one_job_for_the_same_arguments(rig):
    task = rig.queue.task(name="unique", unique=True)(rig.tasks.add.function)
    assert task.enqueue(1) == task.enqueue(1)
    assert task.enqueue(2) != task.enqueue(1)
    assert rig.stored() == 2


def test_of_callers_that_race_for_a_key_all_get_one_job(rig):
    keyed = rig.tasks.add.using(key="k")
    with ThreadPoolExecutor(16) as pool:
        jobs = list(pool.map(lambda _: keyed.enqueue(1), range(64)))
    assert len({job.id for job in jobs}) == 1
    assert rig.stored() == 1


@needs(Feature.ATOMIC_BATCH)
def test_a_batch_with_a_conflict_is_stored_not_at_all(rig):
    unique = rig.queue.task(name="unique", unique="user:{a}")(rig.tasks.add.function)
    unique.enqueue(1)
    with pytest.raises(KeyConflict):
        unique.enqueue_many([(5,), (1, 7)])
    assert rig.stored() == 1


@needs(Feature.KEY_FOR)
@pytest.mark.parametrize("span", ["1d", 3600, timedelta(hours=1)])
def test_a_key_for_a_time_is_held_after_the_end_of_its_job(rig, span):
    keyed = rig.tasks.add.using(key="k", key_scope=span)
    first = keyed.enqueue(1)
    rig.work()
    assert keyed.enqueue(1) == first
    assert keyed.enqueue(2) == first  # one call in that time, whatever its arguments
    with pytest.raises(KeyConflict):
        keyed.using(on_conflict="raise").enqueue(1)


@needs(Feature.KEY_FOR)
def test_unique_calls_may_be_one_job_for_a_time(rig):
    once = rig.queue.task(name="once", unique=True, key_scope="1h")(lambda a: a)
    first = once.enqueue(1)
    rig.work()
    assert once.enqueue(1) == first
    ended = once.using(key_scope="unfinished").enqueue(2)  # which is said of this call alone
    rig.work()
    assert once.enqueue(2) != ended
