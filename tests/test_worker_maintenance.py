"""What a worker does beside its jobs: it judges the frozen, prunes what is old, and gives pages back."""

import json
import math
import os
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from crash.watching import ended, until
from litequeue import Queue, cron, current_job, every
from litequeue.core.store import Demand, NewWorker
from litequeue.ipc.process_identity import Identity
from litequeue.ipc.process_lock import ProcessLock, open_directory
from litequeue.sqlite.file import free_pages
from litequeue.sqlite.file.free_pages import FEWEST, KEPT
from litequeue.testing import ManualClock
from litequeue.worker import maintenance, shrinking
from litequeue.worker.maintenance import BEAT_EVERY, FROZEN_AFTER, Maintenance

OTHER = replace(Identity.current(), host="elsewhere", boot="another machine", pid=1)


def new_worker(token, identity=OTHER):
    return NewWorker(token=token, identity=identity.to_text(), queues=None, tasks=("work",), threads=1, coroutines=1)


@pytest.fixture
def clock(monkeypatch):
    clock = ManualClock()
    monkeypatch.setattr("litequeue.queue.SystemClock", lambda: clock)
    return clock


@pytest.fixture
def queue(clock, database):
    with Queue(database, durability="normal") as queue:
        queue.task(name="work")(lambda: None)
        yield queue


@pytest.fixture
def keeper(queue, clock):
    return Maintenance(queue.engine, clock, "observer", frozenset({"work"}))


@pytest.fixture
def stranger(queue):
    """Another worker, with a job claimed and its lock held, of which only the heartbeat tells."""
    process_locks = []

    def register(identity=OTHER):
        token = f"stranger{len(process_locks)}"
        process_locks.append(ProcessLock(open_directory(queue.path), token, 4))
        return queue.engine.workers.register(new_worker(token, identity))

    register.process_locks = process_locks
    yield register
    for process_lock in process_locks:
        process_lock.close()


def claim(queue, worker):
    job = queue.tasks["work"].enqueue()
    [claimed] = queue.engine.runs.claim(worker, [Demand(frozenset({"work"}), 1)], None).claimed
    assert claimed.id == job.id
    return job


def look(keeper, clock, seconds):
    """Let time pass as a worker sees it, a second at a time."""
    for _ in range(int(seconds)):
        clock.advance(1)
        keeper.tick(0, idle=False)


def test_a_worker_that_stands_still_for_long_enough_is_dead(queue, clock, keeper, stranger):
    job = claim(queue, stranger())
    look(keeper, clock, FROZEN_AFTER + BEAT_EVERY)
    assert (job.refresh().status, queue.engine.workers.list()) == ("queued", [])


@pytest.mark.parametrize("stopped", [False, True])
def test_a_death_is_counted_unless_the_worker_was_told_to_stop(queue, clock, keeper, stranger, stopped):
    job = claim(queue, stranger(replace(Identity.current(), namespace="of another container")))
    if stopped:
        stranger.process_locks[0].note_stop()
    look(keeper, clock, FROZEN_AFTER + BEAT_EVERY)
    record = queue.engine.jobs.look_up(job.id)
    assert (record.status, record.deaths) == ("queued", 0 if stopped else 1)


def test_a_worker_that_stands_still_for_less_is_not(queue, clock, keeper, stranger):
    job = claim(queue, stranger())
    look(keeper, clock, FROZEN_AFTER - BEAT_EVERY)
    assert job.refresh().status == "running"


def test_a_worker_that_beats_lives_however_long_its_job_takes(queue, clock, keeper, stranger):
    worker = stranger()
    job = claim(queue, worker)
    for _ in range(20):
        look(keeper, clock, 50)
        queue.engine.workers.beat(worker)
    assert job.refresh().status == "running"


def test_time_in_which_the_observer_itself_stood_still_proves_nothing(queue, clock, keeper, stranger):
    job = claim(queue, stranger())
    look(keeper, clock, 1)
    clock.advance("2h")
    look(keeper, clock, 2 * BEAT_EVERY)
    assert job.refresh().status == "running"


def test_a_jump_of_the_wall_clock_kills_nobody(queue, clock, keeper, stranger):
    job = claim(queue, stranger())
    for wall in (86_400, -200_000):
        clock.step(wall)
        look(keeper, clock, 20)
    assert job.refresh().status == "running"


def stat_of(process):
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()


