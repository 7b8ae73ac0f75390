"""A rate: in no window of so many seconds do more than so many start. Pure: knows no clock and no file."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated

import msgspec

from litequeue.core.duration import seconds, text

if TYPE_CHECKING:
    from collections.abc import Sequence

SLICES = 64  # of a window, in which the starts of a larger rate are gathered
MOST = 10**12
SHORTEST, LONGEST = 0.001, 366 * 86400.0  # seconds of a window
LATEST = 0.05  # seconds after its claim in which a function must have been called; of a short window less

_RATE = re.compile(r"\s*([0-9][0-9_]*)\s*/\s*(\S.*?)\s*")
_WORDS = {
    "s": 1.0, "sec": 1.0, "second": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0,
    "h": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0,
}  # fmt: skip
_UNITS = {1.0: "s", 60.0: "m", 3600.0: "h", 86400.0: "d"}

Starts = list[tuple[float, int]]  # what counts: the moment under which it is kept, and how much; oldest first


class Rate(msgspec.Struct, frozen=True):
    """At most `count` in each `window` of seconds. `smooth`: spaced evenly, instead of as soon as the window allows."""

    count: Annotated[int, msgspec.Meta(ge=1, le=MOST)]
    window: Annotated[float, msgspec.Meta(ge=SHORTEST, le=LONGEST)]
    smooth: bool = False

    @property
    def patience(self) -> float:
        """How many seconds after its claim a function may be called."""
        return min(self.window / (2 * SLICES), LATEST)

    @property
    def _spacing(self) -> float:
        """From slot to slot. A function may be called `patience` after its claim, and that as much after its slot."""
        return (self.window + 2 * self.patience) / self.count

    def stamp(self, starts: Sequence[tuple[float, int]], now: float, patience: float = 0.0) -> float:
        """Return the moment under which a start that is claimed now is kept: not before its function is called.

        `patience`: how many seconds that may take here, if more than usual. A smooth one has the slot after the last
        one's, if it is hardly late for that.
        """
        latest = now + max(self.patience, patience)
        if self.smooth:
            return max([latest, *(at + count * self._spacing for at, count in starts[-1:])])
        if self.count <= SLICES:
            return latest
        width = self.window / SLICES
        return math.ceil(latest / width) * width

    def edge(self, now: float) -> float:
        """Return the moment up to which a start counts no more."""
        return now - self.window

    def latest(self, now: float) -> float:
        """Return the moment under which at most a start is kept by now, of any rate that held before."""
        return now + LATEST + LONGEST / SLICES

    def used(self, starts: Sequence[tuple[float, int]]) -> int:
        """Return how much of the window these take."""
        return sum(count for _, count in starts)

    def opens_at(self, starts: Sequence[tuple[float, int]], cost: int, now: float) -> float:
        """Return when a start of this cost is allowed: `now`, or later; infinity where it never is."""
        if cost > self.count:
            return math.inf
        slots = starts[-1:] if self.smooth else ()
        now = max([now, *(at - 2 * self.patience + count * self._spacing for at, count in slots)])
        used = self.used(starts)
        if used + cost <= self.count:
            return now
        for at, count in starts:
            used -= count
            if used + cost <= self.count:
                return max(now, at + self.window)
        return now

    def room(self, starts: Sequence[tuple[float, int]], now: float) -> int:
        """Return how many starts that cost 1 are allowed now."""
        if self.smooth:
            return int(self.opens_at(starts, 1, now) <= now)
        return max(0, self.count - self.used(starts))

    def __str__(self) -> str:
        """Return it as `rate=` takes it."""
        return f"{self.count}/{_UNITS.get(self.window) or text(self.window)}"


def rate_of(value: object, *, smooth: bool = False) -> Rate:
    """Turn text such as "10/s", "500/m", "5/10m" or "200000/h" into a rate. Raises `TypeError` or `ValueError`."""
    if not isinstance(value, str):
        raise TypeError(f'rate must be text such as "10/s", "500/m" or "5/10m", got {value!r}')
    found = _RATE.fullmatch(value)
    if found is None:
        raise ValueError(f'rate must be text such as "10/s", "500/m" or "5/10m", got {value!r}')
    count, per = int(found[1]), found[2]
    try:
        window = _WORDS.get(per) or seconds(per, "rate")
    except (TypeError, ValueError) as error:
        raise ValueError(f"rate={value!r}: {per!r} is no time: s, m, h, d, or a duration such as 30s") from error
    if not (0 < count <= MOST and SHORTEST <= window <= LONGEST):
        raise ValueError(f"rate={value!r}: a whole number from 1 to {MOST:,}, in 1 ms to 366 days")
    return Rate(count, window, smooth)
