"""Many schedules in the file: computed outside of transactions, and written some at a time where they differ."""

import json
import logging

import pytest

from contract.jobs import to_the_end
from litequeue import cron, every
from litequeue.core.schedules import ScheduleRecord
from litequeue.core.store import Declared
from litequeue.errors import ScheduleNotFound, StoreError
from litequeue.scheduling import triggers
from litequeue.sqlite.jobs import due_ticks, stored_schedules

MINE = frozenset({"report"})
HOURLY = every("1h")


@pytest.fixture
def report(queue):
    return queue.task(name="report")(lambda kind="daily": None)


@pytest.fixture
def add(queue, report):
    """Add so many schedules, named by letters."""

    def adding(count, trigger=HOURLY, kind="daily", **options):
        for letter in "abcdefghijklmnopqrst"[:count]:
            queue.schedules.add(letter, report.s(kind), trigger, **options)

    return adding


@pytest.fixture
def few(monkeypatch):
    """Let a transaction hold so many ticks, and a page as many schedules."""

    def limiting(count):
        monkeypatch.setattr(stored_schedules, "CHUNK", count)
        monkeypatch.setattr(due_ticks, "CHUNK", count)
        monkeypatch.setattr(due_ticks, "PAGE", count)

    return limiting


@pytest.fixture
def commits(queue):
    """Count the transactions of a piece of work."""

    def counting(work):
        before = queue.engine.kernel.writer.commits
        work()
        return queue.engine.kernel.writer.commits - before

    return counting


def fired(queue):
    return sorted(job.schedule for job in queue.jobs(limit=1000))


def after_each_step(queue):
    """Fire, and count the jobs after each step."""
    counts = [len(queue.jobs(limit=1000)) for _ in queue.engine.ticks.fire(MINE)]
    return [*counts, len(queue.jobs(limit=1000))]


# Firing


def test_what_is_due_is_fired_in_several_transactions(queue, add, few, clock):
    few(5)
    add(12)
    clock.advance("1h")
    assert after_each_step(queue) == [5, 10, 12]
    assert fired(queue) == list("abcdefghijkl")


def test_missed_ticks_of_many_schedules_are_bounded_together(queue, add, few, clock):
    few(5)
    add(3, every("1h"), catch_up="all", overlap="allow")
    clock.advance("4h")
    steps = after_each_step(queue)
    while steps[-1] < 12:
        steps += after_each_step(queue)
    assert all(later - before <= 5 for before, later in zip([0, *steps], steps, strict=False))
    assert fired(queue) == ["a"] * 4 + ["b"] * 4 + ["c"] * 4


def test_a_schedule_that_has_missed_many_ticks_lets_the_others_fire(queue, add, few, clock):
    few(2)
    queue.schedules.add("often", queue.tasks["report"].s(), every("1m"), catch_up="all", overlap="allow")
    add(3)
    clock.advance("1h")
    to_the_end(queue.engine, "fire", MINE)
    assert fired(queue) == ["a", "b", "c", "often", "often"]


def test_large_payloads_are_fired_fewer_at_a_time(queue, add, monkeypatch, clock):
    monkeypatch.setattr(due_ticks, "BUDGET", 1000)
    add(5, kind="x" * 400)
    clock.advance("1h")
    assert after_each_step(queue) == [3, 5]


def test_one_payload_above_the_limit_is_fired_alone(queue, add, monkeypatch, clock):
    monkeypatch.setattr(due_ticks, "BUDGET", 1000)
    add(2, every("1h"), kind="x" * 2000, catch_up="all", overlap="allow")
    clock.advance("1h")
    assert after_each_step(queue) == [1, 2]


def test_what_a_killed_worker_had_not_fired_yet_another_fires_once(queue, open_store, add, few, clock):
    few(2)
    add(5)
    clock.advance("1h")
    firing = queue.engine.ticks.fire(MINE)
    next(firing)
    firing.close()
    to_the_end(open_store(), "fire", MINE)
    assert fired(queue) == list("abcde")


