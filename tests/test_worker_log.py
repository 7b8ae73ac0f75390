"""What a worker logs about a job, in which fields, and that the application's own records in it name it too."""

import asyncio
import logging
import logging.config
import threading

import pytest

from litequeue import GiveUp, JobFilter, Queue, Retry, Snooze, current_job
from litequeue.core import logger
from litequeue.testing import ManualClock
from litequeue.worker.maintenance import Maintenance

log = logging.getLogger("litequeue")


@pytest.fixture
def clock(monkeypatch):
    clock = ManualClock()
    monkeypatch.setattr("litequeue.queue.SystemClock", lambda: clock)
    return clock


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)

    def of(self, outcome):
        [record] = [record for record in self.records if getattr(record, "outcome", None) == outcome]
        return record

    @property
    def lines(self):
        return [record.getMessage() for record in self.records]


@pytest.fixture
def kept(monkeypatch):
    handler = Kept()
    monkeypatch.setattr(log, "handlers", [handler])
    before = log.level
    log.setLevel(logging.INFO)
    yield handler
    log.setLevel(before)


def run(queue, *jobs):
    queue.worker(threads=1).run(until_idle=True)
    return [job.refresh() for job in jobs]


def fields(record, *names):
    return {name: getattr(record, name) for name in names}


WHOSE = "job_id", "task", "queue", "try"


def odd():
    raise ValueError("odd")


async def aodd():
    odd()


@pytest.mark.parametrize("function", [odd, aodd])
def test_a_failure_has_its_error_as_exc_info_and_names_its_job(queue, kept, function):
    task = queue.task(name="odd", queue="slow")(function)
    [job] = run(queue, task.enqueue())
    record = kept.of("failed")
    assert fields(record, *WHOSE) == {"job_id": job.id, "task": "odd", "queue": "slow", "try": 1}
    kind, error, trace = record.exc_info
    assert (kind, str(error), record.error_type, record.levelname) == (ValueError, "odd", "ValueError", "ERROR")
    assert trace.tb_frame.f_code.co_name == function.__name__
    assert record.getMessage().startswith("odd[1] failed after ")
    assert record.getMessage().endswith("ms: ValueError: odd")
    assert logging.Formatter().format(record).endswith("\n" + job.errors[-1].traceback.rstrip())


def test_what_a_failed_run_held_is_freed_at_once(queue, kept):
    """Else it would live until the collector looks: a lock, a connection, a large list."""
    import gc
    import weakref

    class Large: ...

    freed = []

    @queue.task
    def fail():
        large = Large()
        freed.append(weakref.ref(large))
        raise ValueError(large)

    log.setLevel(logging.CRITICAL)
    gc.disable()
    try:
        run(queue, fail.enqueue())
        assert freed[0]() is None
    finally:
        gc.enable()


def test_tries_are_told_with_how_many_there_are_and_when_the_next_is(clock, queue, kept):
    @queue.task(name="odd", retries=2, backoff=[0, 300])
    def odd():
        raise ValueError("odd")

    [job] = run(queue, odd.enqueue())
    first, second = [record for record in kept.records if getattr(record, "outcome", None) == "retried"]
    assert ", try 1 of 3, again in 0s: ValueError: odd" in first.getMessage()
    assert ", try 2 of 3, again in 5m: ValueError: odd" in second.getMessage()
    assert fields(second, "try", "retry_in", "levelname") == {"try": 2, "retry_in": 300, "levelname": "WARNING"}
    assert second.exc_info[0] is ValueError
    assert (job.tries, job.status) == (3, "scheduled")


def test_a_run_that_counts_as_no_try_is_none(queue, kept):
    said = []

    @queue.task(name="late", retries=1, backoff=0)
    def late():
        said.append(current_job().tries)
        if len(said) == 1:
            raise Snooze(0)
        raise ValueError("late")

    [job] = run(queue, late.enqueue())
    assert said == [1, 1, 2]
    assert (job.tries, job.attempt > 2, job.status) == (2, True, "failed")
    assert ", try 2 of 2: ValueError" in kept.of("failed").getMessage()
    assert ", again in 0s, after " in kept.of("snoozed").getMessage()


