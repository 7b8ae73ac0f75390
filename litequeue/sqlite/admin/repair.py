"""Mend a file in which something is wrong. Each returns what it has done, or raises `StoreError`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.logger import later
from litequeue.errors import StoreBusy, StoreError
from litequeue.sqlite.drivers.connection import transaction
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection


def rebuild(db: Connection) -> str:
    """Build the indexes anew, where need be with the whole file; rows are only read."""
    why = "faults are left"
    for what, build in (("the indexes were", _reindex), ("the indexes and the file were", _replace_indexes)):
        try:
            build(db)
            if db.rows("PRAGMA integrity_check") == [("ok",)]:
                return f"{what} built anew"
        except StoreBusy:  # which says nothing of the file
            raise
        except StoreError as error:
            later.info("%s", error)
            why = str(error)
    raise StoreError(f"it cannot be built anew: {why}; if its rows are damaged, put a backup in its place")


def _reindex(db: Connection) -> None:
    db.script("REINDEX")


def _replace_indexes(db: Connection) -> None:
    """Forget the indexes without reading a page of them, and make them again; VACUUM alone would copy theirs."""
    made = [sql for (sql,) in db.rows(SQL["indexes"])]
    try:
        with transaction(db):
            db.script("PRAGMA writable_schema = on")
            db.rows(SQL["forget_indexes"])
            db.script("PRAGMA writable_schema = reset")
            for sql in made:
                db.script(sql)
    finally:
        db.script("PRAGMA writable_schema = reset")
    db.script("VACUUM")


def write_ahead(db: Connection) -> str:
    """Let the file keep its journal as every connection of ours expects."""
    db.rows("PRAGMA synchronous = full")  # see migrate.migrate
    [(mode,)] = db.rows("PRAGMA journal_mode = wal")
    if mode != "wal":
        raise StoreError(f"the journal stays {mode}; stop whatever else has the file open")
    return "the journal is wal again"


def checkpoint(db: Connection) -> str:
    """Move the WAL into the file, and cut it."""
    [(busy, _, _)] = db.rows("PRAGMA wal_checkpoint(truncate)")
    if busy:
        raise StoreError("somebody reads in a long transaction; stop that, and try again")
    return "the WAL was moved into the file"


def drop_orphans(db: Connection) -> str:
    """Delete errors whose job is gone."""
    dropped = db.rows(SQL["drop_orphans"])
    return f"{len(dropped)} of them were deleted"
