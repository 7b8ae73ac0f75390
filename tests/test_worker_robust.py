"""What a worker meets beside its jobs' own errors: it goes on, or ends in good order, and nothing is lost."""

import asyncio
import contextlib
import contextvars
import errno
import gc
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from crash.watching import ended, status_of, until
from litequeue import EncodeError, Queue, StoreBusy, StoreError, current_job
from litequeue.core.store import Demand, NewWorker
from litequeue.ipc import notifier
from litequeue.ipc import process_lock as liveness
from litequeue.ipc.process_identity import Identity, alive
from litequeue.testing import ManualClock
from litequeue.worker import maintenance, worker
from litequeue.worker import running_jobs as runs
from litequeue.worker.maintenance import Maintenance


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


@pytest.fixture
def soon(monkeypatch):
    """Looks and second tries come quickly."""
    monkeypatch.setattr(worker, "BACK_OFF", 0.02)
    monkeypatch.setattr(worker, "POLL", 0.05)


# The loop goes on


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_handler_of_logs_that_raises_costs_no_thread_and_no_place(queue, monkeypatch, kind):
    def plain(n): ...

    async def coroutine(n): ...

    class Away(logging.Handler):
        def emit(self, record):
            raise ConnectionError("the log server is away")

    log = logging.getLogger("litequeue")
    monkeypatch.setattr(log, "handlers", [Away()])
    monkeypatch.setattr(log, "propagate", False)
    log.setLevel(logging.INFO)
    try:
        jobs = queue.task({"plain": plain, "coroutine": coroutine}[kind]).enqueue_many([(n,) for n in range(5)])
        with queue.worker(threads=2, coroutines=2, grace=1):
            assert [job.result(timeout=20) for job in jobs] == [None] * 5
    finally:
        log.setLevel(logging.NOTSET)


@pytest.fixture
def stuck(monkeypatch):
    """A handler of logs that stands still at what says that a run ended, until `go` is set."""

    class Stuck(logging.Handler):
        def __init__(self):
            super().__init__()
            self.reached, self.go = threading.Event(), threading.Event()

        def emit(self, record):
            if hasattr(record, "outcome"):
                self.reached.set()
                assert self.go.wait(60)

    handler, log = Stuck(), logging.getLogger("litequeue")
    monkeypatch.setattr(log, "handlers", [handler])
    monkeypatch.setattr(log, "propagate", False)
    log.setLevel(logging.INFO)
    yield handler
    handler.go.set()
    log.setLevel(logging.NOTSET)


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_an_end_is_on_record_while_a_handler_of_logs_stands_still(queue, soon, stuck, kind, end):
    def plain():
        ran.append(None)
        if end == "failed":
            raise ZeroDivisionError

    async def coroutine():
        plain()

    ran, task = [], queue.task({"plain": plain, "coroutine": coroutine}[kind])
    with queue.worker(threads=2, coroutines=2, grace=0.2) as working:
        job = task.enqueue()
        assert stuck.reached.wait(20)
        record = ended(job)
        stuck.go.set()
    assert (record.status, record.attempt, len(ran), working.lost) == (end, 1, 1, 0)


def test_what_ends_while_a_handler_of_logs_stands_still_is_not_lost_with_its_worker(queue, stuck):
    @queue.task
    def fail():
        raise ZeroDivisionError

    with queue.worker(threads=2, grace=0.2):
        job = fail.enqueue()
        assert stuck.reached.wait(20)
    assert status_of(job) == "failed"


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), KeyError("host"), StoreError("no")])
def test_a_cycle_that_fails_does_not_end_the_worker_nor_what_runs(queue, soon, monkeypatch, error):
    begun, go, failures = threading.Event(), threading.Event(), []

    @queue.task
    def slow():
        begun.set()
        assert go.wait(20)

    @queue.task
    def quick(): ...

    with queue.worker(threads=2) as working:
        job = slow.enqueue()
        assert begun.wait(20)
        tick = working._maintenance.tick

        def failing(*args, **kwargs):
            if len(failures) < 3:
                failures.append(error)
                raise error
            return tick(*args, **kwargs)

        monkeypatch.setattr(working._maintenance, "tick", failing)
        assert ended(quick.enqueue()).status == "succeeded"
        until(lambda: len(failures) == 3)
        go.set()
        record = ended(job)
    assert (record.status, record.attempt) == ("succeeded", 1)


