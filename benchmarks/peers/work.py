"""The functions that every queue runs. Knows no queue."""

from __future__ import annotations

import time


def add(a: int, b: int) -> int:
    """Do next to nothing; the result is kept where the queue can keep one."""
    return a + b


def total(values: list[int]) -> int:
    """Add up what the members of a chord returned."""
    return sum(values)


def stamp() -> int:
    """Say when it began, in ns of the monotonic clock, which is one for all processes."""
    return time.monotonic_ns()
