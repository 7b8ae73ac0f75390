"""Control: cancel and retry, in each state."""

import asyncio
import time

import pytest

from contract.engine import app
from crash.watching import until
from litequeue import JobCancelled, JobFailed, JobNotFound, Unsupported


def ended(rig, state):
    """Return a job in that state."""
    if state == "succeeded":
        job = rig.tasks.add.enqueue(1)
    elif state == "failed":
        job = rig.tasks.fail.enqueue()
    elif state == "expired":
        job = rig.tasks.note.using(expires=0.01).enqueue("never")
        time.sleep(0.05)
    else:
        job = rig.tasks.note.enqueue("never")
        assert job.cancel()
    rig.work()
    assert job.refresh().status == state
    return job


@pytest.mark.parametrize("options", [{}, {"delay": 60}], ids=["queued", "scheduled"])
def test_a_job_that_has_not_begun_is_cancelled_at_once_and_never_runs(rig, options):
    job = rig.tasks.note.using(**options).enqueue("ran")
    assert job.cancel()
    assert job.refresh().status == "cancelled"
    with pytest.raises(JobCancelled):
        job.result(5)
    rig.work()
    assert app.notes == []


def test_a_plain_function_sees_that_it_is_cancelled_and_may_still_succeed(rig):
    job = rig.tasks.until_cancelled.enqueue()
    with rig.worker():
        until(lambda: app.started)
        assert job.cancel()
        assert job.result(10) == "told"


def test_a_coroutine_that_is_cancelled_ends_as_cancelled(rig):
    job = rig.tasks.asleep.enqueue()
    with rig.worker():
        until(lambda: app.started)
        assert job.cancel()
        with pytest.raises(JobCancelled):
            job.result(10)


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "expired"])
def test_a_job_that_has_ended_cannot_be_cancelled(rig, state):
    job = ended(rig, state)
    assert not job.cancel()
    assert job.refresh().status == state


@pytest.mark.parametrize("state", ["failed", "cancelled", "expired"])
def test_a_job_that_ended_badly_is_queued_again(rig, state):
    job = ended(rig, state)
    attempts, errors = job.attempt, job.errors
    job.retry()
    job.refresh()
    assert (job.status, job.attempt, job.finished_at) == ("queued", attempts, None)
    rig.work()
    assert job.refresh().status == ("failed" if state == "failed" else "succeeded")
    assert job.attempt == attempts + 1
    assert len(job.errors) == 2 * len(errors)


def test_a_retried_job_has_all_its_retries_again(rig):
    job = rig.tasks.flaky.using(retries=1).enqueue(3)
    with rig.worker():
        with pytest.raises(JobFailed):
            job.result(10)
        job.retry()
        assert job.result(10) == 4


def test_a_scheduled_job_that_is_retried_runs_at_once(rig):
    job = rig.tasks.add.using(delay=60).enqueue(1)
    job.retry()
    rig.work()
    assert job.result(5) == 2


def test_a_queued_job_and_one_that_succeeded_cannot_be_retried(rig):
    with pytest.raises(Unsupported):
        ended(rig, "succeeded").retry()
    with pytest.raises(Unsupported):
        rig.tasks.add.enqueue(1).retry()


def test_a_running_job_cannot_be_retried(rig):
    job = rig.tasks.until_cancelled.enqueue()
    with rig.worker():
        until(lambda: app.started)
        with pytest.raises(Unsupported):
            job.retry()
        job.cancel()
        job.result(10)


def test_a_coroutine_may_cancel_and_retry(rig):
    async def main():
        job = await rig.tasks.add.aenqueue(1)
        assert await job.acancel()
        assert not await job.acancel()
        await job.aretry()
        return job

    job = asyncio.run(main())
    rig.work()
    assert job.result(5) == 2


def test_a_job_that_is_not_there_can_be_neither_cancelled_nor_retried(rig):
    for act in (rig.engine.jobs.cancel, rig.engine.jobs.retry):
        with pytest.raises(JobNotFound):
            act("999999")


def test_cancel_with_wait_tells_whether_the_job_ended_as_cancelled(rig):
    sleeping, stubborn = rig.tasks.asleep.enqueue(), rig.tasks.until_cancelled.enqueue()
    with rig.worker():
        until(lambda: len(app.started) == 2)
        assert sleeping.cancel(wait="20s")
        assert not asyncio.run(stubborn.acancel(wait=20))  # it succeeded, when it saw that it was asked to end
    assert [sleeping.status, stubborn.status] == ["cancelled", "succeeded"]
    assert [sleeping.cancel(wait=0), stubborn.cancel(wait=0)] == [True, False]
    assert rig.tasks.add.enqueue(1).cancel(wait=0)


def test_cancel_with_wait_tells_of_a_run_that_does_not_end(rig, tmp_path):
    gate = tmp_path / "gate"
    job = rig.tasks.through.enqueue(str(gate))
    with rig.worker():
        until(lambda: job.refresh().status == "running")
        for ask in (lambda: job.cancel(wait=0.01), lambda: asyncio.run(job.acancel(wait=0.01))):
            with pytest.raises(TimeoutError, match=rf"job {job.id} \(through\) .*still r.*; waited 0.01 s"):
                ask()
        gate.touch()
        assert job.result(20) == 1


def test_a_wait_that_is_no_duration_cancels_nothing(rig):
    job = rig.tasks.add.enqueue(1)
    with pytest.raises(ValueError, match="wait is not a duration"):
        job.cancel(wait="soon")
    assert job.refresh().status == "queued"
