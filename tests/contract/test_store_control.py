"""Cancel and retry, in every state a job can be in."""

import asyncio

import pytest

from contract.jobs import (
    CANCELLED,
    FAILED,
    RELEASED,
    START,
    SUCCEEDED,
    Hands,
    new,
    put,
    retried,
    snoozed,
    status,
)  # fmt: skip
from litequeue.core.records import FOREVER, Status
from litequeue.errors import JobNotFound, Unsupported


def in_state(store, state):
    """Make a job that stands in `state`; return its id."""
    if state == "scheduled":
        return put(store, run_at=START + 60)
    if state == "expired":
        job_id = put(store, expires_at=START)
        Hands(store).claim()
        return job_id
    job_id = put(store)
    if state == "queued":
        return job_id
    hands = Hands(store)
    job = hands.take()
    outcome = {"succeeded": SUCCEEDED, "failed": FAILED, "cancelled": CANCELLED}.get(state)
    if outcome is not None:
        hands.settle((job, outcome))
    return job_id


@pytest.mark.parametrize("state", ["scheduled", "queued"])
def test_a_job_that_has_not_begun_is_cancelled_at_once(store, clock, state):
    job_id = in_state(store, state)
    clock.advance(1)
    assert store.jobs.cancel(job_id)
    job = store.jobs.look_up(job_id)
    assert (job.status, job.finished_at, job.cancel_requested) == (Status.CANCELLED, START + 1, True)
    assert store.maintenance.next_prune() == START + 1 + 86_400


def test_what_is_kept_for_ever_is_never_pruned_however_it_ended(open_store, clock):
    store = open_store(result_ttl=FOREVER, failed_ttl=FOREVER)
    cancelled, expired = put(store), put(store, expires_at=START + 1)
    store.jobs.cancel(cancelled)
    clock.advance(2)
    Hands(store).claim()
    assert (status(store, cancelled), status(store, expired)) == (Status.CANCELLED, Status.EXPIRED)
    assert store.maintenance.next_prune() is None


def test_a_running_job_is_asked_to_end(store):
    job_id, hands = put(store), Hands(store)
    hands.take()
    assert store.runs.requested_cancels(hands.number) == []
    assert store.jobs.cancel(job_id)
    assert (status(store, job_id), store.runs.requested_cancels(hands.number)) == (Status.RUNNING, [(job_id, 1)])


def test_a_cancel_is_asked_of_the_worker_that_has_the_job(store):
    job_id = put(store)
    hands, other = Hands(store), Hands(store)
    hands.take()
    store.jobs.cancel(job_id)
    assert store.runs.requested_cancels(other.number) == []


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "expired"])
def test_a_job_that_has_ended_cannot_be_cancelled(store, state):
    job_id = in_state(store, state)
    before = store.jobs.look_up(job_id)
    assert not store.jobs.cancel(job_id)
    assert store.jobs.look_up(job_id) == before


def test_a_job_that_is_not_there_cannot_be_cancelled(store):
    with pytest.raises(JobNotFound):
        store.jobs.cancel("99")


@pytest.mark.parametrize("outcome", [RELEASED, snoozed(), retried()])
def test_a_cancel_that_was_asked_for_takes_effect_where_the_job_would_come_back(store, outcome):
    job_id, hands = put(store), Hands(store)
    job = hands.take()
    store.jobs.cancel(job_id)
    assert hands.settle((job, outcome)) == []
    assert status(store, job_id) is Status.CANCELLED


@pytest.mark.parametrize(("outcome", "state"), [(SUCCEEDED, Status.SUCCEEDED), (FAILED, Status.FAILED)])
def test_a_job_that_ended_before_it_saw_the_cancel_ended_as_it_did(store, outcome, state):
    job_id, hands = put(store), Hands(store)
    job = hands.take()
    store.jobs.cancel(job_id)
    hands.settle((job, outcome))
    assert status(store, job_id) is state


def test_a_cancel_that_was_asked_for_takes_effect_when_the_worker_dies(store):
    job_id, hands = put(store), Hands(store)
    hands.take()
    store.jobs.cancel(job_id)
    rescued = store.runs.rescue(hands.number, None, blame=True)
    assert (rescued.cancelled, rescued.returned, status(store, job_id)) == ((job_id,), (), Status.CANCELLED)


