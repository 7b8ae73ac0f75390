"""Bring a file's schema to this release's version. Knows numbered scripts, not their contents."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from litequeue.errors import NotAQueue, SchemaTooNew, StoreBusy, StoreError
from litequeue.sqlite.drivers.connection import BUSY_SECONDS, perform, transaction
from litequeue.sqlite.file.wal_owner import FILE_ID, new_id
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection, Row, Steps


VERSION = {"name": "schema_version"}
SWITCH_EVERY = 0.02  # seconds
# The oldest schema whose processes may still record how their runs ended in a file of the newest: they claim no more.
# HAZARD: to be raised by a migration that such an end, as it was written before, would leave half done.
ENDS_FROM = {"name": "ends_from"}
OLDEST_THAT_ENDS = 3
MADE_HERE = {"name": "made_by_litequeue"}
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


@lru_cache(maxsize=1)
def migrations() -> dict[int, list[str]]:
    """Return the statements of each numbered script in `schema/`."""
    from importlib import resources

    folder = resources.files("litequeue.sqlite").joinpath("schema")
    scripts = {int(script.name[:3]): script.read_text(encoding="utf-8") for script in folder.iterdir()}
    return {number: _statements(scripts[number]) for number in sorted(scripts)}


def _statements(script: str) -> list[str]:
    bare = re.sub(r"^--.*$", "", script, flags=re.MULTILINE)
    return [statement.strip() for statement in re.split(r";\s*$", bare, flags=re.MULTILINE) if statement.strip()]


def newest() -> int:
    """The schema version this release writes."""
    return max(migrations())


def version(db: Connection) -> int:
    """Return the file's schema version; 0 if it has none of our tables."""
    if not db.rows(SQL["ours"]):
        return 0
    return _number(db.rows(SQL["get_meta"], VERSION))


def _number(found: list[Row]) -> int:
    if len(found) != 1 or not _VERSION.fullmatch(found[0][0]):
        raise NotAQueue(
            f"the schema version in litequeue_meta is not one that litequeue wrote: {found!r:.80}; restore a backup"
        )
    return int(found[0][0])


def check(db: Connection, path: str) -> None:
    """Refuse a file that has no queue in it, or one of a newer release; change nothing."""
    found = version(db)
    if found == 0:
        raise NotAQueue(
            f"{path} holds none of litequeue's tables; check the path (an application makes them with Queue(path))"
        )
    _refuse_newer(found, path)
    if found < newest():
        raise StoreError(
            f"{path} has schema version {found}, and this litequeue reads version {newest()}: start the application "
            f"once, or name it in place of the file (app:queue), which brings the file up to date"
        )


def _refuse_newer(found: int, path: str) -> None:
    if found > newest():
        raise SchemaTooNew(
            f"{path} has schema version {found}; this litequeue knows up to {newest()}. Upgrade litequeue to open it"
        )


class Fence:
    """Prevents this release from writing to a file that a newer one has migrated since it was opened.

    Checked in each write transaction: no process can migrate the file before the commit. HAZARD: so that older releases
    notice, each migration must make, change or drop a table, an index or a view; one of rows alone goes unseen.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: list[Row] = []  # SQLite's own count of changes to any table, which is cheaper to ask for
        self.version: str = str(newest())

    def check(self, db: Connection) -> None:
        """Raise `SchemaTooNew`, or do nothing; in a transaction that has changed nothing yet."""
        changes = db.rows("PRAGMA schema_version")
        if changes != self._seen:  # a count that is rolled back comes again, so it must be a committed one
            perform(db, self.steps())
            self._seen = changes

    def steps(self) -> Steps[None]:
        """Check in a transaction that may have changed anything; yields the statements to run."""
        _refuse_newer(_number((yield SQL["get_meta"], VERSION)), self._path)

    def check_ends(self, db: Connection) -> None:
        """Raise `SchemaTooNew`, or do nothing, before the end of runs is recorded and nothing else."""
        allowed = db.rows(SQL["get_meta"], ENDS_FROM)
        if len(allowed) != 1 or not _VERSION.fullmatch(allowed[0][0]) or int(allowed[0][0]) > newest():
            perform(db, self.steps())

    def explain(self, db: Connection) -> None:
        """Raise `SchemaTooNew` if that is why a statement was refused."""
        with suppress(NotAQueue):
            check(db, self._path)


def migrate(db: Connection, path: str) -> None:
    """Make our tables, or bring them up to date, in one transaction; safe when several processes do it at once."""
    # HAZARD: before the file is in WAL mode, a power cut may damage it with less, at any durability
    db.rows("PRAGMA synchronous = full")
    fresh = _prepare(db)
    if version(db) == newest() and db.rows(SQL["get_meta"], FILE_ID):
        return
    with transaction(db):
        found = version(db)
        if found > newest():
            check(db, path)
        for number, statements in migrations().items():
            if number > found:
                for statement in statements:
                    db.script(statement)
        db.rows(SQL["set_meta"], {"name": "schema_version", "value": str(newest())})
        db.rows(SQL["set_meta"], {**ENDS_FROM, "value": str(OLDEST_THAT_ENDS)})
        if fresh:
            db.rows(SQL["set_meta"], {**MADE_HERE, "value": "1"})
        if not db.rows(SQL["get_meta"], FILE_ID):
            db.rows(SQL["set_meta"], {**FILE_ID, "value": new_id()})


def _prepare(db: Connection) -> bool:
    """Make the settings that only an empty file accepts, then WAL. A file not made by us keeps its settings."""
    fresh = not db.rows(SQL["any_table"]) and db.rows("PRAGMA page_count") == [(0,)]
    if fresh:
        db.rows("PRAGMA auto_vacuum = incremental")
    [(mode,)] = db.rows("PRAGMA journal_mode")
    if mode != "wal":
        mode = _switch_to_wal(db)
    if mode != "wal":
        raise StoreError(f"the file cannot be put into WAL mode (it stays in {mode!r}); is it on a local disk?")
    return fresh


def _switch_to_wal(db: Connection) -> str:
    """Wait for other processes, since SQLite does not at this switch: another may be making the same file."""
    tries = int(BUSY_SECONDS / SWITCH_EVERY)
    while True:
        try:
            [(mode,)] = db.rows("PRAGMA journal_mode = wal")
        except StoreBusy:
            tries -= 1
            if not tries:
                raise
            time.sleep(SWITCH_EVERY)
        else:
            return str(mode)
