"""What the system says of this process: the memory that it holds, and the cores that it may use. Knows no job."""

from __future__ import annotations

import importlib
import math
import os
import sys
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def resident_memory() -> int | None:
    """Return the resident memory of this process in bytes; None: this system does not tell.

    From /proc on Linux; elsewhere from psutil, if it is installed.
    """
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return _memory_by_psutil()


def _memory_by_psutil() -> int | None:
    try:
        psutil = importlib.import_module("psutil")
    except ImportError:
        return None
    return int(psutil.Process().memory_info().rss)


def usable_cores(cgroups: Path = CGROUPS, memberships: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many cores this process may use: by its affinity, and by the CPU quota of its cgroup (v1, v2)."""
    if sys.platform != "win32" and hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota(cgroups, memberships))))


def _quota(cgroups: Path, memberships: Path) -> float:
    """Return the CPU quota in cores; inf: there is none. The smallest of the group and of those around it holds."""
    try:
        lines = memberships.read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf
    smallest = math.inf
    for line in lines:
        _, controllers, place = line.split(":", 2)
        roots = [cgroups / controllers, cgroups / "cpu"] if "cpu" in controllers.split(",") else []
        for root in [cgroups, cgroups / "unified"] if not controllers else roots:
            group = root / place.lstrip("/")
            # in a container the place may be one that only the host sees: then the root is the group's own
            for folder in [group, *group.parents]:
                if folder == root or root in folder.parents:
                    smallest = min(smallest, _quota_in(folder))
    return smallest


def _quota_in(folder: Path) -> float:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()[:2]  # v2
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")  # v1
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
        except (OSError, ValueError):
            return math.inf
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return math.inf
    return cores if cores > 0 else math.inf  # -1: no quota
