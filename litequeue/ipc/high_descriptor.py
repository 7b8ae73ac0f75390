"""Descriptors with high numbers, which code that closes and opens files does not come upon. Knows no file."""

from __future__ import annotations

import sys

if sys.platform != "win32":
    import fcntl

HIGH_NUMBER = 900  # the usual limit is 1024


def duplicated_high(descriptor: int) -> int | None:
    """Return another descriptor of the same file, not inherited; None: the limit is lower, or the system has none.

    HAZARD: what writes to a descriptor that a job has closed writes to the next file that gets its number, and the
    system assigns the lowest.
    """
    if sys.platform == "win32":
        return None
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HIGH_NUMBER)
    except OSError:
        return None
