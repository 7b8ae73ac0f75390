"""The wall clock jumps, and a laptop sleeps: what is delayed, runs, expires, is retried, pruned, waited for or due.

Limits, deaths and waiting go by the monotonic clock; delays, expiry, pruning and schedules by the wall clock.
"""

import threading
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
from click.testing import CliRunner

from crash.watching import ended, until
from litequeue import Queue, Retry, at, cron, current_job, every
from litequeue.cli import main
from litequeue.core.clock import SystemClock
from litequeue.core.duration import utc
from litequeue.core.store import Demand, NewWorker
from litequeue.ipc.process_identity import Identity
from litequeue.ipc.process_lock import ProcessLock, open_directory
from litequeue.testing import ManualClock
from litequeue.worker.maintenance import BEAT_EVERY, FROZEN_AFTER, Maintenance

MINUTE, HOUR, DAY = 60, 3600, 86_400
START = 1_700_000_000 // DAY * DAY + 12 * HOUR  # noon, UTC
JUMPS = [HOUR, -HOUR, DAY, -DAY]
NIGHT = 8 * HOUR

jumps = pytest.mark.parametrize("jump", JUMPS)


@pytest.fixture
def clock(monkeypatch):
    clock = ManualClock(START)
    monkeypatch.setattr("litequeue.queue.SystemClock", lambda: clock)
    return clock


@pytest.fixture
def queue(clock, database, driver):
    with Queue(database, driver=driver, durability="normal") as queue:
        queue.task(name="work")(lambda: None)
        yield queue


@pytest.fixture
def keeper(queue, clock):
    return Maintenance(queue.engine, clock, "observer", frozenset({"work"}))


def work_off(queue):
    queue.worker(threads=1).run(until_idle=True)


def run_when_due(queue, clock, job, due):
    """Work off until the job has ended, and tell that it did so no sooner than at its time."""
    work_off(queue)
    if clock.now() < due:
        assert job.refresh().status == "scheduled"
        clock.advance(due - clock.now() - 1)
        work_off(queue)
        assert job.refresh().status == "scheduled"
        clock.advance(1)
        work_off(queue)
    return ended(job)


@jumps
def test_a_delayed_job_runs_once_at_its_time_by_the_wall_clock(queue, clock, jump):
    job = queue.tasks["work"].using(delay="90m").enqueue()
    due = clock.now() + 90 * MINUTE
    clock.step(jump)
    record = run_when_due(queue, clock, job, due)
    assert (record.status, record.attempt) == ("succeeded", 1)


@jumps
def test_a_retry_runs_once_at_its_time_by_the_wall_clock(queue, clock, jump):
    @queue.task
    def fails_once():
        if current_job().attempt == 1:
            raise Retry(delay="90m")

    job = fails_once.using(retries=3).enqueue()
    work_off(queue)
    due = clock.now() + 90 * MINUTE
    clock.step(jump)
    record = run_when_due(queue, clock, job, due)
    assert (record.status, record.attempt) == ("succeeded", 2)


@jumps
def test_a_job_expires_at_its_time_by_the_wall_clock(queue, clock, jump):
    job = queue.tasks["work"].using(expires="30m").enqueue()
    clock.step(jump)
    work_off(queue)
    assert ended(job).status == ("expired" if jump > 0 else "succeeded")


@jumps
def test_a_job_that_runs_across_a_jump_is_neither_stopped_nor_released(queue, clock, keeper, jump):
    @queue.task(timeout="1m")
    def runs():
        clock.step(jump)
        for _ in range(3):
            keeper.tick(0, idle=False)

    job = runs.enqueue()
    work_off(queue)
    record = ended(job)
    assert (record.status, record.attempt, record.deaths) == ("succeeded", 1, 0)


@jumps
def test_records_of_what_ended_are_pruned_by_the_wall_clock_and_nothing_else_is(queue, clock, keeper, jump):
    old = queue.tasks["work"].enqueue()
    work_off(queue)
    waits = queue.tasks["work"].using(delay="3d").enqueue()
    clock.step(jump)
    for _ in range(20):
        clock.advance(1)
        keeper.tick(0, idle=False)
    assert {job.id for job in queue.jobs()} == ({waits.id} if jump == DAY else {waits.id, old.id})


@jumps
def test_whoever_looks_after_a_jump_is_shown_something(queue, clock, jump):
    """Ends before starts, ages below zero."""

    @queue.task
    def runs():
        clock.step(jump)

    runs.enqueue()
    work_off(queue)
    job = queue.tasks["work"].enqueue()
    queue.schedules.add("tick", queue.tasks["work"].s(), every("1h"))
    clock.step(jump)
    queue.close()
    for command in (["status"], ["jobs"], ["show", job.id], ["schedules"], ["doctor"]):
        words = [command[0], str(queue.path), *command[1:]]
        done = CliRunner().invoke(main, [*words, "--driver", queue.engine.driver_name])
        assert done.exit_code == 0 or command == ["doctor"], done.output
        assert isinstance(done.exception, SystemExit | None), done.output


