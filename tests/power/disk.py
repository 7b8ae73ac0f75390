"""A disk that remembers what was done to it, call by call, under the real SQLite of apsw. Knows no litequeue.

SQLite's unix VFS does the work; ours only writes down, and so do fsync, rename and unlink of Python's own. Files are
those of one folder, by name; the -shm is not among them, for it is memory.
"""

from __future__ import annotations

import ctypes
import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from unittest import mock

import apsw

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

NAME = "remembering"
TEMPORARY = apsw.SQLITE_OPEN_DELETEONCLOSE
_OPEN_DIRECTORY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, use_errno=True)


class Event(NamedTuple):
    """One thing that was done to a file; `at` is an offset in bytes, or the new size; `data` may be the new name."""

    what: Literal["write", "truncate", "sync", "create", "delete", "rename", "sync folder"]
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

    def synced(self, path: Path) -> None:
        """Python has synced a file, or the folder."""
        with self.lock:
            if path == self._folder:
                self.remember(Event("sync folder"))
            elif path.parent == self._folder and path.name in self._files:
                self.remember(Event("sync", path.name))

    def renamed(self, path: Path, new: Path) -> None:
        """Python has renamed a file."""
        with self.lock:
            if path.parent == self._folder and path.name in self._files:
                self._files.remove(path.name)
                self._files.add(new.name)
                self.remember(Event("rename", path.name, data=os.fsencode(new.name)))

    def unlinked(self, path: Path) -> None:
        """Python has deleted a file, if it was there."""
        with self.lock:
            if path.parent == self._folder and path.name in self._files:
                self._files.remove(path.name)
                self.remember(Event("delete", path.name))

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
    fsync, rename, unlink = os.fsync, Path.rename, Path.unlink

    def sync(descriptor: int) -> None:
        disk.synced(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def move(path: Path, new: Path) -> Path:
        disk.renamed(path, new)
        return rename(path, new)

    def delete(path: Path, missing_ok: bool = False) -> None:
        disk.unlinked(path)
        unlink(path, missing_ok=missing_ok)

    try:
        with (
            mock.patch.object(os, "fsync", sync),
            mock.patch.object(Path, "rename", move),
            mock.patch.object(Path, "unlink", delete),
        ):
            yield
    finally:
        apsw.set_default_vfs(disk.base)
        disk.restore()
