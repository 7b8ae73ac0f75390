"""Repair a faulty file. Each function returns what it has done, or raises `StoreError`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.logger import later
from litequeue.errors import StoreBusy, StoreError
from litequeue.sqlite.drivers.connection import transaction
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection

_DROP_ORPHANS = "drop_orphaned_errors", "drop_orphaned_payloads", "drop_orphaned_results", "drop_orphaned_timed_keys"


def rebuild(db: Connection) -> str:
    """Rebuild the indexes, if necessary the whole file; rows are only read."""
    why = "faults are left"
    for what, build in (("the indexes were", _reindex), ("the indexes and the file were", _replace_indexes)):
        try:
            build(db)
            if db.rows("PRAGMA integrity_check") == [("ok",)]:
                return f"{what} rebuilt"
        except StoreBusy:  # which says nothing of the file
            raise
        except StoreError as error:
            later.info("%s", error)
            why = str(error)
    raise StoreError(f"it cannot be rebuilt: {why}; if its rows are damaged, put a backup in its place")


def _reindex(db: Connection) -> None:
    db.script("REINDEX")


def _replace_indexes(db: Connection) -> None:
    """Drop the indexes without reading their pages, and make them again; VACUUM alone would copy them."""
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
    """Put the file into WAL mode again, which all our connections expect."""
    db.rows("PRAGMA synchronous = full")  # see migrate.migrate
    [(mode,)] = db.rows("PRAGMA journal_mode = wal")
    if mode != "wal":
        raise StoreError(f"the journal stays {mode}; stop every other process that has the file open")
    return "the journal is wal again"


def checkpoint(db: Connection) -> str:
    """Move the WAL into the file, and truncate it."""
    [(busy, _, _)] = db.rows("PRAGMA wal_checkpoint(truncate)")
    if busy:
        raise StoreError("another connection reads in a long transaction; end that transaction, and try again")
    return "the WAL was moved into the file"


def drop_orphans(db: Connection) -> str:
    """Delete what is kept of jobs that are gone: errors, payloads, results, times of keys."""
    with transaction(db):
        found: dict[str, int] = dict(db.rows(SQL["orphans"]))
        for statement in _DROP_ORPHANS:
            db.rows(SQL[statement])
    return f"{', '.join(f'{count} {what}' for what, count in found.items() if count) or 'nothing'} deleted"


def recompute_ticks(db: Connection) -> str:
    """Let the next tick of every schedule be computed again when a worker looks, as after the clock was set back."""
    db.rows(SQL["forget_computed_at"])
    return "the next ticks will be computed again"
