"""The kept logs of runs in the file: written with the end, fenced, followed, and deleted with their job."""

from functools import partial

import pytest

from contract.jobs import FAILED, RELEASED, SETTLED, SUCCEEDED, Hands, put, retried
from litequeue.core.outcome import Ended
from litequeue.core.run_logs import FOLLOWED_FOR, KeptLog, Position, RunText
from litequeue.errors import DecodeError, JobNotFound
from litequeue.sqlite.admin import repair


@pytest.fixture
def hands(store):
    return Hands(store)


@pytest.fixture
def job(store, hands):
    put(store)
    return hands.take()


def log(text, written=None):
    return KeptLog(len(text) if written is None else written, 0, b'"%s"' % text.encode())


def end(store, job, outcome, text):
    return store.runs.settle([Ended(job, outcome, store.clock.now(), 60.0, log=log(text))])


def texts(store, job):
    return [(each.attempt, each.text) for each in store.jobs.logs(job.id)]


@pytest.mark.parametrize("outcome", [SUCCEEDED, FAILED, RELEASED, retried()], ids=lambda one: type(one).__name__)
def test_the_log_is_stored_with_the_end(store, job, outcome):
    assert end(store, job, outcome, "abc") == []
    assert store.jobs.logs(job.id) == [RunText(1, 3, 0, "abc")]


def test_the_log_of_a_run_that_completed_by_itself_is_stored_after_it(store, job):
    with store.runs.completing(job, b"5", 60.0):
        pass
    end(store, job, SETTLED, "abc")
    assert texts(store, job) == [(1, "abc")]


def test_a_late_run_writes_nothing_once_another_has_begun(store, hands, job):
    store.runs.rescue(hands.number, None, blame=False)
    again = Hands(store).take()
    assert again.attempt == 2
    end(store, job, SUCCEEDED, "late")
    store.run_logs.keep([(job, log("late"))])
    assert texts(store, job) == []


def test_what_was_taken_down_before_the_end_does_not_replace_the_last_lines(store, job):
    end(store, job, SUCCEEDED, "all of it")
    store.run_logs.keep([(job, log("all"))])
    assert texts(store, job) == [(1, "all of it")]


def test_the_log_grows_while_the_job_runs(store, job):
    store.run_logs.keep([(job, log("a"))])
    store.run_logs.keep([(job, log("ab"))])
    assert texts(store, job) == [(1, "ab")]
    assert store.jobs.logs(job.id, Position(1, 2)) == []
    assert store.jobs.logs(job.id, Position(1, 1)) == [RunText(1, 2, 0, "ab")]


def test_the_logs_of_the_last_three_runs_are_kept(store, hands):
    put(store)
    for number in range(1, 6):
        job = hands.take()
        assert job.attempt == number
        end(store, job, RELEASED, f"run{number}")
    assert texts(store, job) == [(3, "run3"), (4, "run4"), (5, "run5")]


def test_a_follower_is_counted_for_a_while(store, job, clock):
    assert store.run_logs.followed() == frozenset()
    store.jobs.follow_logs(job.id)
    assert store.run_logs.followed() == {job.id}
    clock.advance(FOLLOWED_FOR + 1)
    assert store.run_logs.followed() == frozenset()


def test_nobody_follows_a_job_that_is_not_there(store):
    for wrong in ("7", "x"):
        store.jobs.follow_logs(wrong)
        with pytest.raises(JobNotFound):
            store.jobs.logs(wrong)
    assert store.run_logs.followed() == frozenset()


def test_logs_and_followers_are_deleted_with_their_job(store, job, clock, connect):
    store.jobs.follow_logs(job.id)
    end(store, job, SUCCEEDED, "abc")
    put(store)  # the newest job keeps its id
    clock.advance(61)
    assert store.maintenance.prune() == 1
    for table in ("litequeue_run_logs", "litequeue_log_followers"):
        assert connect().execute(f"SELECT count(*) FROM {table}").fetchall() == [(0,)]


def test_those_of_deleted_jobs_are_found_and_dropped(store, job, connect):
    store.jobs.follow_logs(job.id)
    end(store, job, SUCCEEDED, "abc")
    connect().execute("DELETE FROM litequeue_jobs")
    assert store.admin.orphans() == {"logs of runs": 1, "followers of logs": 1}
    store.admin.repair(partial(repair.drop_orphans, now=store.clock.now(), delete_at=None))
    assert store.admin.orphans() == {}


def test_the_view_shows_text_and_says_what_is_encoded(store, job, connect):
    end(store, job, SUCCEEDED, "abc")
    view = "SELECT job, attempt, written, log FROM litequeue_run_logs_view"
    assert connect().execute(view).fetchall() == [(1, 1, 3, "abc")]
    connect().execute("UPDATE litequeue_run_logs SET log = x'00ff01'")
    assert connect().execute(view).fetchall() == [(1, 1, 3, "(encoded by the queue's codec)")]
    with pytest.raises(DecodeError, match="name the app instead of the file"):
        store.jobs.logs(job.id)
