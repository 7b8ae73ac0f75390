"""A clock that moves only when a test moves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core import duration

if TYPE_CHECKING:
    from datetime import timedelta


class ManualClock:
    """A `Clock` that stands still until a test moves it.

    `start` is the first wall time, in unix seconds.

    >>> clock = ManualClock()
    >>> clock.advance("3d")
    >>> clock.now() - 1_700_000_000
    259200.0
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._wall = float(start)
        self._monotonic = 1_000.0

    def now(self) -> float:
        """Unix seconds of the wall clock."""
        return self._wall

    def monotonic(self) -> float:
        """Seconds that only `advance` adds to."""
        return self._monotonic

    def advance(self, by: timedelta | float | str) -> None:
        """Let time pass: both clocks move on by a duration such as `"3d"`, `90` (seconds) or a `timedelta`."""
        passed = duration.seconds(by, "advance")
        self._wall += passed
        self._monotonic += passed

    def step(self, wall: float) -> None:
        """Make the wall clock jump by `wall` seconds, back if negative, as an administrator or NTP may do."""
        self._wall += wall

    def __repr__(self) -> str:
        return f"<ManualClock now={self._wall} monotonic={self._monotonic}>"
