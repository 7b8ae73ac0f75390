"""What a worker meets beside its jobs' own errors: it goes on, or ends in good order, and nothing is lost."""

import asyncio
import contextlib
import contextvars
import errno
import os
import signal
import subprocess
import sys
import threading
from collections import Counter

import pytest

from crash.watching import ended, status_of, until
from litequeue import Queue, StoreError, runs, upkeep, worker
from litequeue.identity import Identity, alive
from litequeue.testing import ManualClock
from litequeue.upkeep import Upkeep


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


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), KeyError("host"), StoreError("no")])
def test_a_round_that_fails_does_not_end_the_worker_nor_what_runs(queue, soon, monkeypatch, error):
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
        tick = working._upkeep.tick

        def failing(*args, **kwargs):
            if len(failures) < 3:
                failures.append(error)
                raise error
            return tick(*args, **kwargs)

        monkeypatch.setattr(working._upkeep, "tick", failing)
        assert ended(quick.enqueue()).status == "succeeded"
        until(lambda: len(failures) == 3)
        go.set()
        record = ended(job)
    assert (record.status, record.attempt) == ("succeeded", 1)


def test_a_worker_whose_descriptors_were_closed_ends_and_gives_back_what_runs(queue, soon):
    begun, go = threading.Event(), threading.Event()

    @queue.task
    def slow():
        begun.set()
        go.wait(20)

    @queue.task
    def closer():
        os.close(working._ear._socket.fileno())

    working = queue.worker(threads=2)
    with pytest.raises(OSError, match="doorbell's descriptor was closed"), working:
        job = slow.enqueue()
        assert begun.wait(20)
        last = closer.enqueue()
        working._thread.join(20)
        go.set()
    assert (status_of(job), status_of(last)) == ("queued", "succeeded")
    assert queue.store.workers() == []


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", "{}", '{"pid": "x", "host": 3}', "\x00", '{"pid": null}'])
def test_an_identity_of_a_foreign_hand_is_nobody_we_know(text):
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
    Upkeep(queue.store, ManualClock(), "observer", frozenset({"work"}))._rescue_unlocked()
    assert [worker.token for worker in queue.store.workers()] == ["c"]  # this process lives


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
        wait = working._ear.wait

        def counting(timeout):
            rounds["of the loop"] += 1
            return wait(timeout)

        monkeypatch.setattr(working._ear, "wait", counting)
        until(lambda: queue.clock.now() > waiting.refresh().run_at.timestamp() + 0.5)
        go.set()
        assert ended(waiting).status == "succeeded"
    assert rounds["of the loop"] < 100


def test_until_idle_leaves_nothing_of_what_is_due_however_much_it_is(queue):
    ran = Counter()

    @queue.task
    def count():
        ran["n"] += 1

    queue.clock = queue.store.clock = ManualClock()
    count.using(delay=1).enqueue_many([()] * 1200)
    queue.clock.advance(2)
    queue.worker(threads=2).run(until_idle=True)
    assert ran["n"] == 1200


def test_until_idle_comes_to_an_end_behind_what_has_expired(queue):
    ran = Counter()

    @queue.task
    def count(name):
        ran[name] += 1

    queue.clock = queue.store.clock = ManualClock()
    count.using(expires=1).enqueue_many([("old",)] * 1200)
    queue.clock.advance(2)
    count.enqueue_many([("new",)] * 10)
    queue.worker(threads=2).run(until_idle=True)
    assert ran == {"new": 10}


# Suspects


def test_a_suspect_does_not_stop_the_others_beside_an_endless_run(queue, soon, monkeypatch):
    monkeypatch.setattr(worker, "SUSPECT_WAIT", 0.2)
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
    record = queue.store.look_up(job.id)
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
            monkeypatch.setattr(queue.store, name, refuse)
        refusing.set()
    assert "these ended, and will run again" in caplog.text
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
        keeper = Upkeep(queue.store, ManualClock(), "observer", frozenset({"work"}))
        keeper._bury_the_dead()
        assert status_of(job) == "running"  # the lock is held
        keeper._rescue_unlocked()
        assert status_of(job) == "queued"
        assert queue.store.look_up(job.id).deaths == 1
        assert upkeep.tokens(queue.store.directory) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


# Claims that nobody heard of


def test_jobs_claimed_by_a_turn_that_failed_after_its_commit_are_put_back_and_run(queue, soon, monkeypatch):
    ran, failed = Counter(), []

    @queue.task
    def work(n: int):
        ran[n] += 1

    with queue.worker(threads=2) as working:
        claim = queue.store.claim

        def claiming(*args, **kwargs):
            turn = claim(*args, **kwargs)
            if turn.claimed and not failed:
                failed.append(turn.claimed)
                raise StoreError("interrupted during the commit")
            return turn

        monkeypatch.setattr(queue.store, "claim", claiming)
        jobs = work.enqueue_many([(n,) for n in range(5)])
        assert {str(ended(job).status) for job in jobs} == {"succeeded"}
    assert failed
    assert ran == dict.fromkeys(range(5), 1)
    assert working.lost == 0


def test_a_thread_that_cannot_be_started_costs_no_room_for_ever(queue, soon, monkeypatch):
    start, refused = threading.Thread.start, []

    def refusing(thread):
        if thread.name.startswith("litequeue-0") and len(refused) < 2:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        return start(thread)

    @queue.task
    def work(): ...

    with queue.worker(threads=1, grace=5) as working:
        monkeypatch.setattr(threading.Thread, "start", refusing)
        job = work.enqueue()
        assert ended(job).status == "succeeded"
        until(lambda: working._runs._threads.free == 1)
    assert len(refused) == 2


def test_a_step_of_upkeep_that_always_fails_stops_no_beat(queue, soon, monkeypatch):
    monkeypatch.setattr(upkeep, "BEAT_EVERY", 0.05)
    monkeypatch.setattr(Upkeep, "_rescue_unlocked", lambda _self: 1 / 0)
    monkeypatch.setattr(Upkeep, "_fire", lambda _self: 1 / 0)

    @queue.task
    def work(): ...

    with queue.worker(threads=1):
        until(lambda: queue.store.workers()[0].beats >= 3)
        assert ended(work.enqueue()).status == "succeeded"


def test_a_schedule_that_cannot_fire_is_tried_again_later_and_keeps_nobody_awake(queue, monkeypatch):
    clock, tries = ManualClock(), []

    def fire(_tasks):
        tries.append(clock.monotonic())
        raise KeyError("a foreign hand's row")

    monkeypatch.setattr(queue.store, "fire", fire)
    keeper = Upkeep(queue.store, clock, "observer", frozenset())
    keeper.next_fire = clock.now() - 1
    for _ in range(5):
        keeper.tick(1, idle=False)
    assert (len(tries), keeper.next_fire) == (1, None)
    clock.advance(upkeep.FIRE_AGAIN)
    keeper.tick(1, idle=False)
    assert len(tries) == 2


def test_a_coroutine_that_cancels_itself_fails(queue):
    @queue.task
    async def work():
        asyncio.current_task().cancel()
        await asyncio.sleep(10)

    with queue.worker():
        assert ended(work.enqueue()).status == "failed"
