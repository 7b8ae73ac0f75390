"""What the two pools have in common: jobs in line for a place, and the pace at which they are worked off."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING

from litequeue.worker.claim_size import ClaimSize

if TYPE_CHECKING:
    from litequeue.job import Claimed
    from litequeue.worker.executor.execute import Run


class Pool(ABC):
    """At most `size` runs at a time; jobs claimed beyond that wait in line, each a few milliseconds."""

    def __init__(self, size: int) -> None:
        self.size: int = size
        self.line: deque[Claimed] = deque()
        self.claim_size: ClaimSize = ClaimSize()
        self._since = 0.0  # when the line was last added to, by the monotonic clock

    @property
    @abstractmethod
    def busy(self) -> int:
        """How many are at a job: counted before it leaves the line, and until it has ended."""

    @abstractmethod
    def _staff(self, wanted: int) -> None:
        """See that so many more jobs of the line begin, as far as there is room."""

    @abstractmethod
    def admit(self, job: Claimed, now: float) -> None:
        """Put a job in line and have it begun, from any thread, also one in which a Ctrl-C may come at any time."""

    @abstractmethod
    def accept(self, job: Claimed, now: float) -> None:
        """The same in the thread that hears of what is handed over."""

    @abstractmethod
    def interrupt(self, run: Run) -> bool:
        """Tell a run to end. False: not now, because it is amid our own work; try again soon."""

    @abstractmethod
    def write_off(self, run: Run) -> bool:
        """Count on this run no more, though it goes on. False when it has ended meanwhile."""

    @abstractmethod
    def wake(self) -> None:
        """Wake the worker's loop: there are ends to settle."""

    @abstractmethod
    def stop(self) -> None:
        """Let go of threads that are idle; those at a job end after it."""

    @property
    def free(self) -> int:
        """How many more jobs could begin at once."""
        return self.size - self.busy - len(self.line)

    def room(self) -> int:
        """How many more jobs to claim now."""
        free = self.free
        return self.claim_size.claim_size(free, self.size) if free > 0 else 0

    def start(self, jobs: list[Claimed], now: float) -> None:
        """Put jobs in line, and begin as many as there is room for."""
        self._since = now
        self.line.extend(jobs)
        self._staff(len(jobs))

    def _put_first(self, job: Claimed, now: float) -> None:
        """Put a job that is handed over in line: it is older than whatever was claimed meanwhile."""
        self._since = now
        self.line.appendleft(job)

    def patient_until(self) -> float:
        """When the line will have stood for too long."""
        return self._since + self.claim_size.patience

    def withdraw(self) -> list[Claimed]:
        """Take all jobs out of the line that have not begun."""
        taken = []
        while True:
            try:
                taken.append(self.line.pop())
            except IndexError:
                return taken
