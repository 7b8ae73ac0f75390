"""What runs after what, on every engine that has it: as a user sees it, with real runs."""

import asyncio

import pytest

from contract.engine import app
from litequeue import (
    Failure,
    JobCancelled,
    JobFailed,
    JobNotFound,
    as_completed,
    chain,
    chord,
    current_job,
    group,
)
from litequeue.core.engine import Feature

NEEDS = {Feature.COMPOSITION}


@pytest.fixture
def tasks(rig):
    made = rig.tasks
    made.total = rig.queue.task(name="total")(total)
    made.atotal = rig.queue.task(name="atotal")(atotal)
    made.describe = rig.queue.task(name="describe")(describe)
    return made


def total(results: list[int]) -> int:
    return sum(results)


async def atotal(results: list[int]) -> int:
    return sum(results)


def describe(results):
    app.notes.append([type(each).__name__ for each in results] if isinstance(results, list) else results)


def test_a_chain_hands_each_result_on(rig, tasks):
    last = (tasks.add.s(1, 2) | tasks.aadd.s(10) | tasks.add.s(b=5)).enqueue()
    rig.work()
    assert last.result(5) == 18


def pointed(x: int) -> app.Point:
    return app.Point(x)


def shift(at: app.Point) -> app.Point:
    return app.Point(at.x + 1, len(type(at).__name__))


def test_values_come_as_the_next_ones_annotations_have_them(rig, tasks):
    chained = rig.queue.task(name="pointed")(pointed).s(1) | rig.queue.task(name="shift")(shift).s()
    job = chained.enqueue()
    rig.work()
    assert job.result(5) == app.Point(2, 5)


@pytest.mark.parametrize("body", ["total", "atotal"])
def test_a_chord_sums_what_its_group_has_made(rig, tasks, body):
    job = (group(tasks.add.s(n, 0) for n in range(20)) | getattr(tasks, body).s()).enqueue()
    rig.work()
    assert job.result(5) == sum(range(20))


def test_a_failed_member_cancels_the_body_and_its_reason_says_so(rig, tasks):
    job = chord([tasks.add.s(1), tasks.fail.s()], tasks.total.s()).enqueue()
    rig.work()
    with pytest.raises(JobCancelled):
        job.result(5)
    assert job.reason.endswith(" failed")


def test_a_body_that_always_runs_gets_errors_as_values(rig, tasks):
    chord([tasks.add.s(1), tasks.fail.s()], tasks.describe.s(), on="always").enqueue()
    rig.work()
    assert app.notes == [["int", "JobFailed"]]


def test_a_misfit_fails_without_another_try(rig, tasks):
    job = (tasks.echo.s("text") | tasks.total.using(retries=3).s()).enqueue()
    rig.work()
    with pytest.raises(JobFailed):
        job.result(5)
    assert job.refresh().attempt == 1


def test_results_of_a_group_come_in_order_and_nested_as_it_is(rig, tasks):
    jobs = group(tasks.add.s(1), group(tasks.add.s(2), tasks.aadd.s(3)), tasks.add.s(4) | tasks.add.s()).enqueue()
    rig.work()
    assert jobs.results(5) == [2, [3, 4], 6]
    assert asyncio.run(jobs.aresults(5)) == [2, [3, 4], 6]
    found = rig.queue.group(jobs.id)
    assert found.results(5) == [2, [3, 4], 6]
    assert found.progress.done == found.progress.total == 4
    assert {job.id for job in as_completed(jobs, timeout=5)} == {job.id for job in jobs}
    with pytest.raises(JobNotFound):
        rig.queue.group("g999")


def test_results_of_a_group_raise_the_first_failure_or_return_them(rig, tasks):
    jobs = group(tasks.fail.s("first"), tasks.add.s(1), tasks.fail.s("second")).enqueue()
    rig.work()
    with pytest.raises(JobFailed, match="first"):
        jobs.results(5)
    first, one, second = jobs.results(5, on_error="return")
    assert (one, first.message, second.message) == (2, "first", "second")


def test_map_and_chunks_make_groups(rig, tasks):
    mapped, chunked = tasks.add.map(range(5)), tasks.aadd.chunks(range(5), 2)
    rig.work()
    assert mapped.results(5) == [1, 2, 3, 4, 5]
    assert chunked.results(5) == [[1, 2], [3, 4], [5]]
    assert tasks.add.map([]).results(5) == []


def test_callbacks_are_told_of_results_and_failures(rig, tasks):
    tasks.add.using(on_success=tasks.describe.s(), on_failure=tasks.note.si("never")).enqueue(1)
    tasks.fail.using(on_success=tasks.note.si("never"), on_failure=tasks.describe.s()).enqueue("why")
    rig.work()
    result, failure = sorted(app.notes, key=str)
    assert result == 2
    assert isinstance(failure, Failure)
    assert (failure.task, failure.error_type, failure.message, failure.tries) == (
        "fail",
        "contract.engine.app.Odd",
        "why",
        1,
    )


def test_a_job_runs_after_jobs_that_exist(rig, tasks):
    first = [tasks.note.using(priority=-5).enqueue(text) for text in "ab"]
    tasks.note.using(after=first, priority=100).enqueue("last")
    rig.work()
    assert (sorted(app.notes[:2]), app.notes[2]) == (["a", "b"], "last")


def test_a_retry_of_a_link_goes_on_with_the_chain(rig, tasks):
    times = []

    @rig.queue.task
    def shaky(value):
        times.append(value)
        if len(times) < 2:
            raise app.Odd
        return value

    last = chain(tasks.add.s(1), shaky.s(), tasks.add.s(5)).enqueue()
    rig.work()
    failed = next(job for job in rig.queue.jobs() if job.task == shaky.name)
    assert failed.retry() == ()
    rig.work()
    assert last.result(5) == 7


def test_cancel_of_a_group_cancels_what_has_not_begun(rig, tasks):
    jobs = group(tasks.add.using(delay=3600).s(n) for n in range(3)).enqueue()
    assert jobs.cancel()
    assert [str(job.refresh().status) for job in jobs] == ["cancelled"] * 3


def test_a_link_with_completing_is_followed_in_its_commit(rig, tasks):
    @rig.queue.task
    def writes(value):
        with current_job().completing(value * 2):
            pass

    last = (tasks.add.s(1) | writes.s() | tasks.add.s(1)).enqueue()
    rig.work()
    assert last.result(5) == 5
