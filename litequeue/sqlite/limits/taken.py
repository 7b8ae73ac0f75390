"""How much of each limit is taken, counted once in a transaction: from what runs, and from the starts on record."""

from __future__ import annotations

import json
import math
from functools import cached_property
from typing import TYPE_CHECKING

from litequeue.limits.limit import Allowed
from litequeue.limits.task_rules import takes_of
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.limits.rate import Rate
    from litequeue.sqlite.drivers.connection import Connection
    from litequeue.sqlite.limits.rules import Rules


class Room:
    """What is left of a limit, or of one key of it, at one moment."""

    __slots__ = ("_now", "_patience", "_rate", "_starts", "left")

    def __init__(
        self, left: float, rate: Rate | None, starts: list[tuple[float, int]], now: float, patience: float
    ) -> None:
        self.left: float = left
        self._rate, self._starts, self._now, self._patience = rate, starts, now, patience

    @property
    def patience(self) -> float:
        """How many seconds after its claim a function may be called."""
        return math.inf if self._rate is None else max(self._rate.patience, self._patience)

    def fits(self, cost: int) -> bool:
        """Whether a run that takes so much may start now."""
        return cost <= self.left and (self._rate is None or self._opens_at(cost) <= self._now)

    def opens_at(self, cost: int) -> float:
        """Return when it may, as far as that is a matter of time; else infinity."""
        return math.inf if cost > self.left else self._opens_at(cost)

    def _opens_at(self, cost: int) -> float:
        return self._now if self._rate is None else self._rate.opens_at(self._starts, cost, self._now)

    @property
    def started(self) -> int | None:
        """How much of the window starts take; None: there is no rate."""
        return None if self._rate is None else self._rate.used(self._starts)

    def take(self, cost: int) -> float | None:
        """Take so much; return under which moment the start is kept, if it counts against a rate."""
        self.left -= cost
        if self._rate is None:
            return None
        at = self._rate.stamp(self._starts, self._now, self._patience)
        self._starts.append((at, cost))
        return at

    def count(self) -> float:
        """Return for how many runs that take 1 there is room now."""
        return min(self.left, math.inf if self._rate is None else self._rate.room(self._starts, self._now))

    def after(self, count: int) -> float:
        """Return when there is room for one more, after so many have started now, as far as time decides it."""
        if self._rate is None:
            return math.inf
        return self._rate.opens_at([*self._starts, (self._rate.stamp(self._starts, self._now), count)], 1, self._now)


class Taken:
    """The rooms of all limits, each counted when it is first asked for. `of_all`: count also what bounds no run.

    `patience`: how many seconds after their claim functions may be called, where that is more than a rate's own.
    """

    def __init__(
        self, db: Connection, rules: Rules, now: float, *, patience: float = 0.0, of_all: bool = False
    ) -> None:
        self._db, self._rules, self._now, self._of_all = db, rules, now, of_all
        self._patience = patience
        self._rooms: dict[tuple[str, str], Room] = {}
        self._holders: dict[tuple[str, str], int | None] = {}

    def room(self, limit: str, key: str) -> Room:
        """Return what is left of a limit, or of one key of it."""
        place = limit, key
        known = self._rooms.get(place)
        if known is None:
            # of one that no task takes of any more, what was parked before comes back
            allowed = self._rules.allowed(limit) if limit in self._rules.used else Allowed()
            most, rate = allowed.concurrency, allowed.rate
            left = math.inf if most is None else most - self.running.get(place, 0)
            starts = [] if rate is None else self._starts_of(limit, key, rate)
            known = self._rooms[place] = Room(left, rate, starts, self._now, self._patience)
        return known

    def _starts_of(self, limit: str, key: str, rate: Rate) -> list[tuple[float, int]]:
        values = {"limit": limit, "key": key, "edge": rate.edge(self._now), "latest": rate.latest(self._now)}
        starts = [(at, count) for at, count in self._db.rows(SQL["starts"], values)]
        booted = self._rules.booted_at  # before it starts may have been lost that were not synced
        return [(booted, rate.count), *starts] if booted is not None and booted > rate.edge(self._now) else starts

    def edges(self) -> list[tuple[str, str, float]]:
        """Return up to which moment starts count no more, of each limit and key that was asked for."""
        found = []
        for limit, key in self._rooms:
            rate = self._rules.allowed(limit).rate
            if rate is not None:
                found.append((limit, key, rate.edge(self._now)))
        return found

    @cached_property
    def running(self) -> dict[tuple[str, str], int]:
        """How much of each limit and key the running jobs hold, and functions that go on after their end."""
        held: dict[tuple[str, str], int] = {}
        tasks = self._running_tasks()
        for task, stored, count in self._db.rows(SQL["running_takes"], {"tasks": json.dumps(tasks)}):
            rules = self._rules.of(task)
            for take in () if rules is None else takes_of(rules, stored).takes:
                held[take.limit, take.key] = held.get((take.limit, take.key), 0) + take.cost * count
        return held

    def _running_tasks(self) -> list[str]:
        """The tasks that take of a limit on how many run at once."""
        return [
            name
            for name, rules in self._rules.tasks.items()
            if self._of_all or any(self._rules.allowed(use.limit).concurrency is not None for use in rules.limits)
        ]

    def holder(self, limit: str, key: str) -> int | None:
        """Return the job that has begun and not ended, of a key whose jobs keep their order."""
        if (limit, key) not in self._holders:
            rows = self._db.rows(SQL["ordered_holders"], {"limit": limit, "keys": json.dumps([key])})
            self._holders[limit, key] = rows[0][1] if rows else None
        return self._holders[limit, key]

    def hold(self, limit: str, key: str, job: int) -> None:
        """Note that a job begins which holds its key until it has ended for good."""
        self._holders[limit, key] = job