def test_a_job_that_never_ran_is_before_its_first_try(queue):
    job = queue.task(odd).using(delay="1h").enqueue()
    assert (job.tries, job.attempt, job.refresh().tries) == (1, 0, 1)


# raise Retry(...) from error


class GatewayError(Exception): ...


@pytest.fixture
def charge(queue):
    def pay():
        raise GatewayError("502")

    @queue.task(retries=1)
    def charge(cause):
        try:
            pay()
        except GatewayError as error:
            raise Retry("the bank is closed", delay=0) from error if cause else None

    return charge


def test_the_cause_of_a_retry_is_the_failure_once_no_try_is_left(queue, charge, kept):
    [job] = run(queue, charge.enqueue(True))
    first, last = job.errors
    name = f"{GatewayError.__module__}.GatewayError"
    assert [(error.type, error.message) for error in (first, last)] == [(name, "502")] * 2
    assert first.traceback.rstrip().endswith("litequeue.Retry: the bank is closed")
    assert last.traceback.rstrip().endswith("GatewayError: 502")
    assert "Retry" not in last.traceback.splitlines()[-1]
    assert kept.of("retried").exc_info[0] is kept.of("failed").exc_info[0] is GatewayError


def test_a_retry_without_a_cause_is_the_failure_itself_by_its_public_name(queue, charge):
    [job] = run(queue, charge.enqueue(False))
    assert [(error.type, error.message) for error in job.errors] == [("litequeue.Retry", "the bank is closed")] * 2


def test_what_gives_up_because_of_an_error_fails_as_such(queue):
    @queue.task(retries=3)
    def give_up():
        raise GiveUp("they said no") from ValueError("no")

    [job] = run(queue, give_up.enqueue())
    assert [error.type for error in job.errors] == ["litequeue.GiveUp"]


# JobFilter


@pytest.fixture
def app(monkeypatch):
    logger, handler = logging.getLogger("an application's"), Kept()
    monkeypatch.setattr(logger, "handlers", [handler])
    logger.setLevel(logging.INFO)
    handler.addFilter(JobFilter())
    logger.handler = handler
    return logger


def test_the_applications_records_in_a_job_name_it(queue, app):
    def plain():
        app.info("plain")

    async def coroutine():
        app.info("coroutine")
        await asyncio.to_thread(app.info, "in a thread")

    first, second = queue.task(name="p")(plain).enqueue(), queue.task(name="c")(coroutine).enqueue()
    run(queue)
    found = {record.getMessage(): fields(record, *WHOSE) for record in app.handler.records}
    whose = {"queue": "default", "try": 1}
    assert found == {
        "plain": {"job_id": first.id, "task": "p"} | whose,
        "coroutine": {"job_id": second.id, "task": "c"} | whose,
        "in a thread": {"job_id": second.id, "task": "c"} | whose,
    }


def test_fields_that_a_record_has_stay_and_outside_a_job_they_have_a_value_too(queue, app):
    @queue.task
    def pack():
        app.info("in a job", extra={"task": "mine", "queue": 7})

    job = pack.enqueue()
    run(queue)
    app.info("outside")
    app.handler.filters[:] = [JobFilter("-")]
    app.info("[%(job_id)s]", {"job_id": 1})
    inside, outside, dashed = app.handler.records
    assert fields(inside, *WHOSE) == {"job_id": job.id, "task": "mine", "queue": 7, "try": 1}
    assert fields(outside, *WHOSE) == dict.fromkeys(WHOSE)
    assert fields(dashed, *WHOSE) == dict.fromkeys(WHOSE, "-")


# A logger that was disabled


