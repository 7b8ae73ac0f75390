"""Idempotency keys: who gets the existing job, who is refused, and when a key is free again."""

import pytest

from contract.jobs import CANCELLED, FAILED, RELEASED, START, SUCCEEDED, Hands, new, put, retried, snoozed, status
from litequeue.core.engine import Submitted
from litequeue.core.outcome import Released
from litequeue.core.records import Status
from litequeue.errors import KeyConflict

SCOPES = ["kept", "unfinished", "queued"]
CONFLICTS = ["return", "raise", "replace"]
SAME, OTHER = b"[1]", b"[2]"


def keyed(store, payload=SAME, **fields):
    [submitted] = store.jobs.submit([new(key="k", payload=payload, **fields)])
    return submitted


@pytest.mark.parametrize("scope", SCOPES)
def test_the_same_call_under_the_same_key_is_the_same_job(store, scope):
    first = keyed(store, key_scope=scope)
    assert keyed(store, key_scope=scope) == Submitted(first.id, False)
    assert first.fresh


@pytest.mark.parametrize("scope", SCOPES)
def test_another_call_under_the_same_key_is_refused_and_told_who_holds_it(store, scope):
    first = keyed(store, key_scope=scope)
    with pytest.raises(KeyConflict, match="other arguments") as refused:
        keyed(store, OTHER, key_scope=scope)
    assert refused.value.job_id == first.id


@pytest.mark.parametrize("payload", [SAME, OTHER])
def test_with_raise_any_second_call_is_refused(store, payload):
    first = keyed(store)
    with pytest.raises(KeyConflict, match=f"held by job {first.id} \\(queued\\)"):
        keyed(store, payload, on_conflict="raise")


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("payload", [SAME, OTHER])
def test_with_replace_a_job_that_has_not_begun_takes_everything_from_the_second_call(store, scope, payload):
    first = keyed(store, key_scope=scope)
    later = {"run_at": START + 60, "priority": 5, "queue": "q", "tags": ("t",), "timeout": 1.0, "retries": 3}
    assert keyed(store, payload, key_scope=scope, on_conflict="replace", **later) == Submitted(first.id, False)
    job = store.jobs.look_up(first.id)
    assert (job.payload, job.status, job.run_at) == (payload, Status.SCHEDULED, START + 60)
    assert (job.priority, job.queue, job.tags) == (5, "q", ("t",))


def test_with_replace_a_scheduled_job_may_become_due_at_once(store):
    first = keyed(store, run_at=START + 60)
    keyed(store, OTHER, on_conflict="replace")
    assert Hands(store).take().id == first.id


def test_with_replace_a_running_job_stays_and_other_arguments_are_refused(store):
    first = keyed(store)
    Hands(store).take()
    assert keyed(store, on_conflict="replace") == Submitted(first.id, False)
    with pytest.raises(KeyConflict, match=r"has already begun \(running\)"):
        keyed(store, OTHER, on_conflict="replace")


def test_with_replace_a_job_that_has_begun_once_is_not_replaced(store):
    keyed(store)
    hands = Hands(store)
    hands.settle((hands.take(), retried()))
    with pytest.raises(KeyConflict, match=r"has already begun \(scheduled\)"):
        keyed(store, OTHER, on_conflict="replace")


def test_a_key_belongs_to_its_task(store):
    assert keyed(store, task="a").id != keyed(store, task="b").id


def test_jobs_without_a_key_are_never_the_same(store):
    assert put(store) != put(store)


def test_one_submission_meets_its_own_keys(store):
    first, second = store.jobs.submit([new(key="k"), new(key="k")])
    assert (first.fresh, second) == (True, Submitted(first.id, False))


def test_a_refused_key_leaves_nothing_of_the_submission(store):
    keyed(store)
    with pytest.raises(KeyConflict):
        store.jobs.submit([new(), new(key="k", payload=OTHER)])
    assert len(store.jobs.list()) == 1


# When a key is free again: (what became of the job, the scopes under which its key is then held)

BEGUN = {
    "running": (None, {"kept", "unfinished"}),
    "succeeded": (SUCCEEDED, {"kept"}),
    "failed": (FAILED, {"kept"}),
    "cancelled": (CANCELLED, {"kept"}),
    "to be retried": (retried(), {"kept", "unfinished"}),
    "snoozed": (snoozed(), {"kept", "unfinished"}),
    "released": (Released(begun=True), {"kept", "unfinished"}),
}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("what", BEGUN)
def test_a_key_is_held_as_long_as_its_scope_says(store, scope, what):
    outcome, holding = BEGUN[what]
    first = keyed(store, key_scope=scope)
    hands = Hands(store)
    job = hands.take()
    if outcome is not None:
        hands.settle((job, outcome))
    assert (keyed(store, key_scope=scope).id == first.id) == (scope in holding)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_job_cancelled_before_it_began_keeps_its_key_only_while_kept(store, scope):
    first = keyed(store, key_scope=scope)
    store.jobs.cancel(first.id)
    assert (keyed(store, key_scope=scope).id == first.id) == (scope == "kept")


