"""Make, lock and remove a lock file. The kernel frees the lock however its owner ends. Knows no process and no job."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from litequeue.ipc.permissions import give_open_file_to_users_of

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCKED_BYTE = 1 << 30  # Windows locks are mandatory: lock a byte far beyond the data, so that others can read
BINARY = getattr(os, "O_BINARY", 0)
# A pipe of that name must not block, and a link not lead to a file that another user of the folder has chosen.
READY = BINARY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)


def locked_file(path: Path, size: int) -> int:
    """Make a file of that size and lock it. The file gets its name only after it is locked."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if os.name == "nt":
        return _make_locked(path, size)  # Windows renames no open file; nor can anyone remove it before it is locked
    unnamed = path.with_name(f"{path.name.removesuffix('.lock')}.tmp")
    while True:
        descriptor = _make_locked(unnamed, size)
        try:
            unnamed.rename(path)
        except FileNotFoundError:  # swept away between its making and its locking
            os.close(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        else:
            return descriptor


def _make_locked(path: Path, size: int) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | BINARY, 0o600)
    try:
        give_open_file_to_users_of(path.parent, descriptor)
        wait_lock(descriptor)
        # Written, not truncated to size: the first touch of a hole on a full disk would kill us by SIGBUS.
        os.write(descriptor, bytes(size))
    except BaseException:
        os.close(descriptor)
        unlink(path)
        raise
    return descriptor


if sys.platform == "win32":

    def try_lock(descriptor: int) -> bool:
        """Lock the file unless another process has locked it; return whether it is locked now."""
        os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def try_share(descriptor: int) -> bool:
        """Whether no other process has locked the file."""
        if found := try_lock(descriptor):
            unlock(descriptor)
        return found

    def wait_lock(descriptor: int) -> None:
        """Wait until the file is free, and lock it."""
        os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

    def unlock(descriptor: int) -> None:
        """Unlock the file."""
        os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
        with suppress(OSError):  # it was not locked
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def try_lock(descriptor: int) -> bool:
        """Lock the file unless another process has locked it; return whether it is locked now."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def try_share(descriptor: int) -> bool:
        """Whether no other process has locked the file; until it is closed, it can be shared, and not locked."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def wait_lock(descriptor: int) -> None:
        """Wait until the file is free, and lock it."""
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def unlock(descriptor: int) -> None:
        """Unlock the file, also for those who have the same open file by a fork."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def has_name(path: Path, descriptor: int) -> bool:
    """Whether the open file still has that name: it may have been removed or renamed since it was opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def unlink(path: Path) -> None:
    """Remove the file, if possible."""
    with suppress(OSError):
        path.unlink()
