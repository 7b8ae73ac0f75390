"""Open a queue's file: every guard first, then the settings each connection needs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from litequeue.core.checks import flag, plain_function
from litequeue.errors import DriverConflict, StoreError
from litequeue.ipc.permissions import SQLITE_FILES
from litequeue.sqlite.drivers.connection import DriverModule, abandon
from litequeue.sqlite.file import guards, wal_owner
from litequeue.sqlite.file.open_file import NO_FILE, FileId, OpenFile, check_not_replaced

if TYPE_CHECKING:
    from collections.abc import Generator

    from litequeue.sqlite.drivers.connection import Connection

Driver = Literal["apsw", "sqlite3"]
OnConnect = Callable[[Any], object]
Durability = Literal["full", "normal"]

# Before this, two connections that checkpoint and write at once can corrupt the file (sqlite.org/wal.html).
WAL_RESET_MENDED = (3, 51, 3)

JOURNAL_LIMIT = 64 * 1024 * 1024


def driver_module(driver: Driver) -> DriverModule:
    """Import the driver of that name, and no other."""
    if driver == "apsw":
        from litequeue.sqlite.drivers import apsw_driver as driver_apsw

        return driver_apsw
    if driver == "sqlite3":
        from litequeue.sqlite.drivers import sqlite3_driver as driver_sqlite3

        return driver_sqlite3
    raise ValueError(f"driver must be 'apsw' or 'sqlite3', got {driver!r}")


class File:
    """One database file that this process may open connections to."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        driver: Driver,
        durability: Durability,
        *,
        allow_unsafe_filesystem: bool,
        foreign_keys: bool = False,
        on_connect: OnConnect | None = None,
    ) -> None:
        if durability not in ("full", "normal"):
            raise ValueError(f"durability must be 'full' or 'normal', got {durability!r}")
        self.path: str = str(_absolute(path))
        self.driver: DriverModule = driver_module(driver)
        self.durability = durability
        self.created: bool = False
        self.foreign_keys: bool = flag(foreign_keys, "foreign_keys")
        self.on_connect: OnConnect | None = None if on_connect is None else plain_function(on_connect, "on_connect")
        self._noted = wal_owner.NOT_NOTED
        self._allow_unsafe_filesystem = allow_unsafe_filesystem
        self.identity: FileId = NO_FILE  # until the first connection
        self._open: OpenFile | None = None  # as it was opened last

    def connect(self, *, create: bool = False, lent: bool = False) -> Connection:
        """Open one more connection, with every guard; with `create`, a missing file is made first.

        `lent`: callers get it in their blocks, so it is set up as the application wants it.
        """
        path = Path(self.path)
        self._check_identity()
        unsafe, in_use = self._allow_unsafe_filesystem, self.identity != NO_FILE
        guards.check_place(path, allow_unsafe_filesystem=unsafe, in_use=in_use)
        if create:
            wal_owner.refuse_left_alone(path)
            self.created = _create(path) or self.created
        elif not path.exists():
            raise StoreError(f"{path} does not exist")
        holder = object()
        found, first = self._register(holder, make=create)
        try:
            self._check_identity()  # again: that was before it was noted as open
            self.identity = found.identity
            db = self._opened(first=first, lent=lent)
        except BaseException:
            guards.forget(found, holder)
            raise
        db.holder, db.on_collected = holder, partial(found.collected, holder)
        self._open = found
        return db

    def _register(self, holder: object, *, make: bool) -> tuple[OpenFile, bool]:
        """Note that a connection is to be opened; tell whether it is the first of this process."""
        first: list[bool] = []

        def check_wal() -> None:
            wal_owner.check(Path(self.path), self.driver, make=make)
            first.append(True)

        found = guards.register(self.path, self.driver.LIBRARY, holder, holds=self.driver.holds, first=check_wal)
        return found, bool(first)

    def _opened(self, *, first: bool, lent: bool) -> Connection:
        db = self.driver.connect(self.path)
        try:
            for pragma in _settings(self.durability):
                db.rows(f"PRAGMA {pragma}")
            if first or not self._noted.complete:
                self._noted = wal_owner.note(Path(self.path), self.identity[1], db)
            if lent:
                self.set_up(db.raw)
        except BaseException:
            db.close()
            raise
        return db

    def connect_to_queue(self, *, lent: bool = False) -> Connection:
        """Connect to a file that is known to be in WAL mode, and note the -wal and -shm that SQLite opens now."""
        db = self.connect(lent=lent)
        try:
            db.rows("PRAGMA schema_version")  # SQLite opens them at the first read
            found = self._open_file()
            found.note_beside(db.holder)
            db.check_files = found.check
        except BaseException:
            self.disconnect(db)
            raise
        return db

    def give_next_id(self, db: Connection) -> None:
        """Give a restored file a new id, once its tables are those of this release."""
        if self._noted.needs_id:
            wal_owner.give_next_id(Path(self.path), self.identity[1], db)

    def set_up(self, raw: Any) -> None:
        """Prepare a driver's connection for the application's own statements; errors of `on_connect` are raised."""
        if self.foreign_keys:
            raw.execute("PRAGMA foreign_keys = on")
        if self.on_connect is None:
            return
        self.on_connect(raw)
        if raw.in_transaction:
            raise StoreError("on_connect left a transaction open; end the transaction in on_connect")
        raw.execute(f"PRAGMA synchronous = {self.durability}")  # the queue's promise, in place of what was set there

    def disconnect(self, db: Connection) -> None:
        """Close a connection that `connect` opened; if its files were replaced, leave it to the end of the process."""
        found = self._open_file()
        # SQLite would move an old WAL into the file, and remove another's by its name. Where a caller has closed it in
        # a block, the -wal may be gone with it, rightly.
        if not db.closed and found.is_replaced:
            abandon(db)
            return
        found.leave_beside(db.holder)
        try:
            db.close()
        finally:  # an error of the disk meanwhile leaves the connection closed
            guards.forget(found, db.holder)

    @contextmanager
    def registered(self) -> Generator[tuple[OpenFile, object], None, None]:
        """Note, during the block, a connection to the file that the caller opens and closes."""
        holder = object()
        found, _ = self._register(holder, make=False)
        try:
            yield found, holder
        finally:
            guards.forget(found, holder)

    def _open_file(self) -> OpenFile:
        if self._open is None:
            raise RuntimeError("no connection is open")
        return self._open

    def forsake(self) -> None:
        """Refuse the file in this process, which was forked while a connection to it was in use."""
        guards.forsake(self.identity)

    def check_not_replaced(self) -> None:
        """Raise `StoreReplaced` when the path, its -wal or its -shm now names another file, or none."""
        if self._open is not None and self._open.holders:
            self._open.check()
        else:
            self._check_identity()

    def _check_identity(self) -> None:
        if self.identity != NO_FILE:
            check_not_replaced(self.path, self.identity)


