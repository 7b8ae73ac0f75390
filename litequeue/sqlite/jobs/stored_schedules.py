"""Keep schedules in the file, and enqueue due ticks, each once. Knows triggers, and no cron syntax."""

from __future__ import annotations

import json
import random
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.logger import later
from litequeue.core.records import NewJob
from litequeue.errors import ScheduleExists, ScheduleNotFound, Unsupported
from litequeue.scheduling import triggers
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs import row_values
from litequeue.sqlite.jobs.enqueue import submit
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litequeue.core.engine import ScheduleRecord
    from litequeue.sqlite.drivers.connection import Connection
    from litequeue.sqlite.jobs.user_answers import Ask


class Ticks(NamedTuple):
    """The answer of a trigger: the due ticks and the next due time, or its fault."""

    due: triggers.Due
    jitter: float = 0.0
    wrong: str = ""


_NOTHING = triggers.Due((), None)


def put(db: Connection, new: ScheduleRecord, now: float, ask: Ask, *, replace: bool) -> None:
    """Add a schedule, or change the one of that name. An unchanged schedule keeps its next tick."""
    old = find(db, new.name)
    if old is not None and not replace:
        raise ScheduleExists(f"a schedule named {new.name!r} exists; pass replace=True to change it")
    same_trigger = old is not None and old.trigger == new.trigger
    if old is not None and same_trigger:
        next_at = old.next_at
    else:
        [next_at] = ask({("first", new.trigger): partial(_first_tick, new.trigger, now)})
    values = {
        "name": new.name,
        "task": new.task,
        "queue": new.queue,
        "payload": new.payload,
        "priority": new.priority,
        "trigger": new.trigger,
        "declared": int(new.declared),
        "next_at": next_at,
    }
    if old is None:
        db.rows(SQL["add_schedule"], values | {"now": now})
    elif not same_trigger or _core(old) != _core(new):
        db.rows(SQL["change_schedule"], values)


def _core(schedule: ScheduleRecord) -> tuple[object, ...]:
    return schedule.task, schedule.queue, schedule.payload, schedule.priority, schedule.declared


def _first_tick(trigger: str, now: float) -> float | None:
    return triggers.first(triggers.decode(trigger), now)


def declare(db: Connection, declared: Sequence[ScheduleRecord], tasks: frozenset[str], now: float, ask: Ask) -> None:
    """Make the declared schedules of these tasks those of the code: add, change, remove."""
    names = {schedule.name for schedule in declared}
    known = row_values.schedules(db)
    same = {(old.name, old.trigger) for old in known}
    new_triggers = {new.trigger for new in declared if (new.name, new.trigger) not in same}
    ask({("first", trigger): partial(_first_tick, trigger, now) for trigger in new_triggers})  # all at once
    for old in known:
        if old.declared and old.task in tasks and old.name not in names:
            db.rows(SQL["remove_schedule"], {"name": old.name})
    for new in declared:
        put(db, new, now, ask, replace=True)
    bring_near(db, tasks, now, ask)


def find(db: Connection, name: str) -> ScheduleRecord | None:
    """Read the schedule of that name."""
    rows = db.rows(SQL["schedule"], {"name": name})
    return row_values.schedule(rows[0]) if rows else None


def require(db: Connection, name: str) -> ScheduleRecord:
    """Read the schedule of that name, or raise."""
    found = find(db, name)
    if found is None:
        known = ", ".join(schedule.name for schedule in row_values.schedules(db)) or "none"
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
        [next_at] = [None] if spent else ask({("first", schedule.trigger): partial(_first, schedule, now)})
        db.rows(SQL["resume_schedule"], {"name": name, "next_at": next_at})


def _first(schedule: ScheduleRecord, now: float) -> float | None:
    try:
        return _first_tick(schedule.trigger, now)
    except ValueError as error:
        raise Unsupported(
            f"the schedule {schedule.name!r} cannot fire here: {error}; remove it or add it again"
        ) from error


def trigger_now(db: Connection, name: str, now: float) -> str:
    """Enqueue a schedule's call at once, in addition to its ticks; return the job's id."""
    schedule = require(db, name)
    job_id = _enqueue(db, schedule, now, run_at=None)
    db.rows(
        SQL["advance_schedule"], {"name": name, "next_at": schedule.next_at, "last_at": now, "last_job": int(job_id)}
    )
    return job_id


def fire(db: Connection, tasks: frozenset[str], now: float, ask: Ask) -> tuple[int, float | None]:
    """Enqueue each due tick of these tasks' schedules, set the next; return how many, and the next due time."""
    known = json.dumps(sorted(tasks))
    rows = db.rows(SQL["due_schedules"], {"now": now, "tasks": known})
    due = {name: row_values.schedule(tuple(row)) for *row, name in rows}
    answers = ask({(name, each.trigger, each.next_at): partial(_ticks, each, name, now) for name, each in due.items()})
    fired, broken = 0, []
    for (name, schedule), ticks in zip(due.items(), answers, strict=True):
        # of a newer release, someone else's, or in a zone this machine does not know: it must not stop the others
        if ticks.wrong:
            later.error("the schedule %r cannot fire here: %s", schedule.name, ticks.wrong)
            broken.append(name)
        else:
            fired += _fire_one(db, schedule, ticks, now)
    [(next_at,)] = db.rows(SQL["next_schedule"], {"tasks": known, "broken": json.dumps(broken)})
    return fired, next_at


def _ticks(schedule: ScheduleRecord, name: str, now: float) -> Ticks:
    """Return the ticks that are due. A schedule whose name is not UTF-8 is refused: it could not be updated."""
    try:
        if schedule.name.encode().hex() != name.lower():
            return Ticks(_NOTHING, wrong="its name is not UTF-8")
        trigger = triggers.decode(schedule.trigger)
        due = _NOTHING if schedule.next_at is None else triggers.due(trigger, schedule.next_at, now)
    except ValueError as error:
        return Ticks(_NOTHING, wrong=str(error) or "its trigger cannot be read")
    return Ticks(due, trigger.jitter if isinstance(trigger, triggers.Every) and trigger.jitter else 0.0)


def bring_near(db: Connection, tasks: frozenset[str], now: float, ask: Ask) -> None:
    """Where the clock was set back, a tick can be due so far ahead that it is not this schedule's next."""
    ahead = {
        each.name: each
        for each in row_values.schedules(db)
        if each.next_at is not None and each.next_at > now and not each.paused and each.task in tasks
    }
    found = ask({
        (name, each.trigger, each.next_at): partial(_ticks, each, name.encode(errors="replace").hex(), now)
        for name, each in ahead.items()
    })  # fmt: skip
    for schedule, ticks in zip(ahead.values(), found, strict=True):
        # wrong: of a newer release, or in a zone this machine does not know
        if not ticks.wrong and ticks.due.next_at != schedule.next_at:
            later.warning("the clock was set back; the next tick of the schedule %r was recomputed", schedule.name)
            db.rows(SQL["resume_schedule"], {"name": schedule.name, "next_at": ticks.due.next_at})


def _fire_one(db: Connection, schedule: ScheduleRecord, ticks: Ticks, now: float) -> int:
    job_id = None
    due = ticks.due
    for tick in due.ticks:
        jitter = random.random() * ticks.jitter if ticks.jitter else 0.0
        job_id = _enqueue(db, schedule, now, run_at=tick + jitter)
    db.rows(
        SQL["advance_schedule"],
        {
            "name": schedule.name,
            "next_at": due.next_at,
            "last_at": due.ticks[-1] if due.ticks else None,
            "last_job": None if job_id is None else int(job_id),
        },
    )
    return len(due.ticks)


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
