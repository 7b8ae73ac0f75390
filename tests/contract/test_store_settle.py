"""How runs end on record, and that only the run that holds a job can end it."""

from contextlib import closing

import pytest

from contract.jobs import (
    BOOM,
    CANCELLED,
    FAILED,
    RELEASED,
    SETTLED,
    START,
    SUCCEEDED,
    Hands,
    new,
    put,
    retried,
    snoozed,
    status,
)  # fmt: skip
from litequeue.core.outcome import Ended, Succeeded
from litequeue.core.records import FOREVER, Status
from litequeue.errors import Fenced
from litequeue.ipc.notifier import DONE, Listener
from litequeue.ipc.result_waiters import ALL
from litequeue.sqlite import kernel
from litequeue.sqlite.jobs import finish

EVERY_OUTCOME = [SUCCEEDED, FAILED, CANCELLED, RELEASED, retried(), snoozed()]


@pytest.fixture
def hands(store):
    return Hands(store)


@pytest.fixture
def job(store, hands):
    """A job in the hands of a worker."""
    put(store)
    return hands.take()


def taken_over(store, job):
    """Let the job's worker be declared dead and another take the job; return the other and the job in its hands."""
    store.runs.rescue(int(store.jobs.look_up(job.id).worker), None, blame=False)
    other = Hands(store)
    return other, other.take()


@pytest.mark.parametrize(
    ("outcome", "state", "failures"),
    [
        (SUCCEEDED, Status.SUCCEEDED, 0),
        (FAILED, Status.FAILED, 1),
        (CANCELLED, Status.CANCELLED, 0),
        (RELEASED, Status.QUEUED, 0),
        (retried(), Status.SCHEDULED, 1),
        (snoozed(), Status.SCHEDULED, 0),
        (SETTLED, Status.RUNNING, 0),
    ],
)
def test_each_outcome_has_its_state(store, hands, job, outcome, state, failures):
    assert hands.settle((job, outcome)) == []
    record = store.jobs.look_up(job.id)
    assert (record.status, record.failures, record.worker is None) == (state, failures, state is not Status.RUNNING)


@pytest.mark.parametrize("outcome", EVERY_OUTCOME)
def test_an_end_that_was_settled_with_a_claim_is_on_record_too(store, hands, job, outcome):
    turn = hands.turn(0, ended=[hands.end(job, outcome)])
    assert (turn.lost, turn.claimed) == ([], [])
    assert status(store, job.id) is not Status.RUNNING


def test_a_success_keeps_its_result_until_its_time(store, hands, job, clock):
    clock.advance(2)
    hands.settle((job, SUCCEEDED), keep_for=60.0)
    record = store.jobs.look_up(job.id)
    assert (record.result, record.finished_at, store.maintenance.next_prune()) == (b"5", START + 2, START + 62)


def test_what_is_kept_for_ever_has_no_time_to_be_deleted(store, hands, job):
    hands.settle((job, SUCCEEDED), keep_for=FOREVER)
    assert store.maintenance.next_prune() is None


@pytest.mark.parametrize("outcome", [FAILED, retried()])
def test_an_error_is_kept_with_its_attempt(store, hands, job, outcome):
    hands.settle((job, outcome))
    [error] = store.jobs.look_up(job.id).errors
    assert (error.attempt, error.type, error.message, error.traceback) == (1, *BOOM)


def test_the_errors_of_all_attempts_are_kept_oldest_first(store, hands, job, clock):
    hands.settle((job, retried(60)))
    clock.advance(60)
    hands.settle((hands.take(), FAILED))
    assert [error.attempt for error in store.jobs.look_up(job.id).errors] == [1, 2]


def test_a_retried_job_comes_back_at_its_time_with_the_next_attempt(store, hands, job, clock):
    hands.settle((job, retried(60)))
    assert hands.claim() == []
    clock.advance(60)
    again = hands.take()
    assert (again.id, again.attempt, again.failures) == (job.id, 2, 1)


def test_a_snoozed_job_comes_back_without_a_failure(store, hands, job, clock):
    hands.settle((job, snoozed(60)))
    clock.advance(60)
    assert hands.take().failures == 0