def test_a_worker_whose_descriptors_were_closed_ends_and_releases_what_runs(queue, soon):
    begun, go = threading.Event(), threading.Event()

    @queue.task
    def slow():
        begun.set()
        go.wait(20)

    working = queue.worker(threads=2)
    with pytest.raises(OSError, match="notifier's descriptor was closed"), working:
        job = slow.enqueue()
        assert begun.wait(20)
        # what the worker has yet to open must not take the number of what is closed: both connections that read
        assert [job.id, job.refresh().id] == [queue.jobs()[0].id] * 2
        os.close(working._listener._listener._socket.fileno())
        working._thread.join(20)
        go.set()
    assert status_of(job) == "queued"
    assert queue.engine.workers.list() == []


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", "{}", '{"pid": "x", "host": 3}', "\x00", '{"pid": null}'])
def test_an_identity_of_someone_else_is_nobody_we_know(text):
    assert alive(Identity.from_text(text)) is None


def test_a_foreign_workers_row_keeps_no_other_from_being_rescued(queue):
    queue.task(name="work")(lambda: None)
    with queue.transaction() as db:
        for token, identity in (("a", "no JSON"), ("b", "{}"), ("c", Identity.current().to_text())):
            db.execute(
                "INSERT INTO litequeue_workers (token, identity, tasks, threads, coroutines, started_at, beat_at)"
                " VALUES (?, ?, '[]', 1, 1, 1, 1)",
                (token, identity),
            )
    Maintenance(queue.engine, ManualClock(), "observer", frozenset({"work"}))._rescue_unlocked()
    assert [worker.token for worker in queue.engine.workers.list()] == ["c"]  # this process lives


def test_the_loop_sleeps_when_something_is_due_and_there_is_no_room(queue, monkeypatch):
    begun, go = threading.Event(), threading.Event()

    @queue.task
    def slow():
        begun.set()
        go.wait(20)

    rounds = Counter()
    with queue.worker(threads=1, coroutines=1) as working:
        slow.enqueue()
        assert begun.wait(20)
        waiting = slow.using(delay=0.1).enqueue()
        wait = working._listener.wait

        def counting(timeout):
            rounds["of the loop"] += 1
            return wait(timeout)

        monkeypatch.setattr(working._listener, "wait", counting)
        until(lambda: queue.clock.now() > waiting.refresh().run_at.timestamp() + 0.5)
        go.set()
        assert ended(waiting).status == "succeeded"
    assert rounds["of the loop"] < 100


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


# Rings that were never heard


@pytest.mark.parametrize("busy", [False, True])
def test_a_job_that_was_written_by_this_process_and_never_rung_is_run(queue, soon, monkeypatch, busy):
    """Whoever is interrupted between the commit and the ring never rings."""
    add, over = queue.task(name="add")(lambda: None), threading.Event()

    def write():
        while busy and not over.is_set():
            with queue.transaction():
                over.wait(0.005)

    with queue.worker():
        ended(add.enqueue())
        writing = threading.Thread(target=write)
        writing.start()
        monkeypatch.setattr(queue.engine.kernel.notifier, "ring", lambda message=b"": None)
        record = ended(add.enqueue())
        over.set()
        writing.join()
    assert record.status == "succeeded"


def test_a_limit_holds_while_the_application_has_a_transaction_open(queue, soon):
    """A worker with nothing to claim must not go and wait for it."""
    begun, over = threading.Event(), threading.Event()

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
        threading.Event().wait(1.5)  # the enqueue is no news any more
        with queue.transaction():
            assert over.wait(8)  # less than a caller waits for the transaction to end
        assert ended(job).status == "failed"


def test_a_worker_whose_claims_are_refused_beats_all_the_same(queue, soon, monkeypatch):
    monkeypatch.setattr(maintenance, "BEAT_EVERY", 0.02)
    refused = queue.task(name="refused")(lambda: None)
    with queue.transaction() as db:
        db.execute(
            "CREATE TRIGGER audit BEFORE UPDATE OF state ON litequeue_jobs WHEN NEW.state = 3"
            " BEGIN SELECT RAISE(ABORT, 'not now'); END"
        )
    job = refused.enqueue()  # before there is a worker whose run it could be from the start
    with queue.worker():
        for _ in range(3):
            seen = queue.engine.workers.list()[0].beats
            until(lambda seen=seen: queue.engine.workers.list()[0].beats > seen)
        assert status_of(job) == "queued"
        with queue.transaction() as db:
            db.execute("DROP TRIGGER audit")
        assert ended(job).status == "succeeded"