@pytest.fixture
def disabled(monkeypatch):
    monkeypatch.setattr(logger, "_kept_enabled", False)
    monkeypatch.setattr(logger, "_told_of_it", False)
    monkeypatch.setattr(log, "disabled", True)


def test_a_worker_enables_the_logger_again_and_says_so_once(queue, kept, disabled):
    [job] = run(queue, queue.task(odd).enqueue())
    log.disabled = True
    run(queue, queue.task(odd, name="again").enqueue())
    assert job.status == "failed"
    assert [each.outcome for each in kept.records if hasattr(each, "outcome")] == ["failed"] * 2
    assert ["had disabled the logger" in line for line in kept.lines].count(True) == 1


def test_what_a_job_disables_is_enabled_for_the_next_failure(queue, kept):
    @queue.task
    def configure():
        log.disabled = True  # as dictConfig does, in a module that is imported late
        raise ValueError("late")

    run(queue, configure.enqueue())
    assert kept.of("failed").exc_info[0] is ValueError


def test_a_program_without_a_worker_may_leave_the_logger_disabled(queue, kept, disabled):
    with queue.transaction():
        threading.Event().wait(0.06)
    assert kept.records == []


# Jobs whose task nobody has


def enqueue_elsewhere(queue, jobs=1):
    """Enqueue as a program does whose tasks this one has not imported."""
    with Queue(queue.path, durability="normal") as other:
        other.task(name="elsewhere")(lambda: None).enqueue_many([()] * jobs)


def test_a_worker_names_tasks_that_wait_and_that_it_does_not_have(queue, kept):
    enqueue_elsewhere(queue, jobs=3)
    queue.worker(threads=1).run(until_idle=True)
    [line] = [line for line in kept.lines if "waiting" in line]
    assert line.startswith("3 jobs are waiting for the task `elsewhere`, which no running worker has (queue default)")
    assert "the module that declares it was not imported here" in line


def test_a_worker_names_such_a_task_once_and_again_when_there_are_ten_times_as_many(clock, database, kept):
    with Queue(database, durability="normal") as queue:
        maintenance = Maintenance(queue.engine, clock, "observer", frozenset({"work"}))
        told = []

        def look():
            clock.advance("10s")
            maintenance.jobs_changed()
            maintenance.tick(0, idle=True)
            told.append(len([line for line in kept.lines if "waiting" in line]))

        look()
        for more in (1, 1, 7, 1, 0):
            enqueue_elsewhere(queue, jobs=more) if more else None
            look()
        assert told == [0, 1, 1, 1, 2, 2]
        maintenance.serve(frozenset({"work", "elsewhere"}))
        look()
        maintenance.serve(frozenset({"work"}))  # as if another worker were gone that had it
        look()
        assert told[-2:] == [2, 3]


def test_a_look_without_news_asks_the_file_nothing(clock, database, kept, monkeypatch):
    with Queue(database, durability="normal") as queue:
        maintenance = Maintenance(queue.engine, clock, "observer", frozenset({"work"}))
        asked = []
        monkeypatch.setattr(queue.engine.runs, "ready_without", lambda *_: asked.append(clock.monotonic()) or [])
        for _ in range(100):
            clock.advance("1s")
            maintenance.tick(0, idle=True)
        assert len(asked) == 1


def test_a_task_is_not_named_that_another_worker_has_or_whose_queue_is_not_served(queue, kept):
    enqueue_elsewhere(queue)
    with Queue(queue.path, durability="normal") as other:
        other.task(name="distant", queue="distant")(lambda: None).enqueue()
    with Queue(queue.path, durability="normal") as other:
        other.task(name="elsewhere")(lambda: None)
        with other.worker(threads=1, queues=["busy", "default"]):
            queue.worker(threads=1, queues=["default"]).run(until_idle=True)
    assert [line for line in kept.lines if "waiting" in line] == []
