"""A job whose time has passed is not there: no look-up, listing or key sees it, though nothing has pruned it yet."""

import asyncio

import pytest

from contract.jobs import FAILED, START, SUCCEEDED, Hands, new, put, status
from litequeue import JobNotFound
from litequeue.core.engine import Submitted
from litequeue.core.outcome import Released
from litequeue.core.records import Status

KEPT = 60.0  # seconds
LATER = START + KEPT


def end(store, outcome, **fields):
    """Put a job, and let it end so; return its id."""
    job_id, hands = put(store, **fields), Hands(store)
    hands.settle((hands.take(), outcome), keep_for=KEPT)
    return job_id


@pytest.fixture(params=[SUCCEEDED, FAILED], ids=["succeeded", "failed"])
def over(store, clock, request):
    """The id of a job whose time has just passed, with a newer one beside it."""
    job_id = end(store, request.param, key="k", payload=b"[1]", tags=("t",))
    put(store, task="other")
    clock.advance(KEPT)
    return job_id


def test_it_is_there_until_then(store, clock):
    job_id = end(store, SUCCEEDED)
    clock.advance(KEPT - 1)
    assert (status(store, job_id), store.jobs.has_ended(job_id)) == ("succeeded", True)


def test_it_is_not_found(store, over):
    for ask in (
        store.jobs.look_up,
        store.jobs.has_ended,
        store.jobs.cancel,
        store.jobs.retry,
        lambda job_id: store.jobs.wait(job_id, 0),
    ):
        with pytest.raises(JobNotFound, match=f"no job {over} in this file"):
            ask(over)
    for ask in (
        store.jobs.alook_up,
        store.jobs.acancel,
        store.jobs.aretry,
        lambda job_id: store.jobs.await_end(job_id, 0),
    ):
        with pytest.raises(JobNotFound):
            asyncio.run(ask(over))


@pytest.mark.parametrize(
    "where", [{}, {"task": "add"}, {"tag": "t"}, {"status": Status.SUCCEEDED}, {"status": Status.FAILED}]
)
def test_it_is_not_listed(store, over, where):
    assert over not in [job.id for job in store.jobs.list(**where)]


@pytest.mark.parametrize("payload", [b"[1]", b"[2]"])
@pytest.mark.parametrize("on_conflict", ["return", "raise", "replace"])
def test_its_key_is_free(store, over, payload, on_conflict):
    fields = {"key": "k", "payload": payload, "on_conflict": on_conflict, "created_at": LATER}
    [submitted] = store.jobs.submit([new(**fields)])
    assert (submitted.fresh, submitted.id == over, status(store, submitted.id)) == (True, False, "queued")
    assert store.jobs.submit([new(**fields | {"on_conflict": "return"})]) == [Submitted(submitted.id, fresh=False)]


def test_its_key_is_free_in_a_transaction_of_the_callers(store, over):
    with store.transactions.transaction():
        [submitted] = store.jobs.submit([new(key="k", payload=b"[2]", created_at=LATER)])
    assert status(store, submitted.id) == "queued"


def test_it_keeps_no_other_job_of_its_key_from_being_retried(store, clock):
    first = end(store, FAILED, key="k", key_scope="unfinished")
    store.runs.settle([])
    other, hands = put(store, key="k"), Hands(store)
    hands.settle((hands.take(), SUCCEEDED), keep_for=1.0)
    clock.advance(1)
    store.jobs.retry(first)
    assert (status(store, first), put(store, key="k", created_at=START + 1)) == ("queued", first)
    assert other != first


def test_a_job_that_was_claimed_and_never_began_holds_its_key_again(store, clock):
    hands = Hands(store)
    job_id = put(store, key="k", key_scope="queued")
    claimed = hands.take()
    put(store, key="k")
    hands.settle((hands.take(), SUCCEEDED), keep_for=1.0)
    clock.advance(1)
    assert hands.settle((claimed, Released(begun=False))) == []
    assert put(store, key="k", created_at=START + 1) == job_id


def test_settling_again_what_ended_in_time_is_no_loss(store, clock):
    put(store)
    hands = Hands(store)
    job = hands.take()
    assert hands.settle((job, SUCCEEDED), keep_for=0.0) == []
    assert hands.settle((job, SUCCEEDED), keep_for=0.0) == []


def test_it_is_pruned_as_ever(store, over):
    assert store.maintenance.next_prune() == LATER
    assert store.maintenance.prune() == 1
    assert store.maintenance.next_prune() is None


def test_a_result_never_outlives_its_time(queue, clock):
    @queue.task(result_ttl="1m")
    def add(a: int, b: int) -> int:
        return a + b

    job, unseen = add.enqueue(2, 3), add.enqueue(2, 3)
    queue.worker(threads=1).run(until_idle=True)
    assert job.result(0) == 5
    clock.advance("1m")
    for ask in (lambda: queue.job(job.id), job.refresh, job.cancel, lambda: unseen.result(0)):
        with pytest.raises(JobNotFound):
            ask()
