"""Keep schedules in the file, and enqueue what is due, each tick once. Knows triggers, and no cron syntax."""

from __future__ import annotations

import json
import logging
import random
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from litequeue import schedule as triggers
from litequeue.errors import ScheduleExists, ScheduleNotFound, Unsupported
from litequeue.job import NewJob
from litequeue.sqlite import reading
from litequeue.sqlite.connection import perform
from litequeue.sqlite.queries import SQL
from litequeue.sqlite.transitions import submit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litequeue.engine import ScheduleRecord
    from litequeue.sqlite.connection import Connection

log: logging.Logger = logging.getLogger("litequeue")


def put(db: Connection, new: ScheduleRecord, now: float, *, replace: bool) -> None:
    """Add a schedule, or change the one of its name. What is the same stays as it is: its next tick, too."""
    old = find(db, new.name)
    if old is not None and not replace:
        raise ScheduleExists(f"a schedule named {new.name!r} exists; pass replace=True to change it")
    same_trigger = old is not None and old.trigger == new.trigger
    next_at = old.next_at if old is not None and same_trigger else triggers.first(triggers.decode(new.trigger), now)
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


def declare(db: Connection, declared: Sequence[ScheduleRecord], tasks: frozenset[str], now: float) -> None:
    """Make the declared schedules of these tasks those of the code: add, change, remove."""
    names = {schedule.name for schedule in declared}
    for old in reading.schedules(db):
        if old.declared and old.task in tasks and old.name not in names:
            db.rows(SQL["remove_schedule"], {"name": old.name})
    for new in declared:
        put(db, new, now, replace=True)
    bring_near(db, tasks, now)


def find(db: Connection, name: str) -> ScheduleRecord | None:
    """Read the schedule of that name."""
    rows = db.rows(SQL["schedule"], {"name": name})
    return reading.schedule(rows[0]) if rows else None


def require(db: Connection, name: str) -> ScheduleRecord:
    """Read the schedule of that name, or raise."""
    found = find(db, name)
    if found is None:
        known = ", ".join(schedule.name for schedule in reading.schedules(db)) or "none"
        raise ScheduleNotFound(f"no schedule named {name!r} in this file; it has: {known}")
    return found


def remove(db: Connection, name: str) -> None:
    """Delete a schedule; jobs it has enqueued stay."""
    require(db, name)
    db.rows(SQL["remove_schedule"], {"name": name})


def pause(db: Connection, name: str) -> None:
    """Let a schedule fire no more until it is resumed."""
    require(db, name)
    db.rows(SQL["pause_schedule"], {"name": name})


def resume(db: Connection, name: str, now: float) -> None:
    """Let a paused schedule go on from now; ticks of the pause are not made up for."""
    schedule = require(db, name)
    if schedule.paused:
        # one that will not fire again stays so
        spent = schedule.next_at is None
        next_at = None if spent else _first(schedule, now)
        db.rows(SQL["resume_schedule"], {"name": name, "next_at": next_at})


def _first(schedule: ScheduleRecord, now: float) -> float | None:
    try:
        return triggers.first(triggers.decode(schedule.trigger), now)
    except ValueError as error:
        raise Unsupported(
            f"the schedule {schedule.name!r} cannot fire here: {error}; remove it or add it anew"
        ) from error


def trigger_now(db: Connection, name: str, now: float) -> str:
    """Enqueue a schedule's call at once, beside its ticks; return the job's id."""
    schedule = require(db, name)
    job_id = _enqueue(db, schedule, now, run_at=None)
    db.rows(
        SQL["advance_schedule"], {"name": name, "next_at": schedule.next_at, "last_at": now, "last_job": int(job_id)}
    )
    return job_id


def fire(db: Connection, tasks: frozenset[str], now: float) -> tuple[int, float | None]:
    """Enqueue each due tick of these tasks' schedules and move them on; return how many, and the next due time."""
    known = json.dumps(sorted(tasks))
    fired, broken = 0, []
    for *row, name in db.rows(SQL["due_schedules"], {"now": now, "tasks": known}):
        schedule = reading.schedule(tuple(row))
        try:
            trigger = _trigger(schedule, name)
            due = triggers.due(trigger, cast("float", schedule.next_at), now)  # it is due, so it has one
        # of a newer release, of a foreign hand, or in a zone this machine does not know: it must not stop the others
        except ValueError as error:
            log.error("the schedule %r cannot fire here: %s", schedule.name, error)  # noqa: TRY400
            broken.append(name)
        else:
            fired += _fire_one(db, schedule, trigger, due, now)
    [(next_at,)] = db.rows(SQL["next_schedule"], {"tasks": known, "broken": json.dumps(broken)})
    return fired, next_at


def _trigger(schedule: ScheduleRecord, name: str) -> triggers.Trigger:
    """Decode the trigger of a schedule that can be moved on: one that cannot be named would fire for ever."""
    if schedule.name.encode().hex() != name.lower():
        raise ValueError("its name is not UTF-8")
    return triggers.decode(schedule.trigger)


def bring_near(db: Connection, tasks: frozenset[str], now: float) -> None:
    """Where the clock was set back, a tick can be due so far ahead that it is not this schedule's next."""
    for schedule in reading.schedules(db):
        if schedule.next_at is None or schedule.next_at <= now or schedule.paused or schedule.task not in tasks:
            continue
        with suppress(ValueError):  # of a newer release, or in a zone this machine does not know
            near = triggers.due(triggers.decode(schedule.trigger), schedule.next_at, now).next_at
            if near != schedule.next_at:
                log.warning("the clock was set back: the schedule %r is brought near again", schedule.name)
                db.rows(SQL["resume_schedule"], {"name": schedule.name, "next_at": near})


def _fire_one(
    db: Connection, schedule: ScheduleRecord, trigger: triggers.Trigger, due: triggers.Due, now: float
) -> int:
    job_id = None
    for tick in due.ticks:
        job_id = _enqueue(db, schedule, now, run_at=_jittered(trigger, tick))
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


def _jittered(trigger: triggers.Trigger, tick: float) -> float:
    if isinstance(trigger, triggers.Every) and trigger.jitter:
        return tick + random.random() * trigger.jitter
    return tick


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
