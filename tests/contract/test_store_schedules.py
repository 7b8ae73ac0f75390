"""Schedules in the file: each due tick is enqueued once, whoever fires it."""

from datetime import datetime, timezone

import pytest

from contract.jobs import START, Hands, status, to_the_end
from litequeue import at, cron, every, first_of
from litequeue.core.records import Status
from litequeue.errors import ScheduleExists, ScheduleNotFound
from litequeue.sqlite.jobs import stored_schedules

MINE = frozenset({"report"})


def moment(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc)


@pytest.fixture
def report(queue):
    @queue.task(name="report")
    def report(kind="daily"): ...

    return report


@pytest.fixture
def add(queue, report):
    def adding(trigger, kind="daily", name="s", **options):
        return queue.schedules.add(name, report.s(kind), trigger, **options)

    return adding


@pytest.fixture
def fire(queue, clock):
    """Let time pass, fire, and return the number of jobs enqueued by that."""

    def firing(after=0, tasks=MINE):
        clock.advance(after)
        before = len(queue.jobs(limit=10_000))
        to_the_end(queue.engine, "fire", tasks)
        return len(queue.jobs(limit=10_000)) - before

    return firing


def test_a_schedule_fires_when_it_is_due_and_not_before(add, fire):
    add(every("1m"))
    assert [fire(59), fire(1), fire(0), fire(59), fire(1)] == [0, 1, 0, 0, 1]


def test_what_fires_is_told_with_the_next_time(queue, add, clock):
    add(every("1m"))
    assert to_the_end(queue.engine, "fire", MINE) == START + 60
    clock.advance(60)
    assert to_the_end(queue.engine, "fire", MINE) == START + 120


def test_the_job_of_a_tick_says_where_it_comes_from(queue, add, fire):
    add(every("1m"), "weekly")
    fire(60)
    [job] = queue.jobs()
    assert (job.task, job.schedule, job.status, queue.schedules["s"].last_job) == (
        "report",
        "s",
        Status.QUEUED,
        job.id,
    )
    assert queue.schedules["s"].last_at == moment(START + 60)


def test_a_schedule_of_a_task_that_this_worker_does_not_know_waits(add, fire):
    add(every("1m"))
    assert fire(60, frozenset({"other"})) == 0
    assert fire(0) == 1


def test_one_tick_fires_once_though_two_stores_fire_it(queue, open_store, add, clock):
    add(every("1m"))
    other = open_store()
    clock.advance(60)
    to_the_end(queue.engine, "fire", MINE)
    to_the_end(other, "fire", MINE)
    assert len(queue.jobs()) == 1


def test_a_schedule_that_is_not_there_is_told_of_also_in_a_file_without_any(queue):
    with pytest.raises(ScheduleNotFound, match="in this file; it has: none"):
        queue.schedules.pause("x")


@pytest.mark.parametrize(("catch_up", "expected"), [("one", 1), ("all", 5), ("none", 1)])
def test_ticks_missed_up_to_this_very_moment_are_caught_up(add, fire, catch_up, expected):
    add(every("1m"), catch_up=catch_up)
    assert fire(300) == expected


@pytest.mark.parametrize(("catch_up", "expected"), [("one", 1), ("all", 5), ("none", 0)])
def test_ticks_missed_for_a_while_are_caught_up(add, fire, catch_up, expected):
    add(every("1m"), catch_up=catch_up)
    assert fire(330) == expected


def test_another_catch_up_keeps_the_next_tick_and_holds_for_ticks_already_missed(queue, add, fire, clock):
    add(every("1m"))
    clock.advance(180)
    add(every("1m"), catch_up="all")
    assert (fire(), queue.schedules["s"].catch_up) == (3, "all")


def test_very_many_missed_ticks_are_enqueued_in_chunks(add, fire, monkeypatch):
    monkeypatch.setattr(stored_schedules, "CHUNK", 5)
    add(every("1s"), catch_up="all")
    assert [fire(12), fire(), fire(), fire()] == [5, 5, 2, 0]


def test_a_cron_schedule_fires_at_its_wall_time(add, fire):
    schedule = add(cron("0 0 * * *", tz="UTC"))
    until = schedule.next_at.timestamp() - START
    assert [fire(until - 1), fire(1), fire(86_399), fire(1)] == [0, 1, 0, 1]