def test_two_workers_that_fire_step_by_step_fire_each_tick_once(queue, open_store, add, few, clock):
    few(2)
    add(5)
    clock.advance("1h")
    one, other = queue.engine.ticks.fire(MINE), open_store().ticks.fire(MINE)
    for _ in zip(one, other, strict=False):
        pass
    to_the_end(queue.engine, "fire", MINE)
    assert fired(queue) == list("abcde")


CHANGES = {
    "paused": lambda other: other.schedules.pause("a"),
    "removed": lambda other: other.schedules.remove("a"),
    "fired": lambda other: to_the_end(other, "fire", MINE),
    "of another trigger": lambda other: other.schedules.put(
        ScheduleRecord(
            name="a",
            task="report",
            queue="default",
            payload=b"[]",
            priority=0,
            trigger=triggers.encode(every("2h")),
        ),
        replace=True,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_another_process_changes_while_ticks_are_computed_is_respected(
    queue, open_store, add, clock, monkeypatch, change
):
    add(1)
    clock.advance("1h")
    due, other = triggers.due, open_store()

    def computing(*args):
        monkeypatch.undo()
        CHANGES[change](other)
        return due(*args)

    monkeypatch.setattr(triggers, "due", computing)
    to_the_end(queue.engine, "fire", MINE)
    assert fired(queue) == (["a"] if change == "fired" else [])


def test_a_tick_has_the_arguments_that_the_schedule_has_when_it_fires(queue, open_store, add, clock, monkeypatch):
    add(1)
    clock.advance("1h")
    due, other = triggers.due, open_store()
    weekly = queue.tasks["report"].s("weekly").scheduled().payload

    def computing(*args):
        monkeypatch.undo()
        other.kernel.writer.run(lambda db: db.rows("UPDATE litequeue_schedules SET payload = ?", (weekly,)))
        return due(*args)

    monkeypatch.setattr(triggers, "due", computing)
    to_the_end(queue.engine, "fire", MINE)
    [job] = queue.jobs()
    assert queue.engine.jobs.look_up(job.id).payload == weekly


# Those that cannot fire


@pytest.fixture
def broken(queue, add, clock):
    """Add so many schedules, all but the last of a kind that is not known here, and let them be due."""

    def breaking(count):
        add(count)
        [*others, _] = "abcdefghijklmnopqrst"[:count]
        unknown = "UPDATE litequeue_schedules SET trigger = ? WHERE name IN (SELECT value FROM json_each(?))"
        queue.engine.kernel.writer.run(lambda db: db.rows(unknown, ('{"from": "later"}', json.dumps(others))))
        clock.advance("1h")

    return breaking


def test_many_schedules_that_cannot_fire_do_not_stop_one_behind_them(queue, broken, few):
    few(2)
    broken(8)
    assert to_the_end(queue.engine, "fire", MINE) is not None
    assert fired(queue) == ["h"]


def test_an_error_names_three_of_many_schedules(queue, broken, caplog):
    broken(8)
    with caplog.at_level(logging.ERROR, "litequeue"):
        to_the_end(queue.engine, "fire", MINE)
    [record] = caplog.records
    said = record.getMessage()
    assert said.startswith("these schedules cannot fire here: 'a' (")
    assert said.endswith("and 4 more")
    assert "'d'" not in said


def test_a_schedule_that_is_not_there_is_told_with_three_that_are(queue, add):
    add(8)
    with pytest.raises(ScheduleNotFound, match=r"it has: a, b, c and 5 more$"):
        queue.schedules.pause("x")


# Declared in code


@pytest.fixture
def declare(queue):
    """Declare a schedule for so many tasks, named by letters, of `of` tasks that the worker has."""

    def declaring(count, trigger=HOURLY, of=12, store=None):
        letters = "abcdefghijklmnopqrst"
        fields = {"queue": "default", "payload": b"[]", "priority": 0, "module": "app", "declared": repr(trigger)}
        records = [
            ScheduleRecord(name=letter, task=letter, trigger=triggers.encode(trigger), **fields)
            for letter in letters[:count]
        ]
        code = Declared(records, frozenset(letters[:of]), lambda _module: True, frozenset())
        (store or queue.engine).ticks.declare(code)

    return declaring


def names(queue):
    return [schedule.name for schedule in queue.schedules]


def test_schedules_are_declared_in_several_transactions(queue, declare, few, commits):
    few(5)
    assert commits(lambda: declare(12)) == 3
    assert names(queue) == list("abcdefghijkl")


def test_what_the_file_has_already_is_not_written_again(queue, declare, commits):
    declare(12)
    assert commits(lambda: declare(12)) == 0


def test_only_what_differs_is_written(queue, declare, few, commits):
    few(5)
    declare(12)
    assert commits(lambda: declare(11)) == 1
    assert names(queue) == list("abcdefghijk")


def test_schedules_are_declared_beside_a_transaction_of_another_process_if_none_differs(queue, open_store, declare):
    declare(12)
    with open_store().transactions.transaction():
        declare(12)


def test_a_start_with_unchanged_schedules_computes_no_ticks(queue, declare, monkeypatch):
    daily = cron("0 6 * * *", tz="UTC")
    declare(12, daily)
    for name in ("first", "due", "decode"):
        monkeypatch.delattr(triggers, name)
    declare(12, daily)
    to_the_end(queue.engine, "bring_near", frozenset("abcdefghijkl"))


def test_a_worker_that_died_while_it_declared_leaves_whole_schedules_and_the_next_goes_on(
    queue, declare, few, monkeypatch
):
    few(5)
    run, left = queue.engine.kernel.writer.run, [1]

    def failing(work):
        if not left.pop():
            raise StoreError("killed")
        left.append(0)
        return run(work)

    monkeypatch.setattr(queue.engine.kernel.writer, "run", failing)
    with pytest.raises(StoreError, match="killed"):
        declare(12)
    monkeypatch.undo()
    assert names(queue) == list("abcde")
    declare(12)
    assert names(queue) == list("abcdefghijkl")


def test_a_schedule_that_another_process_declares_meanwhile_is_changed_and_not_added_twice(
    queue, open_store, declare, monkeypatch
):
    first, other = triggers.first, open_store()

    def computing(*args):
        monkeypatch.undo()
        declare(3, every("2h"), store=other)
        return first(*args)

    monkeypatch.setattr(triggers, "first", computing)
    declare(3)
    assert [schedule.trigger for schedule in queue.schedules] == [HOURLY] * 3


# The clock set back


def test_schedules_are_brought_near_in_several_transactions(queue, add, few, clock, commits):
    few(5)
    add(12)
    clock.step(-86_400)
    steps = []
    assert commits(lambda: steps.extend(queue.engine.ticks.bring_near(MINE))) == len(steps) + 1 == 3
    assert {schedule.next_at.timestamp() for schedule in queue.schedules} == {clock.now() + 3600}


def test_many_schedules_brought_near_are_one_warning(queue, add, clock, caplog):
    add(8)
    clock.step(-86_400)
    with caplog.at_level(logging.WARNING, "litequeue"):
        to_the_end(queue.engine, "bring_near", MINE)
    [record] = caplog.records
    assert record.getMessage().endswith("a, b, c and 5 more")


# The statements


@pytest.mark.parametrize(
    "name", ["due_schedules", "schedules_ahead", "next_schedule", "declared_schedules", "declaring_modules"]
)
def test_schedules_are_searched_by_an_index_and_read_in_its_order(queue, name):
    sql = stored_schedules.SQL[name]
    given = {"now": 1.0, "at": 0.0, "after": b"", "limit": 1, "tasks": "[]", "broken": "[]", "modules": "[]"}
    steps = [
        row[3]
        for row in queue.engine.kernel.read(lambda db: db.raw.execute("EXPLAIN QUERY PLAN " + sql, given).fetchall())
    ]
    assert [step for step in steps if step.startswith("SEARCH litequeue_schedules USING")], steps
    assert not [step for step in steps if step.startswith("SCAN litequeue_schedules") or "TEMP B-TREE" in step], steps
