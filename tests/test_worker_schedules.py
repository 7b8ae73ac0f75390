"""Schedules, as workers fire them."""

import pytest

from crash.watching import ended, until
from litequeue import Queue, at, cron, every
from litequeue.core.duration import utc
from litequeue.sqlite.jobs import stored_schedules


@pytest.fixture(params=["apsw", "sqlite3"])
def queue(request, database):
    with Queue(database, driver=request.param, durability="normal") as queue:
        yield queue


def ticks(queue, name):
    return [job.run_at for job in queue.jobs(limit=1000) if job.schedule == name]


def test_three_workers_fire_each_tick_once(database):
    queues = [Queue(database, durability="normal") for _ in range(3)]
    for queue in queues:
        queue.task(name="tick")(lambda: None)
    queues[0].schedules.add("tick", queues[0].tasks["tick"].s(), every(0.05), catch_up="all")
    workers = [queue.worker(threads=1) for queue in queues]
    for worker in workers:
        worker.__enter__()
    try:
        until(lambda: len(ticks(queues[0], "tick")) >= 20)
    finally:
        for worker in workers:
            worker.__exit__(None, None, None)
        fired, schedule = len(ticks(queues[0], "tick")), queues[0].engine.schedules.get("tick")
        for queue in queues:
            queue.close()
    assert fired == round((schedule.next_at - schedule.created_at) / 0.05) - 1


def test_a_tick_of_every_second_runs(queue):
    queue.task(name="tick", schedule=cron("* * * * * *", tz="UTC"))(lambda: None)
    with queue.worker():
        job = until(lambda: queue.jobs())[0]
        assert ended(job).status == "succeeded"
    assert job.schedule == "tick"


def test_at_fires_once(queue):
    queue.task(name="once", schedule=at("2001-01-01T00:00:00Z"))(lambda: None)
    for _ in range(3):
        queue.worker().run(until_idle=True)
    assert len(queue.jobs()) == 1


def test_a_worker_makes_the_files_schedules_those_of_the_code(database):
    with Queue(database) as first:
        first.task(name="stays", schedule=every("1h"))(lambda: None)
        first.task(name="changes", schedule=every("1h"))(lambda: None)
        first.task(name="goes", schedule=every("1h"))(lambda: None)
        first.worker().run(until_idle=True)
        before = {schedule.name: schedule for schedule in first.schedules}
    with Queue(database) as second:
        second.task(name="stays", schedule=every("1h"))(lambda: None)
        second.task(name="changes", schedule=every("2h"))(lambda: None)
        second.task(name="goes")(lambda: None)
        second.worker().run(until_idle=True)
        after = {schedule.name: schedule for schedule in second.schedules}
    assert sorted(before) == ["changes", "goes", "stays"]
    assert sorted(after) == ["changes", "stays"]
    assert after["stays"].next_at == before["stays"].next_at
    assert after["changes"].next_at > before["changes"].next_at


def test_a_paused_schedule_fires_no_more_until_it_is_resumed(queue):
    task = queue.task(name="tick")(lambda: None)
    queue.schedules.add("fast", task.s(), every(0.02))
    with queue.worker():
        until(lambda: len(ticks(queue, "fast")) >= 2)
        queue.schedules.pause("fast")
        held = len(ticks(queue, "fast"))
        ended(queue.schedules.trigger_now("fast"))
        assert len(ticks(queue, "fast")) == held + 1
        queue.schedules.resume("fast")
        until(lambda: len(ticks(queue, "fast")) >= held + 3)


def test_trigger_now_runs_beside_the_ticks(queue):
    task = queue.task(name="tick")(lambda: "ran")
    queue.schedules.add("rare", task.s(), every("1h"))
    before = queue.schedules["rare"].next_at
    with queue.worker():
        assert queue.schedules.trigger_now("rare").result(10) == "ran"
    assert queue.schedules["rare"].next_at == before


def test_a_schedule_added_while_a_worker_sleeps_fires_in_time(queue):
    task = queue.task(name="tick")(lambda: None)
    with queue.worker():
        ended(task.enqueue())
        queue.schedules.add("soon", task.s(), every(0.1))
        until(lambda: ticks(queue, "soon"), deadline=3)


def test_a_worker_claims_jobs_between_the_steps_in_which_it_fires(queue, monkeypatch):
    monkeypatch.setattr(stored_schedules, "CHUNK", 1)
    task, done = queue.task(name="tick")(lambda: None), []
    for number in range(20):
        queue.schedules.add(f"{number}", task.s(), at("2001-01-01T00:00:00Z"))
    fire, claim = stored_schedules.fire, queue.engine.runs.claim

    def firing(*args):
        done.append("fire")
        return fire(*args)

    def claiming(*args):
        turn = claim(*args)
        done.extend("claim" for _ in turn.claimed)
        return turn

    monkeypatch.setattr(stored_schedules, "fire", firing)
    monkeypatch.setattr(queue.engine.runs, "claim", claiming)
    queue.worker().run(until_idle=True)
    assert (done.count("fire"), done.count("claim")) == (20, 20)
    assert "claim" in done[: done.index("fire") + 19]  # before the last is fired


def test_a_worker_that_ends_when_idle_has_fired_all_that_was_due(queue, monkeypatch):
    monkeypatch.setattr(stored_schedules, "CHUNK", 2)
    task = queue.task(name="tick")(lambda: None)
    for number in range(11):
        queue.schedules.add(f"{number}", task.s(), every("1h"), catch_up="none")
    late = "UPDATE litequeue_schedules SET next_at = :now - 1800"
    queue.engine.kernel.writer.run(lambda db: db.rows(late, {"now": queue.now()}))
    queue.schedules.add("last", task.s(), at(utc(queue.now() - 60)))
    queue.worker().run(until_idle=True)
    assert [(job.schedule, job.status) for job in queue.jobs()] == [("last", "succeeded")]