def test_a_single_moment_fires_once_and_never_again(queue, add, fire):
    add(at(moment(START + 60)))
    assert [fire(60), fire(60)] == [1, 0]
    assert queue.schedules["s"].next_at is None


def test_a_moment_that_is_past_fires_at_once(add, fire):
    add(at(moment(START - 60)))
    assert fire() == 1


def test_jitter_delays_the_job_of_a_tick(queue, add, fire):
    add(every("1m", jitter="20s"))
    fire(60)
    [job] = queue.jobs()
    assert 0 <= job.run_at.timestamp() - (START + 60) <= 20


def test_a_paused_schedule_does_not_fire_and_makes_up_for_nothing(queue, add, fire):
    add(every("1m"), catch_up="all")
    queue.schedules.pause("s")
    assert (fire(300), queue.schedules["s"].next_at) == (0, None)
    queue.schedules.resume("s")
    assert [fire(59), fire(1)] == [0, 1]


def test_resuming_what_is_not_paused_changes_nothing(queue, add, clock):
    add(every("1m"))
    clock.advance(30)
    queue.schedules.resume("s")
    assert queue.schedules["s"].next_at == moment(START + 60)


def test_a_moment_that_has_fired_does_not_fire_again_after_a_pause(queue, add, fire):
    add(at(moment(START + 60)))
    fire(60)
    queue.schedules.pause("s")
    queue.schedules.resume("s")
    assert fire(60) == 0


def test_a_schedule_can_be_triggered_beside_its_ticks(queue, add, fire):
    add(every("1m"), "weekly")
    job = queue.schedules.trigger_now("s")
    assert (job.task, job.schedule, job.status) == ("report", "s", Status.QUEUED)
    assert queue.schedules["s"].last_job == job.id
    assert [fire(59), fire(1)] == [0, 1]


def test_a_paused_schedule_can_be_triggered(queue, add):
    add(every("1m"))
    queue.schedules.pause("s")
    assert queue.schedules.trigger_now("s").status is Status.QUEUED
    assert queue.schedules["s"].paused


def test_a_name_that_is_taken_is_refused_when_asked_to(queue, add):
    add(every("1m"))
    with pytest.raises(ScheduleExists, match="replace=True"):
        add(every("2m"), replace=False)
    assert queue.schedules["s"].trigger == every("1m")


def test_a_schedule_that_is_added_again_unchanged_keeps_its_next_tick(queue, add, clock):
    add(every("1m"))
    clock.advance(30)
    add(every("1m"))
    assert queue.schedules["s"].next_at == moment(START + 60)


def test_other_arguments_keep_the_next_tick_and_another_trigger_begins_anew(queue, add, clock):
    add(every("1m"))
    clock.advance(30)
    add(every("1m"), "weekly")
    assert queue.schedules["s"].next_at == moment(START + 60)
    add(every("2m"), "weekly")
    assert queue.schedules["s"].next_at == moment(START + 150)


def test_the_date_of_an_interval_of_the_calendar_does_not_move_when_it_is_added_again(queue, add, fire, clock):
    monthly = every("1 month", at="09:00", tz="UTC")
    add(monthly)  # on the 14th, after 9 o'clock
    clock.advance("3d")
    before = queue.schedules["s"].next_at
    add(monthly)
    add(monthly, "weekly")
    assert (queue.schedules["s"].next_at, queue.schedules["s"].trigger) == (before, monthly)
    assert (before.day, before.hour) == (14, 9)
    assert fire(before.timestamp() - clock.now()) == 1
    assert (queue.schedules["s"].next_at.day, queue.schedules["s"].next_at.month) == (14, 1)


def test_a_tick_that_was_due_is_enqueued_once_after_its_trigger_has_changed(add, fire, clock):
    add(every("1m"))
    clock.advance(90)
    add(every("1h"))
    assert [fire(), fire(3599), fire(1)] == [1, 0, 1]


def test_several_triggers_in_one_fire_together_where_they_meet(add, fire):
    add(first_of(every("2m"), every("3m")))
    assert [fire(60) for _ in range(8)] == [0, 1, 1, 1, 0, 1, 0, 1]


