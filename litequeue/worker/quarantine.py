"""Jobs under which workers have died: one at a time is run, while nothing else is. Knows no claim and no store."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from litequeue.core.duration import text
from litequeue.core.logger import log

if TYPE_CHECKING:
    from litequeue.core.clock import Clock
    from litequeue.job import Claimed
    from litequeue.worker.running_jobs import RunningJobs

DEATHS = 2  # after so many under a job it is run alone
PATIENCE = 30.0  # seconds for which a suspect waits until nothing else runs here, and nothing is claimed


class Quarantine:
    """The one suspect of a worker, and how wary of others it is."""

    def __init__(self, runs: RunningJobs, clock: Clock) -> None:
        self._runs, self._clock = runs, clock
        self.one: Claimed | None = None
        self.begun: bool = False
        self.shunning: bool = False  # none is claimed until nothing runs here: the last one has waited in vain
        self.wary: bool = False  # more may follow those that were claimed last, so one job at a time is
        self._by = math.inf

    @property
    def none(self) -> bool:
        """Whether there is nothing to be careful of."""
        return self.one is None and not self.shunning and not self.wary

    @property
    def most_deaths(self) -> int | None:
        """What may be claimed; None: anything."""
        return DEATHS - 1 if self.shunning else None

    def pick_out(self, claimed: list[Claimed]) -> list[Claimed]:
        """Keep the first suspect, give the others back, and return those that are none."""
        quarantine = [job for job in claimed if job.deaths >= DEATHS]
        self.wary = bool(quarantine)
        if not quarantine:
            return claimed
        self.one, self.begun = quarantine.pop(0), False
        self._by = self._clock.monotonic() + PATIENCE
        self._runs.release(quarantine)
        about = self.one.task, self.one.id, self.one.deaths
        log.warning("%s[%s] was running when %d workers died; it is run alone", *about)
        return [job for job in claimed if job.deaths < DEATHS]

    def tend(self) -> bool:
        """Start it once nothing else runs in this process; give it back when that takes too long, and say so."""
        suspect = self.one
        if suspect is None or self.begun:
            return False
        if not (self._runs.busy or self._runs.ended):  # what has not been settled would be blamed with it
            self.begun = True
            self._runs.start([suspect])
            return False
        if self._clock.monotonic() < self._by:
            return False
        self.one, self.shunning = None, True
        self._runs.release([suspect])
        log.warning(
            "%s[%s] is put back: other jobs have run here for %s", suspect.task, suspect.id, text(PATIENCE)
        )  # fmt: skip
        return True

    def forget_unbegun(self) -> None:
        """Somebody else has it already."""
        self.one = self.one if self.begun else None

    def release_unbegun(self) -> None:
        """Give it back unless it runs."""
        if self.one is not None and not self.begun:
            self._runs.release([self.one])
            self.one = None
