"""The functions that are run in child processes: at the top of a module, where a child finds them. Knows no queue."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path


def add(a: int, b: int) -> int:
    """Do next to nothing."""
    return a + b


def stamp() -> int:
    """Say when it began, in ns of the monotonic clock, which is one for all processes."""
    return time.monotonic_ns()


def sleep_in_c(fifo: str, seconds: int) -> None:
    """Sleep in a call of C code, which lets other threads run."""
    _stay_in(ctypes.CDLL(None), fifo, seconds)


def sleep_with_the_lock(fifo: str, seconds: int) -> None:
    """Sleep in a call of C code that keeps the interpreter's lock: no thread of the process runs meanwhile."""
    _stay_in(ctypes.PyDLL(None), fifo, seconds)


def _stay_in(library: ctypes.CDLL, fifo: str, seconds: int) -> None:
    """Tell when it begins; the reader sees by the end of the file when this process has ended."""
    with Path(fifo).open("w", buffering=1, encoding="ascii") as told:
        told.write(f"{time.monotonic_ns()}\n")
        library.sleep(seconds)
