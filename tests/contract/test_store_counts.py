"""Counts: exact but for what has succeeded in a large file, which is estimated and says so."""

import asyncio
from collections import Counter

import pytest

from contract.jobs import START, new
from litequeue.core.records import Status
from litequeue.sqlite.jobs.estimate import SMALL

FILL = """
WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last)
INSERT INTO litequeue_jobs (id, task, queue, payload, state, priority, run_at, created_at, finished_at, delete_at)
SELECT i, 'add', CASE WHEN i % 10 < :small THEN 'small' ELSE 'default' END, X'5b5d', :state, 0, :now, :now,
       CASE WHEN :state > 3 THEN :now END, CASE WHEN :state > 3 THEN :now END
FROM n WHERE i % :every = 0
"""


def fill(store, first, last, state=4, every=1, small=0):
    """Put jobs of that state there, with these ids, every so many; of ten, so many are in the queue `small`."""
    values = {"first": first, "last": last, "state": state, "every": every, "small": small, "now": START}
    store.kernel.writer.run(lambda db: db.rows(FILL, values))


def succeeded(store, *, exact=False):
    return {each.queue: each.jobs for each in store.jobs.counts(exact=exact) if each.status is Status.SUCCEEDED}


def is_exact(store, **how):
    return all(each.exact for each in store.jobs.counts(**how))


def near(count, error=0.15):
    return pytest.approx(count, rel=error)


def test_in_a_small_file_every_count_is_exact(store):
    fill(store, 1, SMALL, every=7, small=3)
    truth = Counter("small" if number % 10 < 3 else "default" for number in range(7, SMALL + 1, 7))
    assert succeeded(store) == truth
    assert is_exact(store)
    assert asyncio.run(store.jobs.acounts(exact=True)) == store.jobs.counts(exact=True)


def test_in_a_large_file_what_has_succeeded_is_estimated_by_queue_and_says_so(store):
    fill(store, 1, 60_000, small=2)
    assert succeeded(store) == {"default": near(48_000), "small": near(12_000)}
    assert not is_exact(store)


def test_on_request_it_is_counted(store):
    fill(store, 1, 60_000, small=2)
    assert succeeded(store, exact=True) == {"default": 48_000, "small": 12_000}
    assert is_exact(store, exact=True)


def test_all_other_counts_are_exact_in_a_large_file(store):
    fill(store, 1, 60_000, small=2)
    fill(store, 60_001, 60_100, state=5, small=2)
    fill(store, 60_101, 60_200, state=1, small=2)
    store.jobs.submit([new(run_at=START + 60), new(queue="later", run_at=START + 60), new(queue="now")])
    others = {(each.queue, str(each.status), each.jobs, each.exact) for each in store.jobs.counts()}
    assert {each for each in others if each[1] != "succeeded"} == {
        ("default", "failed", 80, True),
        ("small", "failed", 20, True),
        ("default", "queued", 80, True),
        ("small", "queued", 20, True),
        ("default", "scheduled", 1, True),
        ("later", "scheduled", 1, True),
        ("now", "queued", 1, True),
    }


def test_where_none_can_have_succeeded_that_is_exact(store):
    fill(store, 1, 60_000, state=5)
    assert succeeded(store) == {}
    assert is_exact(store)


@pytest.mark.parametrize("every", [2, 10])
def test_an_estimate_leaves_out_what_was_pruned(store, every):
    fill(store, 1, 200_000, every=every)
    assert succeeded(store) == {"default": near(200_000 // every)}


def test_failed_jobs_that_are_kept_long_do_not_blur_the_estimate_of_what_is_kept_shortly(store):
    fill(store, 1, 970_000, state=5, every=50)
    fill(store, 970_001, 1_000_000)
    assert succeeded(store) == {"default": near(30_000)}


@pytest.mark.parametrize("lone", [10**9, 2**62])
def test_a_gap_in_the_ids_does_not_blur_the_estimate(store, lone):
    fill(store, 1, 60_000)
    fill(store, lone, lone, state=5)
    assert succeeded(store) == {"default": near(60_000)}


def test_an_estimate_is_never_more_than_there_can_be(store):
    fill(store, 1, 59_000, state=5)
    fill(store, 59_001, 60_000)
    assert sum(succeeded(store).values()) <= 1_000


def test_what_has_not_succeeded_is_counted_however_much_it_is(store):
    fill(store, 1, 30_000, state=1)
    fill(store, 30_001, 60_000, state=5)
    fill(store, 60_001, 60_100, state=1, small=10)
    assert {(each.queue, str(each.status), each.jobs, each.exact) for each in store.jobs.counts()} == {
        ("default", "queued", 30_000, True),
        ("small", "queued", 100, True),
        ("default", "failed", 30_000, True),
    }


def test_ready_jobs_that_are_too_many_to_count_are_so_many_or_more(store, monkeypatch):
    monkeypatch.setattr("litequeue.sqlite.jobs.counts.ENTRIES", 100)
    fill(store, 1, 200, state=1)
    fill(store, 201, 210, state=1, small=10)
    found = {lane.queue: (lane.jobs, lane.oldest, lane.exact) for lane in store.admin.ready()}
    assert found == {"default": (50, START, False), "small": (10, START, True)}


def test_ready_jobs_of_other_tasks_are_counted_in_the_queues_that_are_served(store):
    jobs = [("a", "mine"), ("a", "x"), ("a", "x"), ("b", "mine"), ("b", "x"), ("c", "y")]
    store.jobs.submit([new(task, queue=queue) for queue, task in jobs] + [new("later", run_at=START + 60)])
    mine = frozenset({"mine"})
    assert store.runs.ready_without(mine, None) == [("a", "x", 2, True), ("b", "x", 1, True), ("c", "y", 1, True)]
    assert store.runs.ready_without(mine, ("c", "a")) == [("a", "x", 2, True), ("c", "y", 1, True)]
    assert store.runs.ready_without(mine | {"x", "y"}, None) == []


def test_of_many_ready_jobs_of_another_task_some_are_counted(store):
    store.jobs.submit([new("x")] * 1_001 + [new("y")] * 999)
    assert store.runs.ready_without(frozenset(), None) == [("default", "x", 1_000, False), ("default", "y", 999, True)]