def ticks_of(process):
    return sum(map(int, stat_of(process)[11:13]))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_a_busy_process_is_not_frozen_though_it_does_not_beat(queue, clock, keeper, stranger):
    burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        job = claim(queue, stranger(replace(Identity.current(), pid=burner.pid, started=stat_of(burner)[19])))
        for _ in range(6):
            used = ticks_of(burner)
            until(lambda used=used: ticks_of(burner) - used > 1.2 * os.sysconf("SC_CLK_TCK"))
            look(keeper, clock, BEAT_EVERY)
        assert job.refresh().status == "running"
    finally:
        burner.kill()
        burner.wait()


def test_a_machine_that_went_down_is_no_fault_of_its_jobs(queue, clock, keeper, stranger):
    job = claim(queue, stranger())
    look(keeper, clock, FROZEN_AFTER + BEAT_EVERY)
    assert queue.engine.jobs.look_up(job.id).deaths == 0


def test_a_worker_on_record_without_a_lock_is_dead(queue, clock, keeper):
    new = NewWorker(token="x", identity=OTHER.to_text(), queues=None, tasks=("work",), threads=1, coroutines=1)
    job = claim(queue, queue.engine.workers.register(new))
    look(keeper, clock, BEAT_EVERY)
    assert (job.refresh().status, queue.engine.workers.list()) == ("queued", [])


def test_a_job_of_a_worker_that_nobody_knows_is_released(queue, clock, keeper, stranger):
    worker = stranger()
    job = claim(queue, worker)
    with queue.transaction() as db:
        db.execute("DELETE FROM litequeue_workers")
    look(keeper, clock, BEAT_EVERY)
    assert job.refresh().status == "queued"


def test_a_worker_declared_dead_registers_again_and_drops_its_late_answer(database):
    begun, go = threading.Event(), threading.Event()
    with Queue(database, durability="normal") as queue:

        @queue.task
        def work() -> str:
            if not begun.is_set():
                begun.set()
                go.wait(10)
                return "first"
            return "second"

        with queue.worker(threads=2) as worker:
            job = work.enqueue()
            assert begun.wait(10)
            old = worker.id
            queue.engine.runs.rescue(old, None, blame=False)
            assert job.result(10) == "second"
            go.set()
            until(lambda: worker.lost == 1)
            assert worker.id != old
            assert [known.id for known in queue.engine.workers.list()] == [worker.id]


def test_two_runs_of_one_job_in_one_worker_are_each_stopped_when_it_ends(database):
    """It was declared dead while it stood still, and took the job anew beside its own late run."""
    begun, go = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]
    with Queue(database, durability="normal") as queue:

        @queue.task
        def work():
            run = current_job().attempt - 1
            begun[run].set()
            go[run].wait(20)

        with queue.worker(threads=2, grace=0) as worker:
            job = work.enqueue()
            assert begun[0].wait(10)
            queue.engine.runs.rescue(worker.id, None, blame=False)
            assert begun[1].wait(10)
            go[0].set()
            until(lambda: worker.lost == 1)
            assert repr(worker) == "<Worker running=1/102 claimed=2 lost=1>"
        assert (job.refresh().status, worker.left_running) == ("queued", 1)
        go[1].set()


def test_a_worker_declared_dead_while_a_suspect_runs_alone_learns_of_it_by_its_beat(database, monkeypatch):
    monkeypatch.setattr(maintenance, "BEAT_EVERY", 0.02)
    monkeypatch.setattr("litequeue.worker.executor.claim_size.PATIENCE", 60.0)  # a released claim would count, too
    begun, go = threading.Event(), threading.Event()
    with Queue(database, durability="normal") as queue:

        @queue.task
        def work():
            begun.set()
            go.wait(20)

        job = work.enqueue()
        with queue.transaction() as db:
            db.execute("UPDATE litequeue_jobs SET deaths = 2")
        with queue.worker(threads=2) as worker:
            assert begun.wait(10)
            old = worker.id
            queue.engine.runs.rescue(old, None, blame=False)
            until(lambda: worker.id != old)
            go.set()
            record = ended(job)
        assert (record.status, record.attempt, worker.lost) == ("succeeded", 2, 1)


# Results


def run(queue, job):
    queue.worker().run(until_idle=True)
    return job


def test_results_are_pruned_after_their_time_and_failures_are_kept_longer(queue, clock, keeper):
    @queue.task
    def broken():
        raise ValueError

    good, bad = run(queue, queue.tasks["work"].enqueue()), run(queue, broken.enqueue())
    clock.advance("1d")
    look(keeper, clock, 20)
    assert [job.id for job in queue.jobs()] == [bad.id]
    clock.advance("29d")
    look(keeper, clock, 20)
    assert queue.jobs() == []
    assert queue.engine.kernel.read(lambda db: db.rows("SELECT * FROM litequeue_errors")) == []
    assert good.id != bad.id


