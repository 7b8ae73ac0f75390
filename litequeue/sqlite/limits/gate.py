"""The gate: decides, of the jobs that a claim has before it, which may start. Every claim passes it.

A limit without a key that is full closes the lanes (queue, task) that take of it: they are not read. So do the slots of
a queue that are all taken in this worker, and a resource of which it has too little. A job whose key is full is parked,
and those behind it are looked at.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from litequeue.core.stored_names import task_of
from litequeue.limits.held import Held, Start, Take
from litequeue.limits.task_rules import takes_of
from litequeue.sqlite.limits.candidate import Candidate
from litequeue.sqlite.limits.give_back import take_off
from litequeue.sqlite.limits.parking import Parking
from litequeue.sqlite.limits.taken import Taken
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from litequeue.limits.task_rules import Fits, TaskRules
    from litequeue.sqlite.drivers.connection import Connection, Row
    from litequeue.sqlite.limits.free import Free
    from litequeue.sqlite.limits.rules import Rules


class Gate:
    """What may start in one transaction, at one moment of the machine's monotonic clock.

    `opens_at`: when a limit that is full now has room again, as far as time decides it. `keyless`: jobs that do not say
    what they take, since they were enqueued by name or before the limit: their worker works it out.
    """

    def __init__(self, db: Connection, rules: Rules, now: float, free: Free, patience: float = 0.0) -> None:
        self._db, self._rules, self._now = db, rules, now
        self.free: Free = free
        self.taken: Taken = Taken(db, rules, now, patience=patience)
        self.parking: Parking = Parking(db, rules, self.taken, now)
        self.opens_at: float = math.inf
        self.keyless: set[int] = set()
        self.moved: bool = False  # since `admit` was called: a lane was closed, or a job parked
        self._closed: set[str] = set()  # limits
        self._open: dict[tuple[str, str], bool] = {}
        self._plans: dict[str, tuple[TaskRules | None, bool]] = {}
        self._starts: list[Start] = []
        self._orders: list[tuple[str, str, int]] = []

    def is_open(self, queue: str, task: str) -> bool:
        """Whether the jobs of a lane may start as far as is known without a look at them."""
        lane = queue, task
        known = self._open.get(lane)
        if known is None:
            known = self._open[lane] = self._is_open(queue, task)
        return known

    def _is_open(self, queue: str, task: str) -> bool:
        rules, name = self._rules, task_of(task)
        if queue in rules.paused_queues or name in rules.paused_tasks:
            return False
        if not self.free.fits(queue, rules.uses_of(task)):
            return False
        for use in rules.tasks[name].limits if name in rules.tasks else ():
            # no more than 1: what its jobs take beyond that closes the limit when they are the first, not before
            if not use.keyed and not self._has_room(Take(use.limit, "", min(use.cost or 0, 1), False)):
                return False
        return True

    def _has_room(self, take: Take) -> bool:
        """Whether a limit has room for this; one without a key that has none is closed from here on."""
        if take.limit in self._closed and not take.keyed:
            return False
        room = self.taken.room(take.limit, take.key)
        if room.fits(take.cost):
            return True
        if not take.keyed:
            self._close(take.limit, room.opens_at(take.cost))
        return False

    def _close(self, limit: str, opens_at: float) -> None:
        self._closed.add(limit)
        self._open.clear()
        self.moved = True
        self.opens_at = min(self.opens_at, opens_at)

    def admit(self, rows: Sequence[Row], most: int, at_once: int) -> list[tuple[int, Held | None]]:
        """Return which of these start now, at most so many, and what each holds; take that, and park what is full.

        `rows`: of `before_gate`. `at_once`: how many of them begin without waiting for another.
        """
        self.moved = False
        candidates = [Candidate(*row) for row in rows]
        plans, is_open, admitted = self._plans, self._open, list[tuple[int, Held | None]]()
        fits: list[Fits | None] = []
        for job in candidates:
            rules, _ = plans.get(job.task) or self._plan(job.task)
            fits.append(None if rules is None else takes_of(rules, job.takes))
        self.parking.look_up(take for each in fits if each is not None for take in each.takes if take.keyed)
        for job, each in zip(candidates, fits, strict=True):
            if len(admitted) >= most:
                break
            if not (is_open.get((job.queue, job.task)) or self.is_open(job.queue, job.task)):
                continue
            rules, counts_starts = plans[job.task]
            held: Held | None = None
            if rules is not None and each is not None and rules.limits:
                if each.missing:
                    self.keyless.add(job.id)
                    self.parking.set_aside(job, rules.limits[0].limit)
                    continue
                if counts_starts and len(admitted) >= at_once:
                    continue  # its start would be counted long before its function is called
                if not self._passes(job, each.takes, rules):
                    continue
                held = self._take(job, each.takes, rules)
            admitted.append((job.id, held))
            if self.free.take(job.queue, {} if rules is None else rules.uses):  # now lanes may be closed
                self._open.clear()
                self.moved = True
        self.moved = self.parking.park() or self.moved
        self._record()
        return admitted

    def _plan(self, task: str) -> tuple[TaskRules | None, bool]:
        """The rules of a task, and whether its starts count against a rate."""
        rules = self._rules.of(task)
        rates = rules is not None and any(self._rules.allowed(use.limit).rate for use in rules.limits)
        plan = self._plans[task] = rules, rates
        return plan

    def _passes(self, job: Candidate, takes: tuple[Take, ...], rules: TaskRules) -> bool:
        for take in takes:
            if take.cost > self._rules.allowed(take.limit).most:  # nothing is to wait for what never starts
                self.parking.set_aside(job, take.limit)
                return False
            if take.keyed and not self._key_has_room(job, take, ordered=rules.ordered and take is takes[0]):
                return False
            if not take.keyed and not self._has_room(take):
                return False
        return True

    def _key_has_room(self, job: Candidate, take: Take, *, ordered: bool) -> bool:
        holder = self.taken.holder(take.limit, take.key) if ordered else None
        if holder not in (None, job.id):
            self.parking.note(job, take, math.inf)
            return False
        if holder is None and self.parking.comes_behind(job, take):  # the one that has begun goes before all
            return False
        room = self.taken.room(take.limit, take.key)
        if room.fits(take.cost):
            return True
        self.parking.note(job, take, room.opens_at(take.cost))
        return False

    def _take(self, job: Candidate, takes: tuple[Take, ...], rules: TaskRules) -> Held:
        starts: tuple[Start, ...] = ()
        frees: tuple[tuple[str, str, int], ...] = ()
        start_by = math.inf
        for take in takes:
            limit, key, cost, keyed = take
            room = self.taken.room(limit, key)
            at = room.take(cost)
            if at is not None:
                starts += (Start(limit, key, at, cost),)
                start_by = min(start_by, self._now + room.patience)
            if keyed and room.left < math.inf:
                frees += ((limit, key, cost or 1),)
        if rules.ordered:
            self.taken.hold(takes[0].limit, takes[0].key, job.id)
            self._orders.append((takes[0].limit, takes[0].key, job.id))
        self._starts += starts
        return Held(takes, starts, start_by, frees, rules.ordered, self._now)

    def take_off(self, held: Iterable[Held | None]) -> None:
        """Take off again what was admitted and is not claimed after all."""
        take_off(self._db, held)

    def _record(self) -> None:
        """Keep what was taken that does not show in the running rows."""
        if self._starts:
            self._db.many(SQL["forget_starts"], self.taken.edges())
            edge = self._now - self._rules.longest_window
            self._db.rows(SQL["forget_old_starts"], {"edge": edge, "most": 4 * len(self._starts)})
            self._db.many(SQL["count_start"], self._starts)
        if self._orders:
            self._db.many(SQL["hold_order"], self._orders)
        self._starts, self._orders = [], []
