"""Keep schedules in the file, and enqueue due ticks, each once. Knows triggers, and no cron syntax."""

from __future__ import annotations

import json
import math
import random
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.budget import BUDGET
from litequeue.core.names import SHOWN, some
from litequeue.core.records import NewJob
from litequeue.errors import ScheduleExists, ScheduleNotFound, Unsupported
from litequeue.scheduling import start, triggers
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs import row_values
from litequeue.sqlite.jobs.enqueue import submit
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Hashable, Sequence

    from litequeue.core.engine import CatchUp, ScheduleRecord
    from litequeue.scheduling.start import Start
    from litequeue.sqlite.drivers.connection import Connection, Statement
    from litequeue.sqlite.jobs.user_answers import Ask


CHUNK = 100  # ticks that are enqueued, or tasks whose schedules are declared, in one transaction: some 3 ms
PAGE = 1000  # schedules that are read at once


class Found(NamedTuple):
    """A schedule as it was when its ticks were computed, outside the transaction. `key`: its name's bytes, in hex."""

    name: str
    key: str
    task: str
    trigger: str
    catch_up: CatchUp
    next_at: float
    size: int


class Ticks(NamedTuple):
    """The answer of a trigger: the due ticks and the next due time, or its fault."""

    due: triggers.Due
    delays: tuple[float, ...] = ()  # each tick's
    wrong: str = ""


class Chunk(NamedTuple):
    """What is to be fired at `now` in one transaction. `looked_at`: how many schedules that took, others included."""

    now: float
    firing: list[tuple[Found, Ticks]]
    looked_at: int


_NOTHING = triggers.Due((), None)


def put(db: Connection, new: ScheduleRecord, now: float, ask: Ask, *, replace: bool) -> None:
    """Add a schedule, or change the one of that name. An unchanged schedule keeps its next tick."""
    old = find(db, new.name)
    if old is not None and not replace:
        raise ScheduleExists(f"a schedule named {new.name!r} exists; pass replace=True to change it")
    for statement in _put(old, new, now, ask):
        db.rows(*statement)


def _put(old: ScheduleRecord | None, new: ScheduleRecord, now: float, ask: Ask) -> list[Statement]:
    """What makes the old schedule the new one: nothing, or one statement."""
    questions = _questions(old, new, now)
    if old is not None and not questions and _core(old) == _core(new):
        return []
    [(trigger, next_at)] = ask(questions) if old is None or questions else [(old.trigger, old.next_at)]
    values = {
        "name": new.name,
        "task": new.task,
        "queue": new.queue,
        "payload": new.payload,
        "priority": new.priority,
        "trigger": trigger,
        "declared": int(new.declared),
        "catch_up": new.catch_up,
        "next_at": next_at,
        "now": now,
    }
    return [(SQL["add_schedule" if old is None else "change_schedule"], values)]


def _core(schedule: ScheduleRecord) -> tuple[object, ...]:
    return schedule.task, schedule.queue, schedule.payload, schedule.priority, schedule.declared, schedule.catch_up


def _questions(old: ScheduleRecord | None, new: ScheduleRecord, now: float) -> dict[Hashable, Callable[[], Start]]:
    """From where a new trigger starts; nothing is asked for the same one."""
    if old is None:
        return {("start", new.trigger): partial(start.start, new.trigger, now)}
    if start.is_same(old.trigger, new.trigger):
        return {}
    before = start.Before(old.trigger, old.next_at, old.last_at is not None)
    return {("start", new.trigger, before): partial(start.start, new.trigger, now, before)}


def differences(
    db: Connection,
    declared: Sequence[ScheduleRecord],
    tasks: Sequence[str],
    names: Container[str],
    now: float,
    ask: Ask,
) -> list[Statement]:
    """What makes the declared schedules of these few tasks those of the code, where the file differs.

    `names`: all schedules that are declared, also those of other tasks.
    """
    rows = db.rows(SQL["named_schedules"], {"names": json.dumps([new.name for new in declared])})
    known = {old.name: old for old in map(row_values.schedule, rows)}
    ask({key: asked for new in declared for key, asked in _questions(known.get(new.name), new, now).items()})  # at once
    in_file = db.rows(SQL["declared_schedules"], {"tasks": json.dumps(tasks)})
    changes: list[Statement] = [(SQL["remove_schedule"], {"name": name}) for (name,) in in_file if name not in names]
    for new in declared:
        changes += _put(known.get(new.name), new, now, ask)
    return changes


def find(db: Connection, name: str) -> ScheduleRecord | None:
    """Read the schedule of that name."""
    rows = db.rows(SQL["schedule"], {"name": name})
    return row_values.schedule(rows[0]) if rows else None


def require(db: Connection, name: str) -> ScheduleRecord:
    """Read the schedule of that name, or raise."""
    found = find(db, name)
    if found is None:
        rows = db.rows(SQL["some_schedules"], {"limit": SHOWN})
        known = some([other for other, _ in rows], rows[0][1]) if rows else "none"
        raise ScheduleNotFound(f"no schedule named {name!r} in this file; it has: {known}")
    return found


def remove(db: Connection, name: str) -> None:
    """Delete a schedule; jobs it has enqueued stay."""
    require(db, name)
    db.rows(SQL["remove_schedule"], {"name": name})


