"""The sqlite3 driver: for a process whose application itself opens the file with Python's SQLite."""

from __future__ import annotations

import sqlite3
import sys
from typing import TYPE_CHECKING, Any

from litequeue.sqlite.drivers.connection import BUSY_SECONDS, Handle, only_reads, translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from typing_extensions import Self

    from litequeue.sqlite.drivers.connection import Connection, Parameters, Row

LIBRARY = "sqlite3"


# Words at the beginning of statements that change no setting.
_PLAIN = ("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "VALUES")
_FLAGS: tuple[int, ...] = (
    (sqlite3.SQLITE_DBCONFIG_ENABLE_FKEY, sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER)  # type: ignore[attr-defined,unused-ignore]
    if sys.version_info >= (3, 12)
    else ()
)
_cursor_of = sqlite3.Connection.cursor
_executemany = sqlite3.Connection.executemany
_executescript = sqlite3.Connection.executescript


def _is_plain(sql: str) -> bool:
    return sql.lstrip()[:7].upper().startswith(_PLAIN)


class _Cursor(sqlite3.Cursor):
    """A caller's cursor, which notes whether a statement may change a setting."""

    connection: _Watched

    def execute(self, sql: str, parameters: Any = (), /) -> Self:
        if not _is_plain(sql):
            self.connection.suspicious = True
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> Self:
        if not _is_plain(sql):
            self.connection.suspicious = True
        return super().executemany(sql, parameters)

    def executescript(self, sql: str, /) -> sqlite3.Cursor:
        self.connection.suspicious = True
        return super().executescript(sql)


class _Watched(sqlite3.Connection):
    """The connection that callers get in their blocks. Our own statements bypass it, by the functions above.

    Not by an authorizer: Python's swallows a Ctrl-C that comes in it. Nor by looking at each setting after each block,
    which takes 70 us, three times what a block without statements does.
    """

    suspicious = False

    def cursor(self, factory: Any = _Cursor) -> Any:
        if factory is not _Cursor:
            self.suspicious = True
        return super().cursor(factory)

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        return self.cursor().execute(sql, parameters)  # type: ignore[no-any-return]

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        return self.cursor().executemany(sql, parameters)  # type: ignore[no-any-return]

    def executescript(self, sql: str, /) -> sqlite3.Cursor:
        return self.cursor().executescript(sql)  # type: ignore[no-any-return]


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

    def lend(self) -> None:
        """Watch from now on what a caller does with the connection."""
        self.raw.suspicious = False

    def withdraw(self) -> bool:
        """Stop watching; return whether a statement was run that may change a setting."""
        return bool(self.raw.suspicious)

    def pragmas(self) -> tuple[str, ...]:
        """The settings that a caller can change without a statement: none."""
        return ()

    def traits(self) -> tuple[Any, ...]:
        """The attributes that can be set on the driver's object."""
        raw = self.raw
        flags = [raw.getconfig(flag) for flag in _FLAGS]
        return raw.row_factory, raw.text_factory, raw.isolation_level, getattr(raw, "autocommit", None), *flags

    def drop_hooks(self) -> None:
        """Remove hooks that cannot be read back."""
        self.raw.set_trace_callback(None)
        self.raw.set_progress_handler(None, 0)
        if sys.version_info >= (3, 11):  # before, None denies everything
            self.raw.set_authorizer(None)

    @property
    def last_id(self) -> int:
        """The rowid of the last row inserted on this connection."""
        [(number,)] = self.rows("SELECT last_insert_rowid()")
        return int(number)

    def wait_at_most(self, milliseconds: int) -> None:
        """Wait so long for a lock of another connection's, from now on."""
        self.rows(f"PRAGMA busy_timeout = {milliseconds}")

    def rows(self, sql: str, parameters: Parameters | None = None) -> list[Row]:
        """Run one statement to its end and return its rows."""
        try:
            cursor = _cursor_of(self.raw)
            # another holder of this connection may make dicts of rows, or anything else
            cursor.row_factory = None
            if self.raw.text_factory is not str:
                return self._with_text(cursor, sql, parameters)
            rows: list[Row] = cursor.execute(sql, parameters or ()).fetchall()
            return rows
        except sqlite3.Error as error:
            if "decode to UTF-8" in str(error) and only_reads(sql):  # text that someone else wrote
                return self._with_text(_cursor_of(self.raw), sql, parameters, _decoded)
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
            return int(_executemany(self.raw, sql, parameters).rowcount)
        except sqlite3.Error as error:
            raise translated(error) from error

    def script(self, sql: str) -> None:
        """Run a statement that takes no parameters and returns nothing."""
        if self.raw.in_transaction:
            self.rows(sql)
            return
        # execute() would take a single step of a pragma without rows; executescript() commits, so only out here
        try:
            _executescript(self.raw, sql)
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
        try:
            self.raw.close()
        except sqlite3.Error as error:
            raise translated(error) from error


def _decoded(text: bytes) -> str:
    return text.decode(errors="replace")


def connect(path: str) -> Sqlite3Connection:
    """Open the file with Python's SQLite; transactions are begun explicitly."""
    try:
        raw = sqlite3.connect(
            path,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            factory=_Watched,
        )
    except sqlite3.Error as error:
        raise translated(error) from error
    return Sqlite3Connection(raw)


def connect_main_file(path: Path) -> Sqlite3Connection:
    """Open the file alone, to read: without its WAL, without locks, and without making anything beside it."""
    try:
        return Sqlite3Connection(
            sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
        )
    except sqlite3.Error as error:
        raise translated(error) from error


def wrap(raw: Any) -> Sqlite3Connection | None:
    """Wrap a caller's connection, if it is one of this driver."""
    return Sqlite3Connection(raw) if isinstance(raw, sqlite3.Connection) else None


def holds(path: str) -> bool:  # noqa: ARG001
    """Whether an open descriptor of that file may be this library's: always, it is the process's own."""
    return True


def library_version() -> str:
    """The version of the SQLite library inside."""
    return sqlite3.sqlite_version
