"""One claimed job, run here with its limits, without a worker or a store."""

import asyncio
import itertools
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from litequeue import GiveUp, Queue, Retry, Snooze, UnknownTask, current_job
from litequeue.core.clock import SystemClock
from litequeue.core.outcome import Cancelled, Failed, Retried, Snoozed, Succeeded
from litequeue.core.records import Claimed
from litequeue.worker.executor import host
from litequeue.worker.executor.host import NoRecords, arun_one, run_one

DAY = 86_400.0
RECORDER = NoRecords("test")


@pytest.fixture
def home(database):
    with Queue(database, timeout=30.0, result_ttl="1d", failed_ttl="30d") as queue:
        yield queue


def claimed(task, **fields):
    given = {"id": "a-7", "attempt": 2, "task": task.name, "queue": "default", "payload": b"[[],{}]", "priority": 0}
    given |= {"failures": 0, "deaths": 0, "timeout": None, "retries": None, "key": None, "created_at": 1_000.0}
    return Claimed(**given | fields)


@pytest.fixture(params=["plain", "async"])
def run(request, home):
    """Run one function as a task of the queue: as a plain one, and made a coroutine function."""

    names = map("t{}".format, itertools.count())

    def running(function, cancelled=host.never, job=None, **options):
        async def coroutine(*arguments):
            return function(*arguments)

        if request.param == "plain":
            return run_one(
                home, claimed(home.task(name=next(names), **options)(function), **job or {}), RECORDER, cancelled
            )
        task = home.task(name=next(names), **options)(coroutine)
        return asyncio.run(arun_one(home, claimed(task, **job or {}), RECORDER, cancelled))

    return running


def raising(error):
    def function():
        raise error

    return function


def test_what_a_function_returns_is_its_outcome_and_kept_as_long_as_results_are(run):
    before = time.time()
    ended = run(lambda: [current_job().id, current_job().attempt])
    assert ended.outcome == Succeeded(b'["a-7",2]')
    assert ended.keep_for == DAY
    assert ended.job.id == "a-7"
    assert before <= ended.at <= time.time()


def test_a_tasks_own_time_to_keep_results_counts_before_the_queues(run):
    assert run(lambda: 1, result_ttl="1h").keep_for == 3600


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), GiveUp("enough")])
def test_whatever_a_function_raises_is_an_outcome_and_kept_as_long_as_failures_are(run, error):
    ended = run(raising(error))
    assert isinstance(ended.outcome, Failed)
    assert ended.outcome.error.type.endswith(type(error).__name__)
    assert ended.keep_for == 30 * DAY


def test_the_retries_of_the_call_count_before_the_tasks(run):
    assert isinstance(run(raising(ValueError("no")), retries=3, job={"retries": 0}).outcome, Failed)


def test_retry_and_snooze_are_outcomes_with_a_time(run):
    assert isinstance(run(raising(Retry("later", delay=5)), retries=1).outcome, Retried)
    assert isinstance(run(raising(Snooze(5))).outcome, Snoozed)


def test_a_result_that_cannot_be_encoded_fails_the_job(run):
    outcome = run(lambda: object(), retries=3).outcome
    assert isinstance(outcome, Failed)
    assert outcome.error.type == "litequeue.EncodeError"


def spin():
    while True:
        time.sleep(0.001)


async def sleep():
    await asyncio.sleep(60)


def test_a_plain_function_is_interrupted_at_the_limit_of_its_task(home):
    outcome = run_one(home, claimed(home.task(timeout=0.1)(spin)), RECORDER).outcome
    assert outcome.error.type == "litequeue.JobTimeout"
    assert outcome.error.message == "spin ran longer than its limit of 0.1 s"


def test_a_limit_that_is_over_before_the_run_begins_is_not_lost(home):
    for task in (home.task(timeout=1e-6)(spin), home.task(timeout=1e-6)(sleep)):
        for _ in range(20):
            assert "limit of 1e-06 s" in run_one(home, claimed(task), RECORDER).outcome.error.message