# Suspects


def test_a_suspect_is_not_forgotten_when_an_older_run_of_it_ends_here(queue, soon):
    begun, gates = [], [threading.Event() for _ in range(4)]

    @queue.task
    def slow():
        attempt = current_job().attempt
        begun.append(attempt)
        assert gates[attempt].wait(20)

    def declared_dead():
        queue.engine.runs.rescue(working.id, None, blame=True)
        queue.task(name="other")(lambda: None).enqueue()  # so that the worker hears of it

    with queue.worker(threads=4) as working:
        job = slow.enqueue()
        until(lambda: begun == [1])
        declared_dead()
        until(lambda: begun == [1, 2])
        gates[1].set()
        until(lambda: working.lost == 1)
        declared_dead()
        until(lambda: working._quarantine.one)  # it waits for the run before it to end here
        for gate in gates:
            gate.set()
        record = ended(job)
    assert (begun, record.status, record.attempt) == ([1, 2, 3], "succeeded", 3)


def test_many_suspects_are_run_one_by_one_and_the_innocent_among_them_are_claimed_once(queue, soon):
    attempts = []
    work = queue.task(name="work")(lambda: attempts.append(current_job().attempt))
    with queue.transaction() as db:
        quarantine = work.enqueue_many([()] * 20)
        db.execute("UPDATE litequeue_jobs SET deaths = 2")
        innocent = work.enqueue_many([()] * 50)
    with queue.worker(threads=4):
        assert {str(ended(job).status) for job in quarantine + innocent} == {"succeeded"}
    assert sum(job.refresh().attempt for job in quarantine) <= 3 * len(quarantine)
    assert {job.refresh().attempt for job in innocent} == {1}


def test_a_suspect_does_not_stop_the_others_beside_an_endless_run(queue, soon, monkeypatch):
    monkeypatch.setattr("litequeue.worker.quarantine.PATIENCE", 0.2)
    begun, go = threading.Event(), threading.Event()

    @queue.task
    def endless():
        begun.set()
        go.wait(20)

    @queue.task
    def work(): ...

    with queue.worker(threads=2, coroutines=1):
        endless.enqueue()
        assert begun.wait(20)
        with queue.transaction() as db:
            suspect = work.using(priority=9).enqueue()
            db.execute("UPDATE litequeue_jobs SET deaths = 2 WHERE id = ?", (int(suspect.id),))
        others = work.enqueue_many([()] * 20)
        assert {str(ended(job).status) for job in others} == {"succeeded"}
        assert status_of(suspect) == "queued"
        go.set()
        assert ended(suspect).status == "succeeded"


# What one job leaves to the next


def test_a_context_variable_set_by_one_job_is_not_there_for_the_next(queue):
    user = contextvars.ContextVar("user", default="nobody")

    @queue.task
    def look(name: str) -> str:
        before = user.get()
        user.set(name)
        return before

    with queue.worker(threads=1):
        assert [look.enqueue(name).result(20) for name in ("ann", "bob", "cyd")] == ["nobody"] * 3


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


# Loops


def test_a_loop_that_ends_puts_its_coroutines_back(queue):
    begun = threading.Event()

    @queue.task
    async def endless():
        begun.set()
        await asyncio.Event().wait()

    job = endless.enqueue()

    async def application():
        working = queue.worker()
        await working.__aenter__()
        await asyncio.to_thread(begun.wait, 20)
        return working

    working = asyncio.run(application())
    until(lambda: status_of(job) == "scheduled")
    working.stop()
    working._join()
    record = queue.engine.jobs.look_up(job.id)
    assert (record.failures, len(record.errors)) == (0, 0)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has eager tasks since 3.12")
def test_coroutines_end_also_on_a_loop_that_begins_tasks_eagerly(queue):
    @queue.task
    async def at_once(n: int) -> int:
        return n

    async def application():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with queue.worker(coroutines=2):
            jobs = await at_once.aenqueue_many([(n,) for n in range(10)])
            return [await job.aresult(timeout=20) for job in jobs]

    assert asyncio.run(application()) == list(range(10))


