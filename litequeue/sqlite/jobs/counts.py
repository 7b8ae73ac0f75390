"""How many jobs of each queue are in each state, and since when the oldest waits. Reads only.

Jobs are counted in partial indexes, up to `ENTRIES` entries in all: what is more is estimated, as is what has
succeeded. So the time does not grow with the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.engine import QueueCount
from litequeue.core.records import Status
from litequeue.sqlite.jobs import estimate
from litequeue.sqlite.jobs.finish import NUMBER, STATES
from litequeue.sqlite.jobs.row_values import snapshot
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection

ENTRIES = 200_000  # of an index: 4 ms
LEAST = 10  # of them for each queue and state, or each queue, task and priority, however many these are
ROWS = 10_000  # among which the oldest job is looked for
ALL = 2**62


class Ready(NamedTuple):
    """Jobs of one queue and task that could run now: how many, and since when the oldest. Not `exact`: or more."""

    queue: str
    task: str
    jobs: int
    oldest: float
    exact: bool


def counts(db: Connection, *, exact: bool) -> list[QueueCount]:
    """Count the jobs of each queue in each state. `exact`: also those of which there are many, by reading all jobs."""
    with snapshot(db):
        [(first, last)] = db.rows(SQL["id_range"])
        if first is None:
            return []
        span = estimate.Span(first, last)
        exact = exact or span.width <= estimate.SMALL
        rows = db.rows(SQL["counts"], {"entries": ALL if exact else ENTRIES, "least": LEAST})
        found = {(queue, state): jobs for queue, state, jobs, _ in rows}
        many = {(queue, state) for queue, state, _, is_many in rows if is_many}
        if not many and sum(found.values()) == span.width:
            return [QueueCount(queue, STATES[state], jobs) for (queue, state), jobs in found.items()]
        if exact:
            succeeded = dict(db.rows(SQL["succeeded"]))
        else:
            others = sum(jobs for part, jobs in found.items() if part not in many)
            sampled = estimate.jobs_of(db, span, many, at_most=span.width - others)
            found |= {part: max(found[part], sampled.get(part, 0)) for part in many}
            succeeded = {queue: sampled.get((queue, NUMBER[Status.SUCCEEDED]), 0) for queue, _ in found | sampled}
    counted = [QueueCount(*_named(part), jobs, part not in many) for part, jobs in found.items()]
    return counted + [QueueCount(queue, Status.SUCCEEDED, jobs, exact) for queue, jobs in succeeded.items()]


def _named(part: tuple[str, int]) -> tuple[str, Status]:
    queue, state = part
    return queue, STATES[state]


def ready(db: Connection) -> list[Ready]:
    """Count the ready jobs of each queue and task, with the time since which the oldest could run.

    The oldest is looked for among the first jobs of each priority, 100 at most.
    """
    rows = db.rows(SQL["ready_counts"], {"entries": ENTRIES, "least": LEAST, "rows": ROWS})
    return [Ready(queue, task, jobs, oldest, not more) for queue, task, jobs, oldest, more in rows]
