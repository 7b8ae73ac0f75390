"""Jobs that take every slot of a worker, and wait for jobs that have not begun, are named."""

import asyncio
import logging
import threading

import pytest

from crash.watching import ended, until
from litequeue import Queue

STUCK = "which have not begun"


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.WARNING, "litequeue")
    return lambda: [record.getMessage() for record in caplog.records if STUCK in record.getMessage()]


@pytest.fixture
def leaf(queue):
    return queue.task(name="leaf")(lambda: "leaf")


def test_threads_that_all_wait_for_queued_jobs_are_named_with_what_to_do(queue, leaf, soon, told):
    @queue.task(name="parent")
    def parent():
        return leaf.enqueue().result(timeout=60)

    jobs = parent.enqueue_many([(), ()])  # before the worker: else a leaf may come before the second of them
    with queue.worker(threads=2, name="w"):
        until(told)
        with queue.worker(threads=1):  # another one runs what is waited for
            assert {ended(job).status for job in jobs} == {"succeeded"}
    [message] = told()  # once a minute
    assert message.startswith("all 2 threads of w are in jobs that wait for jobs which have not begun")
    assert "parent[1] waits for job" in message
    assert "threads=" in message


def test_coroutines_are_named_also_where_a_task_of_theirs_waits(queue, soon, told):
    @queue.task(name="aleaf")
    async def aleaf(): ...

    @queue.task(name="aparent")
    async def aparent():
        await asyncio.gather(aleaf.enqueue().aresult(timeout=60))

    with queue.worker(threads=1, coroutines=1, name="w"):
        job = aparent.enqueue()
        until(told)
        with queue.worker(coroutines=1):
            assert ended(job).status == "succeeded"
    assert "all 1 coroutines of w" in told()[0]
    assert "coroutines=" in told()[0]


def test_a_second_queue_on_the_file_is_no_way_around_it(queue, database, leaf, soon, told):
    @queue.task(name="parent")
    def parent():
        with Queue(database) as again:
            return again.job(leaf.enqueue().id).result(timeout=60)

    with queue.worker(threads=1):
        job = parent.enqueue()
        until(told)
        with queue.worker(threads=1):
            assert ended(job).status == "succeeded"


def test_waits_that_will_end_are_not_named(queue, leaf, soon, told, monkeypatch):
    """One thread is free; or what is waited for runs, or is not due; or who waits is no job."""
    looks, go = [], threading.Event()

    @queue.task(name="long")
    def long():
        go.wait(60)

    @queue.task(name="waits")
    def waits(job_id: str):
        return queue.job(job_id).result(timeout=60)

    from litequeue.worker.stuck_waits import StuckWaits

    look = StuckWaits.look

    def counting(stuck, directory):
        look(stuck, directory)
        looks.append(1)

    monkeypatch.setattr(StuckWaits, "look", counting)
    due = leaf.using(delay="1h").enqueue()
    with queue.worker(threads=2):
        jobs = [long.enqueue()]
        jobs.append(waits.enqueue(jobs[0].id))
        outside = threading.Thread(target=lambda: leaf.enqueue().result(timeout=60))
        outside.start()
        until(lambda: len(looks) > 4)
        go.set()
        assert {ended(job).status for job in jobs} == {"succeeded"}
        outside.join(60)
        jobs = [waits.enqueue(due.id), waits.enqueue(due.id)]
        seen = len(looks)
        until(lambda: len(looks) > seen + 4)
        due.cancel()
        for job in jobs:
            ended(job)
    assert told() == []
