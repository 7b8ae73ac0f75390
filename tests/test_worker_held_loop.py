"""What holds an event loop for too long is named with its stack while it holds it, and nobody else is."""

import asyncio
import logging
import math
import sys
import threading

import pytest

from crash.watching import ended, until
from litequeue import Queue
from litequeue.worker.executor.held_loop import HELD, REST_AFTER, HoldWatch

HOLDS = "in which no other coroutine ran"


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.WARNING, "litequeue")
    return lambda: [record.getMessage() for record in caplog.records if HOLDS in record.getMessage()]


def block(told):
    until(lambda: told())  # time.sleep(), as it were, until it is named


@pytest.fixture
def blocks(queue, told):
    @queue.task(name="blocks")
    async def blocks():
        block(told)

    return blocks


def test_a_coroutine_that_holds_the_workers_loop_is_named_with_its_stack_meanwhile(queue, blocks, told):
    @queue.task(name="waits")
    async def waits():
        await asyncio.sleep(0.01)

    with queue.worker(threads=1):
        beside, job = waits.enqueue(), blocks.enqueue()
        assert ended(job).status == "succeeded"
        ended(beside)
    [message] = told()
    assert message.startswith(f"blocks[{job.id}] has held an event loop of the worker's own for more than 250ms")
    assert "block(told)" in message


def test_on_the_applications_loop_too(queue, blocks, told):
    async def application():
        async with queue.worker(threads=1):
            await blocks.enqueue()

    asyncio.run(application())
    [message] = told()
    assert message.startswith("blocks[1] has held the application's event loop")


def test_the_applications_own_code_is_not_laid_at_a_jobs_door(queue, told):
    begun, over = threading.Event(), []

    @queue.task(name="waits")
    async def waits():
        begun.set()
        while not over:
            await asyncio.sleep(0.001)

    async def application():
        async with queue.worker(threads=1):
            job = waits.enqueue()
            await asyncio.to_thread(begun.wait, 20)
            block(told)
            over.append(True)
            await job

    asyncio.run(application())
    [message] = told()
    assert message.startswith("code that is none of this worker's jobs has held the application's event loop")
    assert "block(told)" in message


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the context of a task can be read since Python 3.12")
def test_what_a_job_has_started_is_named_as_that(queue, told):
    @queue.task(name="starts")
    async def starts():
        async def inner():
            block(told)

        await asyncio.create_task(inner())

    with queue.worker(threads=1):
        ended(starts.enqueue())
    assert told()[0].startswith("a task of asyncio that starts[1] has started has held")


def test_a_task_is_named_once_a_minute(queue, blocks, told):
    @queue.task(name="again")
    async def again():
        block(told)
        looks = pool.holds_seen
        until(lambda: pool.holds_seen > looks + 1)  # it holds the loop on, and is not named again

    with queue.worker(threads=1) as worker:
        pool = worker._loop._executor._coroutines
        pool.holds_seen = 0
        name = pool._name_hold

        def counting(*about):
            pool.holds_seen += 1
            name(*about)

        pool._name_hold = counting
        assert ended(again.enqueue()).status == "succeeded"
    assert len(told()) == 1


def test_a_worker_whose_coroutines_wait_wakes_up_no_more_often_than_an_idle_one(queue, told, monkeypatch):
    monkeypatch.setattr("litequeue.worker.executor.held_loop.REST_AFTER", 2)
    go = threading.Event()

    @queue.task(name="waits")
    async def waits():
        while not go.is_set():
            await asyncio.sleep(0.2)

    @queue.task(name="blocks")
    async def blocks():
        block(told)

    with queue.worker(threads=1) as worker:
        pool = worker._loop._executor._coroutines
        job = waits.enqueue()
        until(lambda: pool.busy and pool.watch_in() == math.inf)
        assert ended(blocks.enqueue()).status == "succeeded"  # and yet what begins is watched
        go.set()
        assert ended(job).status == "succeeded"
        until(lambda: pool.watch_in() == math.inf)
    assert told()[0].startswith("blocks[2]")


# The rules, without a worker


class Seen:
    """A loop as another thread sees it: a test says what it does."""

    def __init__(self):
        self.resting, self.step, self.asked = False, "a", []

    def rests(self):
        return self.resting

    def task(self):
        return self.step

    def call(self, what):
        self.asked.append(what)
        return True


@pytest.fixture
def at():
    return Seen()


@pytest.fixture
def look(at, monkeypatch):
    """Look at the loop so many times, a tenth of a second apart; return the last answer."""
    watch, now = HoldWatch(at), [1000.0]
    monkeypatch.setattr("litequeue.core.clock.SystemClock.monotonic", staticmethod(lambda: now[0]))

    def looking(times=1, apart=0.1):
        for _ in range(times):
            now[0] += apart
            hold = watch.look()
        return hold

    looking.watch = watch
    return looking


def test_one_step_that_goes_on_holds_the_loop(at, look):
    assert look(3) is None
    hold = look()
    assert hold.task == "a"
    assert hold.seconds >= HELD


def test_a_loop_that_answers_is_not_held(at, look):
    for _ in range(10):
        assert look(2) is None
        at.asked.pop()()


def test_many_short_steps_of_one_iteration_are_no_hold(at, look):
    for step in range(20):
        at.step = step
        assert look(2) is None


def test_a_loop_that_waits_is_not_held_however_late_it_answers(at, look):
    look()
    at.resting = True
    assert look(20) is None


def test_time_in_which_the_whole_process_stood_still_does_not_count(at, look):
    look()
    assert look(apart=3600) is None


def test_a_loop_that_rests_is_looked_at_no_more_often_than_an_idle_worker_looks(at, look):
    at.resting = True
    look(REST_AFTER)
    assert look.watch.look_in == 1.0
    at.resting = False
    look()
    assert look.watch.look_in == 0.1
