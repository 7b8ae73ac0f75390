"""What a process and all it has started use, as Linux tells: CPU, memory, bytes written. Knows no queue."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Usage:
    """Seconds of CPU, MiB resident, bytes handed to write calls, and bytes of dirtied pages bound for the disk."""

    cpu: float
    memory: float
    written: int
    to_disk: int


def usage(session: int) -> Usage:
    """Add up the processes of a session; pages that they share among themselves count about once."""
    processes = sorted(_processes(session))
    cpu, written, to_disk = 0.0, 0, 0
    residents, privates = [0.0], [0.0]
    for pid in processes:
        with contextlib.suppress(OSError, StopIteration):
            cpu += _cpu(pid)
            fields = _fields(pid, "io")
            written, to_disk = written + fields["wchar"], to_disk + fields["write_bytes"]
            pages = _fields(pid, "smaps_rollup")
            residents.append(pages["Rss"] / 1024)
            privates.append((pages["Private_Clean"] + pages["Private_Dirty"]) / 1024)
    largest = max(range(len(residents)), key=residents.__getitem__)
    return Usage(cpu, residents[largest] + sum(privates) - privates[largest], written, to_disk)


def peak(session: int) -> float:
    """Give the most that each process of a session had resident, in MiB; pages that they share count about once."""
    peaks, others = [0.0], [0.0]
    for pid in _processes(session):
        with contextlib.suppress(OSError):
            pages = _fields(pid, "smaps_rollup")
            shared = pages["Rss"] - pages["Private_Clean"] - pages["Private_Dirty"]
            peaks.append(_fields(pid, "status")["VmHWM"] / 1024)
            others.append(peaks[-1] - shared / 1024)
    largest = max(range(len(peaks)), key=peaks.__getitem__)
    return peaks[largest] + sum(others) - others[largest]


def peak_here() -> float:
    """Give the most that this process had resident, in MiB."""
    return _fields(os.getpid(), "status")["VmHWM"] / 1024


def _processes(session: int) -> list[int]:
    found = []
    for folder in PROC.iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                if os.getsid(int(folder.name)) == session:
                    found.append(int(folder.name))
    return found


def _cpu(pid: int) -> float:
    """Seconds of CPU of the threads that live: in ns, where `stat` counts in hundredths of a second."""
    threads = (PROC / str(pid) / "task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _fields(pid: int, file: str) -> dict[str, int]:
    lines = (PROC / str(pid) / file).read_text().splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name: int(value.split()[0]) for name, _, value in pairs if value.split()[:1] and value.split()[0].isdigit()}
