"""When the workers of one process that end when they are idle are idle all at once. Knows no job and no store."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from litequeue.worker.counts import Counts


class Waker(Protocol):
    """What wakes a worker: its `StopRequest`."""

    def wake(self) -> None:
        """Have it look, from any thread."""


class Idleness:
    """One worker, or several: a job of one may enqueue jobs of another, so each goes on until none has anything to do.

    `progress` changes with each job that is claimed or ends. A worker that has looked for jobs in vain says which
    progress it knew before the look; if all have said the same, and it still holds, no job was running meanwhile.
    """

    def __init__(self) -> None:
        self._counts: dict[Waker, Counts] = {}
        self._found: dict[Waker, int] = {}
        self._lock = threading.Lock()
        self._over = False

    def join(self, stop: Waker, counts: Counts) -> None:
        """Wait for this worker, too; before it starts."""
        self._counts[stop] = counts

    @property
    def progress(self) -> int:
        """A number that changes with each job that one of them claims, and with each end."""
        return sum(counts.claimed + counts.settled for counts in self._counts.values())

    def all_idle(self, stop: Waker, progress: int) -> bool:
        """Note that this worker has found nothing to do at that progress; return whether that is so of all of them."""
        with self._lock:
            known, self._found[stop] = self._found.get(stop), progress
            same = set(self._found.values()) == {self.progress} and self._found.keys() == self._counts.keys()
            self._over = self._over or same
            over = self._over
        if over or known != progress:  # else two that wait for a third would wake each other without end
            for other in self._counts.keys() - {stop}:
                other.wake()
        return over