# The end


def test_the_block_ends_also_while_the_store_refuses_and_the_jobs_run_again(queue, soon, monkeypatch, caplog):
    monkeypatch.setattr(worker, "LAST_SETTLE", 0.1)
    begun, refusing, ran = threading.Event(), threading.Event(), Counter()

    @queue.task
    def work():
        ran["n"] += 1
        begun.set()
        assert refusing.wait(20)

    def refuse(*_args, **_kwargs):
        raise StoreError("the disk is full")

    with queue.worker(threads=1, grace=0.2):
        job = work.enqueue()
        assert begun.wait(20)
        for name in ("claim", "settle", "rescue"):
            monkeypatch.setattr(queue.engine.runs, name, refuse)
        refusing.set()
    assert "these jobs will run again" in caplog.text
    monkeypatch.undo()
    assert status_of(job) == "running"
    with queue.worker(threads=1):
        assert ended(job).status == "succeeded"
    assert ran["n"] == 2


HOLDER = """
import ctypes, os, sys, time
from litequeue import Queue
queue = Queue(sys.argv[1])

@queue.task(name="work")
def work():
    if ctypes.CDLL(None).fork() == 0:  # no hook of Python's runs
        time.sleep(60)
        os._exit(0)
    print("running", flush=True)
    time.sleep(60)

queue.worker().run()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_child_that_holds_its_dead_parents_lock_does_not_hide_the_death(queue, database):
    queue.task(name="work")(lambda: None)
    job = queue.tasks["work"].enqueue()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(database)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout.readline() == "running\n"
        process.kill()
        process.wait(20)
        keeper = Maintenance(queue.engine, ManualClock(), "observer", frozenset({"work"}))
        keeper._reap_the_dead()
        assert status_of(job) == "running"  # the lock is held
        keeper._rescue_unlocked()
        assert status_of(job) == "queued"
        assert queue.engine.jobs.look_up(job.id).deaths == 1
        assert maintenance.tokens(queue.engine.directory) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


# Claims that nobody heard of


def test_jobs_claimed_by_a_cycle_that_failed_after_its_commit_are_released_and_run(queue, soon, monkeypatch):
    ran, failed = Counter(), []

    @queue.task
    def work(n: int):
        ran[n] += 1

    with queue.worker(threads=2) as working:
        claim = queue.engine.runs.claim

        def claiming(*args, **kwargs):
            turn = claim(*args, **kwargs)
            if turn.claimed and not failed:
                failed.append(turn.claimed)
                raise StoreError("interrupted during the commit")
            return turn

        monkeypatch.setattr(queue.engine.runs, "claim", claiming)
        jobs = work.enqueue_many([(n,) for n in range(5)])
        assert {str(ended(job).status) for job in jobs} == {"succeeded"}
    assert failed
    assert ran == dict.fromkeys(range(5), 1)
    assert working.lost == 0


@pytest.mark.parametrize("worker", ["finds", "rests before"])
def test_a_thread_that_cannot_be_started_costs_no_room_for_ever(queue, soon, monkeypatch, worker):
    start, refused = threading.Thread.start, []

    def refusing(thread):
        if thread.name.startswith("litequeue-0") and len(refused) < 2:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        return start(thread)

    @queue.task
    def work(): ...

    monkeypatch.setattr(threading.Thread, "start", refusing)
    job = work.enqueue() if worker == "finds" else None
    with queue.worker(threads=1, grace=5) as working:
        if worker == "rests before":
            until(lambda: refused)
            job = work.enqueue()
        assert ended(job).status == "succeeded"
        until(lambda: working._runs._threads.free == 1)
    assert len(refused) == 2


def test_a_step_of_maintenance_that_always_fails_stops_no_beat(queue, soon, monkeypatch):
    monkeypatch.setattr(maintenance, "BEAT_EVERY", 0.05)
    monkeypatch.setattr(Maintenance, "_rescue_unlocked", lambda _self: 1 / 0)
    monkeypatch.setattr(Maintenance, "_fire", lambda _self: 1 / 0)

    @queue.task
    def work(): ...

    with queue.worker(threads=1):
        until(lambda: queue.engine.workers.list()[0].beats >= 3)
        assert ended(work.enqueue()).status == "succeeded"


def test_a_schedule_that_cannot_fire_is_tried_again_later_and_keeps_nobody_awake(queue, monkeypatch):
    clock, tries = ManualClock(), []

    def fire(_tasks):
        tries.append(clock.monotonic())
        raise KeyError("a foreign hand's row")

    monkeypatch.setattr(queue.engine.ticks, "fire", fire)
    keeper = Maintenance(queue.engine, clock, "observer", frozenset())
    keeper.next_fire = clock.now() - 1
    for _ in range(5):
        keeper.tick(1, idle=False)
    assert (len(tries), keeper.next_fire) == (1, None)
    clock.advance(maintenance.FIRE_AGAIN)
    keeper.tick(1, idle=False)
    assert len(tries) == 2


def test_a_coroutine_that_cancels_itself_fails(queue):
    @queue.task
    async def work():
        asyncio.current_task().cancel()
        await asyncio.sleep(10)

    with queue.worker():
        assert ended(work.enqueue()).status == "failed"


# Starts and ends that fail


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_a_worker_that_cannot_start_for_want_of_descriptors_leaves_nothing_behind(queue):
    queue.task(name="work")(lambda: None)
    with queue.worker():  # whatever is made once
        ended(queue.tasks["work"].enqueue())

    def let_go():  # who looks for listeners lets go of what is gone
        time.sleep(2 * notifier.LOOK_EVERY)
        queue.tasks["work"].enqueue()

    gc.collect()  # what earlier tests left is not to be collected while this one counts
    let_go()
    fillers = [os.open(os.devnull, os.O_RDONLY)]
    while fillers[-1] < max(descriptors()):  # no gap is left below the limit
        fillers.append(os.open(os.devnull, os.O_RDONLY))
    before, limits, failures = descriptors(), resource.getrlimit(resource.RLIMIT_NOFILE), []
    for spare in range(20):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + 1 + spare, limits[1]))
        try:
            with queue.worker():
                queue.tasks["work"].enqueue()
        except (OSError, StoreError) as error:
            failures.append(error)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert maintenance.tokens(queue.engine.directory) == []
    assert 0 < len(failures) < 20
    let_go()
    assert len(descriptors()) == len(before)
    for filler in fillers:
        os.close(filler)


def descriptors():
    return {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}


def test_a_worker_that_is_stopped_while_a_suspect_waits_releases_it(queue, soon):
    begun = threading.Event()

    @queue.task
    def long():
        begun.set()
        while not current_job().cancelled:
            threading.Event().wait(0.01)

    @queue.task
    def work(): ...

    with queue.worker(threads=2, grace="20ms") as working:
        long.enqueue()
        assert begun.wait(20)
        with queue.transaction() as db:
            suspect = work.enqueue()
            db.execute("UPDATE litequeue_jobs SET deaths = 2 WHERE id = ?", (int(suspect.id),))
        until(lambda: working._quarantine.one is not None)
        working._reconciliation.open = True  # what waits to run alone is not given back as a claim that nobody heard of
        until(lambda: not working._reconciliation.open)
        assert status_of(suspect) == "running"
    assert status_of(suspect) == "queued"


def test_maintenance_that_fails_while_a_worker_ends_does_not_keep_it_from_ending(queue, monkeypatch, caplog):
    begun, failed = threading.Event(), threading.Event()

    @queue.task
    def slow():
        begun.set()
        assert failed.wait(20)

    def failing(*args, **kwargs):
        failed.set()
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(worker, "DRAIN_LOOK", 0.02)
    with queue.worker() as working:
        job = slow.enqueue()
        assert begun.wait(20)
        when_it_ends(working, lambda: monkeypatch.setattr(working._maintenance, "tick", failing))
    assert ended(job).status == "succeeded"
    assert "maintenance failed while the worker was ending" in caplog.text


def when_it_ends(working, prepare):
    end = working._end

    def ending():
        prepare()
        end()

    working._end = ending


def test_a_worker_whose_notifier_breaks_while_it_ends_settles_what_runs(queue, monkeypatch):
    begun, broken = threading.Event(), threading.Event()

    @queue.task
    def slow():
        begun.set()
        assert broken.wait(20)

    def break_notifier(_timeout):
        broken.set()
        raise OSError(errno.EBADF, "Bad file descriptor")

    with queue.worker() as working:
        job = slow.enqueue()
        assert begun.wait(20)
        when_it_ends(working, lambda: monkeypatch.setattr(working._listener, "wait", break_notifier))
    assert ended(job).status == "succeeded"


def test_a_worker_whose_descriptors_are_closed_while_it_ends_writes_no_more(queue, monkeypatch):
    monkeypatch.setattr(maintenance, "BEAT_EVERY", 0.01)
    monkeypatch.setattr(worker, "DRAIN_LOOK", 0.01)
    begun, ending, astray = threading.Event(), threading.Event(), []

    def watched(name, write):
        def writes(*args, **options):
            if not working._process_lock.intact:
                astray.append(name)
            return write(*args, **options)

        return writes

    for part, name in ((queue.engine.workers, "beat"), (queue.engine.runs, "settle"), (queue.engine.runs, "rescue")):
        monkeypatch.setattr(part, name, watched(name, getattr(part, name)))

    @queue.task
    def careless():
        begun.set()
        assert ending.wait(20)
        with open(os.devnull) as other:
            os.dup2(other.fileno(), working._process_lock._descriptor)
        time.sleep(0.2)

    working = queue.worker(threads=1)
    with pytest.raises(OSError, match="closed by code that does not own it"), working:
        job = careless.enqueue()
        assert begun.wait(20)
        when_it_ends(working, ending.set)
    assert (astray, job.refresh().status) == ([], "running")
    dead_process = liveness.take(queue.engine.directory, working._token)
    assert dead_process.executing == {f"{job.id}:1"}
    dead_process.release()
    os.close(working._process_lock._descriptor)


def test_an_interrupt_while_a_worker_deregisters_reaches_the_caller_and_its_jobs_are_released(queue, monkeypatch):
    queue.task(name="work")(lambda: None)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    working = queue.worker()
    with pytest.raises(KeyboardInterrupt), working:
        monkeypatch.setattr(queue.engine.runs, "rescue", interrupted)
    monkeypatch.undo()
    assert len(maintenance.tokens(queue.engine.directory)) == 1
    Maintenance(queue.engine, ManualClock(), "observer", frozenset({"work"})).tick(0, idle=False)
    assert (queue.engine.workers.list(), maintenance.tokens(queue.engine.directory)) == ([], [])


def test_a_full_worker_that_was_declared_dead_learns_it_by_its_beat(queue, monkeypatch):
    monkeypatch.setattr(maintenance, "BEAT_EVERY", 0.05)
    begun, go = threading.Event(), threading.Event()

    @queue.task
    def slow():
        begun.set()
        assert go.wait(20)

    with queue.worker(threads=1) as working:
        slow.enqueue()
        assert begun.wait(20)
        number = working.id
        queue.engine.runs.rescue(number, None, blame=False)
        until(lambda: working.id != number)
        go.set()


def test_a_burial_that_fails_keeps_what_the_dead_had_noted(queue, monkeypatch, caplog):
    queue.task(name="work")(lambda: None)
    store, clock = queue.engine, ManualClock()
    keeper = Maintenance(store, clock, "observer", frozenset({"work"}))
    process_lock = liveness.ProcessLock(liveness.open_directory(queue.path), "dead", 1)
    new = NewWorker(
        token="dead", identity=Identity.current().to_text(), queues=None, tasks=("work",), threads=1, coroutines=0
    )
    number, job = store.workers.register(new), queue.tasks["work"].enqueue()
    store.runs.claim(number, [Demand(frozenset({"work"}), 1)], None)
    process_lock.enter(0, f"{job.id}:1")
    process_lock._forsake()  # the kernel does this where a process dies

    def busy(*args, **kwargs):
        raise StoreBusy("the file was locked")

    with monkeypatch.context() as patch, pytest.raises(StoreBusy):
        patch.setattr(store.runs, "rescue", busy)
        keeper.tick(0, idle=False)
    clock.advance(2)
    keeper.tick(0, idle=False)
    record = store.jobs.look_up(job.id)
    assert (record.status, record.deaths) == ("queued", 1)
    assert "is gone: its process died; 1 jobs released" in caplog.text


def test_a_worker_run_in_a_thread_leaves_signals_to_the_application(queue):
    queue.task(name="work")(lambda: None)
    job, before = (
        queue.tasks["work"].enqueue(),
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
    )
    thread = threading.Thread(target=lambda: queue.worker().run(until_idle=True))
    thread.start()
    thread.join(20)
    assert status_of(job) == "succeeded"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


class Careless:
    """A codec that lets some values through as they are."""

    name = "careless"

    def encode(self, value):
        return value if isinstance(value, (str, int, dict)) else json.dumps(value).encode()

    def decode(self, data):
        return json.loads(data)


@pytest.mark.parametrize("value", ["text", 5, {"a": 1}], ids=repr)
def test_a_codec_that_gives_no_bytes_fails_its_job_alone(database, value):
    with Queue(database, codec=Careless()) as queue:
        queue.task(name="same")(lambda value: value)
        bad, innocent = (queue.tasks["same"].enqueue(each) for each in (value, [1]))
        with queue.worker():
            record = ended(bad)
            assert innocent.result(timeout=20) == [1]
        assert (record.status, record.attempt) == ("failed", 1)
        assert "must return bytes, got" in record.errors[0].message


def test_a_codec_that_gives_no_bytes_for_arguments_refuses_the_call(database):
    class Nothing(Careless):
        def encode(self, value):
            return None

    with Queue(database, codec=Nothing()) as queue:
        queue.task(name="same")(lambda value: value)
        with pytest.raises(EncodeError, match="must return bytes, got NoneType"):
            queue.tasks["same"].enqueue(1)
        assert list(queue.jobs()) == []


@pytest.mark.parametrize("codec", ["json", 7, {}, object()], ids=["text", "number", "dict", "object"])
def test_what_is_no_codec_is_refused_where_it_is_given(database, codec):
    with pytest.raises(TypeError, match="codec must be an object with"):
        Queue(database, codec=codec)
    assert not database.exists()


@pytest.mark.parametrize("tags", ["'urgent'", "'[1]'", "7", "'{'"])
def test_tags_of_someone_else_hide_no_job(queue, tags):
    queue.task(name="work")(lambda: None)
    job = queue.tasks["work"].enqueue()
    with queue.transaction() as db:
        db.execute(f"UPDATE litequeue_jobs SET tags = {tags}")
    [found] = queue.jobs()
    assert (found.id, len(found.tags)) == (job.id, 1)
    assert [each.id for each in queue.jobs(tag="work")] == []
    assert [each.id for each in queue.jobs(tag=found.tags[0])] in ([job.id], [])


TWICE = """
import asyncio, sys, time
from litequeue import Queue
queue = Queue(sys.argv[1])

