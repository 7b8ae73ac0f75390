"""Refuse uses of a SQLite file that are known to corrupt or lose it. Knows no schema."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from litequeue.core.owner_process import forked_without_hooks, getpid, lock_of_this_process
from litequeue.errors import DriverConflict, StoreBusy, StoreError, UnsafeFilesystem
from litequeue.ipc.permissions import SQLITE_FILES
from litequeue.ipc.process_lock import BESIDE
from litequeue.sqlite.file.open_file import FileId, OpenFile, file_id
from litequeue.sqlite.file.second_names import point_of, read_mounts, second_name

# Shared and network file systems on which WAL's locks or shared memory have been seen to fail (sqlite.org/wal.html,
# "WAL does not work over a network filesystem").
UNSAFE = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "drvfs", "fuse", "gfs2", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4",
    "ocfs2", "prl_fs", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
})  # fmt: skip

_open_files: dict[FileId, OpenFile] = {}
_forsaken: set[FileId] = set()  # inherited by a fork in a state that cannot be used
# re-entrant: a signal handler may use or make a queue while its thread opens a file
_locks: dict[int, threading.RLock] = {}
_openings: dict[int, threading.RLock] = {}
_registering: dict[int, threading.Lock] = {}  # held inside `register`, by `with` alone: no Ctrl-C leaves it held
_REGISTERING = (
    "this call, perhaps of a signal handler, came inside another one that is opening a queue's file; nothing was done. "
    "Let the handler set a flag, and make the call after it"
)
LONGEST_NAME = 255 - len(BESIDE)
_hook_installed = False


def opening() -> threading.RLock:
    """Return the lock that is held while a file is made and opened for the first time; other threads wait."""
    return lock_of_this_process(_openings, threading.RLock)


def check_place(path: Path, *, allow_unsafe_filesystem: bool, in_use: bool = False) -> None:
    """Refuse a path that cannot hold a database, or not safely."""
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise StoreError(f"the name of {path} is too long: at most {LONGEST_NAME} bytes, since {BESIDE} is added to it")
    if path.is_dir():
        raise StoreError(f"{path} is a directory; name a file in it, such as {path / 'litequeue.db'}")
    if not path.parent.is_dir():
        raise StoreError(f"the folder {path.parent} does not exist; create it first")
    if path.exists():
        if not path.is_file():
            raise StoreError(f"{path} is not a regular file; choose another path")
        # root may write anything: a file without any write bit is meant to be read-only all the same
        if not os.access(path, os.W_OK) or not path.stat().st_mode & 0o222:
            raise StoreError(f"{path} is read-only for this user; check its owner and permissions")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise StoreError(f"the folder {path.parent} is read-only for this user, but SQLite keeps its WAL there")
    mounts = read_mounts()
    # a queue that had it under this name goes on: each other name is refused where it is opened
    if not in_use and path.exists() and (why := second_name(path, mounts)):
        raise UnsafeFilesystem(why)
    if not allow_unsafe_filesystem and (kind := filesystem_of(path, mounts)) and _is_unsafe(kind):
        raise UnsafeFilesystem(
            f"{path} lies on a {kind} file system, where SQLite's WAL loses or corrupts data; keep it on a local disk "
            f"(in a container: a named volume), or pass allow_unsafe_filesystem=True and accept the risk"
        )


def _is_unsafe(kind: str) -> bool:
    return kind in UNSAFE or kind.startswith("fuse.")


def filesystem_of(path: Path, mounts: list[str] | None = None) -> str | None:
    """Return the type of the path's file system, or None if it is unknown."""
    if sys.platform == "win32":
        return "cifs" if str(path).startswith("\\\\") else None
    try:
        device = (path if path.exists() else path.parent).stat().st_dev
    except OSError:
        return None
    return _type_of_mount(read_mounts() if mounts is None else mounts, path, f"{os.major(device)}:{os.minor(device)}")


def _type_of_mount(mounts: list[str], path: Path, device: str) -> str | None:
    """Find the innermost mount of that device above the path (proc(5), mountinfo)."""
    best, found = -1, None
    place = str(path)
    for line in mounts:
        fields, _, rest = line.partition(" - ")
        _, _, number, _, point, *_ = fields.split()
        point = point_of(point)
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        # a subvolume shows another device number than its mount, so the path decides and the device breaks ties
        score = len(point) * 2 + (number == device)
        if inside and score >= best:  # of two mounts on one point the later covers the earlier
            best, found = score, rest.split()[0]
    return found