def pause(db: Connection, name: str) -> None:
    """Pause a schedule until it is resumed."""
    require(db, name)
    db.rows(SQL["pause_schedule"], {"name": name})


def resume(db: Connection, name: str, now: float, ask: Ask) -> None:
    """Resume a paused schedule from now on; ticks of the pause are not caught up."""
    schedule = require(db, name)
    if schedule.paused:
        # one that will not fire again stays so
        spent = schedule.next_at is None
        [next_at] = [None] if spent else ask({("next", schedule.trigger): partial(_next, schedule, now)})
        db.rows(SQL["resume_schedule"], {"name": name, "next_at": next_at, "now": now})


def _next(schedule: ScheduleRecord, now: float) -> float | None:
    try:
        return triggers.following(triggers.decode(schedule.trigger), now)
    except ValueError as error:
        raise Unsupported(
            f"the schedule {schedule.name!r} cannot fire here: {error}; remove it or add it again"
        ) from error


def trigger_now(db: Connection, name: str, now: float) -> str:
    """Enqueue a schedule's call at once, in addition to its ticks; return the job's id."""
    schedule = require(db, name)
    job_id = _enqueue(db, schedule, now, run_at=None)
    db.rows(SQL["note_triggered"], {"name": name, "now": now, "last_job": int(job_id)})
    return job_id


# -- ticks: computed outside of the transaction, a chunk at a time; what has changed since then is left for the next


def page(db: Connection, which: str, tasks: str, now: float, after: Found | None) -> list[Found]:
    """Read the schedules of these tasks (JSON) that are due, or ahead of the clock, behind the last one read."""
    at, name = (-math.inf, "") if after is None else (after.next_at, after.key)
    where = {"tasks": tasks, "now": now, "at": at, "after": bytes.fromhex(name), "limit": PAGE}
    return [Found(*row) for row in db.rows(SQL[which], where)]


def chunk(found: Sequence[Found], now: float, wrong: list[tuple[Found, str]]) -> Chunk:
    """Compute what is to be fired of the first schedules: as much as fits into a transaction, or is quickly computed.

    Those that cannot fire are appended to `wrong`: of a newer release, someone else's, or in a zone unknown here.
    """
    firing: list[tuple[Found, Ticks]] = []
    looked_at, room, left = 0, CHUNK, BUDGET
    for each in found:
        looked_at += 1
        ticks = _ticks(each, now, max(1, min(room, left // max(1, each.size))))
        if ticks.wrong:
            wrong.append((each, ticks.wrong))
        elif ticks.due.ticks or ticks.due.next_at != each.next_at:
            firing.append((each, ticks))
        room -= max(1, len(ticks.due.ticks))
        left -= each.size * len(ticks.due.ticks)
        if room <= 0 or left <= 0:
            break
    return Chunk(now, firing, looked_at)


def _ticks(found: Found, now: float, limit: int) -> Ticks:
    """Return the ticks that are due. A schedule whose name is not UTF-8 is refused: it could not be updated."""
    try:
        if found.name.encode().hex() != found.key.lower():
            return Ticks(_NOTHING, wrong="its name is not UTF-8")
        trigger = triggers.decode(found.trigger)
        due = triggers.due(trigger, found.next_at, now, found.catch_up, limit)
    except (ValueError, OverflowError) as error:
        return Ticks(_NOTHING, wrong=str(error) or "its trigger cannot be read")
    return Ticks(due, tuple(random.random() * triggers.jitter(trigger, tick) for tick in due.ticks))


def fire(db: Connection, chunk: Chunk) -> list[tuple[str, int]]:
    """Enqueue the ticks and set the next ones; return the names of the schedules, with how many ticks.

    The fence: one that was fired, changed or paused since its ticks were computed is passed over.
    """
    fired = []
    for found, ticks in chunk.firing:
        schedule = find(db, found.name)
        if schedule is not None and _is_as_found(schedule, found):
            _fire_one(db, schedule, ticks, chunk.now)
            fired.append((found.name, len(ticks.due.ticks)))
    return fired


def _is_as_found(schedule: ScheduleRecord, found: Found) -> bool:
    now = (schedule.next_at, schedule.trigger, schedule.catch_up, schedule.task)
    return now == (found.next_at, found.trigger, found.catch_up, found.task) and not schedule.paused


def _fire_one(db: Connection, schedule: ScheduleRecord, ticks: Ticks, now: float) -> None:
    job_id = None
    due = ticks.due
    for tick, delay in zip(due.ticks, ticks.delays, strict=True):
        job_id = _enqueue(db, schedule, now, run_at=tick + delay)
    db.rows(
        SQL["advance_schedule"],
        {
            "name": schedule.name,
            "next_at": due.next_at,
            "now": now,
            "last_at": due.ticks[-1] if due.ticks else None,
            "last_job": None if job_id is None else int(job_id),
        },
    )


def _enqueue(db: Connection, schedule: ScheduleRecord, now: float, run_at: float | None) -> str:
    job = NewJob(
        task=schedule.task,
        queue=schedule.queue,
        payload=schedule.payload,
        priority=schedule.priority,
        created_at=now,
        run_at=run_at,
        schedule=schedule.name,
    )
    return perform(db, submit(job)).id
