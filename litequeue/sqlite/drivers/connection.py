"""The seam between the store and a driver: rows, many, script, close, and one shared transaction."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from litequeue.core.owner_process import getpid, keep_for_ever
from litequeue.errors import StoreBusy, StoreDamaged, StoreError

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

Row = tuple[Any, ...]
Parameters = dict[str, Any] | tuple[Any, ...]
Statement = tuple[str, Parameters]
# A piece of work as the statements it asks for. A driver here runs them, or a caller's aiosqlite connection.
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
        """Watch from now on what a caller does with the connection."""

    def withdraw(self) -> bool:
        """Stop watching; return whether a statement was run that may change a setting."""

    def pragmas(self) -> tuple[str, ...]:
        """The settings that a caller can change without a statement, by methods of the driver."""

    def traits(self) -> tuple[Any, ...]:
        """The attributes that can be set on the driver's object, such as a row factory; compared by identity."""

    def drop_hooks(self) -> None:
        """Restore settings that are made by methods and cannot be read back: hooks, and `pragmas()`."""

    @property
    def last_id(self) -> int:
        """The rowid of the last row inserted on this connection."""

    def wait_at_most(self, milliseconds: int) -> None:
        """Wait so long for a lock of another connection's, from now on."""

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
_NO_DATABASE = f"this file is not an SQLite database: choose another path, or, if it was one, {_RESTORE}"
_DAMAGED = f"the file is damaged; {_RESTORE}"
_DISK_ERROR = (
    "the disk reported an input/output error, or -wal or -shm was deleted while another process has the file open; "
    "nothing was stored"
)
_BUSY = f"the file was locked for {BUSY_SECONDS:.0f} s by another writer; keep transactions short"
_CONSTRAINT = 19
# SQLite's result code (sqlite.org/rescode.html), what its text contains, and what to do. The text decides only where a
# driver tells no code: a trigger's RAISE() may hold any words.
_ADVICE: tuple[tuple[int, str, type[StoreError], str], ...] = (
    (5, "busy", StoreBusy, _BUSY),
    (6, "locked", StoreBusy, _BUSY),
    (26, "not a database", StoreDamaged, _NO_DATABASE),
    # damage by SQLite's whole sentences: "malformed JSON" is about one row, which another program wrote
    (11, "disk image is malformed", StoreDamaged, _DAMAGED),
    (11, "malformed database schema", StoreDamaged, _DAMAGED),
    (8, "readonly", StoreError, "the file or its folder cannot be written; check owner and permissions"),
    (13, "full", StoreError, "the disk is full; nothing was stored; free some space"),
    (14, "unable to open", StoreError, "the file cannot be opened; check that its folder exists and may be written"),
    (10, "disk i/o", StoreError, _DISK_ERROR),
)


def translated(error: Exception) -> StoreError:
    """Turn a driver's error into ours, with advice. Raise it `from` the original."""
    text, code = str(error), _result_code(error)
    if code == _CONSTRAINT:
        if "failed: id <" in text:
            return StoreError(f"the ids of this file are used up; start a new file ({text})")
        return StoreError(f"SQLite refused: {text}")
    lowered = f"{type(error).__name__} {text}".lower()
    for number, sign, kind, advice in _ADVICE:
        if number == code or (code is None and sign in lowered):
            return kind(f"{advice} ({text})")
    return StoreError(f"SQLite refused: {text}")


def _result_code(error: Exception) -> int | None:
    """SQLite's primary result code; None where the driver tells none: Python 3.10's sqlite3, and its own errors."""
    if type(error).__name__ in ("IntegrityError", "ConstraintError"):
        return _CONSTRAINT
    code = getattr(error, "sqlite_errorcode", getattr(error, "result", None))
    return code & 0xFF if isinstance(code, int) and code > 0 else None


def only_reads(sql: str) -> bool:
    """Whether the statement may be run a second time."""
    return sql.startswith(("SELECT", "WITH"))


def _unknown() -> None:
    """The default of a connection that was not opened here."""


class DriverModule(Protocol):
    """The functions of a driver module."""

    LIBRARY: str

    def connect(self, path: str) -> Connection:
        """Open the file."""

    def connect_main_file(self, path: Path) -> Connection:
        """Open the file alone, to read: without its WAL, without locks, and without making anything beside it."""

    def wrap(self, raw: Any) -> Connection | None:
        """Wrap a caller's connection, if it is one of this driver."""

    def holds(self, path: str) -> bool:
        """Whether an open descriptor of that file may belong to this library."""

    def library_version(self) -> str:
        """The version of the SQLite inside."""


