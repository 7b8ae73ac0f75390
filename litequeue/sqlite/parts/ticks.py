"""Ticks: what fires by itself when a schedule is due."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from litequeue.ipc.notifier import JOBS, SCHEDULES
from litequeue.sqlite.jobs import stored_schedules
from litequeue.sqlite.jobs.user_answers import answered
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litequeue.core.engine import ScheduleRecord
    from litequeue.sqlite.kernel import Kernel


class Ticks:
    """The due times of one file's schedules, as a worker sees them."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._writer = kernel, kernel.writer

    def declare(self, schedules: Sequence[ScheduleRecord], tasks: frozenset[str]) -> None:
        """Make the file's declared schedules those of the code, as far as they are of these tasks."""
        now = self._kernel.clock.now()
        answered(lambda ask: self._writer.run(lambda db: stored_schedules.declare(db, schedules, tasks, now, ask)))
        self._kernel.notifier.notify(SCHEDULES)

    def bring_near(self, tasks: frozenset[str]) -> None:
        """After the clock was set back: let these tasks' schedules fire at their next ticks by it."""
        now = self._kernel.clock.now()
        answered(lambda ask: self._writer.run(lambda db: stored_schedules.bring_near(db, tasks, now, ask)))

    def fire(self, tasks: frozenset[str]) -> float | None:
        """Enqueue what is due of these tasks' schedules; return when the next is due."""
        next_at = self.next_at(tasks)
        now = self._kernel.clock.now()
        if next_at is None or next_at > now:
            return next_at
        fired, next_at = answered(lambda ask: self._writer.run(lambda db: stored_schedules.fire(db, tasks, now, ask)))
        if fired:
            self._kernel.notifier.notify(JOBS)
        return next_at

    def next_at(self, tasks: frozenset[str]) -> float | None:
        """When the next schedule of these tasks is due."""
        known = {"tasks": json.dumps(sorted(tasks)), "broken": "[]"}
        [(moment,)] = self._kernel.read(lambda db: db.rows(SQL["next_schedule"], known))
        return None if moment is None else float(moment)