@pytest.mark.parametrize("outcome", EVERY_OUTCOME)
def test_a_late_worker_cannot_settle_a_job_that_was_taken_over(store, hands, job, outcome):
    _, mine = taken_over(store, job)
    before = store.jobs.look_up(job.id)
    assert hands.settle((job, outcome)) == [job]
    assert store.jobs.look_up(job.id) == before
    assert (before.attempt, before.status) == (mine.attempt, Status.RUNNING)


@pytest.mark.parametrize("outcome", EVERY_OUTCOME)
def test_a_late_worker_cannot_settle_a_job_that_its_successor_ended(store, hands, job, outcome):
    other, mine = taken_over(store, job)
    other.settle((mine, SUCCEEDED))
    assert hands.settle((job, outcome)) == [job]
    assert store.jobs.look_up(job.id).result == b"5"


@pytest.mark.parametrize("outcome", EVERY_OUTCOME)
def test_a_late_worker_cannot_settle_a_job_that_is_gone(store, hands, job, outcome):
    other, mine = taken_over(store, job)
    other.settle((mine, SUCCEEDED), keep_for=0.0)
    assert store.maintenance.prune() == 1
    assert hands.settle((job, outcome)) == [job]


@pytest.mark.parametrize("outcome", EVERY_OUTCOME)
def test_what_is_lost_does_not_harm_the_others_in_the_batch(store, hands, job, outcome):
    taken_over(store, job)
    [good, bad] = [put(store), put(store)]
    hands = Hands(store)
    first, second = hands.claim(2)
    assert hands.settle((first, SUCCEEDED), (job, outcome), (second, FAILED)) == [job]
    assert (status(store, good), status(store, bad)) == (Status.SUCCEEDED, Status.FAILED)


def test_ends_too_many_to_be_named_in_one_notification_are_notified_without_names(store, hands, job, monkeypatch):
    put(store)
    with closing(Listener(store.directory, DONE)) as listener:
        hands.settle((job, SUCCEEDED))
        assert listener.wait(30) == [job.id.encode()]
        monkeypatch.setattr(kernel, "LARGEST_MESSAGE", 1)
        hands.settle((hands.take(), SUCCEEDED))
        assert listener.wait(30) == [ALL]


def test_settling_again_what_is_on_record_already_is_no_loss_for_a_success(store, hands, job):
    hands.settle((job, SUCCEEDED))
    assert hands.settle((job, SUCCEEDED)) == []


def test_many_successes_and_losses_are_told_apart(store, hands):
    store.jobs.submit([new() for _ in range(20)])
    claimed = hands.claim(20)
    store.runs.rescue(hands.number, None, blame=False)
    Hands(store).claim(10)
    fresh = Hands(store)
    assert fresh.settle(*[(job, SUCCEEDED) for job in claimed]) == claimed


