"""The sqlite3 driver: for a process whose application itself opens the file with Python's SQLite."""

from __future__ import annotations

import sqlite3
import sys
from typing import TYPE_CHECKING, Any

from litequeue.sqlite.connection import BUSY_SECONDS, Handle, only_reads, translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from litequeue.sqlite.connection import Connection, Parameters, Row

LIBRARY = "sqlite3"


class Sqlite3Connection(Handle):
    """One connection of the standard library behind the seam."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        try:
            return bool(self.raw.in_transaction)
        except sqlite3.ProgrammingError:  # it is closed
            return False

    @property
    def closed(self) -> bool:
        """Whether it was closed, by us or in a block of the caller's."""
        try:
            _ = self.raw.total_changes
        except sqlite3.ProgrammingError:
            return True
        return False

    @property
    def may_be_changed(self) -> bool:
        """Whether a setting may have been changed: always, for this driver has no cheap way to tell.

        Its authorizer is one, but swallows a Ctrl-C that comes in it.
        """
        return True

    def lend(self, *, lent: bool) -> None:
        """A caller has it, or has given it back."""

    def traits(self) -> tuple[Any, ...]:
        """What can be set on the driver's object itself."""
        raw = self.raw
        return raw.row_factory, raw.text_factory, raw.isolation_level, getattr(raw, "autocommit", None)

    def drop_hooks(self) -> None:
        """Take away hooks that cannot be read back."""
        self.raw.set_trace_callback(None)
        self.raw.set_progress_handler(None, 0)
        if sys.version_info >= (3, 11):  # before, None denies everything
            self.raw.set_authorizer(None)

    @property
    def last_id(self) -> int:
        """The rowid of the last row inserted on this connection."""
        [(number,)] = self.rows("SELECT last_insert_rowid()")
        return int(number)

    def rows(self, sql: str, parameters: Parameters | None = None) -> list[Row]:
        """Run one statement to its end and return its rows."""
        try:
            cursor = self.raw.cursor()
            # whoever else has this connection may make dicts of rows, or anything else
            cursor.row_factory = None
            if self.raw.text_factory is not str:
                return self._with_text(cursor, sql, parameters)
            rows: list[Row] = cursor.execute(sql, parameters or ()).fetchall()
            return rows
        except sqlite3.Error as error:
            if "decode to UTF-8" in str(error) and only_reads(sql):  # text that a foreign hand wrote
                return self._with_text(self.raw.cursor(), sql, parameters, _decoded)
            raise translated(error) from error

    def _with_text(self, cursor: sqlite3.Cursor, sql: str, parameters: Parameters | None, text: Any = str) -> list[Row]:
        cursor.row_factory = None
        factory, self.raw.text_factory = self.raw.text_factory, text
        try:
            return cursor.execute(sql, parameters or ()).fetchall()
        except sqlite3.Error as error:
            raise translated(error) from error
        finally:
            self.raw.text_factory = factory

    def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each set of parameters."""
        self.changed(sql, parameters)

    def changed(self, sql: str, parameters: Iterable[Sequence[Any]]) -> int:
        """The same; return how many rows the statement changed, without those that triggers did."""
        try:
            return int(self.raw.executemany(sql, parameters).rowcount)
        except sqlite3.Error as error:
            raise translated(error) from error

    def script(self, sql: str) -> None:
        """Run a statement that takes no parameters and returns nothing."""
        if self.raw.in_transaction:
            self.rows(sql)
            return
        # execute() would take a single step of a pragma without rows; executescript() commits, so only out here
        try:
            self.raw.executescript(sql)
        except sqlite3.Error as error:
            raise translated(error) from error

    def copy_into(self, target: Connection, pages: int) -> None:
        """Make the other connection's file a copy of this one's, so many pages at a time."""
        try:
            self.raw.backup(target.raw, pages=pages)
        except sqlite3.Error as error:
            raise translated(error) from error

    def close(self) -> None:
        """Close; the connection cannot be used again."""
        self.raw.close()


def _decoded(text: bytes) -> str:
    return text.decode(errors="replace")


def connect(path: str) -> Sqlite3Connection:
    """Open the file with Python's SQLite; transactions are begun by hand."""
    try:
        raw = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
    except sqlite3.Error as error:
        raise translated(error) from error
    return Sqlite3Connection(raw)


def wrap(raw: Any) -> Sqlite3Connection | None:
    """Put a caller's connection behind the seam, if it is one of this driver."""
    return Sqlite3Connection(raw) if isinstance(raw, sqlite3.Connection) else None


def holds(path: str) -> bool:  # noqa: ARG001
    """Whether an open descriptor of that file may be this library's: always, it is the process's own."""
    return True


def library_version() -> str:
    """The version of the SQLite library inside."""
    return sqlite3.sqlite_version
