"""One database has one name: each name of a file gets a WAL of its own. Knows mounts and links, and no SQLite."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple


class Mount(NamedTuple):
    """One line of /proc/self/mountinfo: the fields that say whether it is visible at its point (proc(5))."""

    number: str
    parent: str
    point: str


def read_mounts() -> list[str]:
    """Return the lines of this process's mountinfo; none if it does not exist."""
    if sys.platform == "win32":
        return []
    try:
        # not the database: a table of the kernel's
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def point_of(field: str) -> str:
    """Decode a mount point, in which mountinfo writes a space, a tab or a backslash as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field) if "\\" in field else field


def second_name(path: Path, mounts: list[str]) -> str | None:
    """Return why the file may be in use under another name as well, and what to do; None if it has one name.

    `path` has no link in it. Each name has its own -wal and -shm beside it, so two processes that use two names
    overwrite each other's pages without an error.
    """
    if is_mount_point(str(path), mounts):
        return (
            f"{path} is mounted as a single file: a process that uses the file under its own name has its WAL "
            f"in another folder, and both would lose data. Mount the folder, not the file: in a container "
            f"-v ./data:/data, and the queue's file in /data"
        )
    try:
        links = path.stat().st_nlink
    except OSError:
        return None
    if links > 1:
        return (
            f"{path} has {links} hard links: each name has a WAL of its own, and processes that use two of them lose "
            f"each other's data. Delete the other names (find them: find / -xdev -samefile {path}), and make copies by "
            f"`litequeue backup`"
        )
    return None


def is_mount_point(place: str, mounts: list[str]) -> bool:
    """Whether something is mounted at that very path, and no later mount on a folder above hides it."""
    name = Path(place).name
    if not any(name in point_of(line) for line in mounts):  # as nearly always
        return False
    table = [_parsed(line) for line in mounts]
    by_number = {mount.number: mount for mount in table}
    return any(mount.point == place and not _is_hidden(mount, table, by_number) for mount in table)


def _parsed(line: str) -> Mount:
    number, parent, _, _, point, *_ = line.split()
    return Mount(number, parent, point_of(point))


def _is_hidden(mount: Mount, table: list[Mount], by_number: dict[str, Mount]) -> bool:
    """Whether another mount of the same parent covers a folder above its point, here or further up."""
    for _ in table:  # a chain of parents is no longer than the table, and a broken one must not hang
        above = by_number.get(mount.parent)
        for other in table:
            covers = other.parent == mount.parent and mount.point.startswith(other.point.rstrip("/") + "/")
            if covers and other.number not in (mount.number, mount.parent):
                return True
        if above is None or above is mount:
            return False
        mount = above
    return False
