"""Whether a descriptor can be written to without a wait. Knows no channel."""

from __future__ import annotations

import select


def is_writable(number: int, seconds: float | None = 0.0) -> bool:
    """Return whether it takes data, or is broken, within so many seconds; None: wait for it."""
    if not hasattr(select, "poll"):  # Windows, where only sockets can be asked
        return True
    asked = select.poll()
    asked.register(number, select.POLLOUT)
    return bool(asked.poll(None if seconds is None else 1000 * seconds))
