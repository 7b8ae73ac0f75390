"""The common part of both pools: a backlog of claimed jobs, and the estimate of how fast they run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING

from litequeue.worker.executor.claim_size import ClaimSize

if TYPE_CHECKING:
    from litequeue.core.records import Claimed
    from litequeue.worker.executor.execute import Run


class Pool(ABC):
    """At most `size` runs at a time; jobs claimed beyond that wait in the backlog, each a few milliseconds."""

    def __init__(self, size: int) -> None:
        self.size: int = size
        self.line: deque[Claimed] = deque()
        self.claim_size: ClaimSize = ClaimSize()
        self._since = 0.0  # when the backlog was last added to, by the monotonic clock

    @property
    @abstractmethod
    def busy(self) -> int:
        """How many jobs are running: counted before they leave the backlog, and until they have ended."""

    @abstractmethod
    def _staff(self, wanted: int) -> None:
        """See that so many more jobs of the backlog begin, as far as there is room."""

    @abstractmethod
    def admit(self, job: Claimed, now: float) -> None:
        """Add a job to the backlog, from any thread, also one in which a Ctrl-C may come at any time."""

    @abstractmethod
    def interrupt(self, run: Run) -> bool:
        """Tell a run to end. False: not now, because it is in our own work; try again soon."""

    @abstractmethod
    def write_off(self, run: Run) -> bool:
        """Free the slot of this run, though it continues. False if it has already ended."""

    @abstractmethod
    def wake(self) -> None:
        """Wake the worker's loop, which has ends to settle."""

    @abstractmethod
    def stop(self) -> None:
        """End idle threads; busy ones end after their jobs."""

    @property
    def free(self) -> int:
        """How many more jobs could begin at once."""
        return self.size - self.busy - len(self.line)

    def room(self) -> int:
        """How many more jobs to claim now."""
        free = self.free
        return self.claim_size.claim_size(free, self.size) if free > 0 else 0

    def start(self, jobs: list[Claimed], now: float, *, own: int = 0) -> None:
        """Add jobs to the backlog, and begin as many as have room; `own`: the caller's thread begins so many."""
        self._since = now
        self.line.extend(jobs)
        if len(jobs) > own:
            self._staff(len(jobs) - own)

    def _put_first(self, job: Claimed, now: float) -> None:
        """Put a job that was dispatched first in the backlog: it is older than the jobs claimed meanwhile."""
        self._since = now
        self.line.appendleft(job)

    def patient_until(self) -> float:
        """Return when the backlog will have waited for too long."""
        return self._since + self.claim_size.patience

    def withdraw(self) -> list[Claimed]:
        """Remove all jobs that have not begun from the backlog, and return them."""
        taken = []
        while True:
            try:
                taken.append(self.line.pop())
            except IndexError:
                return taken
