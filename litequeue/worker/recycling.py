"""When a worker is to end so that a fresh process takes its place: `max_jobs`, `max_memory`. Knows no job.

No job is interrupted for it: the worker claims no more, and ends once all that runs has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.logger import log
from litequeue.ipc.this_process import resident_memory

if TYPE_CHECKING:
    from litequeue.core.engine import RunOptions
    from litequeue.worker.stop_request import StopRequest


class Recycling:
    """The two limits of one worker's life."""

    def __init__(self, name: str, options: RunOptions, stop: StopRequest) -> None:
        self._name, self._options, self._stop = name, options, stop

    def look(self) -> None:
        """Begin to end if the process holds too much memory; called about once a second."""
        most = self._options.max_memory
        if most is None or self._stop.drains:
            return
        now = resident_memory()
        if now is not None and now > most:
            why = f"this process holds {now / 1e6:.0f} MB, more than max_memory ({most / 1e6:.0f} MB)"
            log.warning("%s claims no more jobs, and ends once what runs here has ended: %s", self._name, why)
            self._stop.drain(why)

    def ends(self, left: int | None) -> bool:
        """Whether to end as soon as nothing runs here; `left`: how many jobs it may still claim, None: any number."""
        return (left is not None and left <= 0) or bool(self._stop.drains)

    def say(self) -> None:
        """Log that it ends; called when nothing runs here."""
        if not self._stop.drains:
            jobs = "1 job" if self._options.max_jobs == 1 else f"{self._options.max_jobs:,} jobs"
            log.info("%s has run %s (max_jobs), and ends", self._name, jobs)
            self._stop.drain("max_jobs")
