"""Where a queued job stands in its queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.source import MOST_BEFORE
from litequeue.sqlite.jobs.row_values import row_of
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection


def position(db: Connection, job_id: str, now: float) -> int | None:
    """Return how many jobs of its queue come before it, `MOST_BEFORE` at most; None: it is not queued."""
    queue, rank, is_queued = row_of(db, "standing_in_line", job_id, now)
    if not is_queued:
        return None
    line = {"queue": queue, "rank": rank, "id": int(job_id), "limit": MOST_BEFORE}
    [(before,)] = db.rows(SQL["before_it"], line)
    return int(before)
