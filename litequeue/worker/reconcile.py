"""Claims that stand in the file under a worker that knows nothing of them: they are released. Knows no loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.core.clock import Clock
    from litequeue.core.records import Claimed
    from litequeue.worker.quarantine import Quarantine
    from litequeue.worker.running_jobs import RunningJobs

EVERY = 1.0  # seconds between two looks


class Claims(Protocol):
    """The part of a store that is asked."""

    def claims_of(self, worker: int) -> list[Claimed]:
        """The jobs that stand as running under the worker."""


class Reconciliation:
    """Necessary after a claim that failed, and after a dispatch to this worker that was interrupted."""

    def __init__(
        self, claims: Claims, runs: RunningJobs, quarantine: Quarantine, clock: Clock, wake: Callable[[], None]
    ) -> None:
        self._claims, self._runs, self._quarantine, self._clock, self._wake = claims, runs, quarantine, clock, wake
        self.open: bool = False
        self._missing: set[tuple[str, int]] = set()  # what we did not know of at the last look
        self._look_at = 0.0

    def request(self) -> None:
        """Have the loop look soon; from any thread."""
        self.open = True
        self._wake()

    def look(self, worker: int) -> None:
        """Release what is missing at two looks: a job that is about to begin is nowhere for a moment."""
        if not self.open or self._clock.monotonic() < self._look_at:
            return
        self.open = False  # first: it may be opened meanwhile
        known = self._known()
        missing = {(job.id, job.attempt): job for job in self._claims.claims_of(worker)}
        for run in known | self._known():
            missing.pop(run, None)
        self._runs.release_unheard(job for run, job in missing.items() if run in self._missing)
        self._missing = missing.keys() - self._missing
        self.open, self._look_at = self.open or bool(self._missing), self._clock.monotonic() + EVERY

    def _known(self) -> set[tuple[str, int]]:
        quarantined = self._quarantine.one
        return self._runs.known() | (set() if quarantined is None else {(quarantined.id, quarantined.attempt)})
