"""What the queue's file says, read with plain SQL: the demo's own tables, and litequeue's documented views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

COUNTED = "SELECT pid, count(*) FROM files GROUP BY pid"
ROLLED_UP = "SELECT coalesce(sum(files), 0), coalesce(sum(bytes), 0) FROM summary"
STATES = "SELECT status, count(*) FROM litequeue_jobs_view WHERE task <> 'roll_up' GROUP BY status"
WORKERS = "SELECT pid, id FROM litequeue_workers_view"
HELD = "SELECT id FROM litequeue_jobs_view WHERE worker = ? AND status = 'running'"
CLAIMED_AGAIN = "SELECT count(*) FROM litequeue_jobs_view WHERE attempt > 1"
UNFINISHED = """
    SELECT count(*) FROM litequeue_jobs_view WHERE finished_at IS NULL AND id IN (SELECT value FROM json_each(?))
"""
SUMMARY = "SELECT suffix, files, bytes, lines, words, seconds FROM summary ORDER BY files DESC, suffix"
SLOWEST = "SELECT path, bytes, seconds, pid FROM files ORDER BY seconds DESC LIMIT 5"
FILES = "SELECT path, digest, bytes FROM files"
UNREAD = "SELECT last_error FROM litequeue_jobs_view WHERE status = 'failed'"


class Ledger:
    """A connection that only reads; many may, while workers write."""

    def __init__(self, path: Path) -> None:
        self._db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        self._db.set_busy_timeout(5_000)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        return self._db.execute(sql, values).fetchall()

    def close(self) -> None:
        """Let the file go."""
        self._db.close()
