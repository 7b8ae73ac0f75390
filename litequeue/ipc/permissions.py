"""Give what lies beside a database to those who may write the database, as SQLite does with its -wal. Knows no store.

The folder beside the database follows the database's mode and group; files and sockets in it follow the folder's. Users
who may read the database but not write it get nothing: they cannot use a queue, but could hold its locks.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

from litequeue.errors import StoreError

PRIVATE = 0o700
WRITERS = (0o060, 0o006)  # what a class of users needs of the database to be given the folder: the group, and others
SQLITE_FILES = ("-wal", "-shm")  # what SQLite adds to the database's name, for files that live as long as it is used
LOOKS = 5  # so many in a row must find a file closed to this user
POSIX = hasattr(os, "geteuid") and hasattr(os, "fchmod")
PINNED = getattr(os, "O_PATH", 0) | getattr(os, "O_NOFOLLOW", 0)
FOLDER = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


def folder_mode(database: int) -> int:
    """Return the mode of the folder beside a database of that mode."""
    return PRIVATE | sum(bits | bits >> 2 & 0o011 for bits in WRITERS if database & bits == bits)


def file_mode(folder: int) -> int:
    """Return the mode of a file or socket in a folder of that mode."""
    return 0o600 | folder & 0o066


def is_shared(directory: Path) -> bool:
    """Whether users other than the owner may use the files in it."""
    return POSIX and bool(directory.stat().st_mode & 0o066)


def make_folder(directory: Path, database: Path) -> None:
    """Make the folder beside the database, for users who may write the database; if it exists and is ours, adapt it.

    A shared folder gets its permissions before its name, so that no user finds it inaccessible. Raises `OSError`.
    """
    if not POSIX or not database.exists():
        directory.mkdir(mode=PRIVATE, exist_ok=True)
        return
    wanted = database.stat()
    if not os.path.lexists(directory):
        _make(directory, wanted)
    with suppress(FileNotFoundError):  # it was removed just now
        _adapt(directory, wanted)


def _make(directory: Path, wanted: os.stat_result) -> None:
    if os.geteuid() != 0 and folder_mode(wanted.st_mode) == PRIVATE:
        directory.mkdir(mode=PRIVATE, exist_ok=True)
        return
    unnamed = directory.parent / f".litequeue-{os.urandom(8).hex()}"
    unnamed.mkdir(mode=PRIVATE)
    try:
        _give_folder(unnamed, wanted)
        unnamed.rename(directory)
    except OSError:
        unnamed.rmdir()
        if not directory.is_dir():  # else another process was faster
            raise


def _adapt(directory: Path, wanted: os.stat_result) -> None:
    there, mode = directory.lstat(), folder_mode(wanted.st_mode)
    fits = there.st_mode & 0o777 == mode and (mode == PRIVATE or there.st_gid == wanted.st_gid)
    if fits or not stat.S_ISDIR(there.st_mode) or not _may_change(there):
        return
    now = _give_folder(directory, wanted)
    if (now.st_gid, now.st_mode) != (there.st_gid, there.st_mode):
        for entry in list(os.scandir(directory)):
            with suppress(OSError):  # it is gone, or another user's
                give_to_users_of(directory, entry.path)


def _give_folder(directory: Path, wanted: os.stat_result) -> os.stat_result:
    descriptor = os.open(directory, os.O_RDONLY | FOLDER)
    try:
        _give(descriptor, wanted, folder_mode(wanted.st_mode))
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def give_to_users_of(directory: Path, path: str | os.PathLike[str]) -> None:
    """Let the users of the folder use this file or socket in it. Follows no link. Raises `OSError`."""
    if not POSIX:
        return
    if not hasattr(os, "O_PATH"):
        if not _is_root() and not Path(path).is_symlink():
            _share(os.fspath(path), Path(path).stat(), directory.stat())
        return
    # not by its path, where another user of the folder may put something else meanwhile
    descriptor = os.open(path, PINNED)
    try:
        there = os.fstat(descriptor)
        if stat.S_ISREG(there.st_mode) or stat.S_ISSOCK(there.st_mode):
            _share(f"/proc/self/fd/{descriptor}", there, directory.stat())
    finally:
        os.close(descriptor)


def give_open_file_to_users_of(directory: Path, descriptor: int) -> None:
    """Let the users of the folder use this file, which is open here."""
    if POSIX:
        with suppress(OSError):
            _share(descriptor, os.fstat(descriptor), directory.stat())


def _share(target: int | str, there: os.stat_result, folder: os.stat_result) -> None:
    mode = file_mode(folder.st_mode)
    fits = there.st_mode & 0o777 == mode and (mode == 0o600 or there.st_gid == folder.st_gid)
    if _may_change(there) and (_is_root() or not fits):
        _give(target, folder, mode)


def _give(target: int | str, like: os.stat_result, mode: int) -> None:
    """Set the group, as root also the owner; then the mode, without the group's bits if the group differs."""
    with suppress(OSError):
        os.chown(target, like.st_uid if _is_root() else -1, like.st_gid)
    now = os.stat(target)  # noqa: PTH116  a descriptor
    mode |= now.st_mode & 0o3000  # a folder's setgid bit, which it may have from the folder around it
    os.chmod(target, mode if now.st_gid == like.st_gid else mode & ~0o070)  # noqa: PTH101  a descriptor


