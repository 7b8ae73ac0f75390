"""Keep schedules in the file: add, change, declare, remove, pause, resume, as statements inside one transaction."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from litequeue.core import scheduled_call
from litequeue.core.names import SHOWN, some
from litequeue.errors import ScheduleExists, ScheduleNotFound, Unsupported
from litequeue.scheduling import start, triggers
from litequeue.sqlite.jobs import overlap, row_values
from litequeue.sqlite.jobs.row_values import find_schedule
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Hashable, Sequence

    from litequeue.core.records import JobRecord
    from litequeue.core.schedules import ScheduleRecord
    from litequeue.core.store import Declared
    from litequeue.scheduling.start import Start
    from litequeue.sqlite.drivers.connection import Connection, Statement, Steps
    from litequeue.sqlite.jobs.user_answers import Ask


CHUNK = 100  # schedules that are declared in one transaction: some 3 ms


def put(new: ScheduleRecord, now: float, ask: Ask, *, replace: bool) -> Steps[ScheduleRecord]:
    """Add a schedule, or change the one of that name; return it. An unchanged schedule keeps its next tick."""
    old = yield from find_schedule(new.name)
    if old is not None and not replace:
        raise ScheduleExists(f"a schedule named {new.name!r} exists; pass replace=True to change it")
    for statement in _put(old, new, now, ask):  # noqa: UP028 - to a list nothing can be sent
        yield statement
    return (yield from require(new.name))


def _put(old: ScheduleRecord | None, new: ScheduleRecord, now: float, ask: Ask) -> list[Statement]:
    """What makes the old schedule the new one: nothing, or one statement."""
    if old is not None and _is_told(old, new):
        # what an operator has changed since then stays
        moved = SQL["move_schedule"], {"name": new.name, "module": new.module, "declared": new.declared}
        return [] if new.module == old.module else [moved]
    questions = _questions(old, new, now)
    if old is not None and new.declared is None and not questions and _core(old) == _core(new):
        return []
    [(trigger, next_at)] = ask(questions) if old is None or questions else [(old.trigger, old.next_at)]
    counted = new if old is None else msgspec.structs.replace(new, runs=old.runs)
    values = {
        "name": new.name,
        "task": new.task,
        "queue": new.queue,
        "payload": new.payload,
        "priority": new.priority,
        "trigger": trigger,
        "overlap": new.overlap,
        "catch_up": new.catch_up,
        "until": new.until,
        "max_runs": new.max_runs,
        "expires": new.expires,
        "options": new.options,
        "module": new.module,
        "declared": new.declared,
        "next_at": counted.bounded(next_at),
        "now": now,
    }
    return [(SQL["add_schedule" if old is None else "change_schedule"], values)]


def _is_told(old: ScheduleRecord, new: ScheduleRecord) -> bool:
    """Whether the code says what it said when the schedule was declared last."""
    return new.declared is not None and new.declared == old.declared


def _core(schedule: ScheduleRecord) -> tuple[object, ...]:
    call = schedule.task, schedule.queue, schedule.payload, schedule.priority, schedule.expires, schedule.options
    return *call, schedule.overlap, schedule.catch_up, schedule.until, schedule.max_runs


def _questions(old: ScheduleRecord | None, new: ScheduleRecord, now: float) -> dict[Hashable, Callable[[], Start]]:
    """From where a new trigger starts; nothing is asked for the same one. One whose end was moved goes on."""
    if old is None:
        return {("start", new.trigger): partial(start.start, new.trigger, now)}
    if _is_told(old, new):
        return {}
    if not start.is_same(old.trigger, new.trigger):
        before = start.Before(old.trigger, old.next_at, old.last_at is not None)
        return {("start", new.trigger, before): partial(start.start, new.trigger, now, before)}
    if old.next_at is None and (old.until, old.max_runs) != (new.until, new.max_runs):
        return {("go on", old.trigger): partial(_going_on, old.trigger, now)}
    return {}


def _going_on(trigger: str, now: float) -> Start:
    return start.Start(trigger, triggers.following(triggers.decode(trigger), now))


def differences(db: Connection, declared: Sequence[ScheduleRecord], now: float, ask: Ask) -> list[Statement]:
    """What makes these few declared schedules those of the code, where the file differs."""
    known = {old.name: old for old in named(db, declared)}
    ask({key: asked for new in declared for key, asked in _questions(known.get(new.name), new, now).items()})  # at once
    return [change for new in declared for change in _put(known.get(new.name), new, now, ask)]


def named(db: Connection, schedules: Sequence[ScheduleRecord]) -> list[ScheduleRecord]:
    """Read the schedules of the same names, as they are in the file."""
    rows = db.rows(SQL["named_schedules"], {"names": json.dumps([new.name for new in schedules])})
    return list(map(row_values.schedule, rows))


def gone(db: Connection, code: Declared, names: Container[str]) -> list[tuple[str, str]]:
    """Read which schedules were declared by modules that are imported here, and declare them no more: (name, module).

    A module may also declare on another queue of this process: of such a one, only those of this queue's tasks.
    """
    owned = {module for (module,) in db.rows(SQL["declaring_modules"]) if code.imported(module)}
    modules = owned.union(module for _, module in code.dropped)
    rows = db.rows(SQL["declared_schedules"], {"modules": json.dumps(sorted(modules))}) if modules else []
    return [
        (name, module)
        for name, task, module in rows
        if name not in names
        and ((name, module) in code.dropped or module in owned)
        and (task in code.tasks or module not in code.shared)
    ]


def require(name: str) -> Steps[ScheduleRecord]:
    """Read the schedule of that name, or raise."""
    found = yield from find_schedule(name)
    if found is None:
        rows = yield SQL["some_schedules"], {"limit": SHOWN}
        known = some([other for other, _ in rows], rows[0][1]) if rows else "none"
        raise ScheduleNotFound(f"no schedule named {name!r} in this file; it has: {known}")
    return found


def remove(name: str) -> Steps[None]:
    """Delete a schedule; jobs it has enqueued stay."""
    yield from require(name)
    yield SQL["remove_schedule"], {"name": name}


def pause(name: str) -> Steps[None]:
    """Pause a schedule until it is resumed."""
    yield from require(name)
    yield SQL["pause_schedule"], {"name": name}


def resume(name: str, now: float, ask: Ask, *, run_missed: bool) -> Steps[None]:
    """Resume a paused schedule. Ticks of the pause are caught up only where `run_missed` says so."""
    schedule = yield from require(name)
    if schedule.paused:
        next_at = schedule.next_at
        if next_at is not None:  # else it will not fire again
            [after] = ask({("next", schedule.trigger): partial(_next, schedule, now)})
            next_at = next_at if next_at > now or run_missed else schedule.bounded(after)
        yield SQL["resume_schedule"], {"name": name, "next_at": next_at, "now": now}


def _next(schedule: ScheduleRecord, now: float) -> float | None:
    try:
        return triggers.following(triggers.decode(schedule.trigger), now)
    except ValueError as error:
        raise _cannot_fire(schedule.name, error) from error


def _cannot_fire(name: str, error: ValueError) -> Unsupported:
    return Unsupported(f"the schedule {name!r} cannot fire here: {error}; remove it or add it again")


def trigger_now(name: str, now: float) -> Steps[JobRecord]:
    """Enqueue a schedule's call at once, in addition to its ticks; return the job, or the one that holds its key."""
    schedule = yield from require(name)
    try:
        options = scheduled_call.decode(schedule.options)
    except ValueError as error:
        raise _cannot_fire(name, error) from error
    submitted = yield from overlap.store_now(schedule, options, now)
    if submitted.fresh:
        yield SQL["note_triggered"], {"name": name, "now": now, "last_job": int(submitted.id)}
    return (yield from row_values.require_job(submitted.id, now))
