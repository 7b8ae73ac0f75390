"""What is free of a worker's slots and resources, counted once in a transaction: from what it runs. Reads only.

All jobs of a task use the same, so what is missing closes lanes (queue, task); no job is parked for it.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING

from litequeue.core.capacity import Capacity
from litequeue.limits.resources import covers
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from litequeue.sqlite.drivers.connection import Connection, Row
    from litequeue.sqlite.limits.rules import Rules


class Free:
    """The free slots and resources of one worker; `None` as its capacity: it bounds no queue, and offers nothing."""

    def __init__(self, db: Connection, worker: int, capacity: Capacity | None, rules: Rules) -> None:
        self._db, self._worker, self._rules = db, worker, rules
        self._slots, self._resources, self._present = capacity or Capacity({}, {})

    def touches(self, lanes: Iterable[Row]) -> bool:
        """Whether one of these lanes is of a queue with slots."""
        return bool(self._slots) and any(queue in self._slots for queue, *_ in lanes)

    def fits(self, queue: str, uses: Mapping[str, int]) -> bool:
        """Whether one more run of a task of this queue that uses these resources may start."""
        if not uses and queue not in self._slots:
            return True
        if not covers(self._resources, uses):
            return False
        slots, resources = self._left
        return slots.get(queue, 1) > 0 and covers(resources, uses)

    def take(self, queue: str, uses: Mapping[str, int]) -> bool:
        """Count one that starts; return whether there may be too little left for another now."""
        if not (queue in self._slots or any(name in self._resources for name in uses)):
            return False
        slots, resources = self._left
        _count(slots, {queue: 1})
        _count(resources, uses)
        return slots.get(queue, 1) <= 0 or any(resources[name] < self._most[name] for name in uses)

    @cached_property
    def _left(self) -> tuple[dict[str, int], dict[str, int]]:
        slots, resources = dict(self._slots), dict(self._resources)
        for queue, task in self._running().values():
            _count(slots, {queue: 1})
            _count(resources, self._rules.uses_of(task))
        return slots, resources

    @cached_property
    def _most(self) -> dict[str, int]:
        """The most that a run of any task uses of each resource."""
        most: dict[str, int] = {}
        for rules in self._rules.tasks.values():
            most |= {name: amount for name, amount in rules.uses.items() if amount > most.get(name, 0)}
        return most

    def _running(self) -> dict[tuple[str, int], tuple[str, str]]:
        """The queue and task of each run that takes of the worker: claimed for it, or present in its process.

        The file knows of what is claimed, but has not come to the worker; the worker, of functions that go on after
        their runs have ended in the file.
        """
        tasks = [name for name, rules in self._rules.tasks.items() if rules.uses] if self._resources else []
        asked = {"worker": self._worker, "queues": json.dumps(list(self._slots)), "tasks": json.dumps(tasks)}
        rows = [*self._db.rows(SQL["runs_that_take"], asked), *self._present]
        return {(job, attempt): (queue, task) for job, attempt, queue, task in rows}


def _count(left: dict[str, int], takes: Mapping[str, int]) -> None:
    for name, amount in takes.items():
        if name in left:
            left[name] -= amount