def test_a_first_tick_now_fires_at_once_and_not_again_when_it_is_added_again(add, fire):
    trigger = every("1h", first_at="now")
    add(trigger)
    assert fire() == 1
    add(trigger)
    assert [fire(60), fire(3540)] == [0, 1]


def test_a_first_tick_now_that_has_not_fired_fires_after_a_restart(add, fire, clock):
    add(every("1h", first_at="now"))
    clock.advance(60)
    add(every("1h", first_at="now"))
    assert [fire(), fire()] == [1, 0]


def test_a_hashed_minute_is_that_of_the_schedule_s_name(queue, add, fire):
    hourly = cron("H * * * *", tz="UTC")
    minutes = {add(hourly, name=name).next_at.minute for name in ("a", "b", "c", "d", "e", "f")}
    assert len(minutes) > 1
    assert queue.schedules["a"].trigger == hourly
    assert fire(3600) == 6


def test_a_removed_schedule_fires_no_more(queue, add, fire):
    add(every("1m"))
    queue.schedules.remove("s")
    assert (fire(60), len(queue.schedules)) == (0, 0)


@pytest.mark.parametrize("verb", ["remove", "pause", "resume", "trigger_now", "__getitem__"])
def test_a_schedule_that_is_not_there_is_named_with_those_that_are(queue, add, verb):
    add(every("1m"), name="one")
    with pytest.raises(ScheduleNotFound, match="no schedule named 'x' in this file; it has: one"):
        getattr(queue.schedules, verb)("x")


def test_a_schedule_changed_in_a_transaction_that_fails_is_as_it_was(queue, add):
    add(every("1m"))
    with pytest.raises(ZeroDivisionError), queue.transaction():
        queue.schedules.pause("s")
        raise ZeroDivisionError
    assert not queue.schedules["s"].paused


# Declared in code


@pytest.fixture
def declare(queue):
    """Declare what the code says, as a worker does when it starts."""
    from litequeue.core.engine import ScheduleRecord
    from litequeue.scheduling.triggers import encode

    def declaring(tasks=MINE, **triggers):
        records = [
            ScheduleRecord(
                name=name, task=name, queue="default", payload=b"[]", priority=0, trigger=encode(trigger), declared=True
            )
            for name, trigger in triggers.items()
        ]
        queue.engine.ticks.declare(records, tasks)

    return declaring


def test_a_declared_schedule_is_in_the_file(queue, declare):
    declare(report=every("1m"))
    [schedule] = queue.schedules
    assert (schedule.name, schedule.declared, schedule.next_at) == ("report", True, moment(START + 60))


def test_declaring_the_same_again_keeps_the_next_tick_and_a_pause(queue, declare, clock):
    declare(report=every("1m"))
    queue.schedules.pause("report")
    clock.advance(30)
    declare(report=every("1m"))
    assert queue.schedules["report"].paused
    assert queue.engine.schedules.get("report").next_at == START + 60


def test_changed_code_changes_the_file(queue, declare, clock):
    declare(report=every("1m"))
    clock.advance(30)
    declare(report=every("5m"))
    assert queue.schedules["report"].next_at == moment(START + 330)


def test_a_schedule_no_longer_in_the_code_is_removed(queue, declare):
    declare(report=every("1m"))
    declare()
    assert list(queue.schedules) == []


def test_schedules_of_other_tasks_and_those_added_by_hand_are_left_alone(queue, declare, add):
    declare(report=every("1m"))
    add(every("1m"), name="by hand")
    declare(frozenset({"other"}))
    assert [schedule.name for schedule in queue.schedules] == ["by hand", "report"]
    declare()
    assert [schedule.name for schedule in queue.schedules] == ["by hand"]


def test_one_schedule_that_cannot_be_read_does_not_stop_the_others(queue, add, fire):
    add(every("1m"), name="broken")
    add(every("1m"), name="sound")
    trigger = '{"cron": "* * * * *", "zone": "Mars/Phobos"}'
    broken = f"UPDATE litequeue_schedules SET trigger = '{trigger}' WHERE name = 'broken'"
    queue.engine.kernel.writer.run(lambda db: db.rows(broken))
    assert fire(60) == 1


def test_a_fired_job_is_claimed(queue, add, fire):
    add(every("1m"))
    fire(60)
    job = Hands(queue.engine, "report").take()
    assert status(queue.engine, job.id) is Status.RUNNING
