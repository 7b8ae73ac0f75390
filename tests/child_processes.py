"""The processes of this machine as tests of child processes see them: from /proc, on Linux."""

import contextlib
import os
from pathlib import Path

import pytest

from crash.watching import until

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")


def _fields(pid):
    """Return the state and the parent of a process; None: it is gone."""
    with contextlib.suppress(OSError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[1])
    return None


def children_of(pid=None):
    """Return the processes that this one, or another, has started, zombies too."""
    parent = pid or os.getpid()
    found = {int(name): _fields(name) for name in os.listdir("/proc") if name.isdecimal()}
    return {child for child, fields in found.items() if fields is not None and fields[1] == parent}


def is_gone(pid):
    """Whether that process runs no more: there is none, or one that nobody has waited for yet."""
    fields = _fields(pid)
    return fields is None or fields[0] in "ZX"


def number_in(path):
    """Wait for the file in which a job leaves its process's number, and return that."""
    until(Path(path).exists, f"{path} is there")
    return int(Path(path).read_text())


def descriptors():
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))
