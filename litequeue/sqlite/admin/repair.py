"""Repair a faulty file. Each function returns what it has done, or raises `StoreError`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.logger import later
from litequeue.errors import StoreBusy, StoreError
from litequeue.sqlite.compose.mend import astray, mend
from litequeue.sqlite.drivers.connection import perform, transaction
from litequeue.sqlite.limits.stored_rules import changed
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection


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


_DROPS = (
    "drop_orphaned_errors",
    "drop_orphaned_payloads",
    "drop_orphaned_results",
    "drop_orphaned_streams",
    "drop_orphaned_heartbeats",
    "drop_orphaned_takes",
    "drop_orphaned_parked",
    "drop_orphaned_orders",
    "drop_orphaned_left_behind",
    "drop_orphaned_logs",
    "drop_orphaned_log_followers",
    "drop_orphaned_timed_keys",
    "drop_orphaned_starts",
    "drop_orphaned_edges",
    "drop_orphaned_groups",
    "drop_orphaned_dependents",
    "drop_orphaned_composition_keys",
    "drop_orphaned_unspread",
)


def drop_orphans(db: Connection, now: float, delete_at: float | None) -> str:
    """Delete rows of jobs, limits and workers that are gone. What waited for such a job is ended before, and kept."""
    with transaction(db):
        found = [f"{count} {what}" for what, count in db.rows(SQL["orphans"]) if count]
        lost = astray(db)
        perform(db, mend(now, delete_at))  # while it is still told by what was waited for
        for statement in _DROPS:
            db.rows(SQL[statement])
    told = f", and {lost} jobs or groups that waited for what is gone were told" if lost else ""
    return f"{', '.join(found) or 'nothing'} deleted{told}"


def free_stuck(db: Connection, now: float, delete_at: float | None) -> str:
    """Queue jobs that wait for nothing, and have workers look at parked ones at which nothing looks.

    One that waited for a job that was deleted is ended, and kept until `delete_at`.
    """
    with transaction(db):
        [(stuck, unseen)] = db.rows(SQL["stuck_jobs"])
        lost = astray(db)
        perform(db, mend(now, delete_at))
        db.rows(SQL["free_stuck"])
        db.rows(SQL["look_at_parked"])
        perform(db, changed())
    return f"{stuck + unseen + lost} jobs are looked at again"


def recompute_ticks(db: Connection) -> str:
    """Let the next tick of every schedule be computed again when a worker looks, as after the clock was set back."""
    db.rows(SQL["forget_computed_at"])
    return "the next ticks will be computed again"
