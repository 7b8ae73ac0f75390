"""Time limits: what runs too long is stopped, or left behind; nothing else is harmed."""

import asyncio
import contextlib
import itertools
import threading
import time
from collections import Counter

import pytest

from crash.watching import ended, until
from litequeue import JobFailed, JobTimeout, Queue, current_job
from litequeue.worker import running_jobs as runs


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


@pytest.fixture
def short_grace(monkeypatch):
    monkeypatch.setattr(runs, "LATE_GRACE", 0.2)


def types_of(record):
    return [error.type.rpartition(".")[2] for error in record.errors]


def test_a_coroutine_is_cancelled_at_its_limit(queue):
    @queue.task(timeout=0.1)
    async def endless():
        await asyncio.Event().wait()

    with queue.worker(), pytest.raises(JobFailed, match=r"JobTimeout: .*endless ran longer than its limit of 0\.1 s"):
        endless.enqueue().result(10)


def test_a_loop_of_python_is_interrupted_at_its_limit(queue):
    @queue.task(timeout=0.1)
    def endless():
        while True:
            pass

    with queue.worker(threads=1), pytest.raises(JobFailed, match=r"JobTimeout: .*ran longer than its limit of 0\.1 s"):
        endless.enqueue().result(10)


def test_a_function_may_clean_up_at_its_limit(queue):
    cleaned = threading.Event()

    @queue.task(timeout=0.1)
    def endless():
        try:
            while True:
                pass
        except JobTimeout:
            cleaned.set()
            raise

    with queue.worker(threads=1):
        assert types_of(ended(endless.enqueue())) == ["JobTimeout"]
    assert cleaned.is_set()


def test_a_limit_passed_counts_as_an_error_that_is_tried_again(queue):
    @queue.task(timeout=0.05, retries=2, backoff=0)
    async def endless():
        await asyncio.Event().wait()

    with queue.worker():
        assert types_of(ended(endless.enqueue())) == ["JobTimeout"] * 3


def test_one_call_may_have_another_limit_or_none(queue):
    @queue.task(timeout=0.05)
    async def nap() -> str:
        await asyncio.sleep(0.3)
        return "rested"

    with queue.worker():
        jobs = [nap.enqueue(), nap.using(timeout=None).enqueue(), nap.using(timeout="1m").enqueue()]
        assert [ended(job).status for job in jobs] == ["failed", "succeeded", "succeeded"]


def test_the_queues_limit_holds_for_tasks_that_say_nothing(database):
    with Queue(database, timeout=0.05) as queue:

        @queue.task
        async def endless():
            await asyncio.Event().wait()

        @queue.task(timeout=None)
        async def nap():
            await asyncio.sleep(0.2)

        with queue.worker():
            assert types_of(ended(endless.enqueue())) == ["JobTimeout"]
            assert ended(nap.enqueue()).status == "succeeded"


def looks_at_its_job(queue):
    while not current_job().cancelled:
        (current_job().id, current_job().attempt, current_job().key, current_job().idempotency_key)


def waits_for_another(queue):
    queue.task(name="never")(abs).using(queue="elsewhere").enqueue(1).result()


def calls_a_task(queue):
    @queue.task(name="called")
    def called():
        while True:
            pass

    called()


def enqueues_without_end(queue):
    queue.task(name="never")(abs).enqueue_many((n,) for n in itertools.count() if n < 0)


def has_a_key_that_takes_long(queue):
    def key(n):
        while True:
            pass

    queue.task(name="keyed", unique=key)(lambda n: n).enqueue(1)


@pytest.mark.parametrize(
    "work", [looks_at_its_job, waits_for_another, calls_a_task, enqueues_without_end, has_a_key_that_takes_long]
)
def test_what_a_function_does_with_us_does_not_keep_it_beyond_its_limit(queue, work):
    raised = threading.Event()

    @queue.task(timeout=0.2)
    def long():
        try:
            work(queue)
        except JobTimeout:
            raised.set()
            raise

    with queue.worker(threads=1, queues=["default"]):
        job = long.enqueue()
        assert raised.wait(30)
        record = ended(job)
        assert types_of(record) == ["JobTimeout"]
    assert f", in {long.__name__}" in record.errors[0].traceback.splitlines()[1]


def test_a_thread_blocked_outside_python_is_left_behind_and_its_place_is_filled(queue, short_grace):
    go = threading.Event()

    @queue.task(timeout=0.1)
    def blocked():
        go.wait()

    @queue.task
    def other() -> int:
        return threading.get_ident()

    with queue.worker(threads=1):
        job = blocked.enqueue()
        assert types_of(ended(job)) == ["JobTimeout"]
        assert other.enqueue().result(10) == other.enqueue().result(10)
        go.set()
        assert ended(job).status == "failed"


def test_other_threads_go_on_while_one_is_blocked(queue, short_grace):
    go = threading.Event()

    @queue.task(timeout=0.3)
    def blocked():
        go.wait()

    @queue.task
    def other(): ...

    with queue.worker(threads=2):
        stuck = blocked.enqueue()
        until(lambda: stuck.refresh().status == "running")
        for _ in range(5):
            assert ended(other.enqueue()).status == "succeeded"
        assert ended(stuck).status == "failed"
        go.set()


def test_jobs_in_line_behind_a_blocked_thread_run_on_its_successor(queue, short_grace):
    go = threading.Event()

    @queue.task
    def maybe_blocked(n: int):
        if n == 20:
            go.wait()

    before = maybe_blocked.enqueue_many([(n,) for n in range(20)])
    blocked = maybe_blocked.using(timeout=0.3).enqueue(20)
    behind = maybe_blocked.enqueue_many([(n,) for n in range(21, 60)])
    with queue.worker(threads=1):
        found = Counter(ended(job).status for job in [*before, blocked, *behind])
        go.set()
    assert found == {"succeeded": 59, "failed": 1}


