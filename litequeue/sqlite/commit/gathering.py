"""The writer thread's wait for the callers that it has just told: they often write again at once. Knows no work.

Without it the callers fall into two halves, of which one comes while the work of the other is committed.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sized

AT_MOST = 0.0005  # seconds
FEWEST = 4  # callers that are worth a wait
RESTS = 30  # batches between two waits, where few callers come again


class Gathering:
    """How many callers are expected. `waiting`: those in the queue."""

    def __init__(self, waiting: Sized) -> None:
        self._waiting = waiting
        self._expected = self._enough = 0  # callers
        self._rest = self._rests = 0  # batches without a wait: left, and in all
        self._all_came = threading.Lock()
        self._all_came.acquire()

    def expect(self, told: int) -> None:
        """So many callers are about to be told."""
        self._all_came.acquire(blocking=False)
        waiting = len(self._waiting)
        if self._rest:
            self._rest -= 1
        elif told >= FEWEST and told >= waiting:
            self._enough, self._expected = waiting + told - told // 4, waiting + told

    def note(self) -> None:
        """A caller has come. Not called by two at once; a call that a Ctrl-C prevents costs the wait its full time."""
        if len(self._waiting) == self._expected and self._all_came.locked():
            self._all_came.release()

    def wait(self) -> None:
        """Wait a moment until they have come; where less than three of four do, not again for some batches."""
        if len(self._waiting) < self._expected:
            self._all_came.acquire(timeout=AT_MOST)
            self._rests = 0 if len(self._waiting) >= self._enough else min(2 * self._rests + 1, RESTS)
            self._rest = self._rests
        self._expected = 0
