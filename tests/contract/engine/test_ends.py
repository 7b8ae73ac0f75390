"""Ends: results, errors, other tries, time limits. Whatever a function does, the worker goes on."""

import pytest

from litequeue import JobFailed, JobNotFound


def failed(job):
    with pytest.raises(JobFailed) as caught:
        job.result(10)
    return caught.value


@pytest.mark.parametrize("name", ["fail", "afail"])
def test_an_error_fails_the_job_and_is_told_as_text(rig, name):
    job = getattr(rig.tasks, name).enqueue("Grüße")
    rig.work()
    error = failed(job)
    assert error.error_type.endswith(".Odd")
    assert error.message == "Grüße"
    assert f"in {name}" in error.traceback
    assert "run_one" not in error.traceback
    assert (job.status, job.attempt, len(job.errors)) == ("failed", 1, 1)
    assert job.finished_at >= job.started_at >= job.created_at


def test_a_failure_is_tried_again_as_often_as_the_task_says(rig):
    good, bad = rig.tasks.flaky.enqueue(2), rig.tasks.flaky.enqueue(9)
    with rig.worker():
        assert good.result(10) == 3
        assert failed(bad).message == "run 4"
    assert [error.message for error in good.errors] == ["run 1", "run 2"]
    assert [error.attempt for error in bad.errors] == [1, 2, 3, 4]


def test_the_retries_of_a_call_count_before_the_tasks(rig):
    once, never = rig.tasks.flaky.using(retries=1).enqueue(1), rig.tasks.flaky.using(retries=0).enqueue(1)
    with rig.worker():
        assert once.result(10) == 2
        assert failed(never).message == "run 1"


def test_between_tries_there_is_the_backoff(rig):
    slow = rig.queue.task(name="slow", retries=1, backoff=60)(rig.tasks.fail.function)
    job = slow.enqueue()
    rig.work()
    job.refresh()
    assert (job.status, job.attempt) == ("scheduled", 1)
    assert (job.run_at - job.errors[-1].at).total_seconds() == pytest.approx(60, abs=1)


def test_a_task_may_ask_for_another_try_and_uses_a_retry_up(rig):
    good, bad = rig.tasks.ask_again.enqueue(3), rig.tasks.ask_again.enqueue(9)
    with rig.worker():
        assert good.result(10) == 4
        assert failed(bad).message == "run 4"


def test_a_task_that_snoozes_uses_no_retry_up_and_has_no_error(rig):
    job = rig.tasks.snooze.enqueue(3)
    with rig.worker():
        assert job.result(10) == 4
    assert job.errors == ()


def test_a_task_that_gives_up_is_not_tried_again(rig):
    job = rig.queue.task(name="hopeless", retries=5)(rig.tasks.give_up.function).enqueue()
    rig.work()
    assert failed(job).message == "enough"
    assert job.attempt == 1


@pytest.mark.parametrize("name", ["spin", "sleep"])
def test_a_run_is_stopped_at_the_time_limit_of_its_task(rig, name):
    job = getattr(rig.tasks, name).enqueue()
    with rig.worker():
        error = failed(job)
    assert error.error_type.endswith("JobTimeout")
    assert error.message == f"{name} ran longer than its limit of 0.1 s"


def test_the_time_limit_of_a_call_counts_before_the_tasks(rig):
    job = rig.tasks.sleep.using(timeout=0.2).enqueue()
    free = rig.tasks.sleep.using(timeout=None).enqueue(0.15)
    with rig.worker():
        assert "limit of 0.2 s" in failed(job).message
        assert free.result(10) is None


def test_a_result_that_cannot_be_stored_fails_the_job_without_another_try(rig):
    job = rig.tasks.odd_result.using(retries=5).enqueue()
    rig.work()
    assert failed(job).error_type.endswith("EncodeError")
    assert job.attempt == 1


@pytest.mark.parametrize("name", ["leave", "aleave"])
def test_a_task_that_exits_fails_and_the_worker_goes_on(rig, name):
    job = getattr(rig.tasks, name).enqueue()
    after = rig.tasks.add.enqueue(1)
    rig.work()
    assert failed(job).error_type == "SystemExit"
    assert after.result(5) == 2


def test_results_and_failures_are_kept_as_long_as_the_queue_says(open_rig):
    rig = open_rig(result_ttl=0, failed_ttl="1d")
    good, bad = rig.tasks.add.enqueue(1), rig.tasks.fail.enqueue()
    rig.work()
    rig.work()  # the file's pruning is a worker's first work
    assert failed(bad).message == "no"
    with pytest.raises(JobNotFound):
        good.refresh()
