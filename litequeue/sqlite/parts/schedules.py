"""Schedules, as a caller keeps them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from litequeue.core.asyncio_context import require_asyncio
from litequeue.ipc.notifier import SCHEDULES
from litequeue.sqlite.commit.external_connection import perform_held
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs import row_values, stored_schedules
from litequeue.sqlite.jobs.user_answers import aanswered, answered, at_once

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable

    from litequeue.core.records import JobRecord
    from litequeue.core.schedules import ScheduleRecord
    from litequeue.sqlite.commit.open_transaction import OpenTransaction
    from litequeue.sqlite.drivers.connection import Steps
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

    async def alist(self) -> builtins.list[ScheduleRecord]:
        """Async twin of `list`."""
        return await self._kernel.listed_soon(self.list)

    def get(self, name: str) -> ScheduleRecord:
        """Return the schedule of that name; raises `ScheduleNotFound`."""
        return self._kernel.read(lambda db: perform(db, stored_schedules.require(name)))

    async def aget(self, name: str) -> ScheduleRecord:
        """Async twin of `get`."""
        return await self._kernel.aread(lambda db: perform(db, stored_schedules.require(name)))

    def put(self, schedule: ScheduleRecord, *, replace: bool) -> ScheduleRecord:
        """Add a schedule, or change the one of its name; return it as it is kept."""
        return self._change(self._putting(schedule, replace=replace))

    async def aput(self, schedule: ScheduleRecord, *, replace: bool) -> ScheduleRecord:
        """Async twin of `put`."""
        return await self._achange(self._putting(schedule, replace=replace))

    def _putting(self, schedule: ScheduleRecord, *, replace: bool) -> Callable[[Ask], Steps[ScheduleRecord]]:
        now = self._kernel.clock.now()
        return lambda ask: stored_schedules.put(schedule, now, ask, replace=replace)

    def remove(self, name: str) -> None:
        """Delete a schedule."""
        self._change(lambda _ask: stored_schedules.remove(name))

    async def aremove(self, name: str) -> None:
        """Async twin of `remove`."""
        await self._achange(lambda _ask: stored_schedules.remove(name))

    def pause(self, name: str) -> None:
        """Pause a schedule until it is resumed."""
        self._change(lambda _ask: stored_schedules.pause(name))

    async def apause(self, name: str) -> None:
        """Async twin of `pause`."""
        await self._achange(lambda _ask: stored_schedules.pause(name))

    def resume(self, name: str, *, run_missed: bool = False) -> None:
        """Resume a schedule from now on, or with what it has missed."""
        self._change(self._resuming(name, run_missed=run_missed))

    async def aresume(self, name: str, *, run_missed: bool = False) -> None:
        """Async twin of `resume`."""
        await self._achange(self._resuming(name, run_missed=run_missed))

    def _resuming(self, name: str, *, run_missed: bool) -> Callable[[Ask], Steps[None]]:
        now = self._kernel.clock.now()
        return lambda ask: stored_schedules.resume(name, now, ask, run_missed=run_missed)

    def trigger(self, name: str) -> JobRecord:
        """Enqueue its call at once; return the job."""
        return self._change(lambda _ask: stored_schedules.trigger_now(name, self._kernel.clock.now()))

    async def atrigger(self, name: str) -> JobRecord:
        """Async twin of `trigger`."""
        return await self._achange(lambda _ask: stored_schedules.trigger_now(name, self._kernel.clock.now()))

    def _change(self, work: Callable[[Ask], Steps[T]]) -> T:
        held = self._writer.held()
        if held is not None:
            value = self._writer.run(lambda db: perform(db, work(at_once)))
        else:
            value = answered(lambda ask: self._writer.run(lambda db: perform(db, work(ask))))
        self._tell(held)
        return value

    async def _achange(self, work: Callable[[Ask], Steps[T]]) -> T:
        held = self._writer.held()
        if held is not None:
            require_asyncio()
            value = await perform_held(held, work(at_once))
            self._tell(held)
            return value
        tell = partial(self._tell, None)
        return await aanswered(
            lambda ask: self._writer.arun(lambda db: perform(db, work(ask)), then=lambda _value: tell())
        )

    def _tell(self, held: OpenTransaction | None) -> None:
        """Notify the workers, which may also have jobs to claim now, or when the transaction has been committed."""
        self._kernel.announce(held)
        if held is None:
            self._kernel.notifier.notify(SCHEDULES)
        else:
            held.after.append(partial(self._kernel.notifier.notify, SCHEDULES))
