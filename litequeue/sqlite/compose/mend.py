"""A repair of what waits: for jobs that someone deleted, or whose ends were never told. Runs inside a transaction."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from litequeue.core.plan import RunsOn
from litequeue.core.records import Status
from litequeue.sqlite.compose.consequences import Consequences
from litequeue.sqlite.compose.ended import GONE, Over, Spread
from litequeue.sqlite.jobs.states import NUMBER
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection, Row, Steps

_FAILURES = NUMBER[Status.FAILED], NUMBER[Status.EXPIRED]


def astray(db: Connection) -> int:
    """Count the jobs and groups that wait for what is not in the file, or has ended without their being told."""
    lost = {child for _, child, _, _, waits, _ in db.rows(SQL["lost_parents"]) if waits or child < 0}
    return len(lost.union(node for node, *_ in db.rows(SQL["miscounted"])))


def mend(now: float, delete_at: float | None) -> Steps[None]:
    """End what takes the result of a job that was deleted; let begin, or end, what waits for nothing that is to come.

    A job that takes no result, and runs however its parents end, waits for those that are left.
    """
    ends: dict[int, Over] = {}
    for parent, child, place, runs_on, waits, marked in (yield SQL["lost_parents"], ()):
        if (child < 0 and marked is None) or (waits and (place >= 0 or runs_on != RunsOn.END)):
            ends.setdefault(child, Over(parent, parent, GONE))
    yield SQL["drop_orphaned_edges"], ()
    wrong = yield SQL["miscounted"], ()
    if wrong:
        # of none, one is left that is then told of
        yield SQL["recount"], {"counts": json.dumps([(node, parents or 1) for node, *_, parents in wrong])}
    fails = yield from _ends_of([row for row in wrong if row[0] not in ends], ends)
    over = Counter(dict.fromkeys([node for node, *_, parents in wrong if not parents], 1))
    spread = Spread(now, Consequences(), delete_at)
    yield from spread.follow_from(over, ends, {node for node in ends if node < 0}, fails)


def _ends_of(wrong: list[Row], ends: dict[int, Over]) -> Steps[set[int]]:
    """Note what ends those of these nodes that a parent ends; return those that run since their parent failed."""
    fails: set[int] = set()
    for node, runs_on, marked, *_ in wrong:
        for parent, state, _, bad, bad_state in (yield SQL["parents_of"], {"node": node}):
            end = Over(parent, parent, state or 0) if bad is None else Over(bad, bad, bad_state)
            if runs_on == RunsOn.FAILURE:
                if end.ended_as in _FAILURES:
                    fails.add(node)
                elif end.ended_as >= NUMBER[Status.SUCCEEDED]:
                    ends[node] = end
            elif runs_on != RunsOn.END and marked is None and end.ended_as > NUMBER[Status.SUCCEEDED]:
                ends.setdefault(node, end)
    return fails
