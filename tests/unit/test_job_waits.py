"""What waits for many jobs refuse, and the time limit of the job in which they wait."""

import asyncio

import pytest

from crash.watching import until
from litequeue import JobFailed, JobNotFound, Queue, as_completed, await_all, current_job, wait_all


@pytest.fixture
def one(database):
    with Queue(database) as queue:
        yield queue.task(name="add")(lambda: 5)


def each_way(jobs, timeout=None):
    yield lambda: wait_all(jobs, timeout)
    yield lambda: as_completed(jobs, timeout)
    yield lambda: asyncio.run(await_all(jobs, timeout))


@pytest.mark.parametrize(
    ("jobs", "text"),
    [
        (5, r"takes jobs in a list or another iterable, got 5"),
        (["41"], r"takes jobs, as enqueue\(\) returns them, got '41'; queue.job\(id\) looks one up by its id"),
    ],
)
def test_what_are_no_jobs_are_refused(jobs, text):
    for wait in each_way(jobs):
        with pytest.raises(TypeError, match=text):
            wait()


def test_a_job_that_is_in_no_list_is_refused(one):
    for wait in each_way(one.enqueue()):
        with pytest.raises(TypeError, match="takes jobs in a list"):
            wait()


def test_an_odd_time_limit_is_refused(one):
    for wait in each_way([one.enqueue()], "soon"):
        with pytest.raises(ValueError, match="timeout"):
            wait()


def test_a_job_that_is_not_stored_yet_is_refused(one):
    for wait in each_way([one.using(on_commit=lambda _store: None).enqueue()]):
        with pytest.raises(JobNotFound, match="not stored yet"):
            wait()


def test_no_jobs_have_ended(one):
    assert wait_all([]) == list(as_completed([])) == []
    assert asyncio.run(await_all(iter([]))) == []


def test_the_time_limit_of_a_job_ends_its_wait_for_others(database, monkeypatch):
    monkeypatch.setattr("litequeue.ipc.inbox.PIECE", 0.02)
    with Queue(database) as queue:

        @queue.task(timeout=0.05)
        def parent():
            wait_all([queue.tasks["never"].using(delay="1h").enqueue(current_job().id)])

        queue.task(name="never")(lambda job: job)
        with queue.worker(threads=1), pytest.raises(JobFailed, match="JobTimeout"):
            parent.enqueue().result(20)
        until(lambda: not queue.engine.kernel.waiters._table)


def test_a_loop_is_shown(one):
    assert repr(as_completed([one.enqueue()])) == "<as_completed of 1 jobs>"