def _is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0


def _may_change(there: os.stat_result) -> bool:
    return sys.platform != "win32" and os.geteuid() in (0, there.st_uid)


# ---- what belongs to SQLite


def make_sqlite_files(database: Path) -> None:
    """Make -wal and -shm, empty, where SQLite would make them for another group than the database's.

    SQLite takes an empty one for a missing one. HAZARD: made by another name and closed first: SQLite may open it.
    """
    if not POSIX or not database.exists():
        return
    wanted = database.stat()
    if wanted.st_mode & 0o060 != 0o060 or (os.getegid() == wanted.st_gid and not _is_root()):
        return
    for path in (Path(f"{database}{ending}") for ending in SQLITE_FILES):
        if not os.path.lexists(path):
            with suppress(OSError):  # no links here, or no space: then for a moment others find it closed
                _make_empty(path, wanted)


def _make_empty(path: Path, wanted: os.stat_result) -> None:
    unnamed = path.parent / f".litequeue-{os.urandom(8).hex()}"
    descriptor = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        _give(descriptor, wanted, wanted.st_mode & 0o777)
    finally:
        os.close(descriptor)
        with suppress(FileExistsError):  # another process was faster
            path.hardlink_to(unnamed)
        unnamed.unlink()


def share_sqlite_files(database: Path) -> None:
    """Give -wal and -shm of this user the database's group: SQLite gives them only its mode."""
    if not POSIX:
        return
    with suppress(OSError):
        group = database.stat().st_gid
        for made in (Path(f"{database}{ending}") for ending in SQLITE_FILES):
            there = made.lstat() if os.path.lexists(made) else None
            if there is not None and there.st_gid != group and _may_change(there):
                os.chown(made, -1, group, follow_symlinks=False)


def refuse_unusable(directory: Path, database: Path) -> None:
    """Raise `StoreError` if this user may use the database, but not the files of other users beside it."""
    if not POSIX:
        return
    for made in (Path(f"{database}{ending}") for ending in SQLITE_FILES):
        if _is_closed(made, os.R_OK | os.W_OK):
            raise StoreError(
                f"{made} cannot be used by this user: {_described(made)}. Let new files in {database.parent} have the "
                f"database's group (chgrp GROUP {database.parent}; chmod g+s {database.parent}), stop every process "
                f"that uses the queue, and start again"
            )
    if not directory.is_dir():
        return
    if _is_closed(directory, os.R_OK | os.W_OK | os.X_OK):
        raise StoreError(f"{_closed(directory)} {_advice(directory, database)}")
    names: list[str] = []
    with suppress(OSError):  # no descriptor is left
        names = os.listdir(directory)  # noqa: PTH208  names are all it takes
    for name in names:
        if name.endswith(".lock") and _is_closed(directory / name, os.R_OK | os.W_OK):
            raise StoreError(f"{_closed(directory / name)} {_advice(directory, database)}")


def _is_closed(path: Path, wanted: int) -> bool:
    # it may have gone just now, and come again: SQLite deletes and makes its files at each last close and first open
    return all(not os.access(path, wanted) and path.exists() for _ in range(LOOKS))


def _closed(path: Path) -> str:
    return f"{path} cannot be used by this user: {_described(path)}. Workers and callers share it."


def _advice(directory: Path, database: Path) -> str:
    group = database.stat().st_gid
    return (
        f"If several users share the queue, the database must be for their group (chgrp, chmod 660 {database}), and "
        f"the user who made {directory} must open the queue once more, which gives it the same permissions; or do "
        f"that by hand: chgrp -R {group} {directory}; chmod -R u=rwX,g=rwX {directory}"
    )


def _described(path: Path) -> str:
    try:
        there = path.lstat()
    except OSError as error:
        return str(error)
    return f"it belongs to user {there.st_uid} and group {there.st_gid}, with mode {stat.S_IMODE(there.st_mode):04o}"