def _absolute(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"the path of a queue must be text, got {path!r}")
    if why := _no_file(text):
        raise ValueError(f"{text!r} cannot be a queue's file: {why}")
    path = Path(os.path.realpath(text))
    check_name(path)
    return path


def _no_file(text: str) -> str:
    """Return why a text is no path of a database, and what to pass, or nothing."""
    if ":memory:" in text:
        return "workers and callers share a file; in tests pass one in a temporary folder, such as tmp_path / 'q.db'"
    address = re.match(r"([a-zA-Z][\w+.-]*)://", text)
    if address and address[1].startswith(("sqlite", "file")):
        path = text[address.end() :].partition("?")[0]
        return f"it is a URL; pass the path alone, such as {path.removeprefix('/' * ('sqlite' in address[1]))!r}"
    if address:
        return "litequeue has no server, and keeps its jobs in a SQLite file; pass the path of one, such as 'app.db'"
    if text.startswith("file:"):
        return f"it is a URI; pass the path alone, such as {text[5:].partition('?')[0]!r}"
    for ending in (*SQLITE_FILES, "-journal"):
        if text.endswith(ending):
            return f"SQLite keeps that beside a database; pass {text.removesuffix(ending)!r}"
    return ""


def check_name(path: Path) -> None:
    """Raise `StoreError` for a name that SQLite cannot open."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise StoreError(f"SQLite can open only files whose names are UTF-8; rename {str(path)!r}") from None


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
        # by hand only here: no connection can have it open yet
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except (FileExistsError, DriverConflict):  # the latter from our own guard: it is there, and open here already
        return False
    except OSError as error:
        raise StoreError(f"{path} cannot be created: {error.strerror}") from error
    return True


def warn_of_old_library(driver: DriverModule) -> str | None:
    """Warn of a known fault of this SQLite library, once per process and version; return the warning."""
    version = driver.library_version()
    if tuple(int(part) for part in version.split(".")[:3]) >= WAL_RESET_MENDED:
        return None
    return (
        f"SQLite {version} (driver {driver.LIBRARY!r}) has the WAL-reset bug: when one connection commits at the very "
        f"moment at which another checkpoints, the file may be corrupted. It is rare: SQLite's developers met it only "
        f"with code made to force it, and put it at no more than the failures of disks. You may go on, with backups "
        f"(`litequeue doctor` checks the file); or use a Python with SQLite 3.51.3 or newer; or, where nothing else in "
        f"this process opens the file with sqlite3, the apsw driver (sqlite.org/wal.html#walresetbug)"
    )
