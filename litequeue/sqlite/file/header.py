"""Read the header of a database that SQLite has open in this process. Opens nothing."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from litequeue.sqlite.file.open_file import file_id

if TYPE_CHECKING:
    from pathlib import Path

    from litequeue.sqlite.file.open_file import FileId

DESCRIPTORS = ("/proc/self/fd", "/dev/fd") if hasattr(os, "pread") else ()  # pread: not on Windows


def is_in_rollback_mode(path: Path) -> bool:
    """Whether the file's header says rollback mode (sqlite.org/fileformat2.html, 1.3.3). False if it cannot be read.

    No statement shows it: an immutable connection reports "delete" for every file. HAZARD: opening and closing the file
    directly would drop the locks of the application's connections, so it is read through the descriptor that SQLite
    has open; only while a connection is open.
    """
    wanted = file_id(path)
    for folder in DESCRIPTORS:
        with suppress(OSError):
            for number in os.listdir(folder):  # noqa: PTH208  names are all it takes
                if (header := _header(int(number), wanted)) is not None:
                    return header[:16] == b"SQLite format 3\0" and header[18:20] == b"\1\1"
    return False


def _header(descriptor: int, wanted: FileId | None) -> bytes | None:
    with suppress(OSError):
        if _is_open_on(descriptor, wanted):
            data = os.pread(descriptor, 20, 0)
            return data if _is_open_on(descriptor, wanted) else None  # else it was closed and opened again meanwhile
    return None


def _is_open_on(descriptor: int, wanted: FileId | None) -> bool:
    status = os.fstat(descriptor)
    return (status.st_dev, status.st_ino) == wanted
