"""A database file that is open in this process, and whether it, -wal and -shm are still the same files.

Each is identified by device and inode, from its path alone: none is ever opened here (HAZARD: closing any descriptor of
a database drops all locks that SQLite holds on it in this process).
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from litequeue.core.clock import SystemClock
from litequeue.core.owner_process import getpid
from litequeue.errors import StoreReplaced
from litequeue.ipc.permissions import SQLITE_FILES

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

FileId = tuple[int, int]
NO_FILE: FileId = (-1, -1)
SETTLING = 0.020  # seconds; longer than the tick by which a file system stamps its directories
WHOLE_SECOND = 10**9  # in nanoseconds: a stamp at one may be of a file system that knows no shorter time

_stat: Callable[[str], os.stat_result] = os.stat
_monotonic: Callable[[], float] = SystemClock.monotonic


def file_id(path: str | os.PathLike[str]) -> FileId | None:
    """Return a file's device and inode; None if it does not exist. Never opens it."""
    try:
        status = os.stat(path)  # noqa: PTH116  bytes and descriptors are not for Path
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


class OpenFile:
    """One file that a library has open in this process, by the connections in `holders`: one object for each."""

    def __init__(self, path: str, identity: FileId, library: str) -> None:
        self.identity = identity
        self.library = library
        self.holders: set[object] = set()
        self.pid: int = getpid()
        self._path = path
        self._folder = str(Path(path).parent)
        self._lock = threading.RLock()  # re-entrant: a signal handler may read while its thread opens the file
        self._readers: set[object] = set()  # those of them that have read, and so have -wal and -shm open
        self._beside: tuple[FileId | None, ...] | None = None  # as SQLite has opened them; None: not opened
        self._changed = self._settled = -1
        self._since = 0.0

    def note_beside(self, holder: object) -> None:
        """Note which -wal and -shm are open, once a connection has read; refuse others than those open already."""
        with self._lock:
            if not self._readers:
                self._beside = None
            self._readers.add(holder)
            if self._beside is None:
                self._beside = _ids(self._path)
        try:
            self._compare()
        except BaseException:
            self.leave_beside(holder)
            raise

    def leave_beside(self, holder: object) -> None:
        """Undo `note_beside`, before that connection is closed: SQLite deletes both files with the last one."""
        with self._lock:
            self._readers.discard(holder)
            if not self._readers:
                self._beside, self._settled = None, -1

    @contextmanager
    def beside(self, holder: object) -> Generator[None, None, None]:
        """Note and leave, for a connection that is closed after the block."""
        self.note_beside(holder)
        try:
            yield
        finally:
            self.leave_beside(holder)

    def collected(self, holder: object) -> None:
        """Note that the garbage collector has closed a connection. This may happen at any moment: takes no lock."""
        self.holders.discard(holder)
        self._readers.discard(holder)

    def check(self) -> None:
        """Raise `StoreReplaced` when one of the files was deleted or replaced; as cheap as one stat of the folder.

        A name in a folder cannot refer to another file without a change of the folder's own time stamp.
        """
        try:
            changed = _stat(self._folder).st_ctime_ns
        except OSError:
            changed = -1
        if changed != self._settled or changed == -1:
            self._look(changed)

    @property
    def is_replaced(self) -> bool:
        """Whether one of the files was deleted or replaced."""
        try:
            self._compare()
        except StoreReplaced:
            return True
        return False

    def _look(self, changed: int) -> None:
        now = _monotonic()
        self._compare()
        if changed != self._changed:
            self._changed, self._since = changed, now
        # a change within one tick leaves the same stamp, so it is trusted only when it is older than that
        elif now - self._since >= SETTLING and changed % WHOLE_SECOND and sys.platform != "win32":
            self._settled = changed

    def _compare(self) -> None:
        check_not_replaced(self._path, self.identity)
        noted = self._beside
        if noted is None or not self._readers:
            return
        found = _ids(self._path)
        if noted == found:
            return
        with self._lock:
            if self._beside is not noted or not self._readers:  # deleted with the last connection, closed meanwhile
                return
            if noted == (None, None):  # the file was not in WAL mode, and may be now
                self._beside = found
                return
        for name, was, now in zip(SQLITE_FILES, noted, found, strict=True):
            if was != now:
                raise replaced(self._path, f"{self._path}{name}", now)


def _ids(path: str) -> tuple[FileId | None, ...]:
    return tuple(file_id(f"{path}{name}") for name in SQLITE_FILES)


def check_not_replaced(path: str, identity: FileId) -> None:
    """Raise if the file is no longer the one at its path."""
    now = file_id(path)
    if now != identity:
        raise replaced(path, path, now)


def replaced(path: str, what: str, now: FileId | None) -> StoreReplaced:
    """Return the error of a file that was deleted (`now` None) or replaced while it was open."""
    how = "was deleted" if now is None else "was replaced by another file"
    happened = f"{what} {how} while it was open; what is written now would be lost. Stop every process that uses {path}"
    if what.endswith("-shm"):
        return StoreReplaced(f"{happened}, and start again: nothing in {path} or its -wal is lost")
    if what.endswith("-wal"):
        return StoreReplaced(
            f"{happened}, run `litequeue doctor {path}`, and start again; what was written since the last checkpoint "
            f"was in that -wal alone, and is lost with it"
        )
    return StoreReplaced(
        f"{happened}. Then put the same file back as it was, or put another in its place and delete {path}-wal and "
        f"{path}-shm, which belong to the old one; and start again (a live database is copied by `litequeue backup`, "
        f"never by cp or mv)"
    )
