"""Parked jobs: out of the index of ready jobs while their key is full, and back when there is room."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING

from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.limits.bring_back import bring_back
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litequeue.limits.held import Take
    from litequeue.sqlite.drivers.connection import Connection
    from litequeue.sqlite.limits.candidate import Candidate
    from litequeue.sqlite.limits.rules import Rules
    from litequeue.sqlite.limits.taken import Taken

CHUNK = 500  # jobs that one transaction parks, and keys at which it looks
MANY = 100  # of one key that a claim has met: then those behind them are parked without a look at each
AT_ONCE = 2_000  # of these, about 12 ms
LOOK_AGAIN = 60.0  # seconds after which a full key is looked at, whatever was told of it


class Parking:
    """What one transaction parks and brings back."""

    def __init__(self, db: Connection, rules: Rules, taken: Taken, now: float) -> None:
        self._db, self._rules, self._taken, self._now = db, rules, taken, now
        self._new: list[tuple[int, str, str, str, str, int]] = []
        self._met: Counter[tuple[str, str, str, str, str]] = Counter()  # by lane of a key and by what they take
        self._full: dict[tuple[str, str], float] = {}  # keys, with when to look again
        self._asked: set[tuple[str, str]] = set()  # keys
        self._next_look: float | None = None  # when a key that was full before is to be looked at; infinity: none was
        self._heads: dict[tuple[str, str, str, str], tuple[int, int]] = {}  # the first that is parked, by lane
        self.count: int = 0  # parked in this transaction

    def comes_behind(self, job: Candidate, take: Take) -> bool:
        """Whether a job must wait behind others of its key: it is parked then, and they come back if there is room."""
        if not (self._full or self._heads):
            return False
        place = take.limit, take.key
        if place in self._full:
            self._add(job, take)
            return True
        head = self._heads.get((*place, job.queue, job.task)) if self._heads else None
        if head is None or head >= (job.rank, job.id):
            return False
        room = self._taken.room(*place)
        self.note(job, take, room.opens_at(take.cost))
        if room.fits(take.cost):
            self._full[place] = self._now  # they are brought back with it
        return True

    def look_up(self, takes: Iterable[Take]) -> None:
        """Find the first parked jobs of these keys, all at once; those that are parked later come behind anyway."""
        if self._first_look() == math.inf:
            return
        keys: dict[str, set[str]] = {}
        for limit, key, *_ in takes:
            if (limit, key) not in self._asked:
                self._asked.add((limit, key))
                keys.setdefault(limit, set()).add(key)
        for limit, some in keys.items():
            for *lane, rank, job in self._db.rows(
                SQL["heads_of_keys"], {"limit": limit, "keys": json.dumps(list(some))}
            ):
                self._heads[limit, lane[0], lane[1], lane[2]] = rank, job

    def note(self, job: Candidate, take: Take, opens_at: float) -> None:
        """Park a job of a full key, and in this transaction all that come after it with that key."""
        self._full[take.limit, take.key] = min(opens_at, _later(self._now))
        self._add(job, take)

    def set_aside(self, job: Candidate, limit: str) -> None:
        """Park a job that cannot start as things are, so that no other waits for it: it is looked at now and then."""
        self._full.setdefault((limit, ""), _later(self._now))
        self._new.append((job.id, limit, "", job.queue, job.task, job.rank))

    def _add(self, job: Candidate, take: Take) -> None:
        self._new.append((job.id, take.limit, take.key, job.queue, job.task, job.rank))
        if job.takes is not None:
            self._met[take.limit, take.key, job.queue, job.task, job.takes] += 1

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
        self.count += len(new)
        for place, met in self._met.items():
            if met >= MANY:
                self._park_alike(*place)
        self._met.clear()
        return True

    def _park_alike(self, limit: str, key: str, queue: str, task: str, takes: str) -> None:
        values = {"limit": limit, "key": key, "queue": queue, "task": task, "takes": takes, "most": AT_ONCE}
        alike = self._db.rows(SQL["park_alike"], values)
        self._db.rows(SQL["park"], {"ids": json.dumps([job for (job,) in alike])})
        self.count += len(alike)

    def look_at_due(self) -> bool:
        """Bring back jobs of keys that are to be looked at by now, as many as have room. False: there are no such."""
        if self._first_look() > self._now:
            return False
        due: dict[tuple[str, str], bool] = {}  # keys, with whether jobs are parked there whose task takes of it no more
        rows = self._db.rows(SQL["keys_due"], {"now": self._now, "most": CHUNK})
        for limit, key, task in rows:
            due[limit, key] = due.get((limit, key), False) or not self._rules.has_key(task, limit)
        wanted: list[tuple[str, str, int]] = []
        later: list[tuple[float, str, str]] = []
        for (limit, key), is_free in due.items():
            room = self._taken.room(limit, key)
            free = math.inf if is_free else room.count()
            count = int(min(free, CHUNK))
            if count > 0:
                wanted.append((limit, key, count))
            opens_at = room.after(count) if count else room.opens_at(1)
            again = self._now if free > CHUNK else min(opens_at, _later(self._now))
            later.append((again, limit, key))
        self._bring_back(wanted)
        self._db.many(SQL["look_later"], later)
        self._db.many(SQL["forget_empty_keys"], due)
        if len(rows) < CHUNK:  # what is due still has a name that is not UTF-8, so not as it was read
            self._db.rows(SQL["put_off_looks"], {"now": self._now, "later": _later(self._now)})
        self._next_look = None
        return True

    def _bring_back(self, wanted: list[tuple[str, str, int]]) -> None:
        if wanted:
            perform(self._db, bring_back(wanted))

    def next_look(self) -> float:
        """Return when a key is to be looked at."""
        if self.count:
            self._next_look = None
        return self._first_look()

    def _first_look(self) -> float:
        if self._next_look is None:
            [(moment,)] = self._db.rows(SQL["next_key_look"])
            self._next_look = math.inf if moment is None else float(moment)
        return self._next_look


def _later(now: float) -> float:
    """In a minute, at a whole second: so many keys make no more than one look a second."""
    return math.ceil(now + LOOK_AGAIN)
