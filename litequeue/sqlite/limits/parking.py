"""Parked jobs: out of the index of ready jobs while their key is full, and back when there is room."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litequeue.limits.takes import Held, Take
    from litequeue.sqlite.drivers.connection import Connection, Steps
    from litequeue.sqlite.limits.gate import Candidate
    from litequeue.sqlite.limits.taken import Taken

CHUNK = 500  # jobs that one transaction parks, and keys at which it looks
LOOK_AGAIN = 60.0  # seconds after which a full key is looked at, whatever was told of it


class Parking:
    """What one transaction parks and brings back."""

    def __init__(self, db: Connection, taken: Taken, now: float) -> None:
        self._db, self._taken, self._now = db, taken, now
        self._new: list[tuple[int, str, str, str, str, int]] = []
        self._full: dict[tuple[str, str], float] = {}  # keys, with when to look again
        self._with_parked: dict[tuple[str, str], bool] = {}
        self.count: int = 0  # parked in this transaction

    def comes_behind(self, job: Candidate, take: Take) -> bool:
        """Whether a job must wait behind others of its key: it is parked then, and they come back if there is room."""
        place = take.limit, take.key
        if place in self._full:
            self._add(job, take)
            return True
        if not self._with_parked[place]:
            return False
        named = {"limit": take.limit, "key": take.key, "queue": job.queue, "task": job.task}
        if not self._db.rows(SQL["parked_before"], named | {"rank": job.rank, "job": job.id}):
            return False
        room = self._taken.room(*place)
        self.note(job, take, room.opens_at(take.cost))
        if room.fits(take.cost):
            self._full[place] = self._now  # they are brought back with it
        return True

    def look_up(self, takes: Iterable[Take]) -> None:
        """Find out which of these keys have parked jobs, all at once."""
        keys: dict[str, set[str]] = {}
        for take in takes:
            if (take.limit, take.key) not in self._with_parked:
                self._with_parked[take.limit, take.key] = False
                keys.setdefault(take.limit, set()).add(take.key)
        for limit, some in keys.items():
            rows = self._db.rows(SQL["keys_with_parked"], {"limit": limit, "keys": json.dumps(list(some))})
            self._with_parked.update(((limit, key), True) for (key,) in rows)

    def note(self, job: Candidate, take: Take, opens_at: float) -> None:
        """Park a job of a full key, and in this transaction all that come after it with that key."""
        self._full[take.limit, take.key] = min(opens_at, self._now + LOOK_AGAIN)
        self._add(job, take)

    def _add(self, job: Candidate, take: Take) -> None:
        self._new.append((job.id, take.limit, take.key, job.queue, job.task, job.rank))

    def park(self) -> bool:
        """Park what was noted; return whether anything was."""
        new, self._new = self._new, []
        if not new:
            return False
        db = self._db
        db.rows(SQL["park"], {"ids": json.dumps([row[0] for row in new])})
        db.many(SQL["note_parked"], new)
        lanes = {row[1:5] for row in new}
        db.many(SQL["note_full_key"], [(*lane, self._full[lane[:2]]) for lane in lanes])
        self._with_parked.update((lane[:2], True) for lane in lanes)
        self.count += len(new)
        return True

    def look_at_due(self) -> bool:
        """Bring back jobs of keys that are to be looked at by now, as many as have room. False: there are no such."""
        due = self._db.rows(SQL["keys_due"], {"now": self._now, "most": CHUNK})
        if not due:
            return False
        wanted: list[tuple[str, str, int]] = []
        later: list[tuple[float, str, str]] = []
        for limit, key in due:
            room = self._taken.room(limit, key)
            count = int(min(room.count(), CHUNK))
            if count > 0:
                wanted.append((limit, key, count))
            again = self._now if room.count() > CHUNK else min(room.after(count), self._now + LOOK_AGAIN)
            later.append((again, limit, key))
        self._bring_back(wanted)
        self._db.many(SQL["look_later"], later)
        self._db.many(SQL["forget_empty_keys"], due)
        return True

    def _bring_back(self, wanted: list[tuple[str, str, int]]) -> None:
        if wanted:
            perform(self._db, bring_back(wanted))

    def next_look(self) -> float:
        """Return when a key is to be looked at."""
        [(moment,)] = self._db.rows(SQL["next_key_look"])
        return math.inf if moment is None else float(moment)


def bring_back(keys: Iterable[tuple[str, str, int]]) -> Steps[None]:
    """Make ready the first so many parked jobs of each key and lane: limit, key, how many."""
    by_count: dict[int, list[tuple[str, str]]] = {}  # most are 1
    for limit, key, count in keys:
        by_count.setdefault(count, []).append((limit, key))
    for count, some in by_count.items():
        first = yield SQL["first_parked"], {"keys": json.dumps(some), "count": count}
        if first:
            ids = {"ids": json.dumps([job for (job,) in first])}
            yield SQL["bring_back"], ids
            yield SQL["forget_parked"], ids


def freed(job_ids: Iterable[str], held: Iterable[Held]) -> Steps[None]:
    """After runs have ended or returned: let those in that waited for their keys."""
    room: dict[tuple[str, str], int] = {}
    ordered = False
    for each in held:
        ordered = ordered or each.ordered
        for limit, key, count in each.frees:
            room[limit, key] = room.get((limit, key), 0) + count
    if ordered:
        yield from leave_order(job_ids)
    if room:
        yield from bring_back((limit, key, count) for (limit, key), count in room.items())


def leave_order(job_ids: Iterable[str]) -> Steps[None]:
    """Let the next ones of their keys begin, where jobs have ended for good whose keys keep an order."""
    left = yield SQL["leave_order"], {"ids": f"[{','.join(map(str, job_ids))}]"}
    if left:
        yield from bring_back((limit, key, 1) for limit, key in left)
