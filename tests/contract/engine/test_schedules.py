"""Schedules: declared in code, and added while the program runs."""

import pytest

from crash.watching import until
from litequeue import ScheduleExists, ScheduleNotFound, every
from litequeue.core.engine import Feature

NEEDS = {Feature.SCHEDULES}


def test_a_schedule_is_added_paused_resumed_and_removed(rig):
    schedules = rig.queue.schedules
    added = schedules.add("hourly", rig.tasks.add.using(queue="mail").s(1), every("1h"))
    assert (added.name, added.task, added.queue, added.declared) == ("hourly", "add", "mail", False)
    schedules.pause("hourly")
    assert schedules["hourly"].paused
    schedules.resume("hourly")
    assert schedules["hourly"].next_at is not None
    assert [schedule.name for schedule in schedules] == ["hourly"]
    with pytest.raises(ScheduleExists):
        schedules.add("hourly", rig.tasks.add.s(1), every("2h"), replace=False)
    schedules.remove("hourly")
    assert len(schedules) == 0
    with pytest.raises(ScheduleNotFound):
        schedules["hourly"]


def test_a_schedule_that_is_triggered_enqueues_its_call_now(rig):
    rig.queue.schedules.add("hourly", rig.tasks.add.s(1), every("1h"))
    job = rig.queue.schedules.trigger_now("hourly")
    rig.work()
    assert job.result(5) == 2
    assert job.schedule == "hourly"


def test_a_schedule_fires(rig):
    rig.queue.schedules.add("often", rig.tasks.note.s("tick"), every("1s"))
    with rig.worker():
        until(lambda: rig.queue.schedules["often"].last_job is not None)
        rig.queue.job(rig.queue.schedules["often"].last_job).result(10)


def test_a_declared_schedule_is_there_when_a_worker_has_run(rig):
    rig.queue.task(name="daily", schedule=every("1d"))(rig.tasks.give_up.function)
    rig.work()
    assert rig.queue.schedules["daily"].declared
