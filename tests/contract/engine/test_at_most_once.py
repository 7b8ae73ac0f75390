"""`delivery="at_most_once"`: no run follows one that has begun, unless the task itself has asked for it."""

import asyncio

import pytest

from contract.engine import app
from contract.engine.needing import needs
from crash.watching import until
from litequeue import GiveUp, JobFailed, Retry
from litequeue.core.engine import Feature

NEEDS = {Feature.AT_MOST_ONCE}


def once(rig, function, **options):
    return rig.queue.task(name="once", delivery="at_most_once", **options)(function)


@pytest.mark.parametrize(
    "options", [{"retries": 1}, {"retry_on": OSError}, {"backoff": 1}, {"give_up_on": OSError}], ids=str
)
def test_options_of_a_retry_are_refused_beside_it(rig, options):
    with pytest.raises(ValueError, match=f"runs no job twice, so {next(iter(options))}= cannot apply"):
        once(rig, app.add, **options)


def test_retries_of_a_call_are_refused_and_an_unknown_delivery_is(rig):
    with pytest.raises(ValueError, match="leave out retries="):
        once(rig, app.add, retries=0).using(retries=1)
    with pytest.raises(ValueError, match="delivery must be one of 'at_least_once', 'at_most_once'"):
        rig.queue.task(name="odd", delivery="exactly_once")(lambda: None)


def test_the_default_is_at_least_once(rig):
    task = rig.queue.task(name="plain", delivery="at_least_once", retries=1, backoff=0)(app.flaky)
    job = task.enqueue(1)
    rig.work()
    assert job.result(5) == 2


@pytest.mark.parametrize(
    ("error", "told"), [(Retry, "no Retry is possible"), (GiveUp, "gave up"), (OSError, "OSError")]
)
def test_an_error_fails_the_job_at_once_and_a_retry_is_refused(rig, error, told):
    def fails():
        app.notes.append("ran")
        raise error

    job = once(rig, fails).enqueue()
    rig.work()
    with pytest.raises(JobFailed, match=told):
        job.result(5)
    assert app.notes == ["ran"]


def test_a_snooze_is_what_the_task_asks_for_and_allowed(rig):
    job = once(rig, app.snooze).enqueue(2)
    with rig.worker():
        assert job.result(20) == 3


@needs(Feature.COMPLETING)
def test_a_success_that_was_committed_by_the_run_stays(rig):
    job = once(rig, app.complete).enqueue()
    rig.work()
    assert job.result(5) == "in the block"


@pytest.mark.parametrize("function", [app.spin, app.asleep, app.until_cancelled])
def test_a_run_that_a_stop_cuts_short_fails_as_interrupted(rig, function):
    def spin():
        app.started.append("")
        app.spin()

    job = once(rig, spin if function is app.spin else function).enqueue()
    with rig.worker(grace=0):
        until(lambda: app.started)
    if function is app.until_cancelled and job.refresh().status == "succeeded":
        return  # it saw in time that it was asked to end
    with pytest.raises(JobFailed, match="Interrupted: Its worker was stopped while it ran"):
        asyncio.run(job.aresult(5))
    assert job.refresh().attempt == 1
