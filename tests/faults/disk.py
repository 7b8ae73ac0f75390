"""A disk that fails when it is told to, under the real SQLite of apsw. Knows no litequeue.

SQLite's unix VFS takes its system calls from a table that can be changed; each call in it that may fail goes through
here. fsync is not in the table: that one fails by a VFS of ours, in use for that fault alone.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw

if TYPE_CHECKING:
    from collections.abc import Generator

NAME = "faulty"
HEAP_STEP = 2048  # bytes more each time, of what SQLite may allocate

READS = ("read", "pread", "pread64")
WRITES = ("write", "pwrite", "pwrite64")
_ssize, _int, _long, _address = ctypes.c_ssize_t, ctypes.c_int, ctypes.c_long, ctypes.c_void_p
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "open": (_int, ctypes.c_char_p, _int, _int),
    "read": (_ssize, _int, _address, ctypes.c_size_t),
    "pread": (_ssize, _int, _address, ctypes.c_size_t, _long),
    "pread64": (_ssize, _int, _address, ctypes.c_size_t, _long),
    "write": (_ssize, _int, _address, ctypes.c_size_t),
    "pwrite": (_ssize, _int, _address, ctypes.c_size_t, _long),
    "pwrite64": (_ssize, _int, _address, ctypes.c_size_t, _long),
    "ftruncate": (_int, _int, _long),
    "unlink": (_int, ctypes.c_char_p),
    "fstat": (_int, _int, _address),
    "fcntl": (_int, _int, _int, _address),
    "mmap": (_address, _address, ctypes.c_size_t, _int, _int, _int, _long),
}
MAP_FAILED = ctypes.c_void_p(-1).value


class Fault(NamedTuple):
    """One way in which a disk fails: at which calls, and what the kernel says."""

    name: str
    calls: tuple[str, ...]
    errno: int = 0
    short: bool = False  # half of what was to be written is written first


SYNC, HEAP = "fsync", "malloc"
FAULTS: tuple[Fault, ...] = (
    Fault("read error", (*READS, "fstat"), errno.EIO),
    Fault("write error", (*WRITES, "ftruncate"), errno.EIO),
    Fault("disk full", (*WRITES, "ftruncate"), errno.ENOSPC),
    Fault("short write", WRITES, errno.ENOSPC, short=True),
    Fault("sync error", (SYNC,)),
    Fault("cannot open", ("open",), errno.EMFILE),
    Fault("cannot delete", ("unlink",), errno.EIO),
    Fault("busy", ("fcntl",), errno.EAGAIN),
    Fault("no locks", ("fcntl",), errno.ENOLCK),
    Fault("no memory to map", ("mmap",), errno.ENOMEM),
    Fault("out of memory", (HEAP,)),
)


class Disk:
    """The machine's own disk, but for the calls that are told to fail."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self._first = self._last = self._seen = 0
        self._halved = False
        self._unix = Unsynced(self)
        self._shims: dict[str, Any] = {}
        for name, signature in _SIGNATURES.items():
            real = self._unix.xGetSystemCall(name)
            if real:
                self._shims[name] = self._shim(name, real, ctypes.CFUNCTYPE(*signature, use_errno=True))
        self._intercept(on=True)

    def _intercept(self, *, on: bool) -> None:
        for name, shim in self._shims.items():
            self._unix.xSetSystemCall(name, ctypes.cast(shim, ctypes.c_void_p).value if on else 0)

    def _shim(self, name: str, real: int, kind: Any) -> Any:
        call, failed = kind(real), MAP_FAILED if name == "mmap" else -1

        def shim(*arguments: Any) -> Any:
            fault = None if name == "fcntl" and not _locks(*arguments) else self.turn_of(name)
            if fault is None:
                return call(*arguments)
            if fault.short and not self._halved:
                self._halved = True
                return call(*arguments[:2], arguments[2] // 2, *arguments[3:])
            ctypes.set_errno(fault.errno)
            return failed

        return kind(shim)

    def arm(self, fault: Fault, first: int, length: int = 1) -> None:
        """Let the `first`-th call from now on fail (1, 2, ...), and those after it, `length` in all."""
        with self._lock:
            self._fault, self._seen, self._first, self._last = fault, 0, first, first + length - 1
            self._halved = False
        if HEAP in fault.calls:
            apsw.hard_heap_limit(apsw.memory_used() + HEAP_STEP * first)
        if SYNC in fault.calls:
            self._intercept(on=False)  # no Python may run between an exception in a VFS and SQLite's return
            apsw.set_default_vfs(NAME)

    def disarm(self) -> int:
        """Let all be well again; return how many of the calls that may fail there were."""
        apsw.hard_heap_limit(0)
        apsw.set_default_vfs(self._unix.base)
        self._intercept(on=True)
        with self._lock:
            self._fault = None
            return self._seen

    def turn_of(self, call: str) -> Fault | None:
        """The fault, if this is the call that is to fail."""
        with self._lock:
            fault = self._fault
            if fault is None or call not in fault.calls:
                return None
            self._seen += 1
            return fault if self._first <= self._seen <= self._last else None

    def restore(self) -> None:
        """Give SQLite its own calls back."""
        self._intercept(on=False)
        self._unix.unregister()


def _locks(_descriptor: int, command: int, flock: int | None) -> bool:
    """Whether this fcntl takes a lock: that fails now and then, and letting go of one does not."""
    return command == fcntl.F_SETLK and ctypes.c_short.from_address(flock or 0).value != fcntl.F_UNLCK


class Unsynced(apsw.VFS):
    """The unix VFS, but for an fsync that fails."""

    def __init__(self, disk: Disk) -> None:
        self.base: str = apsw.vfs_names()[0]
        self._disk = disk
        super().__init__(NAME, self.base)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return UnsyncedFile(self._disk, self.base, name, flags)


class UnsyncedFile(apsw.VFSFile):
    """One open file of it."""

    def __init__(self, disk: Disk, base: str, name: Any, flags: list[int]) -> None:
        self._disk = disk
        super().__init__(base, name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self._disk.turn_of(SYNC):
            error = apsw.IOError("fsync")
            error.extendedresult = apsw.SQLITE_IOERR_FSYNC
            raise error
        super().xSync(flags)


@contextmanager
def failing() -> Generator[Disk, None, None]:
    """Put it under every connection of this process, from the first that is opened."""
    disk = Disk()
    try:
        yield disk
    finally:
        disk.disarm()
        disk.restore()
