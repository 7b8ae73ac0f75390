"""What a file tells about itself beside its jobs. Reads only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.sqlite.file.migrate import newest, version

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection

__all__ = ["journal_mode", "newest", "version"]


def journal_mode(db: Connection) -> str:
    """Return how the file keeps its journal: `wal` for a queue's."""
    [(mode,)] = db.rows("PRAGMA journal_mode")
    return str(mode)
