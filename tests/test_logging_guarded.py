"""Log handlers and other code of the application's: it runs while no lock is held, and its errors reach nobody."""

import asyncio
import json
import logging
import threading
import time

import pytest

from contract.jobs import to_the_end
from litequeue import current_job, every
from litequeue.serialization.json_codec import JsonCodec
from litequeue.testing import ManualClock

DEADLINE = 20.0
LONG = 0.06  # seconds: a transaction that takes as long is logged

log = logging.getLogger("litequeue")


@pytest.fixture
def add(queue):
    @queue.task(name="add")
    def add(a=0): ...

    return add


@pytest.fixture(autouse=True)
def everything_is_logged():
    before = log.level, list(log.handlers), list(log.filters), logging.getLogRecordFactory()
    log.setLevel(logging.DEBUG)
    yield
    log.setLevel(before[0])
    log.handlers[:], log.filters[:] = before[1], before[2]
    logging.setLogRecordFactory(before[3])


def hold(queue):
    """A block that is long enough to be logged."""
    with queue.transaction():
        threading.Event().wait(LONG)


class Handler(logging.Handler):
    """Does what it is told to with each record."""

    def __init__(self, act):
        super().__init__()
        self.act = act
        self.records = []

    def emit(self, record):
        self.records.append(record)
        self.act()


@pytest.fixture
def handle():
    def handling(act=lambda: None):
        handler = Handler(act)
        log.addHandler(handler)
        return handler

    return handling


@pytest.fixture
def try_to_write(connect):
    """Begin a write transaction as another process would, and end it; it fails at once where the file is locked."""

    def trying():
        connection = connect(**({} if "apsw" in str(type(connect())) else {"timeout": 0}))
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")

    return trying


def away(*_):
    raise ConnectionError("the log server is away")


def raising_handler():
    log.addHandler(Handler(away))


def raising_filter():
    log.addFilter(away)


def raising_handle():
    handler = logging.NullHandler()
    handler.handle = away
    log.addHandler(handler)


def raising_level():
    handler = logging.NullHandler()
    handler.filters.append(away)
    log.addHandler(handler)


def raising_factory():
    logging.setLogRecordFactory(lambda *args, **kwargs: away())


WAYS = [raising_handler, raising_filter, raising_handle, raising_level, raising_factory]


@pytest.mark.parametrize("way", WAYS)
def test_what_is_stored_stays_so_whatever_a_log_handler_raises(queue, add, way, capsys):
    way()
    with queue.transaction():
        job = add.enqueue(1)
        threading.Event().wait(LONG)
    assert queue.jobs() == [job]


@pytest.mark.parametrize("way", WAYS)
def test_a_job_that_completes_is_completed_whatever_a_log_handler_raises(queue, way, capsys):
    @queue.task
    def pay():
        with current_job().completing("paid"):
            threading.Event().wait(LONG)

    way()
    job = pay.enqueue()
    worker = queue.worker(threads=1)
    worker.run(until_idle=True)
    assert job.result(timeout=0) == "paid"
    assert worker.lost == 0


def test_the_error_of_a_handler_is_told_on_stderr_once_unless_logging_keeps_silent(queue, monkeypatch, capsys):
    class Odd(Exception): ...

    def raise_odd():
        raise Odd(6 * 7)

    log.addHandler(Handler(raise_odd))
    for _ in range(2):
        hold(queue)
    assert capsys.readouterr().err.count("Odd: 42") == 1
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.handlers[:] = [Handler(away)]
    hold(queue)
    assert capsys.readouterr().err == ""


def test_a_ctrl_c_in_a_handler_reaches_the_caller_and_the_job_has_ended_all_the_same(queue, handle):
    raised = []

    def interrupt():
        raise KeyboardInterrupt

    @queue.task
    def pay():
        try:
            with current_job().completing("paid"):
                threading.Event().wait(LONG)
        except KeyboardInterrupt:
            raised.append("interrupted")

    job = pay.enqueue()
    handler = handle(lambda: interrupt() if "block" in handler.records[-1].getMessage() else None)
    worker = queue.worker(threads=1)
    worker.run(until_idle=True)
    assert (raised, job.result(timeout=0), worker.lost) == (["interrupted"], "paid", 0)


