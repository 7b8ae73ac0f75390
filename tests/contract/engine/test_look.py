"""Look: what an engine tells of a job, and its listing."""

import asyncio

import pytest

from contract.engine.needing import needs
from litequeue import JobNotFound, group
from litequeue.core.engine import Feature


def test_a_job_that_has_not_run_is_told_as_it_was_enqueued(rig):
    job = rig.tasks.add.using(queue="mail", priority=7, tags=["a", "b c"], expires="1h").enqueue(1)
    for seen in (job, rig.queue.job(job.id), asyncio.run(rig.queue.ajob(job.id))):
        assert (seen.id, seen.task, seen.queue, seen.status) == (job.id, "add", "mail", "queued")
        assert (seen.priority, seen.tags, seen.key, seen.schedule) == (7, ("a", "b c"), None, None)
        assert (seen.attempt, seen.errors, seen.progress) == (0, (), None)
        assert (seen.started_at, seen.finished_at) == (None, None)
        assert seen.run_at == seen.created_at == job.created_at


def test_a_job_that_has_ended_is_told_with_its_times(rig):
    job = rig.tasks.add.enqueue(1)
    rig.work()
    assert job.refresh() is job
    assert (job.status, job.attempt) == ("succeeded", 1)
    assert job.created_at <= job.started_at <= job.finished_at


def test_the_attributes_of_a_job_are_of_its_last_load(rig):
    job = rig.tasks.add.enqueue(1)
    assert job.status == "queued"
    rig.work()
    assert job.status == "queued"
    assert rig.queue.job(job.id).status == "succeeded"


@pytest.mark.parametrize("job_id", ["999999", "no-such~job", "x" * 200])
def test_a_job_that_is_not_there_is_not_found(rig, job_id):
    with pytest.raises(JobNotFound, match=job_id):
        rig.queue.job(job_id)
    with pytest.raises(JobNotFound):
        asyncio.run(rig.queue.ajob(job_id))


def test_the_counts_are_by_queue_and_state(rig):
    rig.tasks.add.enqueue_many([(1,), (2,)])
    rig.tasks.add.using(queue="mail", delay=60).enqueue(1)
    assert rig.stored() == 3
    assert {(count.queue, count.status) for count in rig.engine.jobs.counts()} == {
        ("default", "queued"),
        ("mail", "scheduled"),
    }


@needs(Feature.LISTING)
def test_a_listing_is_newest_first_and_goes_on_before_an_id(rig):
    ids = [job.id for job in rig.tasks.add.enqueue_many([(number,) for number in range(7)])][::-1]
    first = [job.id for job in rig.queue.jobs(limit=4)]
    rest = [job.id for job in rig.queue.jobs(limit=4, before=first[-1])]
    assert (first, rest) == (ids[:4], ids[4:])
    assert [job.id for job in asyncio.run(rig.queue.ajobs(limit=1))] == ids[:1]


@needs(Feature.LISTING)
@pytest.mark.parametrize(
    "where",
    [{"status": "failed"}, {"task": "fail"}, {"queue": "mail"}, {"tag": "b"}, {"status": "failed", "tag": "b"}],
    ids=str,
)
def test_a_listing_is_filtered(rig, where):
    wanted = rig.tasks.fail.using(queue="mail", tags=["a", "b"]).enqueue()
    rig.tasks.add.using(tags=["a"]).enqueue(1)
    rig.work()
    assert [job.id for job in rig.queue.jobs(**where)] == [wanted.id]


@needs(Feature.LISTING, Feature.COMPOSITION)
def test_a_listing_of_a_group_has_the_groups_in_it(rig):
    jobs = group(rig.tasks.add.s(1), group(rig.tasks.add.s(n) for n in range(2))).enqueue()
    rig.tasks.add.enqueue(9)
    wanted = [job.id for job in rig.queue.jobs() if job in jobs.jobs]
    assert [job.id for job in rig.queue.jobs(group=jobs)] == wanted
    assert [job.id for job in rig.queue.jobs(group=jobs.id, status="queued", limit=2)] == wanted[:2]
    with pytest.raises(JobNotFound):
        rig.queue.jobs(group="g987654")


@needs(Feature.LISTING)
@pytest.mark.parametrize("before", ["", "two words", "x" * 201])
def test_what_is_no_id_cannot_be_a_place_in_a_listing(rig, before):
    with pytest.raises(ValueError, match="before must be a job's id"):
        rig.queue.jobs(before=before)