def test_a_coroutine_is_cancelled_at_the_limit_of_the_call(home):
    outcome = asyncio.run(arun_one(home, claimed(home.task(sleep), timeout=0.1), RECORDER)).outcome
    assert outcome.error.message == "sleep ran longer than its limit of 0.1 s"


def test_the_queues_limit_holds_where_neither_call_nor_task_has_one(home):
    home.timeout = 0.1
    assert "limit of 0.1 s" in run_one(home, claimed(home.task(spin)), RECORDER).outcome.error.message


def test_a_run_past_its_limit_is_tried_again_like_any_error(home):
    assert isinstance(run_one(home, claimed(home.task(timeout=0.05, retries=1)(spin)), RECORDER).outcome, Retried)


def test_nothing_is_raised_in_the_thread_after_the_run(home):
    @home.task(timeout=0.02)
    def short():
        time.sleep(0.019)

    def many():
        for _ in range(50):
            run_one(home, claimed(short), RECORDER)
        sum(range(100_000))  # where a late interrupt would be raised
        survived.append(True)

    survived = []
    thread = threading.Thread(target=many)
    thread.start()
    thread.join(30)
    assert survived == [True]


def test_a_plain_function_sees_that_its_cancel_was_requested(home):
    def patient():
        while not current_job().cancelled:
            time.sleep(0.001)
        return "stopped"

    assert run_one(home, claimed(home.task(patient)), RECORDER, lambda: True).outcome == Succeeded(b'"stopped"')


def test_a_coroutine_whose_cancel_was_requested_is_cancelled_and_kept_as_a_result_is(home):
    ended = asyncio.run(arun_one(home, claimed(home.task(sleep)), RECORDER, lambda: True))
    assert ended.outcome == Cancelled()
    assert ended.keep_for == DAY


def test_a_question_that_fails_leaves_the_limit_in_force(home):
    def cancelled():
        raise OSError("the server is gone")

    home.task(name="slow", timeout=0.6)(spin)
    assert isinstance(run_one(home, claimed(home.tasks["slow"]), RECORDER, cancelled).outcome, Failed)


def test_a_coroutine_function_may_be_run_where_no_loop_runs_and_a_plain_one_from_a_loop(home):
    async def coroutine():
        return threading.current_thread() is threading.main_thread()

    def plain():
        return threading.current_thread() is threading.main_thread()

    assert run_one(home, claimed(home.task(coroutine)), RECORDER).outcome == Succeeded(b"true")
    assert asyncio.run(arun_one(home, claimed(home.task(plain)), RECORDER)).outcome == Succeeded(b"false")


def test_one_who_is_cancelled_while_awaiting_a_run_cancels_its_coroutine(home):
    seen, begun = [], asyncio.Event()

    @home.task
    async def cleaning():
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("cleaned up")

    async def main():
        running = asyncio.create_task(arun_one(home, claimed(cleaning), RECORDER))
        await asyncio.wait_for(begun.wait(), 20)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert seen == ["cleaned up"]


def test_an_unknown_task_is_the_callers_matter(home):
    with pytest.raises(UnknownTask):
        run_one(home, claimed(SimpleNamespace(name="gone")), RECORDER)


def test_completing_is_refused_where_no_transaction_is_shared(run):
    def completing():
        with current_job().completing():
            pass

    error = run(completing).outcome.error
    assert error.type == "litequeue.Unsupported"
    assert error.message.startswith("test: current_job().completing() is not supported")


def test_no_thread_watches_a_run_without_a_limit(home, monkeypatch):
    started = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread.name))
    run_one(home, claimed(home.task(timeout=None)(sys.getrefcount), payload=b"[[1],{}]"), RECORDER)
    assert started == []


def test_it_goes_by_the_clock_of_the_queue(home):
    class Later(SystemClock):
        now = staticmethod(lambda: 5.0)

    home.clock = Later()
    assert run_one(home, claimed(home.task(name="now")(lambda: None)), RECORDER).at == 5.0