def test_a_limit_that_the_function_swallows_counts_only_if_it_goes_on_for_long(queue, monkeypatch):
    go = threading.Event()

    @queue.task(timeout=0.05)
    def swallows(waits: bool) -> str:
        try:
            while True:
                pass
        except JobTimeout:
            while waits and not go.is_set():
                pass
            return "done all the same"

    with queue.worker(threads=2):
        assert ended(swallows.enqueue(False)).status == "succeeded"
        monkeypatch.setattr(runs, "LATE_GRACE", 0.2)
        assert types_of(ended(swallows.enqueue(True))) == ["JobTimeout"]
        go.set()


def test_a_coroutine_that_swallows_its_limit_is_left_behind_and_its_place_is_filled(queue, short_grace):
    go = threading.Event()

    @queue.task(timeout=0.05)
    async def swallows():
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    @queue.task
    async def other() -> str:
        return "fine"

    with queue.worker(coroutines=1):
        assert types_of(ended(swallows.enqueue())) == ["JobTimeout"]
        assert other.enqueue().result(10) == "fine"
        assert types_of(ended(swallows.enqueue())) == ["JobTimeout"]
        assert other.enqueue().result(10) == "fine"
        go.set()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_jobs_that_end_at_the_very_moment_of_their_limit_end_exactly_once(queue, kind):
    begins: list[int] = []

    def plain(n: int) -> int:
        begins.append(n)
        end = time.monotonic() + 0.0195 + n % 10 / 10_000
        while time.monotonic() < end:
            pass
        return n

    async def coroutine(n: int) -> int:
        begins.append(n)
        await asyncio.sleep(0.0195 + n % 10 / 10_000)
        return n

    task = queue.task(name="race", timeout=0.02)({"plain": plain, "coroutine": coroutine}[kind])

    @queue.task
    def fine(): ...

    with queue.worker(threads=2, coroutines=10) as worker:
        jobs = task.enqueue_many([(n,) for n in range(300)])
        records = [ended(job, 60) for job in jobs]
        assert {record.status for record in records} <= {"succeeded", "failed"}
        assert {types_of(record)[0] for record in records if record.status == "failed"} <= {"JobTimeout"}
        assert all(ended(job).status == "succeeded" for job in fine.enqueue_many([()] * 10))
        assert worker.lost == 0
    assert Counter(begins).most_common(1)[0][1] == 1  # an attempt may be put back unbegun on a slow machine


def test_a_limit_that_strikes_amid_writes_to_the_queue_leaves_the_worker_able_to_write(queue):
    @queue.task(retries=0)
    def child(): ...

    @queue.task(timeout=0.02)
    def writes():
        while True:
            child.using(delay="1h").enqueue()

    with queue.worker(threads=4):
        for job in writes.enqueue_many([()] * 200):
            assert types_of(ended(job, 30)) == ["JobTimeout"]
        assert ended(child.enqueue()).status == "succeeded"


def test_a_limit_that_strikes_amid_transactions_leaves_the_worker_able_to_write(queue):
    @queue.task
    def child(): ...

    @queue.task(timeout=0.02)
    def writes():
        while True:
            with queue.transaction():
                child.using(delay="1h").enqueue()

    with queue.worker(threads=4):
        for job in writes.enqueue_many([()] * 200):
            assert types_of(ended(job, 30)) == ["JobTimeout"]
        assert ended(child.enqueue()).status == "succeeded"


def test_a_function_that_waits_for_another_job_is_stopped_where_its_thread_listens_for_all(queue):
    go = threading.Event()

    @queue.task
    def slow():
        go.wait(20)

    @queue.task(timeout=0.2)
    def waits():
        slow.enqueue().result(20)

    with queue.worker(threads=2) as worker:
        job = waits.enqueue()
        until(lambda: job.refresh().status.finished)
        assert worker.left_running == 0
        go.set()
    assert job.status == "failed"
    assert job.errors[0].type.endswith("JobTimeout")


def test_a_thread_left_behind_is_replaced_for_those_who_wait(queue, soon, monkeypatch):
    monkeypatch.setattr(runs, "LATE_GRACE", 0.1)
    go = threading.Event()

    @queue.task(timeout=0.1)
    def deaf():
        with contextlib.suppress(BaseException):
            go.wait(20)
        go.wait(20)

    @queue.task
    def work(): ...

    with queue.worker(threads=1):
        left = deaf.enqueue()
        waiting = work.enqueue_many([()] * 3)
        assert {str(ended(job).status) for job in waiting} == {"succeeded"}
        assert ended(left).status == "failed"
        go.set()


def noted(monkeypatch, part, name, calls):
    method = getattr(part, name)
    monkeypatch.setattr(part, name, lambda *arguments: calls.append(name) or method(*arguments))


@pytest.mark.slow
def test_a_limit_holds_while_the_application_has_a_transaction_open(queue, soon, monkeypatch):
    """A worker with nothing to claim must not go and wait for it."""
    begun, over, calls = threading.Event(), threading.Event(), []
    for part, name in ((queue.engine.runs, "claim"), (queue.engine.maintenance, "version")):
        noted(monkeypatch, part, name, calls)

    @queue.task(timeout=3)
    def endless():
        begun.set()
        try:
            while True:
                threading.Event().wait(0.01)
        finally:
            over.set()

    with queue.worker(threads=2):
        job = endless.enqueue()
        assert begun.wait(20)
        del calls[:]
        until(lambda: calls[-3:] == ["version"] * 3)  # the enqueue is no news any more
        with queue.transaction():
            assert over.wait(8)  # less than a caller waits for the transaction to end
        assert ended(job).status == "failed"