@pytest.mark.parametrize("scope", SCOPES)
def test_an_expired_job_keeps_its_key_only_while_kept(store, clock, scope):
    first = keyed(store, key_scope=scope, expires_at=START + 1)
    clock.advance(2)
    Hands(store).claim()
    assert (keyed(store, key_scope=scope).id == first.id) == (scope == "kept")


@pytest.mark.parametrize("scope", SCOPES)
def test_a_condemned_job_keeps_its_key_only_while_kept(store, scope):
    first = keyed(store, key_scope=scope)
    for _ in range(3):
        hands = Hands(store)
        hands.take()
        store.runs.rescue(hands.number, None, blame=True)
    assert status(store, first.id) is Status.FAILED
    assert (keyed(store, key_scope=scope).id == first.id) == (scope == "kept")


@pytest.mark.parametrize(("begun", "held"), [(False, True), (True, False)])
def test_a_job_that_was_claimed_and_released_unbegun_holds_its_key_until_it_begins(store, begun, held):
    first, hands = keyed(store, key_scope="queued"), Hands(store)
    hands.settle((hands.take(), Released(begun=begun)))
    assert (keyed(store, key_scope="queued").id == first.id) == held


def test_a_key_that_was_taken_while_its_job_was_claimed_stays_with_the_one_who_took_it(store):
    keyed(store, key_scope="queued")
    hands = Hands(store)
    job = hands.take()
    second = keyed(store, key_scope="queued")
    hands.settle((job, RELEASED))
    assert keyed(store, key_scope="queued") == Submitted(second.id, False)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_job_completed_by_its_own_transaction_keeps_its_key_only_while_kept(store, scope):
    first = keyed(store, key_scope=scope)
    with store.runs.completing(Hands(store).take(), b"5", 60.0):
        pass
    assert (keyed(store, key_scope=scope).id == first.id) == (scope == "kept")


def test_a_kept_key_is_free_once_its_job_is_pruned(store):
    first = keyed(store)
    hands = Hands(store)
    hands.settle((hands.take(), SUCCEEDED), keep_for=0.0)
    store.maintenance.prune()
    assert keyed(store, OTHER).id != first.id


@pytest.mark.parametrize("scope", ["unfinished", "queued"])
def test_a_retry_with_a_key_that_was_taken_meanwhile_is_refused(store, scope):
    first = keyed(store, key_scope=scope)
    store.jobs.cancel(first.id)
    second = keyed(store, OTHER, key_scope=scope)
    with pytest.raises(KeyConflict, match=f"held by job {second.id} now") as refused:
        store.jobs.retry(first.id)
    assert (refused.value.job_id, status(store, first.id)) == (second.id, Status.CANCELLED)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_retried_job_holds_its_key_again(store, scope):
    first = keyed(store, key_scope=scope)
    store.jobs.cancel(first.id)
    store.jobs.retry(first.id)
    assert keyed(store, key_scope=scope) == Submitted(first.id, False)


# Through the front door


def test_unique_tasks_have_one_unfinished_job_per_arguments(queue):
    @queue.task(unique=True)
    def add(a, b): ...

    first = add.enqueue(1, 2)
    assert add.enqueue(1, b=2) == first
    assert add.enqueue(1, 3) != first
    first.cancel()
    assert add.enqueue(1, 2) != first


def test_a_key_conflict_reaches_the_caller_with_the_job(queue):
    @queue.task
    def add(a): ...

    first = add.using(key="k").enqueue(1)
    with pytest.raises(KeyConflict) as refused:
        add.using(key="k").enqueue(2)
    assert queue.job(refused.value.job_id) == first


def test_debounce_leaves_one_job_with_the_last_arguments_and_time(queue, clock):
    @queue.task
    def index(text): ...

    for text in ("a", "ab", "abc"):
        job = index.using(key="doc", on_conflict="replace", delay=10).enqueue(text)
        clock.advance(5)
    [only] = queue.jobs()
    assert (only, only.run_at.timestamp()) == (job, START + 20)
    assert b"abc" in queue.engine.jobs.look_up(job.id).payload