def test_a_result_without_time_to_live_is_pruned_at_the_next_opportunity(queue, clock, keeper):
    ran = []

    @queue.task(result_ttl=0)
    def ping() -> str:
        ran.append("ping")
        return "pong"

    run(queue, ping.enqueue())
    look(keeper, clock, 20)
    assert ran == ["ping"]
    assert queue.jobs() == []


def test_a_result_kept_for_ever_is_not_pruned(queue, clock, keeper):
    @queue.task(result_ttl=None)
    def ping(): ...

    run(queue, ping.enqueue())
    clock.advance("3000d")
    look(keeper, clock, 20)
    assert len(queue.jobs()) == 1


def test_more_than_a_transactions_worth_is_pruned_in_chunks_without_waiting(queue, clock, keeper):
    queue.tasks["work"].enqueue_many([()] * 1700)
    queue.worker(threads=2).run(until_idle=True)
    clock.advance("2d")
    look(keeper, clock, 14)
    assert queue.jobs() == []


def test_what_has_not_ended_is_never_pruned(queue, clock, keeper):
    job = queue.tasks["work"].using(delay="1000d").enqueue()
    clock.advance("900d")
    look(keeper, clock, 20)
    assert job.refresh().status == "scheduled"


def test_an_idle_worker_gives_the_pages_of_pruned_jobs_back(queue, clock, keeper):
    @queue.task
    def long(text: str): ...

    long.enqueue_many([("x" * 20_000,)] * 300)
    queue.worker().run(until_idle=True)

    def pages(what):
        return queue.engine.kernel.read(lambda db: db.rows(f"PRAGMA {what}"))[0][0]

    large = pages("page_count")
    clock.advance("2d")
    steps(keeper)
    assert pages("freelist_count") < KEPT + FEWEST
    assert pages("page_count") < large / 2
    assert keeper.shrink_at == math.inf


def steps(keeper, *, idle=True):
    """Count the ticks until nothing is left to do, with no time between them."""
    count = 0
    keeper.tick(0, idle=idle)
    while keeper.shrink_at < math.inf:
        keeper.tick(0, idle=idle)
        count += 1
    return count


@pytest.fixture
def leftovers(queue, clock, monkeypatch):
    """20 jobs that are to be deleted, two in each step, and some 280 pages that are to be given back, 100 in each."""
    monkeypatch.setattr(free_pages, "MOST", 100)
    monkeypatch.setattr(queue.engine.maintenance, "prune", partial(queue.engine.maintenance.prune, 2))
    queue.tasks["work"].using(delay="9000d").enqueue_many([()] * 2)
    with queue.transaction() as db:
        db.execute(
            "INSERT INTO litequeue_jobs"
            " (task, queue, state, payload, priority, run_at, created_at, finished_at, delete_at)"
            " SELECT 'work', 'default', 4, zeroblob(100000), 0, 0, 0, 0, ? FROM json_each(?)",
            (clock.now(), json.dumps(list(range(20)))),
        )
    queue.tasks["work"].using(delay="9000d").enqueue()


def test_an_idle_worker_takes_step_after_step_without_a_pause_of_seconds(queue, keeper, leftovers):
    assert steps(keeper) >= 13
    assert len(queue.jobs()) == 3


def test_a_busy_worker_deletes_and_gives_pages_back_once_it_is_idle(queue, clock, keeper, leftovers):
    vacuumed = watch(queue, "vacuum")
    steps(keeper, idle=False)
    assert (len(queue.jobs()), vacuumed) == (3, [])
    keeper.tick(0, idle=True)
    assert vacuumed == []  # a job may come at once
    clock.advance(maintenance.QUIET)
    steps(keeper)
    assert vacuumed[0] > 0


def watch(queue, name):
    """Collect what calls of one method of the store's maintenance return."""
    part, returned = queue.engine.maintenance, []
    plain = getattr(part, name)

    def calling(*args, **given):
        returned.append(plain(*args, **given))
        return returned[-1]

    setattr(part, name, calling)
    return returned


def test_others_have_the_file_for_three_times_as_long_as_a_step_took(queue, clock, keeper, leftovers):
    plain = queue.engine.maintenance.prune
    queue.engine.maintenance.prune = lambda: clock.advance(2) or plain()
    began = clock.monotonic()
    keeper.tick(0, idle=True)
    assert keeper.shrink_at == began + 2 + 3 * 2
    pruned = watch(queue, "prune")
    clock.advance(5)
    keeper.tick(0, idle=True)
    assert pruned == []
    clock.advance(1)
    keeper.tick(0, idle=True)
    assert pruned == [2]


