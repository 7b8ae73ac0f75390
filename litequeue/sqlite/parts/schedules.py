"""Schedules, as a caller keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from litequeue.ipc.notifier import SCHEDULES
from litequeue.sqlite.jobs import row_values, stored_schedules
from litequeue.sqlite.jobs.user_answers import answered, at_once

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable

    from litequeue.core.engine import ScheduleRecord
    from litequeue.sqlite.drivers.connection import Connection
    from litequeue.sqlite.jobs.user_answers import Ask
    from litequeue.sqlite.kernel import Kernel

T = TypeVar("T")


class StoredSchedules:
    """The schedules kept in one file."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._writer = kernel, kernel.writer

    def list(self) -> builtins.list[ScheduleRecord]:
        """Return all schedules, by name."""
        return self._kernel.read_listing(row_values.schedules)

    def get(self, name: str) -> ScheduleRecord:
        """Return the schedule of that name; raises `ScheduleNotFound`."""
        return self._kernel.read(lambda db: stored_schedules.require(db, name))

    def put(self, schedule: ScheduleRecord, *, replace: bool) -> None:
        """Add a schedule, or change the one of its name."""
        now = self._kernel.clock.now()
        self._change(lambda db, ask: stored_schedules.put(db, schedule, now, ask, replace=replace))

    def remove(self, name: str) -> None:
        """Delete a schedule."""
        self._change(lambda db, _ask: stored_schedules.remove(db, name))

    def pause(self, name: str) -> None:
        """Pause a schedule until it is resumed."""
        self._change(lambda db, _ask: stored_schedules.pause(db, name))

    def resume(self, name: str) -> None:
        """Resume a schedule from now on."""
        now = self._kernel.clock.now()
        self._change(lambda db, ask: stored_schedules.resume(db, name, now, ask))

    def trigger(self, name: str) -> str:
        """Enqueue its call at once; return the job's id."""
        return self._change(lambda db, _ask: stored_schedules.trigger_now(db, name, self._kernel.clock.now()))

    def _change(self, work: Callable[[Connection, Ask], T]) -> T:
        held = self._writer.held()
        if held is not None:
            value = self._writer.run(lambda db: work(db, at_once))
            held.after.append(lambda: self._kernel.notifier.notify(SCHEDULES))
            return value
        value = answered(lambda ask: self._writer.run(lambda db: work(db, ask)))
        self._kernel.notifier.notify(SCHEDULES)
        return value
