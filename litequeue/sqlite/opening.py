"""Open a queue's file: every guard first, then the settings each connection needs."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from litequeue.errors import DriverConflict, StoreError
from litequeue.sqlite import guards, whose_wal

if TYPE_CHECKING:
    from litequeue.sqlite.connection import Connection

log: logging.Logger = logging.getLogger("litequeue")

Driver = Literal["apsw", "sqlite3"]
Durability = Literal["full", "normal"]

# Before this, two connections that checkpoint and write at once can corrupt the file (sqlite.org/wal.html).
WAL_RESET_MENDED = (3, 51, 3)

JOURNAL_LIMIT = 64 * 1024 * 1024


class DriverModule(Protocol):
    """What a driver module offers."""

    LIBRARY: str

    def connect(self, path: str) -> Connection:
        """Open the file."""

    def connect_main_file(self, path: Path) -> Connection:
        """Open the file alone, to read: without its WAL, without locks, and without making anything beside it."""

    def wrap(self, raw: Any) -> Connection | None:
        """Put a caller's connection behind the seam, if it is one of this driver."""

    def holds(self, path: str) -> bool:
        """Whether an open descriptor of that file may belong to this library."""

    def library_version(self) -> str:
        """The version of the SQLite inside."""


def driver_module(driver: Driver) -> DriverModule:
    """Import the driver of that name, and no other."""
    if driver == "apsw":
        from litequeue.sqlite import driver_apsw

        return driver_apsw
    if driver == "sqlite3":
        from litequeue.sqlite import driver_sqlite3

        return driver_sqlite3
    raise ValueError(f"driver must be 'apsw' or 'sqlite3', got {driver!r}")


class File:
    """One database file that this process may open connections to."""

    def __init__(
        self, path: str | os.PathLike[str], driver: Driver, durability: Durability, *, allow_unsafe_filesystem: bool
    ) -> None:
        if durability not in ("full", "normal"):
            raise ValueError(f"durability must be 'full' or 'normal', got {durability!r}")
        self.path: str = str(_absolute(path))
        self.driver: DriverModule = driver_module(driver)
        self.durability = durability
        self.created: bool = False
        self._noted = False
        self._allow_unsafe_filesystem = allow_unsafe_filesystem
        self.identity: guards.FileId = guards.NO_FILE  # until the first connection

    def connect(self, *, create: bool = False) -> Connection:
        """Open one more connection, with every guard; with `create`, a missing file is made first."""
        path = Path(self.path)
        guards.check_place(path, allow_unsafe_filesystem=self._allow_unsafe_filesystem)
        if create:
            whose_wal.refuse_left_alone(path)
            self.created = _create(path) or self.created
        elif not path.exists():
            raise StoreError(f"{path} does not exist")
        first: list[bool] = []

        def check_wal() -> None:
            whose_wal.check(path, self.driver, make=create)
            first.append(True)

        identity = guards.register(self.path, self.driver.LIBRARY, holds=self.driver.holds, first=check_wal)
        try:
            if self.identity not in (guards.NO_FILE, identity):
                guards.check_not_replaced(self.path, self.identity)
            self.identity = identity
            return self._opened(first=bool(first))
        except BaseException:
            guards.forget(identity)
            raise

    def _opened(self, *, first: bool) -> Connection:
        db = self.driver.connect(self.path)
        try:
            for pragma in _settings(self.durability):
                db.rows(f"PRAGMA {pragma}")
            if first or not self._noted:
                self._noted = whose_wal.note(Path(self.path), self.identity[1], db)
        except BaseException:
            db.close()
            raise
        return db

    def disconnect(self, db: Connection) -> None:
        """Close a connection that `connect` opened."""
        db.close()
        guards.forget(self.identity)

    def forsake(self) -> None:
        """Open the file in this process no more: it was forked while a connection to it was at work."""
        guards.forsake(self.identity)

    def check_not_replaced(self) -> None:
        """Raise `StoreReplaced` when the path now names another file, or none."""
        guards.check_not_replaced(self.path, self.identity)


def _absolute(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"the path of a queue must be text, got {path!r}")
    if text == ":memory:" or text.startswith("file:"):
        raise ValueError(f"a queue needs a plain file path, got {text!r}: its workers and callers meet in the file")
    path = Path(os.path.realpath(text))
    check_name(path)
    return path


def check_name(path: Path) -> None:
    """Raise `StoreError` for a name that SQLite cannot be given."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise StoreError(f"SQLite opens files with names in UTF-8 only; {str(path)!r} is not") from None


def _settings(durability: Durability) -> tuple[str, ...]:
    return (
        "cache_size = -16000",
        "mmap_size = 0",
        "temp_store = memory",
        f"journal_size_limit = {JOURNAL_LIMIT}",
        f"synchronous = {durability}",
    )


def _create(path: Path) -> bool:
    """Make an empty file that only its owner may read; True if it was not there."""
    try:
        # by hand only here: nobody can have it open yet
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except (FileExistsError, DriverConflict):  # the latter from our own guard: it is there, and open here already
        return False
    except OSError as error:
        raise StoreError(f"{path} cannot be created: {error.strerror}") from error
    return True


def warn_of_old_library(driver: DriverModule) -> str | None:
    """Say what is known to be wrong with this SQLite library, once a process and version."""
    version = driver.library_version()
    if tuple(int(part) for part in version.split(".")[:3]) >= WAL_RESET_MENDED:
        return None
    return (
        f"SQLite {version} (driver {driver.LIBRARY!r}) has the WAL-reset bug, which can corrupt a file in rare cases; "
        f"use the apsw driver, or a Python built with SQLite 3.51.3 or newer (sqlite.org/wal.html#walresetbug)"
    )
