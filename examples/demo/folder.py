"""The files of a folder: what there is to count, and the recount that checks the workers. Knows no queue."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SKIPPED = {"site-packages", "__pycache__", ".git"}
MOST_FILES = 5_000
MOST_BYTES = 1024**3
CHUNK = 1024 * 1024


class NothingToCount(Exception):
    """The folder is missing, cannot be read, or holds no file."""


@dataclass(frozen=True)
class Listing:
    """The files found under `root`, with their size and change time, and why the list ends where it ends."""

    root: Path
    files: dict[str, tuple[int, int]]
    cut: str

    @property
    def size(self) -> int:
        """The bytes of all files together."""
        return sum(size for size, _ in self.files.values())


def list_files(root: Path) -> Listing:
    """List the regular files under a folder, links left out. Raises `NothingToCount`."""
    if not root.is_dir():
        raise NothingToCount(f"{root} is {'not a folder' if root.exists() else 'not there'}; name a folder with files")
    files: dict[str, tuple[int, int]] = {}
    room = MOST_BYTES
    for path in _walk(root):
        state = _state(path)
        if state is None or state[0] > room:
            continue
        if len(files) == MOST_FILES:
            return Listing(root, files, f"the first {MOST_FILES:,} files")
        files[path] = state
        room -= state[0]
    if not files:
        raise NothingToCount(f"no file to count under {root}; name a folder with files")
    return Listing(root, files, "")


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - SKIPPED)
        for path in (Path(folder, name) for name in sorted(names)):
            if _is_text(str(path)) and path.is_file() and not path.is_symlink():
                yield str(path)


def _is_text(path: str) -> bool:
    """Whether a name can be stored: on Linux a name may be any bytes, and JSON holds none."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _state(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def changed(listing: Listing, path: str) -> bool:
    """Whether a file is no longer what it was when it was listed."""
    return _state(path) != listing.files[path]


def recount(path: str) -> str:
    """Return a file's digest, computed here and now."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
