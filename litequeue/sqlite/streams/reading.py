"""Read what a job has emitted, a page at a time. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.streams import Events, StoredEvent
from litequeue.sqlite.jobs import row_values
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection

PAGE = 500  # events


def events(db: Connection, job_id: str, after: int, now: float) -> Events | None:
    """Return the next events; None: there are none yet. Raises `JobNotFound`."""
    # in this order: what has ended has all its values in the file
    has_ended = row_values.has_ended(db, job_id, now)
    after = min(after, (1 << 63) - 1)  # SQLite knows no larger number
    rows = db.rows(SQL["stream"], {"id": job_id, "after": after, "limit": PAGE})
    if not rows and not has_ended:
        return None
    return Events([StoredEvent(*row) for row in rows], over=has_ended and len(rows) < PAGE)
