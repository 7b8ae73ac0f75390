"""A worker's loop meets errors of the store, of threads and of maintenance: it goes on, and loses no job."""

import errno
import threading
from collections import Counter

import pytest

from crash.watching import ended, status_of, until
from litequeue import Queue, StoreError, current_job
from litequeue.testing import ManualClock
from litequeue.worker import maintenance
from litequeue.worker.maintenance import Maintenance


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), KeyError("host"), StoreError("no")])
def test_a_cycle_that_fails_does_not_end_the_worker_nor_what_runs(queue, soon, monkeypatch, error):
    monkeypatch.setattr(maintenance, "BEAT_EVERY", 0.0)
    begun, go, failures = threading.Event(), threading.Event(), []

    @queue.task
    def slow():
        begun.set()
        assert go.wait(20)

    @queue.task
    def quick(): ...

    beat = queue.engine.workers.beat

    def failing(number):
        if len(failures) < 3:
            failures.append(error)
            raise error
        return beat(number)

    with queue.worker(threads=2):
        job = slow.enqueue()
        assert begun.wait(20)
        monkeypatch.setattr(queue.engine.workers, "beat", failing)
        assert ended(quick.enqueue()).status == "succeeded"
        until(lambda: len(failures) == 3)
        go.set()
        record = ended(job)
    assert (record.status, record.attempt) == ("succeeded", 1)


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


@pytest.mark.parametrize("worker", ["finds", "rests before"])
def test_a_thread_that_cannot_be_started_costs_no_room_for_ever(queue, soon, monkeypatch, worker):
    start, refused = threading.Thread.start, []

    def refusing(thread):
        if thread.name.startswith("litequeue-0") and len(refused) < 2:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        return start(thread)

    at_once, most = set(), []

    @queue.task
    def work():
        at_once.add(current_job().id)
        most.append(len(at_once))
        at_once.remove(current_job().id)

    monkeypatch.setattr(threading.Thread, "start", refusing)
    job = work.enqueue() if worker == "finds" else None
    with queue.worker(threads=1, grace=5):
        if worker == "rests before":
            until(lambda: refused)
            job = work.enqueue()
        assert ended(job).status == "succeeded"
        assert [ended(job).status for job in work.enqueue_many([()] * 5)] == ["succeeded"] * 5
    assert (len(refused), set(most)) == (2, {1})


def test_a_step_of_maintenance_that_always_fails_stops_no_beat(queue, soon, monkeypatch):
    monkeypatch.setattr(maintenance, "BEAT_EVERY", 0.05)
    failures = Counter()

    def failing(step):
        def fails(*_arguments):
            failures[step] += 1
            raise ZeroDivisionError

        return fails

    monkeypatch.setattr(queue.engine.workers, "ownerless", failing("rescue"))
    monkeypatch.setattr(queue.engine.ticks, "fire", failing("fire"))

    @queue.task
    def work(): ...

    with queue.worker(threads=1, name="other"), queue.worker(threads=1):  # each looks whether the other has died
        until(lambda: failures.keys() == {"rescue", "fire"})
        beats = {worker.id: worker.beats for worker in queue.engine.workers.list()}
        until(lambda: all(worker.beats >= beats[worker.id] + 3 for worker in queue.engine.workers.list()))
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
