"""Expiry: end jobs that have not begun in time, and find what stands behind those that are not ended yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litequeue.core.records import Status
from litequeue.sqlite.jobs.finish import finish_all, until
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.core.store import Demand
    from litequeue.sqlite.compose.consequences import Consequences
    from litequeue.sqlite.drivers.connection import Connection, Row
    from litequeue.sqlite.jobs.lanes import Line

READ = 5_000  # rows that a claim reads where expired jobs stand among the ready ones, 2 us each
A_STATEMENT = 4  # as many rows as what a statement costs besides
_PAGE, _LEAST = 100, 20  # rows that are read at once; where the share of a lane is less
_HALVES = 30 * A_STATEMENT  # kept of a lane's share for the search by halves
_END = 101  # a rank behind all


def expire(db: Connection, now: float, result_ttl: float, limit: int, then: Consequences) -> None:
    """End what has not begun by its `expires`, so many of them. `then`: see `finish`."""
    overdue = db.rows(SQL["overdue"], {"now": now, "limit": limit})
    finish_all(db, Status.EXPIRED, now, until(now, result_ttl), overdue, then)


class LiveSearch:
    """The search of one claim for jobs that have not expired, where expired ones are not ended yet.

    `left`: how many rows it may still read. `cut`: it has not seen all; what it has not seen comes when more are ended.
    No job comes before one of higher priority in its queue that it has not seen.
    """

    def __init__(self, db: Connection, demand: Demand, now: float) -> None:
        self._db, self._limit = db, demand.limit
        self._moment = {"now": now, "most_deaths": demand.most_deaths}
        self.left: int = READ
        self.cut: bool = False

    def first_of(self, lines: list[Line]) -> dict[str, list[int]]:
        """The ids at the head of each of these queues, in the order in which they are to start."""
        share = self.left // max(1, sum(len(line.tasks) for line in lines))
        enough = -(-self._limit // max(1, len(lines)))
        return {line.queue: self._of_queue(line, share, enough) for line in lines}

    def _of_queue(self, line: Line, share: int, enough: int) -> list[int]:
        found: list[Row] = []
        seen = _END  # of each lane, all that stands before this rank
        for rank, first, task in sorted(line.heads or self._heads(line)):
            if rank > seen:
                break
            if self.left <= 0:
                self.cut, seen = True, rank
                break
            lane = {"queue": line.queue, "task": task, "rank": rank, "first": first} | self._moment
            some, seen_here = self._of_lane(lane, share, enough)
            found += some
            seen = min(seen, seen_here)
        return [job_id for rank, job_id in sorted(found) if rank <= seen][: self._limit]

    def _heads(self, line: Line) -> list[Row]:
        lanes = [{"queue": line.queue, "task": task, "rank": -_END} for task in line.tasks]
        return [(rank, first, lane["task"]) for lane in lanes for rank, first in self._rows("next_rank", lane)]

    def _of_lane(self, lane: dict[str, Any], share: int, enough: int) -> tuple[list[Row], int]:
        """The first jobs of a lane, as (rank, id), and the rank before which there are no others.

        It stops at its share of the rows, but not among jobs that have not expired before it has enough of them.
        """
        found: list[Row] = []
        stop = self.left - share + _HALVES
        while True:
            page = max(_LEAST, min(max(self._limit - len(found), _PAGE), self.left - stop))
            rows = self._rows("in_lane", lane | {"limit": page})
            found += _live(lane["rank"], rows)
            if len(found) >= self._limit:
                return found, _END
            if len(rows) < page:
                if not (following := self._rows("next_rank", lane)):
                    return found, _END
                [(lane["rank"], lane["first"])] = following
                if self.left <= stop:
                    break
            elif self.left > stop or (self.left > 0 and rows[-1][1] and len(found) < enough):
                lane["first"] = rows[-1][0] + 1
            else:
                if not rows[-1][1]:
                    found += self._behind_expired(lane, rows[-1][0])
                break
        self.cut = True
        return found, lane["rank"]

    def _behind_expired(self, lane: dict[str, Any], low: int) -> list[Row]:
        """Jobs from one on that has not expired and the one before has, given a job that has.

        They are the first such jobs if those that were enqueued earlier expire earlier.
        """
        [(high, is_live)] = self._rows("last_of_rank", lane)
        if not is_live:
            return []
        while low + 1 < high:
            middle = (low + high) // 2
            [(at, is_live, _)] = self._rows("in_lane", lane | {"first": middle, "limit": 1})
            if is_live:
                high = middle
            else:
                low = at
        return _live(lane["rank"], self._rows("in_lane", lane | {"first": high, "limit": self._limit}))

    def _rows(self, name: str, values: dict[str, Any]) -> list[Row]:
        rows = self._db.rows(SQL[name], values)
        self.left -= A_STATEMENT + len(rows)
        return rows


def _live(rank: int, rows: list[Row]) -> list[Row]:
    return [(rank, job_id) for job_id, is_live, may_start in rows if is_live and may_start]