# No lock is held while a handler runs


def test_a_long_block_is_logged_when_the_file_is_free(queue, handle, try_to_write):
    written = []
    handler = handle(lambda: written.append(try_to_write()))
    hold(queue)
    assert written == [None]
    assert "a transaction() or completing() block" in handler.records[0].getMessage()


def test_a_long_block_of_a_coroutine_is_logged_when_the_file_is_free(queue, handle, try_to_write):
    async def main():
        async with queue.atransaction():
            await asyncio.sleep(LONG)

    written = []
    handle(lambda: written.append(try_to_write()))
    asyncio.run(main())
    assert written == [None]


@pytest.fixture
def every_one_is_long(monkeypatch):
    """However short a transaction is, it is logged as one that took long."""
    monkeypatch.setattr("litequeue.sqlite.commit.batch.LONG_TRANSACTION", 0.0)


def test_a_long_commit_is_logged_when_the_file_is_free(queue, add, every_one_is_long, handle, try_to_write):
    written = []
    handler = handle(lambda: written.append(try_to_write()))
    job = add.enqueue(1)
    assert written == [None]
    assert "a write transaction took" in handler.records[0].getMessage()
    assert queue.jobs() == [job]


def test_a_handler_that_stands_still_holds_up_nobody_but_its_own_thread(queue, add, handle):
    stands, over = threading.Event(), threading.Event()
    handle(lambda: (stands.set(), over.wait(DEADLINE)))
    thread = threading.Thread(target=hold, args=(queue,))
    thread.start()
    try:
        assert stands.wait(DEADLINE)
        log.handlers.clear()  # for the records of this thread
        job = add.enqueue(1)
        assert queue.jobs() == [job]
        assert asyncio.run(add.aenqueue(2)).id != job.id
    finally:
        over.set()
        thread.join()


def test_a_handler_that_stands_still_on_a_commit_for_coroutines_does_not_hold_them_up(
    queue, add, every_one_is_long, handle
):
    """That commit is the writer thread's, which all coroutines share."""
    stands, over = threading.Event(), threading.Event()
    handle(lambda: (stands.set(), over.wait(DEADLINE)))

    async def main():
        first = await asyncio.wait_for(add.aenqueue(1), DEADLINE)
        assert await asyncio.to_thread(stands.wait, DEADLINE)
        return [first, await asyncio.wait_for(add.aenqueue(2), DEADLINE)]

    try:
        jobs = asyncio.run(main())
        assert not over.is_set()
        assert sorted(job.id for job in queue.jobs()) == [job.id for job in jobs]
    finally:
        over.set()


def test_what_another_queue_logs_inside_a_block_is_said_after_the_block(queue, add, open_queue, tmp_path, handle):
    other = open_queue(tmp_path / "other.db")
    handler = handle()
    with queue.transaction():
        hold(other)
        assert handler.records == []
    assert len(handler.records) == 2


def test_a_handler_may_enqueue_itself(queue, add, handle):
    handle(lambda: add.enqueue("from the handler"))
    hold(queue)
    assert len(queue.jobs()) == 1


def test_a_schedule_that_cannot_fire_is_logged_when_the_file_is_free(queue, clock, handle, try_to_write):
    queue.schedules.add("odd", queue.task(name="tick")(lambda: None).s(), every("1m"), overlap="allow")
    with queue.transaction() as db:
        db.execute("UPDATE litequeue_schedules SET trigger = ?", (json.dumps({"from": "a newer release"}),))
    clock.advance("2m")
    written = []
    handler = handle(lambda: written.append(try_to_write()))
    to_the_end(queue.engine, "fire", frozenset({"tick"}))
    assert "cannot fire here" in handler.records[0].getMessage()
    assert set(written) == {None}


