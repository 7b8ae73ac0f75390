"""The seam between the store and a driver: rows, many, script, close, and one shared transaction."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar

from litequeue.core.owner_process import getpid, keep_for_ever
from litequeue.errors import StoreBusy, StoreDamaged, StoreError

T = TypeVar("T")

Row = tuple[Any, ...]
Parameters = dict[str, Any] | tuple[Any, ...]
Statement = tuple[str, Parameters]
# A piece of work as the statements it asks for, whoever runs them: a driver here, or a caller's aiosqlite connection.
Steps = Generator[Statement, "list[Row]", T]

BUSY_SECONDS = 10.0


class Connection(Protocol):
    """One open connection of one driver. Statements run outside a transaction commit by themselves."""

    raw: Any
    check_files: Callable[[], None]
    holder: object
    on_collected: Callable[[], None]

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""

    @property
    def closed(self) -> bool:
        """Whether it was closed, by us or in a block of the caller's."""

    def lend(self) -> None:
        """Watch from now on what a caller does with it."""

    def withdraw(self) -> bool:
        """Watch no more; return whether a statement that may change a setting was run meanwhile."""

    def pragmas(self) -> tuple[str, ...]:
        """The settings that a caller can change without a statement, by methods of the driver's."""

    def traits(self) -> tuple[Any, ...]:
        """What can be set on the driver's object itself, such as a row factory; to be compared by identity."""

    def drop_hooks(self) -> None:
        """Restore what is set by methods and cannot be read back: hooks, and `pragmas()`."""

    @property
    def last_id(self) -> int:
        """The rowid of the last row inserted on this connection."""

    def rows(self, sql: str, parameters: Parameters | None = None) -> list[Row]:
        """Run one statement to its end and return its rows."""

    def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each set of positional parameters."""

    def changed(self, sql: str, parameters: Iterable[Sequence[Any]]) -> int:
        """The same; return how many rows the statement changed, without those that triggers did."""

    def script(self, sql: str) -> None:
        """Run a statement that takes no parameters and returns nothing."""

    def copy_into(self, target: Connection, pages: int) -> None:
        """Make the other connection's file, of the same driver, a copy of this one's, so many pages at a time."""

    def close(self) -> None:
        """Close; the connection cannot be used again."""


_RESTORE = "run `litequeue doctor` on it and restore a backup"
_NO_DATABASE = f"this file is no SQLite database: choose another path, or, if it was one, {_RESTORE}"
_DAMAGED = f"the file is damaged; {_RESTORE}"
_DISK_ERROR = (
    "the disk reported an input/output error, or -wal or -shm was deleted while another process has the file open; "
    "nothing was stored"
)
_ADVICE: tuple[tuple[str, type[StoreError], str], ...] = (
    ("locked", StoreBusy, f"the file was locked for {BUSY_SECONDS:.0f} s by another writer; keep transactions short"),
    ("busy", StoreBusy, f"the file was locked for {BUSY_SECONDS:.0f} s by another writer; keep transactions short"),
    # damage by SQLite's whole sentences: "malformed JSON" is about one row, which another program wrote
    ("not a database", StoreDamaged, _NO_DATABASE),
    ("disk image is malformed", StoreDamaged, _DAMAGED),
    ("malformed database schema", StoreDamaged, _DAMAGED),
    ("readonly", StoreError, "the file or its folder cannot be written; check owner and permissions"),
    ("full", StoreError, "the disk is full; nothing was stored; free some space"),
    ("unable to open", StoreError, "the file cannot be opened; check that its folder exists and may be written"),
    ("failed: id <", StoreError, "the ids of this file are used up; go on in a new one"),
    ("disk i/o", StoreError, _DISK_ERROR),
)


def translated(error: Exception) -> StoreError:
    """Turn a driver's error into ours, saying what to do. Raise it `from` the original."""
    text = str(error)
    lowered = f"{type(error).__name__} {text}".lower()
    for sign, kind, advice in _ADVICE:
        if sign in lowered:
            return kind(f"{advice} ({text})")
    return StoreError(f"SQLite refused: {text}")


