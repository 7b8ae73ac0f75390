"""`run(until_idle=True)` works off whatever is ready, and then returns."""

import asyncio
import threading
from collections import Counter

import pytest

from litequeue import Queue, StoreBusy, at
from litequeue.core.store import Demand, NewWorker
from litequeue.testing import ManualClock


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


def statuses(queue):
    return Counter(str(count.status) for count in queue.engine.jobs.counts() for _ in range(count.jobs))


def test_an_empty_queue_is_idle_at_once(queue):
    assert queue.worker().run(until_idle=True)


@pytest.mark.parametrize("driver", ["apsw", "sqlite3"])
def test_thousands_of_jobs_of_both_kinds_with_retries_and_cancels_all_end(database, driver):
    with Queue(database, driver=driver, durability="normal") as queue:

        @queue.task(retries=2, backoff=0)
        def plain(n: int) -> int:
            if n % 50 == 0:
                raise ValueError(n)
            return n

        @queue.task(retries=1, backoff=0)
        async def coroutine(n: int) -> int:
            await asyncio.sleep(0)
            if n % 50 == 0:
                raise ValueError(n)
            return n

        jobs = plain.enqueue_many([(n,) for n in range(2000)]) + coroutine.enqueue_many([(n,) for n in range(2000)])
        for job in jobs[1::100]:
            job.cancel()
        worker = queue.worker(threads=4)
        assert worker.run(until_idle=True)
        assert statuses(queue) == {"succeeded": 3880, "failed": 80, "cancelled": 40}
        assert worker.lost == 0
        assert {len(job.errors) for job in queue.jobs(status="failed", task=plain)} == {3}
        assert {len(job.errors) for job in queue.jobs(status="failed", task=coroutine)} == {2}


def test_jobs_that_jobs_enqueue_are_worked_off_too(queue):
    @queue.task
    def chain(n: int):
        if n:
            chain.enqueue(n - 1)

    for _ in range(20):
        chain.enqueue_many([(20,)] * 4)
        queue.worker(threads=4).run(until_idle=True)
        assert set(statuses(queue)) == {"succeeded"}


def test_coroutines_that_coroutines_enqueue_are_worked_off_too(queue):
    @queue.task
    async def chain(n: int):
        if n:
            await chain.aenqueue(n - 1)

    for _ in range(20):
        chain.enqueue_many([(20,)] * 4)
        queue.worker(threads=4).run(until_idle=True)
        assert set(statuses(queue)) == {"succeeded"}


def test_a_try_that_is_due_only_later_is_left(queue):
    @queue.task(retries=1, backoff="1h")
    def later():
        raise ValueError

    job = later.enqueue()
    assert queue.worker().run(until_idle=True)
    assert job.refresh().status == "scheduled"


def test_the_same_worker_may_run_until_idle_again(queue):
    @queue.task
    def once(): ...

    worker = queue.worker()
    for _ in range(2):
        job = once.enqueue()
        worker.run(until_idle=True)
        assert job.refresh().status == "succeeded"


@pytest.fixture
def deaf(monkeypatch):
    """A notifier that was used already learns of no new worker: none may rely on hearing what it does itself."""
    monkeypatch.setattr("litequeue.ipc.notifier.LOOK_EVERY", 3600.0)


@pytest.mark.usefixtures("deaf")
def test_what_maintenance_fires_is_worked_off_too(queue):
    @queue.task
    def due(): ...

    queue.schedules.add("due", due.s(), at("2001-01-01T00:00:00Z"))
    queue.worker().run(until_idle=True)
    assert statuses(queue) == {"succeeded": 1}


@pytest.mark.usefixtures("deaf")
def test_a_due_schedule_that_a_job_adds_is_worked_off_too(queue):
    @queue.task
    def added(): ...

    @queue.task
    def adds():
        queue.schedules.add("due", added.s(), at("2001-01-01T00:00:00Z"))

    adds.enqueue()
    queue.worker().run(until_idle=True)
    assert statuses(queue) == {"succeeded": 2}


@pytest.mark.usefixtures("deaf")
def test_what_dead_workers_leave_is_worked_off_too(queue):
    @queue.task(name="left")
    def left(): ...

    left.enqueue()
    dead = NewWorker(token="0" * 32, identity="", queues=None, tasks=("left",), threads=1, coroutines=1)
    assert queue.engine.runs.claim(queue.engine.workers.register(dead), [Demand(frozenset({"left"}), 1)], None).claimed
    queue.worker().run(until_idle=True)
    assert statuses(queue) == {"succeeded": 1}


def test_until_idle_leaves_nothing_of_what_is_due_however_much_it_is(queue):
    ran = Counter()

    @queue.task
    def count():
        ran["n"] += 1

    queue.clock = queue.engine.clock = ManualClock()
    count.using(delay=1).enqueue_many([()] * 1200)
    queue.clock.advance(2)
    queue.worker(threads=2).run(until_idle=True)
    assert ran["n"] == 1200


def test_until_idle_comes_to_an_end_behind_what_has_expired(queue):
    ran = Counter()

    @queue.task
    def count(name):
        ran[name] += 1

    queue.clock = queue.engine.clock = ManualClock()
    count.using(expires=1).enqueue_many([("old",)] * 1200)
    queue.clock.advance(2)
    count.enqueue_many([("new",)] * 10)
    queue.worker(threads=2).run(until_idle=True)
    assert ran == {"new": 10}


def test_a_worker_that_runs_is_not_run_beside_itself(queue):
    worker, begun, go = queue.worker(), threading.Event(), threading.Event()

    @queue.task
    def work():
        begun.set()
        return go.wait(20)

    job = work.enqueue()
    thread = threading.Thread(target=worker.run, kwargs={"until_idle": True})
    thread.start()
    assert begun.wait(20)
    with pytest.raises(RuntimeError, match="already been started"):
        worker.run(until_idle=True)
    go.set()
    thread.join(20)
    assert job.result(0) is True


def test_a_worker_that_could_not_register_can_be_run_again(queue, monkeypatch):
    job, worker, register = queue.task(name="one")(lambda: 1).enqueue(), queue.worker(), queue.engine.workers.register

    def refused(new):
        monkeypatch.setattr(queue.engine.workers, "register", register)
        raise StoreBusy("once")

    monkeypatch.setattr(queue.engine.workers, "register", refused)
    with pytest.raises(StoreBusy):
        worker.run(until_idle=True)
    assert not worker.wait_until_started()
    assert worker.run(until_idle=True)
    assert (job.result(0), worker.wait_until_started()) == (1, True)
