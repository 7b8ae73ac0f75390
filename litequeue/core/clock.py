"""Read the wall clock and the monotonic clock. The only file that does."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The source of time for the rest of litequeue; tests pass `litequeue.testing.ManualClock`."""

    def now(self) -> float:
        """Unix seconds of the wall clock, which may jump in either direction."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never decreases."""
        ...


class SystemClock:
    """The clocks of this machine."""

    # the C functions themselves: an idle worker that is notified asks some twenty times before the job begins
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    def __repr__(self) -> str:
        return "<SystemClock>"
