"""Poll the file for the ends of jobs that are waited for, since a notification may be lost. Knows no wait."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from litequeue.core.clock import SystemClock
from litequeue.ipc.result_waiter import EMITTED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHUNK = 1_000  # ids in one statement: other readers of the connection wait for about a millisecond


class Ends(Protocol):
    """The part of a store that is asked."""

    def file_version(self) -> object:
        """Return a value that differs after every commit to the file."""

    def ended_among(self, job_ids: Sequence[str]) -> list[str]:
        """Return those of these jobs that have ended, or are not on record."""


class ResultPoll:
    """One for a process and file. Two threads may use it at once; then there may be one look too many."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget what was seen, as after a fork."""
        self._seen: object = None
        self._looked = -math.inf

    def is_due(self, every: float) -> bool:
        """Whether the last look was so many seconds ago. Real time: the clock of a test may stand still."""
        return SystemClock.monotonic() - self._looked >= every

    def look(self, waiting: Callable[[], list[str]], *, always: bool = False) -> list[str]:
        """Return which of the jobs that are waited for have ended; none where the file is unchanged.

        `always`: look at the jobs also where it is unchanged.
        """
        self._looked = SystemClock.monotonic()
        # In this order: a job that is waited for only later is looked at by its own waiter, and what ends it after
        # that look changes the version again.
        version = self._ends.file_version()
        if version == self._seen and not always:
            return []
        names = waiting()
        ids = [name for name in names if not name.startswith(EMITTED)]
        ended = [name for name in names if name.startswith(EMITTED)]  # there may be more: each of them looks
        for first in range(0, len(ids), CHUNK):
            ended += self._ends.ended_among(ids[first : first + CHUNK])
        self._seen = version
        return ended
