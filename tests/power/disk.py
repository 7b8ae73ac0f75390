"""A disk that remembers what was done to it, call by call, under the real SQLite of apsw. Knows no litequeue.

SQLite's unix VFS does the work; ours only writes down. Files are those of one folder, by name; the -shm is not among
them, for it is memory.
"""

from __future__ import annotations

import ctypes
import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import apsw

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

NAME = "remembering"
TEMPORARY = apsw.SQLITE_OPEN_DELETEONCLOSE
_OPEN_DIRECTORY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, use_errno=True)


class Event(NamedTuple):
    """One thing that was done to a file; `at` is an offset in bytes, or the new size."""

    what: Literal["write", "truncate", "sync", "create", "delete", "sync folder"]
    file: str = ""
    at: int = 0
    data: bytes = b""


class Remembering(apsw.VFS):
    """The unix VFS, with a log. `remember` is called with each event before it is done, one at a time."""

    def __init__(self, folder: Path, remember: Callable[[Event], None]) -> None:
        self.base: str = apsw.vfs_names()[0]
        self.lock = threading.RLock()
        self.remember = remember
        self._folder = folder
        self._files = {path.name for path in folder.iterdir()}
        super().__init__(NAME, self.base)
        real = _OPEN_DIRECTORY(self.xGetSystemCall("openDirectory") or 0)

        def open_directory(path: bytes, descriptor: int) -> int:
            remember(Event("sync folder"))  # SQLite opens a folder for nothing else
            return int(real(path, descriptor))

        self._shim = _OPEN_DIRECTORY(open_directory)
        self.xSetSystemCall("openDirectory", ctypes.cast(self._shim, ctypes.c_void_p).value or 0)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        if name is None or flags[0] & TEMPORARY:
            return apsw.VFSFile(self.base, name, flags)
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        assert path.parent == self._folder, path
        with self.lock:
            file = RememberingFile(self, path.name, name, flags)
            if path.name not in self._files:  # the database itself is made by litequeue, just before
                self._files.add(path.name)
                self.remember(Event("create", path.name))
        return file

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: N802
        file = os.path.basename(name)
        with self.lock:
            if file in self._files:
                self._files.remove(file)
                self.remember(Event("delete", file))
            super().xDelete(name, syncdir)

    def restore(self) -> None:
        """Give SQLite its own call back."""
        self.xSetSystemCall("openDirectory", 0)
        self.unregister()


class RememberingFile(apsw.VFSFile):
    """One open file of it."""

    def __init__(self, disk: Remembering, file: str, name: Any, flags: list[int]) -> None:
        self._disk, self._file = disk, file
        super().__init__(disk.base, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        with self._disk.lock:
            self._disk.remember(Event("write", self._file, offset, bytes(data)))
            super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        with self._disk.lock:
            self._disk.remember(Event("truncate", self._file, size))
            super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        with self._disk.lock:
            self._disk.remember(Event("sync", self._file))
            super().xSync(flags)


@contextmanager
def remembering(folder: Path, remember: Callable[[Event], None]) -> Generator[None, None, None]:
    """Put it under every connection that is opened in the block; they must be closed at its end."""
    disk = Remembering(folder, remember)
    apsw.set_default_vfs(NAME)
    try:
        yield
    finally:
        apsw.set_default_vfs(disk.base)
        disk.restore()
