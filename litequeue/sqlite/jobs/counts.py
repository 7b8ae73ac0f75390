"""How many jobs of each queue are in each state, and since when the oldest waits. Reads only.

What has not succeeded is counted in partial indexes, 40 ms for a million; what has is estimated.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.engine import QueueCount
from litequeue.core.records import Status
from litequeue.core.store import ReadyJobs
from litequeue.sqlite.jobs import estimate
from litequeue.sqlite.jobs.row_values import snapshot
from litequeue.sqlite.jobs.states import NUMBER, STATES
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection, Row

ENTRIES = 200_000  # of the index of ready jobs that are counted by task
LEAST = 10  # of them for each queue, task and priority, however many these are
ROWS = 10_000  # among which the oldest job is looked for
LANES = 2_000  # at which a worker looks for tasks that it does not have, 3 us each
LANES_COUNTED = 100
_QUEUED, _WAITING = NUMBER[Status.QUEUED], NUMBER[Status.WAITING]
LANE_ENTRIES = 1_000  # of one of these that are counted


class Ready(NamedTuple):
    """Jobs of one queue and task that could run now: how many, and since when the oldest. Not `exact`: or more."""

    queue: str
    task: str
    jobs: int
    oldest: float
    exact: bool


def counts(db: Connection, *, exact: bool) -> list[QueueCount]:
    """Count the jobs of each queue in each state; those that have succeeded by an estimate, unless they are few."""
    with snapshot(db):
        others = db.rows(SQL["counts"])
        parked: dict[str, int] = dict(db.rows(SQL["parked_of_queues"]))
        succeeded, is_exact = estimate.succeeded(db, sum(jobs for _, _, jobs in others), exact=exact)
    found = [QueueCount(queue, STATES[state], jobs) for queue, state, jobs in _as_queued(others, parked)]
    return found + [QueueCount(queue, Status.SUCCEEDED, jobs, is_exact) for queue, jobs in succeeded.items()]


def _as_queued(others: list[Row], parked: dict[str, int]) -> list[Row]:
    """Count parked jobs, which are among the waiting ones, as queued."""
    if not parked:
        return others
    found = {(queue, state): jobs for queue, state, jobs in others}
    for queue, jobs in parked.items():
        moved = min(jobs, found.get((queue, _WAITING), 0))
        found[queue, _WAITING] = found.get((queue, _WAITING), 0) - moved
        found[queue, _QUEUED] = found.get((queue, _QUEUED), 0) + moved
    return [(queue, state, jobs) for (queue, state), jobs in found.items() if jobs]


def ready(db: Connection) -> list[Ready]:
    """Count the ready jobs of each queue and task, with the time since which the oldest could run.

    The oldest is looked for among the first jobs of each priority, 100 at most.
    """
    rows = db.rows(SQL["ready_counts"], {"entries": ENTRIES, "least": LEAST, "rows": ROWS})
    return [Ready(queue, task, jobs, oldest, not more) for queue, task, jobs, oldest, more in rows]


def ready_without(db: Connection, tasks: frozenset[str], queues: tuple[str, ...] | None) -> list[ReadyJobs]:
    """Count the ready jobs of tasks other than these, in these queues, as far as that is cheap."""
    asked = {
        "tasks": json.dumps(sorted(tasks)),
        "queues": None if queues is None else json.dumps(queues),
        "lanes": LANES,
        "counted": LANES_COUNTED,
        "entries": LANE_ENTRIES,
    }
    rows = db.rows(SQL["ready_without"], asked)
    return [ReadyJobs(queue, task, jobs, jobs < LANE_ENTRIES) for queue, task, jobs in rows]
