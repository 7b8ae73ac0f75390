"""Know whose WAL lies beside a file: SQLite would put the WAL of another database into this one, without an error.

A process that opens the file compares it with a note in the folder beside it first, and then renews the note. The note
holds the inodes of the file, its -wal and its -shm, and an id that stands in the file itself, which tells a copy
that was put over the file (`cp backup.db app.db`) although the inode is the same.

HAZARD: to refuse a WAL that is rightly there, after a power cut, would lose jobs. So only what surely tells of another
file counts. Device numbers change at a reboot: none is compared. Where the folder was copied along with the file to
another disk, every inode is another one, the note's own included, which it holds as well: inodes then say nothing. A
-wal that was replaced together with the file belongs to it. What is not known is not held against the file.
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
from litequeue.liveness import BESIDE, open_directory
from litequeue.permissions import (
    SQLITE_FILES,
    give_open_file_to_users_of,
    make_sqlite_files,
    refuse_unusable,
    share_sqlite_files,
)
from litequeue.sqlite.queries import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.connection import Connection
    from litequeue.sqlite.opening import DriverModule

NAME = "file.json"  # the note, in the folder beside the database
FILE_ID = {"name": "file_id"}
LENGTH = 256  # bytes of a note: one sector, which disks write as a whole
LARGEST = 4096  # bytes to read of one, which may have been written by anybody
_ID = re.compile(r"[0-9a-f]{32}")


class Note(NamedTuple):
    """What is known of the file that was opened last. An inode of 0: there was no such file, or it is not known."""

    inode: int
    file_id: str = ""
    wal: int = 0
    shm: int = 0


class Left(NamedTuple):
    """What lies beside a file before it is opened, as (inode, bytes)."""

    wal: tuple[int, int]
    shm: tuple[int, int]

    @property
    def deciding(self) -> tuple[str, int]:
        """Which of the two would harm a file that is not theirs, and its inode; ("", 0) where neither would.

        Beside a WAL with something in it -shm says nothing: SQLite makes it anew.
        """
        if self.wal[1]:
            return "wal", self.wal[0]
        return ("shm", self.shm[0]) if self.shm[1] else ("", 0)


def new_id() -> str:
    """Return an id for a file that has none, or for a copy."""
    return os.urandom(16).hex()


def refuse_left_alone(path: Path) -> None:
    """Raise `StoreReplaced` where the file is missing, but its -wal or -shm is there: a new file would get them."""
    left = _left(path)  # before the file: a process that makes one makes its WAL later
    if left.deciding[0] and not path.exists():
        raise StoreReplaced(
            f"{_names(path, left)} left of a database that was {path}, and is gone. Put that back, or, to begin with "
            f"a new one, {_advice(path)}"
        )


def check(path: Path, driver: DriverModule, *, make: bool) -> None:
    """Raise `StoreReplaced` where the file is not the one whose WAL lies beside it; else note which file it is.

    HAZARD: only while this process has no connection to the file, which must stay so until this returns. `make`: also
    make the folder for the note. Raises `StoreError` where this user cannot use what others have made there.
    """
    left = _left(path)  # before the note: a process that opens another file renews the note before it makes a WAL
    folder = Path(f"{path}{BESIDE}")
    if make:
        with suppress(OSError):  # a note is a precaution: a full disk, say, must not keep anybody from looking
            open_directory(path)
    refuse_unusable(folder, path)
    if folder.is_dir():
        _compare(path, folder, left, _id_in_main_file(path, driver))
    if make or folder.is_dir():
        make_sqlite_files(path)


def _compare(path: Path, folder: Path, left: Left, file_id: str) -> None:
    old, in_place = _read(folder)
    now = Note(_inode(path), file_id, left.wal[0], left.shm[0])
    if old is not None and _is_of_another(old, now, left, in_place=in_place):
        raise StoreReplaced(
            f"{_names(path, left)} left of another file than the one that is {path} now, and together they would be "
            f"damaged; nothing was changed. To go on with the file that is there now, {_advice(path)}. To go on with "
            f"the one before, put that back"
        )
    if old is not None and not now.file_id and left.deciding[0] and old.inode == now.inode:
        now = now._replace(file_id=old.file_id)  # it may stand in the WAL only
    if old is None or not in_place or (old.inode, old.file_id) != (now.inode, now.file_id):
        _renew(folder, old, now, in_place=in_place)


def note(path: Path, inode: int, db: Connection) -> bool:
    """Once a connection is open: note what was not there before, the inodes of -wal and -shm among it.

    Returns whether all is known: in a new file there is neither an id nor a WAL yet.
    """
    folder = Path(f"{path}{BESIDE}")
    file_id = _id_of(db)  # a read, which makes -wal and -shm
    share_sqlite_files(path)
    if not folder.is_dir():
        return False
    old, in_place = _read(folder)
    left = _left(path)
    if _inode(path) != inode:  # replaced just now: which of the two is noted cannot be told
        _forget(folder)
        return False
    known = old.file_id if old is not None and old.inode == inode else ""
    _renew(folder, old, Note(inode, file_id or known, left.wal[0], left.shm[0]), in_place=in_place)
    return bool(file_id and left.wal[0])


def _is_of_another(old: Note, now: Note, left: Left, *, in_place: bool) -> bool:
    """Decide whether what lies beside the file was left by another one."""
    which, inode = left.deciding
    if not which:
        return False
    noted = old.wal if which == "wal" else old.shm
    if in_place and noted not in (0, inode):
        return False  # it was replaced as well, or made since by a process that knows no notes
    other_id = bool(old.file_id and now.file_id) and old.file_id != now.file_id
    return other_id or (in_place and old.inode != now.inode)


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


# ---- the id in the file


def _id_in_main_file(path: Path, driver: DriverModule) -> str:
    """Read the id as it stands in the file without its WAL; empty where there is none, or it cannot be read."""
    with suppress(StoreError):
        db = driver.connect_main_file(path)
        try:
            return _id_of(db)
        finally:
            db.close()
    return ""


def _id_of(db: Connection) -> str:
    with suppress(StoreError):  # no tables yet, or another process amid a checkpoint
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
        old = Note(*(kind(found[field]) for field, kind in zip(Note._fields, (int, str, int, int), strict=True)))
        return old, found["note"] == status.st_ino
    return None, False


def _renew(folder: Path, old: Note | None, new: Note, *, in_place: bool) -> None:
    """Write down what has changed. A note that tells of another file must be gone before this one is written to."""
    if old is not None and in_place and (old.inode, old.file_id) == (new.inode, new.file_id):
        if old != new:
            with suppress(OSError, ValueError, TypeError, KeyError):  # what is known of the file itself stays true
                _overwrite(folder / NAME, new)
        return
    stale = old is not None and (old.inode != new.inode or old.file_id not in ("", new.file_id))
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
    """All notes have one length, so that a shorter one leaves nothing of a longer."""
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
