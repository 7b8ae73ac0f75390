"""Runs that may not be repeated: what a dead worker had begun of them fails, and what it had not goes back."""

import pytest

from contract.jobs import START, SUCCEEDED, Hands, put, snoozed, status
from litequeue.core.records import Status
from litequeue.core.store import Demand, NewWorker
from litequeue.ipc.process_lock import ANY
from litequeue.sqlite.store import SqliteStore


def worker(store, token, at_most_once):
    new = NewWorker(
        token=token,
        identity="{}",
        queues=None,
        tasks=("add", "pay"),
        threads=4,
        coroutines=0,
        at_most_once=at_most_once,
    )
    return store.workers.register(new)


def claim(store, number, count=1, *tasks):
    return store.runs.claim(number, [Demand(frozenset(tasks or ("add", "pay")), count)], None).claimed


def rescue(store, number, executing, **about):
    return store.runs.rescue(number, executing, blame=True, **about)


@pytest.fixture
def paying(store):
    """A worker that has claimed three payments and a plain job."""
    number = worker(store, "w", ("pay",))
    for task in ("pay", "pay", "pay", "add"):
        put(store, task)
    return number, {job.id: job for job in claim(store, number, 4)}


def test_what_was_being_executed_fails_and_what_was_not_goes_back(store, paying):
    number, _ = paying
    rescued = rescue(store, number, frozenset({"1:1", "4:1"}), why="its process died")
    assert (rescued.interrupted, sorted(rescued.returned)) == (("1",), ["2", "3", "4"])
    failed = store.jobs.look_up("1")
    assert (failed.status, failed.deaths, failed.errors[-1].type) == (Status.FAILED, 1, "Interrupted")
    assert "its process died" in failed.errors[-1].message
    assert [status(store, job_id) for job_id in "234"] == [Status.QUEUED] * 3


@pytest.mark.parametrize("executing", [None, frozenset({ANY})])
def test_where_it_is_not_known_what_had_begun_all_may_have(store, paying, executing):
    number, _ = paying
    assert sorted(rescue(store, number, executing).interrupted) == ["1", "2", "3"]
    assert status(store, "4") is Status.QUEUED


def test_a_run_counts_by_what_its_own_worker_has_declared(store):
    put(store, "pay"), put(store, "pay")
    old, new = worker(store, "old", ()), worker(store, "new", ("pay",))
    [first], [second] = claim(store, old), claim(store, new)
    assert rescue(store, old, None).returned == (first.id,)
    assert rescue(store, new, None).interrupted == (second.id,)


def test_what_a_worker_declares_later_counts_too(store):
    number = worker(store, "w", ())
    store.workers.serve(number, frozenset({"add", "pay"}), [], {}, ("pay",))
    put(store, "pay")
    claim(store, number)
    assert rescue(store, number, None).interrupted == ("1",)


def test_a_run_of_a_worker_without_a_record_counts_by_what_any_other_has_declared(store, paying):
    number, _ = paying
    worker(store, "other", ("pay",))
    store.kernel.writer.run(lambda db: db.rows("DELETE FROM litequeue_workers WHERE id = ?", (number,)))
    assert sorted(rescue(store, number, None).interrupted) == ["1", "2", "3"]


def test_a_run_that_had_ended_is_not_touched_and_a_late_end_is_dropped(store, paying):
    number, jobs = paying
    hands = Hands(store)
    hands.settle((jobs["1"], SUCCEEDED), (jobs["2"], snoozed(60)))
    assert rescue(store, number, None).interrupted == ("3",)
    assert [status(store, job_id) for job_id in "123"] == [Status.SUCCEEDED, Status.SCHEDULED, Status.FAILED]
    assert hands.settle((jobs["3"], SUCCEEDED)) == [jobs["3"]]


def test_a_run_whose_cancel_was_asked_for_may_have_had_its_effect_and_fails(store, paying):
    number, _ = paying
    store.jobs.cancel("1")
    assert "1" in rescue(store, number, None).interrupted


def test_in_a_copy_of_the_file_it_is_not_queued_again(store, paying, tmp_path, driver):
    copy = store.admin.backup(tmp_path / "copy.db")
    about = {"clock": store.clock, "result_ttl": 1e9, "failed_ttl": 1e9, "create": False, "durability": "full"}
    opened = SqliteStore.open(copy, driver=driver, **about)
    try:
        assert [status(opened, job_id) for job_id in "14"] == [Status.FAILED, Status.QUEUED]
    finally:
        opened.close()
    assert store.clock.now() == START


def test_a_claim_of_what_may_not_run_twice_survives_power_loss(store, monkeypatch):
    synced = []
    run = store.kernel.writer.run
    monkeypatch.setattr(
        store.kernel.writer, "run", lambda work, **how: synced.append(how.get("durable", True)) or run(work, **how)
    )
    number = worker(store, "w", ("pay",))
    synced.clear()
    for durable in (False, True):
        store.runs.claim(number, [Demand(frozenset({"pay"}), 1, durable=durable)], None)
    assert synced == [False, True]