def test_of_two_idle_workers_one_makes_the_file_smaller(queue, clock, keeper, leftovers):
    other = Maintenance(queue.engine, clock, "other", frozenset({"work"}))
    numbers = [queue.engine.workers.register(new_worker(token, Identity.current())) for token in ("one", "two")]
    for _ in range(3):
        for each, number in zip((keeper, other), numbers, strict=True):
            each.tick(number, idle=True)
    assert (keeper.shrink_at < math.inf, other.shrink_at) == (True, math.inf)


def test_nothing_is_deleted_while_a_reader_keeps_a_large_wal_from_being_moved(queue, clock, keeper, leftovers):
    reader = queue.engine.kernel.file.connect_to_queue()
    reader.script("BEGIN")
    reader.rows("SELECT count(*) FROM litequeue_jobs")
    pruned = watch(queue, "prune")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shrinking, "LARGEST_WAL", 1)
        for _ in range(5):
            clock.advance(shrinking.READER_REST)
            keeper.tick(0, idle=True)
        assert len(pruned) == 1
        reader.script("COMMIT")
        for _ in range(2):
            clock.advance(shrinking.READER_REST)
            keeper.tick(0, idle=True)
        assert len(pruned) == 2
    queue.engine.kernel.file.disconnect(reader)


# Schedules


def test_a_tick_fires_once_however_many_look(queue, clock):
    queue.schedules.add("tick", queue.tasks["work"].s(), every("1m"), overlap="allow")
    keepers = [Maintenance(queue.engine, clock, f"o{n}", frozenset({"work"})) for n in range(3)]
    for _ in range(10):
        clock.advance("1m")
        for keeper in keepers:
            keeper.schedules_changed()
            keeper.tick(0, idle=False)
    assert len(queue.jobs()) == 10


def test_missed_ticks_are_made_up_for_by_one(queue, clock, keeper):
    queue.schedules.add("hourly", queue.tasks["work"].s(), cron("0 * * * *", tz="UTC"), overlap="allow")
    keeper.tick(0, idle=False)
    clock.advance("7d")
    keeper.tick(0, idle=False)
    assert len(queue.jobs()) == 1
    clock.advance("1h")
    keeper.tick(0, idle=False)
    assert len(queue.jobs()) == 2


@pytest.mark.parametrize("trigger", [every("1m"), cron("* * * * *", tz="UTC")])
def test_a_clock_that_is_set_back_silences_no_schedule(queue, clock, keeper, trigger):
    queue.schedules.add("tick", queue.tasks["work"].s(), trigger, overlap="allow")
    queue.schedules.add("paused", queue.tasks["work"].s(), trigger, overlap="allow")
    queue.schedules.pause("paused")
    for _ in range(2):
        clock.advance("1m")
        keeper.tick(0, idle=False)
    fired = len(queue.jobs())
    clock.step(-3600)
    keeper.tick(0, idle=False)
    assert len(queue.jobs()) == fired
    clock.advance("2m")
    keeper.tick(0, idle=False)
    assert len(queue.jobs()) == fired + 1
    assert [schedule.paused for schedule in queue.schedules] == [True, False]


def test_a_worker_that_starts_after_the_clock_was_set_right_waits_for_no_tick_by_the_wrong_one(queue, clock):
    queue.schedules.add("tick", queue.tasks["work"].s(), every("1m"), overlap="allow")
    clock.step(-86_400 * 365)
    Maintenance(queue.engine, clock, "o", frozenset({"work"})).tick(0, idle=False)
    assert [schedule.next_at.timestamp() for schedule in queue.schedules] == [clock.now() + 60]


def test_the_ticks_of_tasks_this_worker_does_not_know_wait_for_one_that_does(queue, clock):
    queue.schedules.add("tick", queue.tasks["work"].s(), every("1m"), overlap="allow")
    clock.advance("1m")
    Maintenance(queue.engine, clock, "o", frozenset({"other"})).tick(0, idle=False)
    assert queue.jobs() == []


def test_the_constants_leave_time_for_enough_looks():
    assert maintenance.FROZEN_LOOKS * BEAT_EVERY <= FROZEN_AFTER


def test_maintenance_of_a_worker_runs_by_itself(database, monkeypatch):
    monkeypatch.setattr(maintenance, "PRUNE_EVERY", 0.05)
    with Queue(database, durability="normal") as queue:

        @queue.task(result_ttl=0)
        def ping(): ...

        @queue.task
        def other(): ...

        with queue.worker():
            job = ping.enqueue()
            ended(other.enqueue())
            until(lambda: job.id not in [known.id for known in queue.jobs()])