class Handle:
    """Holds a driver's raw connection. In a child of a fork without hooks it is neither used nor closed."""

    raw: Any = None  # until it is made: a Ctrl-C may come before
    holder: object = None  # what stands for it where open files are noted
    _pid = 0

    def __init__(self, raw: Any) -> None:
        self._pid = getpid()
        self.check_files: Callable[[], None] = _unknown  # raises `StoreReplaced` when what it has open was replaced
        self.on_collected: Callable[[], None] = _unknown  # it was dropped with its queue, unclosed; takes no lock
        self.raw = raw

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
    """Replaces another process's connection: in no transaction, so that none is ended here."""

    in_transaction = False


def abandon(db: Connection) -> None:
    """Give up a connection that another process has opened, for ever and without closing it."""
    keep_for_ever(db.raw)
    db.raw = _Abandoned()


@contextmanager
def left_to_its_opener(
    db: Connection, enter: Callable[[], None], forget: Callable[[], None]
) -> Generator[None, None, None]:
    """Leave the transaction to the process that opened it, at the end of a block in which this one was forked."""
    try:
        yield
    finally:
        try:
            enter()
        except StoreError:
            forget()
            abandon(db)
            raise


_ENDED = (
    "the transaction was ended inside the block, by a commit, a rollback or an error after which SQLite rolls back; "
    "leave commit and rollback to litequeue"
)

# A savepoint ends with its transaction: where it is gone, the block has ended that one, and begun another.
SAVE_BLOCK, RELEASE_BLOCK = "SAVEPOINT litequeue_block", "RELEASE litequeue_block"


def check_open(db: Any) -> None:
    """Raise if the caller's block has ended the transaction, here or on an aiosqlite connection."""
    if not db.in_transaction:
        raise StoreError(_ENDED)


@contextmanager
def released() -> Generator[None, None, None]:
    """For the statement `RELEASE_BLOCK`: refuse a transaction that is not the one in which the block began."""
    try:
        yield
    except StoreError as error:
        if "no such savepoint" in str(error):
            raise StoreError(_ENDED) from error
        raise


def begin(db: Connection) -> None:
    """Begin a write transaction."""
    # IMMEDIATE: a read lock that must upgrade fails with busy at once.
    db.script("BEGIN IMMEDIATE")


@contextmanager
def transaction(db: Connection, begin: Callable[[Connection], None] = begin) -> Generator[Connection, None, None]:
    """Run the block in one write transaction: all of it is on disk at the end, or none of it."""
    try:
        begin(db)
        yield db
        check_open(db)
        db.script("COMMIT")
    except BaseException:
        if db.in_transaction:  # after a full disk SQLite may have rolled back by itself
            db.script("ROLLBACK")
        raise


@contextmanager
def transaction_of_block(db: Connection, begin: Callable[[Connection], None]) -> Generator[Connection, None, None]:
    """The same for a block of a caller's, which may end the transaction: then the rest of it is rolled back."""
    with transaction(db, begin):
        db.script(SAVE_BLOCK)
        yield db
        check_open(db)
        with released():
            db.script(RELEASE_BLOCK)


def leave(scope: Any, error: BaseException | None) -> None:
    """Leave a transaction as the `with` statement would; raises only what is not that error."""
    scope.__exit__(*(None, None, None) if error is None else (type(error), error, error.__traceback__))


def transact(db: Connection, work: Callable[[Connection], T], check: Callable[[Connection], None]) -> T:
    """Run `check`, then `work`, in one write transaction; for code of our own, which ends none itself."""
    try:
        db.script("BEGIN IMMEDIATE")
        check(db)
        value = work(db)
        db.script("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.script("ROLLBACK")
        raise
    return value


def perform(db: Connection, steps: Steps[T]) -> T:
    """Run the statements that `steps` asks for on this connection, and return what it returns.

    An error, or a Ctrl-C, is raised inside `steps`, which may ask for what undoes its statements.
    """
    go_on: Callable[[Any], Statement] = steps.send
    given: Any = None  # which starts it
    while True:
        try:
            sql, parameters = go_on(given)
            given, go_on = db.rows(sql, parameters), steps.send
        except StopIteration as end:
            result: T = end.value
            return result
        except BaseException as error:
            if steps.gi_frame is None:  # type: ignore[attr-defined]  # it has ended by this error
                given = None  # the error: its traceback holds this frame
                raise
            given, go_on = error, steps.throw
