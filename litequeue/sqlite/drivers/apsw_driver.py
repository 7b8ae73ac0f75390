"""The apsw driver: a current SQLite, the same on every machine."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import apsw

from litequeue.sqlite.drivers.connection import BUSY_SECONDS, Handle, only_reads, translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from litequeue.sqlite.drivers.connection import Connection, Parameters, Row

LIBRARY = "apsw"
AUTOCHECKPOINT = 1000  # pages; SQLite's own default

# What an authorizer is asked about that may stay on the connection.
_CHANGING = frozenset({
    apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH, apsw.SQLITE_CREATE_TEMP_TABLE, apsw.SQLITE_CREATE_TEMP_TRIGGER,
    apsw.SQLITE_CREATE_TEMP_VIEW, apsw.SQLITE_CREATE_TEMP_INDEX, apsw.SQLITE_DROP_TEMP_TABLE,
    apsw.SQLITE_CREATE_VTABLE,
})  # fmt: skip
# Pragmas that take a value and change nothing.
_READING = frozenset({
    "foreign_key_check", "foreign_key_list", "index_info", "index_list", "index_xinfo", "integrity_check",
    "quick_check", "table_info", "table_list", "table_xinfo", "wal_checkpoint", "incremental_vacuum", "optimize",
})  # fmt: skip
_traits = attrgetter("exec_trace", "row_trace", "authorizer", "cursor_factory", "convert_binding")
_FLAGS = (
    apsw.SQLITE_DBCONFIG_ENABLE_FKEY, apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA,
    apsw.SQLITE_DBCONFIG_WRITABLE_SCHEMA,
)  # fmt: skip


class ApswConnection(Handle):
    """One apsw connection behind the seam."""

    def __init__(self, raw: apsw.Connection) -> None:
        super().__init__(raw)
        self._watch = _Watch()

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        try:
            return bool(self.raw.in_transaction)
        except apsw.ConnectionClosedError:
            return False

    @property
    def closed(self) -> bool:
        """Whether it was closed, by us or in a block of the caller's."""
        try:
            self.raw.total_changes()
        except apsw.ConnectionClosedError:
            return True
        return False

    def lend(self) -> None:
        """Watch from now on what a caller does with the connection.

        SQLite asks when it prepares a statement: at each run of PRAGMA and ATTACH, and of others at the first only.
        """
        watch = self._watch
        if not watch.begun:
            watch.begun = True
            self.raw.authorizer = watch
        watch.lent, watch.changing = True, False

    def withdraw(self) -> bool:
        """Stop watching; return whether a statement was run that may change a setting."""
        self._watch.lent = False
        return self._watch.changing

    def pragmas(self) -> tuple[str, ...]:
        """The settings that a caller can change without a statement, and `drop_hooks` restores."""
        return ("busy_timeout", "wal_autocheckpoint")  # a busy handler and a WAL hook show in these, too

    def traits(self) -> tuple[Any, ...]:
        """The attributes that can be set on the driver's object."""
        raw = self.raw
        return (*_traits(raw), *[raw.config(flag, -1) for flag in _FLAGS])

    def drop_hooks(self) -> None:
        """Restore what is set by methods and cannot be read back cheaply: hooks, the busy handler, the WAL's limit."""
        raw = self.raw
        raw.set_busy_timeout(int(BUSY_SECONDS * 1000))
        raw.wal_autocheckpoint(AUTOCHECKPOINT)
        raw.set_commit_hook(None)
        raw.set_rollback_hook(None)
        raw.set_update_hook(None)
        raw.set_progress_handler(None)

    @property
    def last_id(self) -> int:
        """The rowid of the last row inserted on this connection."""
        return int(self.raw.last_insert_rowid())

    def wait_at_most(self, milliseconds: int) -> None:
        """Wait so long for a lock of another connection's, from now on."""
        self.raw.set_busy_timeout(milliseconds)

    def rows(self, sql: str, parameters: Parameters | None = None) -> list[Row]:
        """Run one statement to its end and return its rows."""
        try:
            # another holder of this connection may make dicts of rows, or anything else
            execute = self.raw.execute if self.raw.row_trace is None else _plain_cursor(self.raw).execute
            rows: list[Row] = execute(sql, parameters).fetchall()
            return rows
        except apsw.Error as error:
            raise translated(error) from error
        except UnicodeDecodeError as error:
            if not only_reads(sql):
                raise translated(error) from error
            return self._rows_not_in_utf8(sql, parameters)

    def _rows_not_in_utf8(self, sql: str, parameters: Parameters | None) -> list[Row]:
        """Read text that is not UTF-8, which apsw refuses: read all text as bytes."""
        cursor = _plain_cursor(self.raw)
        names = [f"c{number}" for number in range(len(cursor.execute(sql, parameters).get_description()))]
        cursor.close(True)
        read = ", ".join(
            f"iif(typeof({name}) = 'text', CAST({name} AS BLOB), {name}), typeof({name})" for name in names
        )
        lenient = f"WITH found ({', '.join(names)}) AS ({sql}) SELECT {read} FROM found"  # noqa: S608  our own SQL
        rows: list[Row] = _plain_cursor(self.raw).execute(lenient, parameters).fetchall()
        return [tuple(map(_decoded, row[::2], row[1::2])) for row in rows]

    def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each set of parameters."""
        try:
            self.raw.executemany(sql, parameters)
        except apsw.Error as error:
            raise translated(error) from error

    def changed(self, sql: str, parameters: Iterable[Sequence[Any]]) -> int:
        """The same; return how many rows the statement changed, without those that triggers did."""
        changes, count = self.raw.changes, 0

        def each() -> Iterator[Sequence[Any]]:
            nonlocal count
            for one in parameters:
                yield one
                count += changes()  # of this one run; total_changes() has those of triggers in it

        self.many(sql, each())
        return count

    def script(self, sql: str) -> None:
        """Run a statement that takes no parameters and returns nothing."""
        try:
            for _ in self.raw.execute(sql):  # to its end: a pragma without rows takes a step a row
                pass
        except apsw.Error as error:
            raise translated(error) from error

    def copy_into(self, target: Connection, pages: int) -> None:
        """Make the other connection's file a copy of this one's, so many pages at a time."""
        try:
            with target.raw.backup("main", self.raw, "main") as copying:
                while not copying.done:
                    copying.step(pages)
        except apsw.Error as error:
            raise translated(error) from error

    def close(self) -> None:
        """Close; the connection cannot be used again."""
        try:
            self.raw.close()
        except apsw.Error as error:
            raise translated(error) from error


class _Watch:
    """An authorizer that allows everything, and notes whether a caller's statement may change a setting."""

    begun = lent = changing = False

    def __call__(self, action: int, name: str | None, value: str | None, *_: str | None) -> int:
        if self.lent and (action in _CHANGING or (action == apsw.SQLITE_PRAGMA and value and name not in _READING)):
            self.changing = True
        return apsw.SQLITE_OK


