"""Enqueue due ticks, each once: computed outside of the transaction, a chunk at a time. Knows no cron syntax.

What has changed since its ticks were computed is left for the next look.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, NamedTuple, cast

from msgspec.structs import replace

from litequeue.core.budget import BUDGET
from litequeue.core.scheduled_call import decode
from litequeue.scheduling import triggers
from litequeue.sqlite.compose.consequences import Consequences
from litequeue.sqlite.jobs.finish import until
from litequeue.sqlite.jobs.overlap import Firing, store_tick
from litequeue.sqlite.jobs.row_values import find_schedule
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litequeue.core.schedules import CatchUp, ScheduleRecord
    from litequeue.sqlite.drivers.connection import Connection, Steps
    from litequeue.sqlite.jobs.control import Was
    from litequeue.sqlite.jobs.overlap import Tick

CHUNK = 100  # ticks that are enqueued in one transaction: some 3 ms
PAGE = 1000  # schedules that are read at once


class Found(NamedTuple):
    """A schedule as it was when its ticks were computed, outside the transaction. `key`: its name's bytes, in hex."""

    name: str
    key: str
    task: str
    trigger: str
    catch_up: CatchUp
    until: float | None
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


class Fired(NamedTuple):
    """The names of the schedules that have fired, how many ticks that were, and jobs that were cancelled for others.

    `then`: what these ends brought with them. `wrong`: those that cannot fire.
    """

    names: list[str]
    ticks: int
    cancelled: dict[str, Was]
    then: Consequences
    wrong: list[tuple[Found, str]]


_NOTHING = triggers.Due((), None)


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
        latest = now if found.until is None else min(now, found.until)
        due = triggers.due(trigger, found.next_at, latest, found.catch_up, limit)
    except (ValueError, OverflowError) as error:
        return Ticks(_NOTHING, wrong=str(error) or "its trigger cannot be read")
    return Ticks(due, tuple(random.random() * triggers.jitter(trigger, tick) for tick in due.ticks))


def fire(chunk: Chunk, keep_for: float) -> Steps[Fired]:
    """Enqueue the ticks and set the next ones.

    The fence: one that was fired, changed or paused since its ticks were computed is passed over. `keep_for`: how long
    jobs are kept that are cancelled for the next.
    """
    fired = Fired([], 0, {}, Consequences(), [])
    for found, ticks in chunk.firing:
        schedule = yield from find_schedule(found.name)
        if schedule is None or not _is_as_found(schedule, found):
            continue
        try:
            options = decode(schedule.options)
        except ValueError as error:
            fired.wrong.append((found, str(error)))
            continue
        firing = Firing(options, chunk.now, until(chunk.now, keep_for), fired.then)
        stored = yield from _fire_one(schedule, ticks, firing)
        fired.names.append(found.name)
        fired.cancelled.update(tick.cancelled for tick in stored if tick.cancelled)
        fired = fired._replace(ticks=fired.ticks + len(stored))
    return fired


def _is_as_found(schedule: ScheduleRecord, found: Found) -> bool:
    now = (schedule.next_at, schedule.trigger, schedule.catch_up, schedule.until, schedule.task)
    then = (found.next_at, found.trigger, found.catch_up, found.until, found.task)
    return now == then and not schedule.paused


def _fire_one(schedule: ScheduleRecord, ticks: Ticks, firing: Firing) -> Steps[list[Tick]]:
    state, stored = schedule, cast("list[Tick]", [])
    for at, delay in zip(ticks.due.ticks, ticks.delays, strict=True):
        if state.bounded(at) is None:
            break
        tick = yield from store_tick(state, at + delay, firing)
        stored.append(tick)
        state = _after(state, tick, at)
    state = replace(state, next_at=state.bounded(ticks.due.next_at))
    yield SQL["advance_schedule"], _changes(schedule, state, firing.now)
    return stored


def _after(schedule: ScheduleRecord, tick: Tick, at: float) -> ScheduleRecord:
    """Return the schedule as it is after one tick: what has a job, and what was skipped."""
    fired = {} if tick.job is None else {"last_at": at, "last_job": tick.job}
    if tick.fresh:
        return replace(schedule, **fired, runs=schedule.runs + 1, skipping=0, skipping_since=None)
    since = at if schedule.skipping_since is None else schedule.skipping_since
    counts = {"skipped": schedule.skipped + 1, "skipping": schedule.skipping + 1, "skipping_since": since}
    return replace(schedule, **fired, **counts)


def _changes(old: ScheduleRecord, new: ScheduleRecord, now: float) -> dict[str, object]:
    return {
        "name": new.name,
        "next_at": new.next_at,
        "now": now,
        "last_at": new.last_at,
        "last_job": None if new.last_job is None else int(new.last_job),
        "runs": new.runs - old.runs,
        "skipped": new.skipped - old.skipped,
        "skipping": new.skipping,
        "skipping_since": new.skipping_since,
    }
