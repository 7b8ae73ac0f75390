"""The limits and pauses as an operator sees them. Reads only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from litequeue.core.limits import LimitRecord, PauseRecord
from litequeue.core.stored_names import task_of
from litequeue.limits.settings import declared, settings_of, settings_set
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs import counts
from litequeue.sqlite.jobs.row_values import snapshot
from litequeue.sqlite.limits import operating, rules
from litequeue.sqlite.limits.taken import Taken
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.core.clock import Clock
    from litequeue.sqlite.drivers.connection import Connection, Row
    from litequeue.sqlite.limits.rules import Rules


def limits(db: Connection, clock: Clock, name: str | None = None) -> list[LimitRecord]:
    """Read all limits, by name, or one; raises `LimitNotFound`."""
    with snapshot(db):
        found = db.rows(SQL["stored_limits"]) if name is None else [perform(db, operating.require(name))]
        return _Overview(db, clock).of(found) if found else []


class _Overview:
    """What is taken of the limits, and what waits for them, counted at once for all of them."""

    def __init__(self, db: Connection, clock: Clock) -> None:
        self._rules: Rules = rules.read(db)
        self._monotonic, self._wall = clock.monotonic(), clock.now()
        self._taken = Taken(db, self._rules, self._monotonic, of_all=True)
        self._parked: dict[str, int] = dict(db.rows(SQL["parked_of_limits"]))
        self._full_keys: dict[str, int] = dict(db.rows(SQL["full_keys_of_limits"]))
        self._ready: dict[str, int] = {}
        for lane in counts.ready(db) if self._rules.tasks else ():
            task = task_of(lane.task)
            self._ready[task] = self._ready.get(task, 0) + lane.jobs

    def of(self, rows: list[Row]) -> list[LimitRecord]:
        """Return the limits of these rows, by name."""
        return sorted(map(self._record, rows), key=lambda record: record.name)

    def _record(self, row: Row) -> LimitRecord:
        name, code, operator, operator_at = row
        tasks = self._rules.tasks_of(name)
        keyed = any(use.keyed for task in tasks for use in self._rules.tasks[task].limits if use.limit == name)
        room = None if keyed else self._taken.room(name, "")
        full = room is not None and not room.fits(1)
        opens_at = room.opens_at(1) if room is not None and full else math.inf
        return LimitRecord(
            name=name,
            allowed=settings_of(self._rules.allowed(name)),
            declared=None if code is None else settings_of(declared(code)),
            operator=settings_set(operator),
            operator_at=operator_at,
            tasks=tuple(sorted(tasks)),
            keyed=keyed,
            running=sum(count for (limit, _), count in self._taken.running.items() if limit == name),
            started=None if room is None else room.started,
            waiting=sum(self._ready.get(task, 0) for task in tasks),
            parked=self._parked.get(name, 0),
            full_keys=self._full_keys.get(name, 0),
            full=full,
            opens_at=None if opens_at == math.inf else self._wall + (opens_at - self._monotonic),
        )


def pauses(db: Connection) -> list[PauseRecord]:
    """Read what is paused: queues, then tasks, by name."""
    return [PauseRecord(kind, name, paused_at) for kind, name, paused_at in sorted(db.rows(SQL["stored_pauses"]))]


def too_costly(db: Connection) -> list[tuple[str, str, int, int]]:
    """Return tasks that take more of a limit than that ever has: task, limit, cost, and the most there is."""
    known = rules.read(db)
    return [
        (task, use.limit, use.cost, known.allowed(use.limit).most)
        for task, rule in sorted(known.tasks.items())
        for use in rule.limits
        if use.cost is not None and use.cost > known.allowed(use.limit).most
    ]