def _decoded(value: Any, kind: str) -> Any:
    return value.decode(errors="replace") if kind == "text" else value


def _plain_cursor(raw: apsw.Connection) -> apsw.Cursor:
    cursor = raw.cursor()
    cursor.row_trace = lambda _cursor, row: row
    return cursor


def connect(path: str) -> ApswConnection:
    """Open the file with apsw's own SQLite."""
    try:
        raw = apsw.Connection(path)
        raw.set_busy_timeout(int(BUSY_SECONDS * 1000))
    except apsw.Error as error:
        raise translated(error) from error
    return ApswConnection(raw)


def connect_main_file(path: Path) -> ApswConnection:
    """Open the file alone, to read: without its WAL, without locks, and without making anything beside it."""
    try:
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        return ApswConnection(apsw.Connection(f"{path.as_uri()}?immutable=1", flags=flags))
    except apsw.Error as error:
        raise translated(error) from error


def wrap(raw: Any) -> ApswConnection | None:
    """Wrap a caller's connection, if it is one of this driver."""
    return ApswConnection(raw) if isinstance(raw, apsw.Connection) else None


def holds(path: str) -> bool:
    """Whether this process has an apsw connection to that file, ours or the application's own."""
    return any(_is_of(connection, path) for connection in apsw.connections())


def _is_of(connection: apsw.Connection, path: str) -> bool:
    try:
        return bool(connection.filename == path)
    except apsw.ThreadingViolationError:
        return True  # busy in another thread, so it cannot be asked; an apsw connection it is
    except apsw.ConnectionClosedError:
        return False


def library_version() -> str:
    """The version of the SQLite library inside."""
    return str(apsw.sqlite_lib_version())