@pytest.mark.parametrize("state", ["failed", "cancelled", "expired", "scheduled"])
def test_a_retried_job_is_queued_at_once(store, clock, state):
    job_id = in_state(store, state)
    clock.advance(5)
    store.jobs.retry(job_id)
    job = store.jobs.look_up(job_id)
    assert (job.status, job.run_at, job.finished_at) == (Status.QUEUED, START + 5, None)
    assert (job.failures, job.deaths, job.cancel_requested, job.expires_at) == (0, 0, False, None)
    assert Hands(store).take().id == job_id


def test_a_retried_job_keeps_its_errors_and_its_count_of_attempts(store):
    job_id = in_state(store, "failed")
    store.jobs.retry(job_id)
    assert Hands(store).take().attempt == 2
    assert len(store.jobs.look_up(job_id).errors) == 1


def test_a_retried_job_is_not_pruned_at_the_time_of_its_first_end(store):
    job_id = in_state(store, "failed")
    store.jobs.retry(job_id)
    assert store.maintenance.next_prune() is None


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_job_that_is_on_its_way_cannot_be_retried(store, state):
    job_id = in_state(store, state)
    with pytest.raises(Unsupported, match=f"is {state}; only failed, cancelled, expired and scheduled"):
        store.jobs.retry(job_id)


def test_a_success_cannot_be_retried(store):
    with pytest.raises(Unsupported, match="enqueue it again"):
        store.jobs.retry(in_state(store, "succeeded"))


def test_a_job_that_is_not_there_cannot_be_retried(store):
    with pytest.raises(JobNotFound):
        store.jobs.retry("99")


def test_a_waiting_job_is_cancelled_at_once(store):
    job_id = put(store)
    store.kernel.writer.run(lambda db: db.rows("UPDATE litequeue_jobs SET state = 2 WHERE id = :id", {"id": job_id}))
    assert store.jobs.cancel(job_id)
    assert status(store, job_id) is Status.CANCELLED


def test_the_async_twins_do_the_same(store):
    job_id = put(store)

    async def main():
        assert await store.jobs.acancel(job_id)
        assert (await store.jobs.alook_up(job_id)).status is Status.CANCELLED
        assert (await store.jobs.await_end(job_id, 0)).status is Status.CANCELLED
        await store.jobs.aretry(job_id)
        with pytest.raises(TimeoutError, match="no worker is running"):
            await store.jobs.await_end(job_id, 0)

    asyncio.run(main())
    with pytest.raises(TimeoutError, match="is still queued: no worker is running"):
        store.jobs.wait(job_id, 0)
    store.jobs.cancel(job_id)
    assert store.jobs.wait(job_id, None).status is Status.CANCELLED


# Rescue


def rescue(hands, executing=None, *, blame=True):
    return hands.store.runs.rescue(hands.number, executing, blame=blame)


def run_of(job):
    return f"{job.id}:{job.attempt}"


def test_a_dead_workers_jobs_go_back_and_it_is_off_the_record(store):
    job_id, hands = put(store), Hands(store)
    hands.take()
    assert rescue(hands) == ((job_id,), (), (), ())
    assert (status(store, job_id), store.workers.list()) == (Status.QUEUED, [])
    assert not store.workers.beat(hands.number).known


def test_only_what_had_begun_is_blamed_with_the_death(store):
    store.jobs.submit([new(), new()])
    hands = Hands(store)
    begun, waiting = hands.claim(2)
    rescue(hands, frozenset({run_of(begun)}))
    assert [store.jobs.look_up(job.id).deaths for job in (begun, waiting)] == [1, 0]


def test_a_run_of_an_older_attempt_is_not_blamed(store):
    put(store)
    hands = Hands(store)
    job = hands.take()
    rescue(hands, frozenset({f"{job.id}:{job.attempt + 1}"}))
    assert store.jobs.look_up(job.id).deaths == 0


def test_without_a_record_of_what_had_begun_every_job_is_blamed(store):
    store.jobs.submit([new(), new()])
    hands = Hands(store)
    claimed = hands.claim(2)
    rescue(hands, None)
    assert [store.jobs.look_up(job.id).deaths for job in claimed] == [1, 1]


def test_power_loss_is_no_jobs_fault(store):
    put(store)
    for _ in range(5):
        hands = Hands(store)
        job = hands.take()
        rescue(hands, blame=False)
    assert (store.jobs.look_up(job.id).deaths, status(store, job.id)) == (0, Status.QUEUED)