def register(
    path: str, library: str, holder: object, *, holds: Callable[[str], bool], first: Callable[[], None] = lambda: None
) -> OpenFile:
    """Note that this library opens the file here; refuse if another library has it open in this process.

    `holder` stands for the connection until `forget` is told of its end. `holds` tells whether a descriptor that is
    open already may be the library's own. `first` is called where this process has no connection to the file: it may
    refuse it, and no other thread opens it meanwhile.
    """
    identity = file_id(path)
    if identity is None:
        raise StoreError(f"{path} was deleted while it was being opened")
    refuse_forsaken(path, identity)
    with lock_of_this_process(_locks, threading.RLock):
        inside = lock_of_this_process(_registering, threading.Lock)
        if inside.locked():
            raise StoreBusy(_REGISTERING)
        with inside:
            found = _registered(path, identity, library, holder, holds, first)
    _install_hook()
    return found


def _registered(
    path: str,
    identity: FileId,
    library: str,
    holder: object,
    holds: Callable[[str], bool],
    first: Callable[[], None],
) -> OpenFile:
    known = _known(identity)
    if known is not None and known.pid != getpid():
        raise forked_without_hooks(path)
    # under the lock: another thread that opens it for the first time must not look like another library
    if known is None and not holds(path):
        _refuse_foreign_descriptors(path, identity)
    if known is None:
        first()
    elif known.library != library:
        raise _conflict(path, known.library, library)
    found = OpenFile(path, identity, library) if known is None else known
    found.holders.add(holder)  # before it is known: a signal handler may close the last other connection
    _open_files[identity] = found
    return found


def _known(identity: FileId | None) -> OpenFile | None:
    """Return the file if it is open here, unless all its connections were garbage-collected with their queue."""
    found = _open_files.get(identity) if identity else None
    return found if found and found.holders else None


def forget(found: OpenFile, holder: object) -> None:
    """Note that one connection of ours to the file has been closed."""
    with lock_of_this_process(_locks, threading.RLock):
        found.holders.discard(holder)
        if not found.holders and _open_files.get(found.identity) is found:
            del _open_files[found.identity]


def forsake(identity: FileId) -> None:
    """From now on refuse to open this file in this process."""
    _forsaken.add(identity)


def refuse_forsaken(path: str, identity: FileId) -> None:
    """Refuse a file that is unusable in this process after a fork."""
    if identity in _forsaken:
        raise StoreError(
            f"this process was forked inside a transaction on {path} or during a backup, so SQLite cannot use the file "
            f"here; fork outside of both, or start processes by the spawn method"
        )


def _refuse_foreign_descriptors(path: str, identity: FileId) -> None:
    """Refuse to open, through apsw, a file that this process holds open by other means (Linux)."""
    try:
        descriptors = os.listdir("/proc/self/fd")  # noqa: PTH208  names are all it takes
    except OSError:
        return
    if any(file_id(f"/proc/self/fd/{number}") == identity for number in descriptors):
        raise _conflict(path, "another library or open()", "apsw")


def _conflict(path: str, held: str, wanted: str) -> DriverConflict:
    return DriverConflict(
        f"{path} is open in this process through {held}, and opening it through {wanted} as well would silently drop "
        f"its locks and lose data. Use one SQLite library for the file in one process: Queue(path, driver='sqlite3') "
        f"where the application itself uses sqlite3, aiosqlite, SQLAlchemy or Django; else queue.transaction()"
    )


def _install_hook() -> None:
    global _hook_installed  # noqa: PLW0603  an audit hook cannot be removed: once a process
    with lock_of_this_process(_locks, threading.RLock):
        if _hook_installed:
            return
        _hook_installed = True
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Stop a plain open() of a file that is open here, and a second library on one that is open through apsw."""
    if event == "open":
        if _open_files and isinstance(arguments[0], (str, bytes, os.PathLike)):
            _refuse_open(os.fsdecode(arguments[0]))
    elif event == "sqlite3.connect" and _open_files and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = _plain_path(os.fspath(arguments[0]))
        held = _holder(path)
        if held not in (None, "sqlite3"):
            raise _conflict(path, str(held), "sqlite3 (or aiosqlite, SQLAlchemy, Django)")


def _holder(path: str) -> str | None:
    held = _known(file_id(path))
    return held.library if held and held.pid == getpid() else None


def _refuse_open(path: str) -> None:
    held = _holder(path[:-4] if path.endswith(SQLITE_FILES) else path)
    if held:
        raise DriverConflict(
            f"{path} is open in this process through {held}: closing a descriptor of it, from open() or a copy, would "
            f"drop SQLite's locks and lose data. Copy a database by backup API or VACUUM INTO; its size is in os.stat()"
        )


def _plain_path(database: str | bytes) -> str:
    """Strip an SQLite URI to its path (sqlite.org/uri.html)."""
    text = os.fsdecode(database)
    if not text.startswith("file:"):
        return text
    path = unquote(text[5:].partition("?")[0].partition("#")[0])
    return "/" + path.lstrip("/").partition("/")[2] if path.startswith("//") and not path.startswith("///") else path
