"""Quarantine: a job under which workers have died runs alone. Knows no claim and no store."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from litequeue.core.duration import text
from litequeue.core.logger import about, log
from litequeue.core.store import DEATHS

if TYPE_CHECKING:
    from litequeue.core.clock import Clock
    from litequeue.core.records import Claimed
    from litequeue.worker.running_jobs import RunningJobs

PATIENCE = 30.0  # seconds for which the job waits until nothing else runs here, and nothing is claimed


class Quarantine:
    """The quarantined job of a worker, and which further jobs with deaths it may claim."""

    def __init__(self, runs: RunningJobs, clock: Clock) -> None:
        self._runs, self._clock = runs, clock
        self.one: Claimed | None = None
        self.begun: bool = False
        self.skips_quarantined: bool = False  # none is claimed until nothing runs here: the last has waited in vain
        self.one_at_a_time: bool = False  # more may follow those that were claimed last, so one job at a time is
        self._by = math.inf

    @property
    def none(self) -> bool:
        """Whether no job is quarantined, and all may be claimed."""
        return self.one is None and not self.skips_quarantined and not self.one_at_a_time

    @property
    def most_deaths(self) -> int | None:
        """How many deaths a job to claim may have; None: any number."""
        return DEATHS - 1 if self.skips_quarantined else None

    def pick_out(self, claimed: list[Claimed]) -> list[Claimed]:
        """Keep the first job to quarantine, release further ones, and return all other jobs."""
        quarantine = [job for job in claimed if job.deaths >= DEATHS and self._runs.must_be_alone(job)]
        self.one_at_a_time = bool(quarantine)
        if not quarantine:
            return claimed
        self.one, self.begun = quarantine.pop(0), False
        self._by = self._clock.monotonic() + PATIENCE
        self._runs.release(quarantine)
        named = self.one.task_name, self.one.id, self.one.deaths
        alone = "%s[%s] was running when %d workers died; it is quarantined: it runs alone"
        log.warning(alone, *named, extra=about(self.one))
        return [job for job in claimed if not self._runs.must_be_alone(job)]

    def tend(self) -> bool:
        """Start the job once no other runs in this process; release it if that takes too long, and log it."""
        quarantined = self.one
        if quarantined is None or self.begun:
            return False
        self.begun = True  # first: in the backlog, where no thread can be started, it is not started twice
        if self._runs.start_alone(quarantined):
            return False
        self.begun = False
        if self._clock.monotonic() < self._by:
            return False
        self.one, self.skips_quarantined = None, True
        self._runs.release([quarantined])
        named = quarantined.task_name, quarantined.id, text(PATIENCE)
        log.warning("%s[%s] was released: other jobs have run here for %s", *named, extra=about(quarantined))
        return True

    def forget_unbegun(self) -> None:
        """Forget the job if it has not begun: another worker has it already."""
        self.one = self.one if self.begun else None

    def release_unbegun(self) -> None:
        """Release the job unless it runs."""
        if self.one is not None and not self.begun:
            self._runs.release([self.one])
            self.one = None
