"""Copy a file while it is in use. Knows only how running jobs are stored."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from litequeue.errors import StoreError
from litequeue.ipc.permissions import SQLITE_FILES
from litequeue.sqlite.compose.consequences import Consequences
from litequeue.sqlite.drivers.connection import transact
from litequeue.sqlite.file import migrate
from litequeue.sqlite.file.opening import check_name
from litequeue.sqlite.file.wal_owner import FILE_ID, new_id
from litequeue.sqlite.jobs import workers
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litequeue.sqlite.drivers.connection import Connection
    from litequeue.sqlite.file.opening import File

STEP = 4096  # pages copied at a time
BESIDE = (*SQLITE_FILES, "-journal")  # what SQLite adds to a database's name


def place_of(copy: str | os.PathLike[str], original: Path, now: float) -> Path:
    """Return the path of the copy: the given path, or, if it is a folder, a name with the time in it."""
    place = Path(copy)
    if place.is_dir():
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        place = place / f"{original.stem}-{moment}{original.suffix}"
    if place.exists() or place.is_symlink():
        raise StoreError(f"{place} already exists; name a new file, or a folder to put it in")
    check_name(place.absolute())
    if place.name.endswith(BESIDE):
        raise StoreError(f"{place} is a name that SQLite uses for its own files, which it deletes; choose another")
    # HAZARD: SQLite would take what a database of that name has left for the copy's own, and put it into the copy
    for left in (place.with_name(f"{place.name}{ending}") for ending in BESIDE):
        if left.exists() or left.is_symlink():
            raise StoreError(f"{left} exists, left by a database that is gone; delete it when no process uses it")
    if not place.parent.is_dir():
        raise StoreError(f"the folder {place.parent} does not exist; create it first")
    return place


def backup(file: File, copy: str | os.PathLike[str], now: float, ttls: Mapping[str, float], *, as_it_is: bool) -> Path:
    """Copy the file as it is now, and sync the copy to disk. The copy gets its name once it is complete.

    `as_it_is`: copy even a damaged file, with its registered workers.
    """
    place = place_of(copy, Path(file.path), now)
    part = place.with_name(f"{place.name}.part-{os.urandom(4).hex()}")  # in a container pids come again
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreError(f"{part} cannot be created: {error.strerror}") from error
    try:
        _fill(file, part, now, ttls, as_it_is=as_it_is)
        _sync(part)
        place_of(place, place, now)  # it may have come to be meanwhile
        part.rename(place)
        _sync(place.parent)
    except OSError as error:
        raise StoreError(f"{place} cannot be written: {error.strerror}") from error
    finally:
        for left in (part, Path(f"{part}-wal"), Path(f"{part}-journal")):
            left.unlink(missing_ok=True)
    return place


def _fill(file: File, part: Path, now: float, ttls: Mapping[str, float], *, as_it_is: bool) -> None:
    source = file.connect()
    try:
        db = file.driver.connect(str(part))
        try:
            db.rows("PRAGMA synchronous = off")  # it is synced as a whole
            db.rows("PRAGMA locking_mode = exclusive")  # no shared memory: the copy may lie on any file system
            # one read transaction: writes meanwhile would make the copy begin again
            source.script("BEGIN")
            source.rows(SQL["any_table"])
            source.copy_into(db, STEP)
            if as_it_is:
                return
            if faults := [text for (text,) in db.rows("PRAGMA integrity_check") if text != "ok"]:
                raise StoreError(
                    f"{file.path} is damaged, and so would be the copy ({'; '.join(faults[:3])}); "
                    f"see `litequeue doctor`, and keep your last good copy"
                )
            transact(db, lambda db: _make_usable(db, now, ttls), lambda db: migrate.check(db, file.path))
            # HAZARD: close() would do it as well, and say nothing where it fails halfway
            db.rows("PRAGMA wal_checkpoint(truncate)")
        finally:
            db.close()
    finally:
        if source.in_transaction:
            source.script("ROLLBACK")
        file.disconnect(source)


def _make_usable(db: Connection, now: float, ttls: Mapping[str, float]) -> None:
    """Make the copy independent: the workers belong to the original, and the jobs they were running are queued."""
    db.rows(SQL["set_meta"], {**FILE_ID, "value": new_id()})
    for (number,) in db.rows(SQL["everyone"]):
        workers.rescue(
            db,
            number,
            None,
            now,
            result_ttl=ttls["result_ttl"],
            failed_ttl=ttls["failed_ttl"],
            blame=False,
            then=Consequences(),  # nobody waits on the copy yet
            why="this is a copy, made while it ran",
        )


def _sync(path: Path) -> None:
    """Sync a file or a folder to disk; a folder only if the system can."""
    folder = path.is_dir()
    with contextlib.suppress(PermissionError) if folder else contextlib.nullcontext():  # Windows opens no folder
        # by hand only here: no connection to the copy is open any more
        number = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
        try:
            os.fsync(number)
        finally:
            os.close(number)