def test_triggers_say_what_is_due_when_the_file_is_free(queue, clock, monkeypatch, try_to_write):
    """A cron expression may take a second to compute, in code that is not ours."""
    from litequeue.scheduling import start
    from litequeue.scheduling import triggers as schedule

    asked = []

    def spied(function):
        def spy(*args):
            asked.append(try_to_write())
            return function(*args)

        return spy

    for module, name in ((schedule, "due"), (schedule, "following"), (start, "first"), (start, "following")):
        monkeypatch.setattr(module, name, spied(getattr(module, name)))
    tick = queue.task(name="tick")(lambda: None)
    for number in range(3):
        queue.schedules.add(f"every {number}", tick.s(), every("1m"))
    queue.schedules.pause("every 0")
    queue.schedules.resume("every 0")
    clock.advance("2m")
    to_the_end(queue.engine, "fire", frozenset({"tick"}))
    clock.step(-10)
    to_the_end(queue.engine, "bring_near", frozenset({"tick"}))
    assert len(queue.jobs()) == 3
    assert len(asked) == 13
    monkeypatch.undo()
    with queue.transaction():
        queue.schedules.pause("every 0")
        queue.schedules.resume("every 0")


@pytest.mark.parametrize("method", ["enqueue", "enqueue_many", "aenqueue"])
def test_a_codec_compares_calls_of_one_key_when_the_file_is_free(open_queue, try_to_write, method):
    compared = []

    class Codec(JsonCodec):
        def encode(self, value):
            return super().encode(value) + b" " * next(self.spaces)

        def decode(self, data):
            compared.append(try_to_write())
            return super().decode(data)

    Codec.spaces = iter(range(100))
    queue = open_queue(codec=Codec())
    add = queue.task(name="add")(lambda a: None)
    first = add.using(key="k").enqueue(1)
    compared.clear()
    keyed = add.using(key="k")
    if method == "enqueue":
        again = keyed.enqueue(1)
    elif method == "enqueue_many":
        [again] = keyed.enqueue_many([(1,)])
    else:
        again = asyncio.run(keyed.aenqueue(1))
    assert again == first
    assert compared


# A worker


def test_a_worker_goes_on_whatever_a_log_handler_raises(queue, add, capsys):
    raising_handler()
    with queue.worker(threads=1) as worker:
        for number in range(3):
            add.enqueue(number).result(timeout=DEADLINE)
        queue.engine.runs.rescue(
            worker.id, None, blame=False
        )  # as another one does that takes it for dead: it logs that
        add.enqueue(4).result(timeout=DEADLINE)


def test_a_worker_whose_log_nobody_reads_beats_and_runs_on(queue, add, handle):
    """A record of its loop's is written by another thread, for which it waits a moment."""
    stands, over = threading.Event(), threading.Event()

    def stand_still():
        if threading.current_thread().name == "litequeue-log":
            stands.set()
            over.wait(DEADLINE)

    queue.clock = queue.engine.clock = ManualClock()
    with queue.worker(threads=1, name="w") as worker:
        add.enqueue(1).result(timeout=DEADLINE)
        log.setLevel(logging.WARNING)
        handle(stand_still)
        try:
            queue.engine.runs.rescue(worker.id, None, blame=False)
            ended = time.monotonic() + DEADLINE
            while not stands.is_set() and time.monotonic() < ended:
                add.enqueue(2)
                stands.wait(0.01)
            assert stands.is_set()
            add.enqueue(3).result(timeout=DEADLINE)
        finally:
            over.set()


def test_a_record_names_the_place_it_comes_from_and_the_log_goes_on_as_logging_has_it(queue, handle):
    handler = handle()
    hold(queue)
    [record] = handler.records
    assert (record.name, record.levelname, record.filename) == ("litequeue", "INFO", "batch.py")
    log.setLevel(logging.WARNING)
    hold(queue)
    assert len(handler.records) == 1


def test_where_no_thread_can_be_started_a_worker_says_so_itself(handle, monkeypatch):
    from litequeue.core import logger

    def refused(_thread):
        raise RuntimeError("can't start new thread")

    handler = handle(lambda: None)
    logger._scribes.clear()
    monkeypatch.setattr(threading.Thread, "start", refused)
    with logger.aside():
        logger.log.error("no child process could be started")
    assert [record.getMessage() for record in handler.records] == ["no child process could be started"]