# -- schedules --


def fired(queue):
    """When the jobs of ticks were due, oldest job first: a tick that comes late is due when it is seen."""
    return [job.run_at.timestamp() - START for job in reversed(queue.jobs(limit=10_000)) if job.schedule]


def look_on(keeper, clock, seconds):
    """Let time pass as a worker sees it, ten seconds at a time."""
    for _ in range(int(seconds) // 10):
        clock.advance(10)
        keeper.tick(0, idle=False)
        while keeper.may_fire:  # its next steps, which a worker's loop takes at once
            keeper.tick(0, idle=False)


ALL = {"overlap": "allow"}  # each tick has its job
TRIGGERS = {
    "every": every("5m"),
    "cron": cron("*/5 * * * *", tz="UTC"),
}


@pytest.mark.parametrize("kind", TRIGGERS)
@pytest.mark.parametrize("catch_up", ["one", "all", "none"])
@pytest.mark.parametrize("jump", [HOUR, DAY])
def test_ticks_a_clock_leaps_over_are_made_up_for_as_if_nobody_had_worked(queue, clock, keeper, kind, catch_up, jump):
    queue.schedules.add("tick", queue.tasks["work"].s(), TRIGGERS[kind], catch_up=catch_up, **ALL)
    look_on(keeper, clock, 12 * MINUTE)
    clock.step(jump)
    look_on(keeper, clock, 10 * MINUTE)
    missed = {"one": 1, "all": len(range(900, 730 + jump, 300)), "none": 0}[catch_up]
    assert fired(queue) == [300, 600, *[730 + jump] * missed, 900 + jump, 1200 + jump]


@pytest.mark.parametrize("catch_up", ["one", "all", "none"])
@pytest.mark.parametrize("jump", [-HOUR, -DAY])
def test_an_interval_goes_on_after_the_clock_was_set_back(queue, clock, keeper, catch_up, jump):
    queue.schedules.add("tick", queue.tasks["work"].s(), every("5m"), catch_up=catch_up, **ALL)
    look_on(keeper, clock, 12 * MINUTE)
    clock.step(jump)
    look_on(keeper, clock, 12 * MINUTE)
    # it is seen ten seconds later, and counted from there
    assert fired(queue) == [300, 600, 730 + jump + 300, 730 + jump + 600]


@pytest.mark.parametrize("catch_up", ["one", "all", "none"])
@pytest.mark.parametrize("jump", [-HOUR, -DAY])
def test_a_cron_trigger_goes_on_by_the_clock_that_was_set_back(queue, clock, keeper, catch_up, jump):
    queue.schedules.add(
        "tick", queue.tasks["work"].s(), cron("*/5 * * * *", tz="UTC"), catch_up=catch_up, overlap="allow"
    )
    look_on(keeper, clock, 12 * MINUTE)
    clock.step(jump)
    look_on(keeper, clock, 10 * MINUTE)
    assert fired(queue) == [300, 600, 900 + jump, 1200 + jump]


@pytest.mark.parametrize(("expression", "jump"), [("0 * * * *", -HOUR), ("0 12 * * *", -DAY), ("30 11 * * *", -HOUR)])
def test_a_tick_that_a_clock_set_back_comes_to_once_more_is_not_fired_again(queue, clock, keeper, expression, jump):
    """Unless it comes to two: then a schedule would be silent for long."""
    clock.step(-HOUR)
    queue.schedules.add("tick", queue.tasks["work"].s(), cron(expression, tz="UTC"))
    look_on(keeper, clock, HOUR + 10 * MINUTE)
    ticks = fired(queue)
    clock.step(jump)
    look_on(keeper, clock, -jump)
    assert fired(queue) == ticks


@pytest.mark.slow
@jumps
def test_an_instant_comes_once(queue, clock, keeper, jump):
    queue.schedules.add("once", queue.tasks["work"].s(), at(utc(START + 30 * MINUTE)))
    clock.step(jump)
    look_on(keeper, clock, 10 * MINUTE)
    assert fired(queue) == ([jump + 10] if jump > 0 else [])
    look_on(keeper, clock, 25 * MINUTE - jump)
    assert fired(queue) == [jump + 10 if jump > 0 else 30 * MINUTE]
    clock.step(-DAY)
    look_on(keeper, clock, 2 * DAY)
    assert len(fired(queue)) == 1


# -- a night's sleep --


def sleep_counted(clock):
    clock.advance(NIGHT)


def sleep_not_counted(clock):
    clock.step(NIGHT)


sleeps = pytest.mark.parametrize("sleep", [sleep_counted, sleep_not_counted])


@pytest.fixture
def other(queue):
    """Another worker on record, its lock held, with a job that it runs."""
    process_lock = ProcessLock(open_directory(queue.path), "other", 4)
    elsewhere = replace(Identity.current(), host="elsewhere", boot="another machine", pid=1)
    new = NewWorker(token="other", identity=elsewhere.to_text(), queues=None, tasks=("work",), threads=1, coroutines=1)
    number = queue.engine.workers.register(new)
    queue.tasks["work"].enqueue()
    queue.engine.runs.claim(number, [Demand(frozenset({"work"}), 1)], None)
    yield number
    process_lock.close()


@sleeps
def test_after_a_night_nobody_is_taken_for_dead(queue, clock, keeper, other, sleep):
    """The observer may just have looked three times in vain when the lid was shut."""
    look_on(keeper, clock, FROZEN_AFTER - BEAT_EVERY)
    sleep(clock)
    keeper.tick(0, idle=False)
    queue.engine.workers.beat(other)  # both wake at once, and each beats before all else
    look_on(keeper, clock, FROZEN_AFTER - BEAT_EVERY)
    assert [worker.id for worker in queue.engine.workers.list()] == [other]
    assert [job.status for job in queue.jobs()] == ["running"]


@sleeps
@pytest.mark.parametrize("catch_up", ["one", "all", "none"])
def test_after_a_night_a_schedule_makes_up_for_what_it_missed(queue, clock, keeper, catch_up, sleep):
    queue.schedules.add(
        "tick", queue.tasks["work"].s(), cron("0 * * * *", tz="UTC"), catch_up=catch_up, overlap="allow"
    )
    look_on(keeper, clock, 10 * MINUTE)
    sleep(clock)
    look_on(keeper, clock, HOUR)
    missed = {"one": 1, "all": 8, "none": 0}[catch_up]
    assert fired(queue) == [*[NIGHT + 10 * MINUTE + 10] * missed, 9 * HOUR]


@sleeps
def test_after_a_night_a_delayed_job_runs(queue, clock, sleep):
    job = queue.tasks["work"].using(delay="7h").enqueue()
    sleep(clock)
    work_off(queue)
    assert ended(job).status == "succeeded"


# -- with a worker at work --


class Jumping(SystemClock):
    """The clocks of this machine, of which the one on the wall can be set."""

    def __init__(self):
        self.set_by = 0.0

    def now(self):
        return time.time() + self.set_by


@pytest.fixture
def real(database, monkeypatch):
    clock = Jumping()
    monkeypatch.setattr("litequeue.queue.SystemClock", lambda: clock)
    with Queue(database, durability="normal") as queue:
        yield queue, clock


@jumps
def test_a_result_waited_for_across_a_jump_arrives(real, jump):
    queue, clock = real
    go = threading.Event()
    task = queue.task(name="waits", timeout="15s")(lambda: go.wait(20))
    got = []
    with queue.worker(threads=1):
        job = task.enqueue()
        waiter = threading.Thread(target=lambda: got.append(job.result(20)))
        waiter.start()
        until(lambda: job.refresh().status == "running")
        clock.set_by = jump
        waiter.join(0.2)
        assert waiter.is_alive()
        go.set()
        waiter.join(20)
    assert got == [True]


@jumps
def test_a_wait_ends_at_its_timeout_by_no_wall_clock(real, jump):
    queue, clock = real
    job, timed_out = queue.task(name="waits")(lambda: None).enqueue(), []

    def wait():
        with pytest.raises(TimeoutError):
            job.result(0.4)
        timed_out.append(True)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    waiter.join(0.1)
    clock.set_by = jump
    waiter.join(20)
    assert timed_out == [True]


@pytest.mark.slow
@pytest.mark.parametrize("trigger", [every(0.2), cron("* * * * * *", tz="Europe/Paris")])
def test_a_worker_that_lives_through_a_jump_goes_on_firing_and_stores_no_storm(tmp_path, trigger):
    with ExitStack() as stack:
        queues = [stack.enter_context(Queue(tmp_path / f"{jump}.db", durability="normal")) for jump in JUMPS]
        for queue in queues:  # side by side: each waits for some seconds of the machine's clock
            queue.clock = queue.engine.clock = Jumping()
            queue.task(name="tick", schedule=trigger)(lambda: None)
            stack.enter_context(queue.worker(threads=1))
        sought = []
        for queue, jump in zip(queues, JUMPS, strict=True):
            until(lambda queue=queue: len(queue.jobs()) >= 2)
            queue.clock.set_by = jump
            sought.append(len(queue.jobs()) + 3)
        for queue, jump, least in zip(queues, JUMPS, sought, strict=True):
            until(lambda queue=queue, least=least: len(queue.jobs(limit=1000)) >= least, f"after a jump of {jump} s")
            queue.schedules.pause("tick")
            ticks = [job.run_at for job in queue.jobs(limit=1000)]
            assert len(ticks) == len(set(ticks)) < 100, jump
