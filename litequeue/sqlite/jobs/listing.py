"""List jobs, newest first, in steps that each read little and hold no lock between them. Reads only.

One step looks at one block of jobs. So a filter that few jobs match keeps no other reader waiting and no checkpoint
from its work, however many jobs it looks at; and its caller can stop between two steps, and go on from there later. The
time limit is in `parts/jobs.py`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from litequeue.core.records import ListedJob, Page, Status
from litequeue.sqlite.compose.groups import job_ids
from litequeue.sqlite.jobs.ids import is_id
from litequeue.sqlite.jobs.row_values import listed, snapshot
from litequeue.sqlite.jobs.states import NUMBER
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litequeue.sqlite.drivers.connection import Connection

FIRST_BLOCK = 500  # jobs; most listings find their jobs among these
BLOCK = 5_000  # jobs: some 5 ms
FEW = 20_000  # jobs in an index: all of their ids are read, some 3 ms
_NEWEST = 2**63 - 1
_DEAD = frozenset({Status.FAILED, Status.CANCELLED, Status.EXPIRED})


class Where(NamedTuple):
    """The filters of a listing, at most how many jobs, and the id before which it begins."""

    status: Status | None = None
    task: str | None = None
    queue: str | None = None
    tag: str | None = None
    schedule: str | None = None
    group: str | None = None
    limit: int = 100
    before: str | None = None


class Listing:
    """What was found so far, and where the next step begins."""

    def __init__(self, where: Where, now: float) -> None:
        self._where = where
        self._found: list[ListedJob] = []
        self._before = _NEWEST if where.before is None else _number(where.before)
        self._block = FIRST_BLOCK
        self._few: list[int] | None = None  # all that can match, oldest first, if an index tells
        self._asked = False
        self._over = False
        state = None if where.status is None else NUMBER[where.status]
        names: dict[str, Any] = {"queue": where.queue, "task": where.task, "tag": where.tag, "schedule": where.schedule}
        self._filters = names | {"state": state, "now": now}

    def step(self, db: Connection) -> bool:
        """Look at the next jobs; return whether there are more to look at."""
        with snapshot(db):
            self._look(db)
        if len(self._found) >= self._where.limit:
            self._before = int(self._found[-1].id)
            return False
        return not self._over

    def page(self) -> Page[ListedJob]:
        """Return what was found, and where to go on."""
        return Page(self._found, None if self._over else str(self._before))

    def _look(self, db: Connection) -> None:
        if not self._asked and self._where.group is not None:
            self._few, self._asked = self._before_it(job_ids(db, self._where.group)), True
        if self._block > FIRST_BLOCK and not self._asked:  # they are not among the newest
            self._few, self._asked = self._all_that_can_match(db), True
        ids = self._ids(db)
        if ids is None:
            self._look_between(db)
        elif ids:
            self._take(db, "list_among", ids[-1], {"ids": json.dumps(ids)})
        else:
            self._over = True

    def _look_between(self, db: Connection) -> None:
        [(last,)] = db.rows(SQL["newest_before"], {"before": self._before})
        if last is None:
            self._over = True
        else:
            first = max(last - self._block + 1, -(2**63))
            self._take(db, "list_between", first, {"first": first, "last": last})

    def _take(self, db: Connection, statement: str, oldest: int, block: dict[str, int] | dict[str, str]) -> None:
        most = self._where.limit - len(self._found)
        self._found += map(listed, db.rows(SQL[statement], self._filters | block | {"limit": most}))
        self._before, self._block = oldest, min(BLOCK, self._block * 4)

    def _ids(self, db: Connection) -> list[int] | None:
        """The next ids that an index holds, newest first; None where none has them in order."""
        if self._few is not None:
            return self._next_of_few(self._few)
        status, queue, place = self._where.status, self._where.queue, {"before": self._before, "limit": self._block}
        if queue is not None and status in (_DEAD | {Status.SCHEDULED, Status.WAITING}):
            rows = db.rows(SQL["counted_ids"], place | {"queue": queue, "state": self._filters["state"]})
        elif status in _DEAD:
            rows = db.rows(SQL["dead_ids"], place | {"state": self._filters["state"]})
        else:
            return None
        return [number for (number,) in rows]

    def _next_of_few(self, few: list[int]) -> list[int]:
        block: list[int] = []
        while few and len(block) < self._block:
            block.append(few.pop())
        return block

    def _all_that_can_match(self, db: Connection) -> list[int] | None:
        """Ids of all jobs of this state, queue and task that an index holds; None where these are many."""
        queue, task, most = self._where.queue, self._where.task, {"limit": FEW + 1}
        match self._where.status:
            case Status.QUEUED if queue is not None and task is not None:
                rows = db.rows(SQL["ready_ids_of_lane"], most | {"queue": queue, "task": task})
            case Status.QUEUED if queue is not None:
                rows = db.rows(SQL["ready_ids_of_queue"], most | {"queue": queue})
            case Status.QUEUED if task is not None:
                rows = db.rows(SQL["ready_ids_of_task"], most | {"task": task})
            case Status.QUEUED:
                rows = db.rows(SQL["ready_ids"], most)
            case Status.SCHEDULED if queue is None:
                rows = db.rows(SQL["scheduled_ids"], most)
            case Status.RUNNING:
                rows = db.rows(SQL["running_ids"], most)
            case _:
                return None
        return self._before_it(number for (number,) in rows) if len(rows) <= FEW else None

    def _before_it(self, ids: Iterable[int]) -> list[int]:
        return sorted(number for number in ids if number < self._before)


def _number(before: str) -> int:
    if not (is_id(str(before)) and -(2**63) <= int(before) < 2**63):
        raise ValueError(f"before must be a job's id, got {before!r}")
    return int(before)