def test_a_job_under_which_three_workers_died_is_failed_as_poison(store, caplog):
    job_id = put(store)
    rescues = []
    for _ in range(3):
        hands = Hands(store)
        rescues.append(rescue(hands, frozenset({run_of(hands.take())})))
    assert [rescued.dead_lettered for rescued in rescues] == [(), (), (job_id,)]
    job = store.jobs.look_up(job_id)
    assert (job.status, job.deaths, job.errors[-1].type) == (Status.FAILED, 3, "WorkerDied")
    assert store.maintenance.next_prune() == START + 30 * 86_400
    [error] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert f"{job.task}[{job_id}] failed: 3 worker processes died" in error.getMessage()


def test_a_cancelled_job_of_a_dead_worker_is_kept_as_long_as_any_cancelled_one(store):
    job_id, hands = put(store), Hands(store)
    hands.take()
    store.jobs.cancel(job_id)
    assert rescue(hands).cancelled == (job_id,)
    assert store.maintenance.next_prune() == START + 86_400


def test_a_failure_by_death_is_synced_before_it_is_told(store, monkeypatch):
    levels = []
    monkeypatch.setattr(
        store.kernel, "tell_ended", lambda ids: levels.append(store.kernel.writer.connection.rows("PRAGMA synchronous"))
    )
    put(store)
    for _ in range(3):
        hands = Hands(store)
        rescue(hands, frozenset({run_of(hands.take())}))
    assert levels[-1] == [(2,)]


def test_no_job_is_judged_while_another_ran_beside_it(store):
    ids = [submitted.id for submitted in store.jobs.submit([new(), new()])]
    for _ in range(4):
        hands = Hands(store)
        assert rescue(hands, frozenset(map(run_of, hands.claim(2)))).dead_lettered == ()
    assert [store.jobs.look_up(job_id).deaths for job_id in ids] == [4, 4]


def test_a_suspect_that_dies_alone_is_judged_beside_jobs_that_had_not_begun(store):
    poison = put(store)
    for _ in range(2):
        rescue_of = Hands(store)
        rescue_of.take()
        rescue(rescue_of)
    innocent = put(store)
    hands = Hands(store)
    first, _ = hands.claim(2)
    assert rescue(hands, frozenset({run_of(first)})) == ((innocent,), (poison,), (), ())


def test_deaths_are_forgotten_when_the_job_is_retried_by_hand(store):
    job_id = put(store)
    for _ in range(3):
        hands = Hands(store)
        hands.take()
        rescue(hands)
    store.jobs.retry(job_id)
    assert (status(store, job_id), store.jobs.look_up(job_id).deaths) == (Status.QUEUED, 0)


def test_a_worker_rescued_twice_harms_nobody(store):
    put(store)
    hands = Hands(store)
    hands.take()
    rescue(hands)
    assert rescue(hands) == ((), (), (), ())


def test_jobs_of_a_worker_that_nobody_knows_are_found(store):
    put(store)
    hands = Hands(store)
    hands.take()
    store.kernel.writer.run(lambda db: db.rows("DELETE FROM litequeue_workers"))
    assert store.workers.ownerless() == [hands.number]


def test_a_worker_declared_dead_gets_no_more_and_signs_on_under_a_new_number(store):
    hands = Hands(store)
    rescue(hands)
    put(store)
    turn = hands.turn()
    assert (turn.claimed, turn.registered) == ([], False)
    assert Hands(store).number > hands.number


# Prune


def finish(store, count, keep_for=60.0, outcome=FAILED):
    store.jobs.submit([new() for _ in range(count)])
    hands = Hands(store)
    hands.settle(*[(job, outcome) for job in hands.claim(count)], keep_for=keep_for)


def errors(store):
    return store.kernel.read(lambda db: db.rows("SELECT count(*) FROM litequeue_errors"))[0][0]


def test_nothing_is_pruned_before_its_time(store, clock):
    finish(store, 3)
    clock.advance(59)
    assert (store.maintenance.prune(), store.maintenance.next_prune()) == (0, START + 60)


def test_jobs_are_pruned_in_chunks_with_their_errors(store, clock):
    finish(store, 12)
    clock.advance(60)
    assert [store.maintenance.prune(5) for _ in range(4)] == [5, 5, 2, 0]
    assert (store.jobs.list(), errors(store)) == ([], 0)


def test_a_chunk_takes_the_errors_of_its_own_jobs_only(store, clock):
    finish(store, 4)
    clock.advance(60)
    store.maintenance.prune(3)
    assert (store.kernel.read(lambda db: db.rows("SELECT count(*) FROM litequeue_jobs")), errors(store)) == ([(1,)], 1)


def test_what_has_not_ended_is_never_pruned(store, clock):
    put(store)
    put(store, run_at=START + 10**9)
    Hands(store).take()
    clock.advance("3650d")
    assert store.maintenance.prune() == 0
