"""Know to which file a WAL belongs: SQLite would write another database's WAL into this file without an error.

A process that opens the file compares it with a note in the folder beside it first, and then renews the note. The note
holds the inodes of the file, its -wal and its -shm, and an id that stands in the file itself, which tells a copy
that was put over the file (`cp backup.db app.db`) although the inode is the same. A file that is found to be another
one than noted gets a new id, so that the same copy put over it once more is told, too. A file that is in rollback mode
owns no WAL: SQLite deletes the WAL before it leaves that mode, and makes none before it is in it.

HAZARD: to refuse a WAL that is rightly there, after a power cut, would lose jobs. So only certain signs of another
file count. Device numbers change at a reboot: none is compared. Where the folder was copied along with the file to
another disk, every inode is another one, the note's own included, which it holds as well: inodes then say nothing. A
-wal that was replaced together with the file belongs to it. Unknown facts do not count against the file.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from litequeue.errors import StoreError, StoreReplaced
from litequeue.ipc.permissions import (
    SQLITE_FILES,
    give_open_file_to_users_of,
    make_sqlite_files,
    refuse_unusable,
    share_sqlite_files,
)
from litequeue.ipc.process_lock import BESIDE, open_directory
from litequeue.sqlite.drivers.connection import transaction
from litequeue.sqlite.file.header import is_in_rollback_mode
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection, DriverModule

NAME = "file.json"  # the note, in the folder beside the database
FILE_ID = {"name": "file_id"}
LENGTH = 256  # bytes of a note: one sector, which disks write as a whole
LARGEST = 4096  # bytes to read of one, which may have been written by anybody
TRIES = 100  # to find the note as it was before the file was looked at
_ID = re.compile(r"[0-9a-f]{32}")


class Note(NamedTuple):
    """What is known of the file that was opened last. An inode of 0: there was no such file, or it is unknown."""

    inode: int
    file_id: str = ""
    wal: int = 0
    shm: int = 0
    next_id: str = ""  # the file is being given this one: it stands in the WAL, the file itself, or nowhere yet

    @property
    def ids(self) -> frozenset[str]:
        """The ids that the file itself may have: none of them is evidence of another file."""
        return frozenset({self.file_id, self.next_id} - {""})

    @property
    def file(self) -> tuple[int, str, str]:
        """The part of the note about the file itself."""
        return self.inode, self.file_id, self.next_id


class Noted(NamedTuple):
    """The work that remains after a note was written."""

    complete: bool  # in a new file there is neither an id nor a WAL yet
    needs_id: bool


NOT_NOTED = Noted(complete=False, needs_id=False)


class Left(NamedTuple):
    """The -wal and -shm beside a file before it is opened, as (inode, bytes)."""

    wal: tuple[int, int]
    shm: tuple[int, int]

    @property
    def deciding(self) -> tuple[str, int]:
        """Return which of the two would harm a file that is not theirs, and its inode; ("", 0) if neither would.

        Beside a WAL that is not empty, -shm does not matter: SQLite rebuilds it.
        """
        if self.wal[1]:
            return "wal", self.wal[0]
        return ("shm", self.shm[0]) if self.shm[1] else ("", 0)


def new_id() -> str:
    """Return an id for a file that has none, or for a copy."""
    return os.urandom(16).hex()


def refuse_left_alone(path: Path) -> None:
    """Raise `StoreReplaced` if the file is missing, but its -wal or -shm exists: a new file would get them."""
    left = _left(path)  # before the file: a process that makes one makes its WAL later
    if left.deciding[0] and not path.exists():
        raise StoreReplaced(
            f"{_names(path, left)} left by a database that was {path} and no longer exists. Restore that database, or, "
            f"to begin with a new one, {_advice(path)}"
        )


def check(path: Path, driver: DriverModule, *, make: bool) -> None:
    """Raise `StoreReplaced` where the file is not the one whose WAL lies beside it; else note which file it is.

    HAZARD: only while this process has no connection to the file, and opens none until this returns. `make`: also
    make the folder for the note. Raises `StoreError` if this user cannot use the files of other users there.
    """
    folder = Path(f"{path}{BESIDE}")
    if make:
        with suppress(OSError):  # a note is a precaution: a full disk, say, must not keep anybody from looking
            open_directory(path)
    refuse_unusable(folder, path)
    for last in reversed(range(TRIES)):
        old, in_place = _read(folder)
        left = _left(path)
        file_id = _id_in_main_file(path, driver, left)
        now = Note(_inode(path), file_id, left.wal[0], left.shm[0])
        if old is not None and in_place and old.inode == now.inode and file_id in old.ids:
            break
        # the same note before and after: a process that opens another file, or gives it a new id, writes one before
        # it makes a WAL, before the id can be in the file, and after
        if not last or _read(folder) == (old, in_place):
            if folder.is_dir():
                _compare(path, folder, old, now, left, in_place=in_place)
            break
    if make or folder.is_dir():
        make_sqlite_files(path)


def _compare(path: Path, folder: Path, old: Note | None, now: Note, left: Left, *, in_place: bool) -> None:
    if old is not None and _is_of_another(old, now, left, in_place=in_place):
        raise _foreign(path, left)
    if old is not None and not now.file_id and left.deciding[0] and old.inode == now.inode:
        now = now._replace(file_id=old.file_id, next_id=old.next_id)  # it may stand in the WAL only
    elif old is not None and now.file_id in old.ids and old.next_id:
        now = now._replace(file_id=old.file_id, next_id=old.next_id)  # it is being given a new one already
    elif now.file_id and not left.wal[1] and not (old is not None and in_place and old.file == (now.inode, "", "")):
        # a WAL may hold yet another id, and a file that had none is given its first
        now = now._replace(next_id=_next_id(folder, old, now))
    if old is None or not in_place or old.file != now.file:
        _renew(folder, old, now, in_place=in_place)


def _next_id(folder: Path, old: Note | None, now: Note) -> str:
    """Make an id that the file never had. Processes that open it at once all make the same one."""
    from hashlib import sha256  # not at every start

    made_of = (_inode(folder), None if old is None else old.file, now.inode, now.file_id)
    return sha256(repr(made_of).encode()).hexdigest()[:32]


def note(path: Path, inode: int, db: Connection) -> Noted:
    """Once a connection is open, note what did not exist before, such as the inodes of -wal and -shm."""
    folder = Path(f"{path}{BESIDE}")
    old, in_place = _read(folder)  # before the id: a process that gives the file a new one notes it first
    file_id = _id_of(db)  # a read, which makes -wal and -shm
    share_sqlite_files(path)
    if not folder.is_dir():
        return NOT_NOTED
    left = _left(path)
    if _inode(path) != inode:  # replaced just now: which of the two is noted cannot be told
        _forget(folder)
        return NOT_NOTED
    new = Note(inode, file_id, left.wal[0], left.shm[0])
    if old is not None and old.inode == inode:
        if not file_id or file_id in old.ids:
            new = new._replace(file_id=old.file_id, next_id=old.next_id)
        elif old.file_id:  # it stands in the WAL, and the file itself may have the other one
            new = new._replace(file_id=old.file_id, next_id=file_id)
    _renew(folder, old, new, in_place=in_place)
    return Noted(complete=bool(file_id and left.wal[0]), needs_id=bool(new.next_id))


def give_next_id(path: Path, inode: int, db: Connection) -> None:
    """Give the file the new id that was noted for it. Where it cannot be moved into the file itself, both stay noted.

    HAZARD: the id is on disk in the note before it is in the WAL, and the old one leaves the note only when it can
    have left the file. In a file whose tables are of this release.
    """
    folder = Path(f"{path}{BESIDE}")
    with suppress(StoreError):  # a disk that is full, or a long transaction of another process: the next one does it
        with transaction(db):
            old, in_place = _read(folder)
            if old is None or not in_place or not old.next_id or old.inode != inode:
                return
            if _id_of(db) == old.file_id:
                db.rows(SQL["set_meta"], {**FILE_ID, "value": old.next_id})
            elif _id_of(db) != old.next_id:
                return
        [(busy, frames, moved)] = db.rows("PRAGMA wal_checkpoint(passive)")
        if not busy and frames == moved >= 0 and _inode(path) == inode:
            new = old._replace(file_id=old.next_id, next_id="")
            _renew(folder, old, new, in_place=in_place)


def _is_of_another(old: Note, now: Note, left: Left, *, in_place: bool) -> bool:
    """Decide whether -wal or -shm beside the file was left by another file."""
    which, inode = left.deciding
    if not which:
        return False
    noted = old.wal if which == "wal" else old.shm
    if in_place and noted not in (0, inode):
        return False  # it was replaced as well, or made since by a process that knows no notes
    other_id = bool(old.ids and now.file_id) and now.file_id not in old.ids
    return other_id or (in_place and old.inode != now.inode)


def _foreign(path: Path, left: Left) -> StoreReplaced:
    return StoreReplaced(
        f"{_names(path, left)} left by another file than the one that is {path} now, and using them together would "
        f"damage it; nothing was changed. To use the file that is there now, {_advice(path)}. To use "
        f"the earlier file, put it back"
    )


def _names(path: Path, left: Left) -> str:
    there = [f"{path}{end}" for end, (_, size) in zip(SQLITE_FILES, left, strict=True) if size]
    return f"{' and '.join(there)} {'are' if len(there) > 1 else 'is'}"


def _advice(path: Path) -> str:
    return (
        f"stop every process that uses it, delete {path}-wal and {path}-shm (or move both away together with the "
        f"database that they belong to), and start again"
    )


def _left(path: Path) -> Left:
    return Left(*(_seen(f"{path}{ending}") for ending in SQLITE_FILES))


def _seen(path: str | Path) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116  half the price of Path.stat, at every start
    except OSError:
        return 0, 0
    return status.st_ino, status.st_size


def _inode(path: Path) -> int:
    return _seen(path)[0]


# ---- what stands in the file itself


def _id_in_main_file(path: Path, driver: DriverModule, left: Left) -> str:
    """Read the id as it stands in the file without its WAL; empty if there is none, or it cannot be read.

    Raises `StoreReplaced` if there is a WAL, but the file is not in WAL mode.
    """
    found, without_wal = "", False
    with suppress(StoreError):
        db = driver.connect_main_file(path)
        try:
            found = _id_of(db)
            without_wal = bool(left.wal[1]) and is_in_rollback_mode(path)
        finally:
            db.close()
    # looked at once more: another process may have left WAL mode just now, as the application may do
    if without_wal and (again := _left(path).wal)[0] == left.wal[0] and again[1]:
        raise _foreign(path, left)
    return found


def _id_of(db: Connection) -> str:
    with suppress(StoreError):  # no tables yet, or a checkpoint in another process
        for (value,) in db.rows(SQL["get_meta"], FILE_ID):
            if isinstance(value, str) and _ID.fullmatch(value):
                return value
    return ""


# ---- the note


def _read(folder: Path) -> tuple[Note | None, bool]:
    """Return the note, and whether it lies where it was written: else it was copied, and inodes say nothing."""
    try:
        descriptor = os.open(folder / NAME, os.O_RDONLY | _FLAGS)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):  # a moment later SQLite may open the file all the same
            raise StoreError(f"{folder / NAME} cannot be opened: {error.strerror}") from error
        return None, False
    try:
        status = os.fstat(descriptor)
        data = os.read(descriptor, LARGEST) if stat.S_ISREG(status.st_mode) else b""
    except OSError:
        return None, False
    finally:
        os.close(descriptor)
    with suppress(ValueError, TypeError, KeyError):
        found: dict[str, Any] = json.loads(data)
        old = Note(*(kind(found[field]) for field, kind in zip(Note._fields, (int, str, int, int, str), strict=True)))
        return old, found["note"] == status.st_ino
    return None, False


def _renew(folder: Path, old: Note | None, new: Note, *, in_place: bool) -> None:
    """Write the changes to the note. A note about another file must be gone before this file is written to."""
    if old is not None and in_place and old.file == new.file:
        if old != new:
            with suppress(OSError, ValueError, TypeError, KeyError):  # what is known of the file itself stays true
                _overwrite(folder / NAME, new)
        return
    # whether it would be wrong if it came back after a power cut
    stale = old is not None and (old.inode != new.inode or (bool(old.ids) and not (new.ids and new.ids <= old.ids)))
    unnamed = folder / f"{NAME}-{os.urandom(8).hex()}.tmp"  # one that a crash leaves is swept away by workers
    try:
        _make(unnamed, new, durable=stale)
        unnamed.replace(folder / NAME)
        if stale:
            _sync_folder(folder)
    except OSError as error:
        with suppress(OSError):
            unnamed.unlink()
        if stale:
            _forget(folder, error)


def _overwrite(path: Path, new: Note) -> None:
    """Not by a rename, which some file systems follow by a flush to disk; torn by a power cut, it is no note at all."""
    descriptor = os.open(path, os.O_RDWR | _FLAGS)
    try:
        inode = os.fstat(descriptor).st_ino
        if json.loads(os.read(descriptor, LARGEST))["note"] == inode:  # else another process has put one in its place
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, _bytes_of(new, inode))
    finally:
        os.close(descriptor)


def _make(unnamed: Path, new: Note, *, durable: bool) -> None:
    descriptor = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
    try:
        give_open_file_to_users_of(unnamed.parent, descriptor)
        os.write(descriptor, _bytes_of(new, os.fstat(descriptor).st_ino))
        if durable:  # after a power cut the old note must not come back beside the new file's WAL
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _bytes_of(new: Note, own_inode: int) -> bytes:
    """Encode a note. All have one length, so that a shorter one leaves no rest of a longer one."""
    return json.dumps({**new._asdict(), "note": own_inode}).ljust(LENGTH - 1).encode() + b"\n"


def _sync_folder(folder: Path) -> None:
    with suppress(PermissionError):  # Windows opens no folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _forget(folder: Path, why: OSError | None = None) -> None:
    try:
        (folder / NAME).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"{folder / NAME} tells of another file than the one that is here now, and cannot be renewed "
            f"({why or error}); delete it, or give this user the permission to"
        ) from error


_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
