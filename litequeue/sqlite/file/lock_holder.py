"""Whether it is this very process that holds the write lock of a file. Opens neither the file nor what is beside it."""

from __future__ import annotations

import os
from pathlib import Path

from litequeue.core.owner_process import getpid
from litequeue.errors import StoreBusy

LOCKS = Path("/proc/locks")  # Linux: POSIX locks of all processes
WRITE_LOCK = 120  # the byte of -shm that a writer in WAL mode locks (sqlite.org/walformat.html, 2.3)

_OURS = (
    "the file is locked by a transaction that this process itself has open, on another connection. If this thread "
    "opened it, no wait can end it: commit it first, or enqueue in it, by using(within=connection)"
)


def explained(error: StoreBusy, database: str) -> StoreBusy:
    """Return the error, or one that says so where the writer is certainly a connection of this process."""
    if not held_here(database):
        return error
    return StoreBusy(f"{_OURS} ({error})")


def held_here(database: str) -> bool:
    """Whether /proc/locks lists the write lock as this process's; False where that cannot be told."""
    try:
        status = os.stat(f"{database}-shm")  # noqa: PTH116  text is all it takes
        listed = LOCKS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return any(_is_write_lock(line.split(), place) for line in listed)


def _is_write_lock(fields: list[str], place: str) -> bool:
    """Read `1: POSIX ADVISORY WRITE 815 fe:00:2147602 120 120` (proc(5)); one that waits has `->` after its number."""
    if len(fields) != 8 or fields[1:6] != ["POSIX", "ADVISORY", "WRITE", str(getpid()), place]:
        return False
    first, last = fields[6:]
    return int(first) <= WRITE_LOCK and (last == "EOF" or int(last) >= WRITE_LOCK)