@queue.task(name="slow")
def slow():
    print("begins", flush=True)
    for _ in range(3000):
        time.sleep(0.01)

def plain():
    with queue.worker(threads=2):
        try:
            slow.enqueue()
            time.sleep(60)
        finally:
            print("leaves", flush=True)

async def on_the_loop():
    async with queue.worker(threads=2):
        try:
            slow.enqueue()
            await asyncio.sleep(60)
        finally:
            print("leaves", flush=True)

plain() if sys.argv[2] == "plain" else asyncio.run(on_the_loop())
"""


@pytest.mark.parametrize("block", ["plain", *(["on the loop"] if sys.version_info >= (3, 11) else [])])
def test_a_second_ctrl_c_at_the_end_of_a_block_releases_what_runs(queue, database, block):
    """Up to Python 3.10 `asyncio.run()` leaves the block to itself at the second."""
    queue.task(name="slow")(lambda: None)
    command = [sys.executable, "-c", TWICE, str(database), block]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout.readline() == "begins\n"  # the block was entered before it was enqueued
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "leaves\n"
            while process.poll() is None:  # it waits for the job now, which takes another half minute
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1.2)  # a Ctrl-C within a moment of the first is the same one
                process.send_signal(signal.SIGINT)
        finally:
            process.kill()
    [job] = queue.jobs()
    assert (job.status, job._record.deaths, queue.engine.workers.list()) == ("queued", 0, [])


FORKS = """
import os, sys
from litequeue import Queue
queue = Queue(sys.argv[1])

with queue.worker():
    child = os.fork()
    if child == 0:
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_may_leave_the_block_of_a_worker_that_it_has_not(database):
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, str(database)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (run.stdout, run.returncode) == ("7\n", 0)