def test_each_of_many_successes_has_its_own_result_and_time_and_what_came_late_changes_nothing(store, hands, clock):
    jobs = 2 * finish._TOGETHER + 7
    store.jobs.submit([new() for _ in range(jobs)])
    claimed = hands.claim(jobs)
    late = claimed[:: jobs // 4]
    hands.settle(*[(job, RELEASED) for job in late])
    began = clock.now()
    ends = [Ended(job, Succeeded(job.id.encode()), began + place, 60.0) for place, job in enumerate(claimed)]
    assert [end.job for end in store.runs.settle(ends)] == late
    for end in ends:
        record = store.jobs.look_up(end.job.id)
        if end.job in late:
            assert (record.status, record.result) == (Status.QUEUED, None)
        else:
            assert (record.status, record.result) == (Status.SUCCEEDED, end.job.id.encode())
            assert record.finished_at == end.at
    kept = store.kernel.read(
        lambda db: db.rows("SELECT DISTINCT delete_at - finished_at FROM litequeue_jobs WHERE state = 4")
    )
    assert kept == [(60.0,)]


@pytest.mark.parametrize(("jobs", "late"), [(2, 1), (finish._TOGETHER + 2, finish._TOGETHER // 2 + 1)])
def test_what_triggers_change_is_not_taken_for_what_was_settled(store, hands, connect, jobs, late):
    """The trigger changes as many rows as there are ends that come too late."""
    store.jobs.submit([new() for _ in range(jobs)])
    connection = connect()
    connection.execute("CREATE TABLE seen (x)")
    connection.execute(
        "CREATE TRIGGER see AFTER UPDATE OF state ON litequeue_jobs BEGIN INSERT INTO seen VALUES (new.id); END"
    )
    claimed = hands.claim(jobs)
    lost = claimed[jobs - late :]
    hands.settle(*[(job, RELEASED) for job in lost])
    assert hands.settle(*[(job, SUCCEEDED) for job in claimed]) == lost


def test_successes_that_came_in_time_are_not_looked_up_one_by_one(store, hands, monkeypatch):
    jobs = 2 * finish._TOGETHER + 7
    store.jobs.submit([new() for _ in range(jobs)])
    claimed, asked = hands.claim(jobs), []
    kind = type(store.kernel.writer.connection)
    rows = kind.rows
    monkeypatch.setattr(kind, "rows", lambda db, sql, *given: asked.append(sql) or rows(db, sql, *given))
    assert hands.settle(*[(job, SUCCEEDED) for job in claimed]) == []
    assert 0 < len(asked) < jobs // 4


def test_progress_is_noted_and_tells_of_a_cancel(store, hands, job):
    text = '{"done": 1, "total": 2, "note": "half"}'
    assert store.runs.note_progress(job, text) is False
    store.jobs.cancel(job.id)
    assert store.runs.note_progress(job, text) is True
    assert store.jobs.look_up(job.id).progress.note == "half"


def test_progress_that_someone_else_wrote_hides_no_job(store, job):
    for text in ("", "no JSON", "[1]", '{"done": "half"}', '{"done": 1, "note": 3}'):
        store.kernel.writer.run(lambda db, text=text: db.rows("UPDATE litequeue_jobs SET progress = ?", (text,)))
        assert [each.progress for each in store.jobs.list()] == [None]


def test_a_late_worker_cannot_note_progress(store, hands, job):
    taken_over(store, job)
    with pytest.raises(Fenced, match="another worker has job"):
        store.runs.note_progress(job, '{"done": 1}')


# completing: the caller's rows and the success in one commit


@pytest.fixture
def effects(connect, store):
    """Count the rows of an application's table."""
    connection = connect()
    connection.execute("CREATE TABLE effects (x)")
    return lambda: connection.execute("SELECT count(*) FROM effects").fetchall()[0][0]


def test_completing_commits_the_callers_rows_and_the_success_together(store, hands, job, effects):
    with store.runs.completing(job, b"5", 60.0) as db:
        db.execute("INSERT INTO effects VALUES (1)")
    record = store.jobs.look_up(job.id)
    assert (effects(), record.status, record.result, store.maintenance.next_prune()) == (
        1,
        Status.SUCCEEDED,
        b"5",
        START + 60,
    )
    assert hands.settle((job, SETTLED)) == []


def test_an_error_inside_completing_leaves_neither_rows_nor_success(store, hands, job, effects):
    with pytest.raises(ZeroDivisionError), store.runs.completing(job, b"5", 60.0) as db:
        db.execute("INSERT INTO effects VALUES (1)")
        raise ZeroDivisionError
    assert (effects(), status(store, job.id)) == (0, Status.RUNNING)


def test_completing_is_refused_at_once_to_a_late_worker(store, hands, job, effects):
    taken_over(store, job)
    with pytest.raises(Fenced), store.runs.completing(job, b"5", 60.0):
        pytest.fail("the block must not be entered")
    assert status(store, job.id) is Status.RUNNING


def test_a_job_that_is_given_away_inside_completing_takes_the_callers_rows_with_it(store, hands, job, effects):
    with pytest.raises(Fenced, match="is rolled back"), store.runs.completing(job, b"5", 60.0) as db:
        db.execute("INSERT INTO effects VALUES (1)")
        store.runs.rescue(hands.number, None, blame=False)
    assert (effects(), status(store, job.id)) == (0, Status.RUNNING)


def test_completing_twice_is_refused(store, hands, job, effects):
    with store.runs.completing(job, b"5", 60.0):
        pass
    with pytest.raises(Fenced), store.runs.completing(job, b"6", 60.0):
        pass
    assert store.jobs.look_up(job.id).result == b"5"
