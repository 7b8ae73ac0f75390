"""The place of a job in its queue: how many come before it, as the claim will take them."""

import asyncio

import pytest

from contract.jobs import START, Hands, new, put
from litequeue.core.records import NewJobs
from litequeue.core.source import MOST_BEFORE
from litequeue.errors import JobNotFound


def places(store, ids):
    return [store.jobs.position(job_id) for job_id in ids]


def test_jobs_stand_by_priority_and_then_by_age_whatever_their_tasks(store):
    ids = [
        put(store, task, priority=priority) for task, priority in [("b", 0), ("a", 5), ("a", 0), ("c", -1), ("b", 5)]
    ]
    put(store, "a", queue="other", priority=100)
    assert places(store, ids) == [2, 0, 3, 4, 1]
    order = [job.id for job in Hands(store, "a", "b", "c", queues=("default",)).claim(5)]
    assert order == [ids[1], ids[4], ids[0], ids[2], ids[3]]


def test_what_is_not_queued_has_no_place(store):
    ended, later, running = put(store), put(store, run_at=START + 60), put(store)
    store.jobs.cancel(ended)
    assert Hands(store).take().id == running
    assert places(store, [ended, later, running]) == [None, None, None]
    with pytest.raises(JobNotFound):
        store.jobs.position("99")


def test_parked_jobs_count_and_have_a_place(store):
    ids = [put(store, task) for task in ("a", "b", "a", "b")]
    park(store, ids[:3])
    assert places(store, ids) == [0, 1, 2, 3]
    assert asyncio.run(store.jobs.aposition(ids[2])) == 2


def test_a_job_that_waits_for_another_of_its_schedule_has_no_place(store):
    job_id = put(store)
    store.kernel.writer.run(lambda db: db.rows("UPDATE litequeue_jobs SET state = 2"))
    assert store.jobs.position(job_id) is None


def test_no_more_than_the_bound_are_counted(store):
    store.jobs.submit(NewJobs(new(), [b"[]"] * (MOST_BEFORE + 5)))
    last = put(store)
    assert places(store, [str(MOST_BEFORE), str(MOST_BEFORE + 1), last]) == [MOST_BEFORE - 1, MOST_BEFORE, MOST_BEFORE]


def park(store, ids):
    """Put jobs behind a full key, as a claim does that meets them."""

    def work(db):
        for job_id in ids:
            db.rows("UPDATE litequeue_jobs SET state = 2 WHERE id = ?", (job_id,))
            db.rows(
                "INSERT INTO litequeue_parked (job, limit_name, key, queue, task, rank) "
                "SELECT id, 'limit', 'key', queue, task, -priority FROM litequeue_jobs WHERE id = ?",
                (job_id,),
            )

    store.kernel.writer.run(work)
