"""Free pages of the file, which are given back to the file system, and the WAL, which is moved into the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.sqlite.file.migrate import MADE_HERE
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.sqlite.drivers.connection import Connection

KEPT = 200  # pages that stay free, for the next jobs
FEWEST = 50  # pages worth a transaction
MOST = 1000  # pages in one transaction
INCREMENTAL = 2


def vacuum(db: Connection, is_time_up: Callable[[], bool]) -> int:
    """In a transaction: give free pages back until the time is up, in a file that we made; return how many bytes."""
    if not db.rows(SQL["get_meta"], MADE_HERE) or db.rows("PRAGMA auto_vacuum") != [(INCREMENTAL,)]:
        return 0  # a copy that another program made may say that we made it
    [(free,)] = db.rows("PRAGMA freelist_count")
    if free < KEPT + FEWEST:
        return 0
    count = 0
    while count < min(free - KEPT, MOST):
        # one page: sqlite3 takes a single step of a pragma without rows
        db.rows("PRAGMA incremental_vacuum(1)")
        count += 1
        if is_time_up():
            break
    [(left,)], [(size,)] = db.rows("PRAGMA freelist_count"), db.rows("PRAGMA page_size")
    return max(0, int(free) - int(left)) * int(size)


def checkpoint(db: Connection) -> int:
    """Move the WAL into the file without blocking anyone; return how many of its pages readers keep it from moving."""
    [(_, written, moved)] = db.rows("PRAGMA wal_checkpoint(passive)")
    return int(written - moved)