def only_reads(sql: str) -> bool:
    """Whether the statement may be run a second time."""
    return sql.startswith(("SELECT", "WITH"))


def _unknown() -> None:
    """The default of a connection that was not opened here."""


class Handle:
    """Holds a driver's raw connection. In a child of a fork without hooks it is neither used nor closed."""

    def __init__(self, raw: Any) -> None:
        self.raw: Any = raw
        self.check_files: Callable[[], None] = _unknown  # raises `StoreReplaced` when what it has open was replaced
        self.holder: object = None  # what stands for it where open files are noted
        self.on_collected: Callable[[], None] = _unknown  # it was dropped with its queue, unclosed; takes no lock
        self._pid = getpid()

    def __del__(self) -> None:
        if isinstance(self.raw, _Abandoned):
            return
        if getpid() != self._pid:
            keep_for_ever(self.raw)
        elif self.holder is not None:  # opened here, and dropped
            self.on_collected()
            with suppress(Exception):
                self.raw.close()


class _Abandoned:
    """Stands where another process's connection stood: in no transaction, so that none is ended here."""

    in_transaction = False


def abandon(db: Connection) -> None:
    """Let go of a connection that another process has opened, for ever and without closing it."""
    keep_for_ever(db.raw)
    db.raw = _Abandoned()


@contextmanager
def left_to_its_opener(
    db: Connection, enter: Callable[[], None], forget: Callable[[], None]
) -> Generator[None, None, None]:
    """At the block's end, in a process that was forked in it: leave the transaction to the one that opened it."""
    try:
        yield
    finally:
        try:
            enter()
        except StoreError:
            forget()
            abandon(db)
            raise


def check_open(db: Any) -> None:
    """Refuse to go on in a transaction that the caller's block has ended, here or on an aiosqlite connection."""
    if not db.in_transaction:
        raise StoreError(
            "the transaction was ended inside the block, by a commit, a rollback or an error after which SQLite "
            "rolls back; leave commit and rollback to litequeue"
        )


@contextmanager
def transaction(db: Connection) -> Generator[Connection, None, None]:
    """Run the block in one write transaction: all of it is on disk at the end, or none of it."""
    # IMMEDIATE: a read lock that must upgrade fails with busy at once.
    try:
        db.script("BEGIN IMMEDIATE")
        yield db
        check_open(db)
        db.script("COMMIT")
    except BaseException:
        if db.in_transaction:  # after a full disk SQLite may have rolled back by itself
            db.script("ROLLBACK")
        raise


def leave(scope: Any, error: BaseException | None) -> None:
    """Leave a transaction as the `with` statement would; raises only what is not that error."""
    scope.__exit__(*(None, None, None) if error is None else (type(error), error, error.__traceback__))


class Fate:
    """Whether a transaction was committed, also where Ctrl-C came amid it. None: nobody can tell."""

    __slots__ = ("committed",)

    def __init__(self) -> None:
        self.committed: bool | None = False


def transact(
    db: Connection,
    work: Callable[[Connection], T],
    check: Callable[[Connection], None] | None = None,
    fate: Fate | None = None,
) -> T:
    """Run `check`, then `work`, in one write transaction; for code of our own, which ends none itself."""
    fate = fate or Fate()
    outer = sys.exc_info()[1]  # what the caller is handling
    try:
        db.script("BEGIN IMMEDIATE")
        if check is not None:
            check(db)
        value = work(db)
        fate.committed = None
        db.script("COMMIT")
        fate.committed = True
    except BaseException as error:
        if db.in_transaction:
            fate.committed = False
            db.script("ROLLBACK")
        elif fate.committed is None and error.__context__ is outer and not isinstance(error, Exception):
            fate.committed = True  # Ctrl-C, and no error of COMMIT was on its way
        raise
    return value


def perform(db: Connection, steps: Steps[T]) -> T:
    """Run the statements that `steps` asks for on this connection, and return what it returns."""
    rows: list[Row] | None = None
    try:
        while True:
            sql, parameters = steps.send(rows)  # type: ignore[arg-type]  # None starts it
            rows = db.rows(sql, parameters)
    except StopIteration as end:
        result: T = end.value
        return result
