"""A schedule as values, and the part of an engine that keeps schedules. Knows no trigger and no SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import msgspec

if TYPE_CHECKING:
    import builtins

    from litequeue.core.records import JobRecord

Overlap: TypeAlias = Literal["skip", "queue", "allow", "replace"]  # what a tick does while the last job has not ended
CatchUp: TypeAlias = Literal["one", "all", "none"]  # which of the ticks fire that were missed while no worker ran


class ScheduleRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):  # 10,000 of them are no work for it
    """A schedule, as stored in the file. `next_at` None: it will not fire again.

    `module` declared it in code, and `declared` is a digest of what it said; None: it was added while a program ran.
    """

    name: str
    task: str
    queue: str
    payload: bytes
    priority: int
    trigger: str
    overlap: Overlap = "skip"
    catch_up: CatchUp = "one"
    until: float | None = None
    max_runs: int | None = None
    expires: float | None = None
    module: str | None = None
    declared: str | None = None
    paused: bool = False
    created_at: float = 0.0
    next_at: float | None = None
    last_at: float | None = None
    last_job: str | None = None
    runs: int = 0
    skipped: int = 0
    skipping: int = 0
    skipping_since: float | None = None
    options: bytes | None = None  # of the call, as JSON; last: `declared` is a digest of the fields before it

    def bounded(self, next_at: float | None) -> float | None:
        """Return that due time, or None where `until` or `max_runs` does not let it come."""
        if next_at is None or (self.until is not None and next_at > self.until):
            return None
        return None if self.max_runs is not None and self.runs >= self.max_runs else next_at


class Keeper(Protocol):
    """The part of a store that keeps schedules."""

    def list(self) -> builtins.list[ScheduleRecord]:
        """Return all schedules, by name."""

    async def alist(self) -> builtins.list[ScheduleRecord]:
        """Async twin of `list`."""

    def get(self, name: str) -> ScheduleRecord:
        """Return the schedule of that name; raises `ScheduleNotFound`."""

    async def aget(self, name: str) -> ScheduleRecord:
        """Async twin of `get`."""

    def put(self, schedule: ScheduleRecord, *, replace: bool) -> ScheduleRecord:
        """Add a schedule, or change the one of that name; return it as it is kept."""

    async def aput(self, schedule: ScheduleRecord, *, replace: bool) -> ScheduleRecord:
        """Async twin of `put`."""

    def remove(self, name: str) -> None:
        """Delete a schedule."""

    async def aremove(self, name: str) -> None:
        """Async twin of `remove`."""

    def pause(self, name: str) -> None:
        """Pause a schedule."""

    async def apause(self, name: str) -> None:
        """Async twin of `pause`."""

    def resume(self, name: str, *, run_missed: bool) -> None:
        """Resume a paused schedule from now on; `run_missed`: from the oldest tick that it has missed."""

    async def aresume(self, name: str, *, run_missed: bool) -> None:
        """Async twin of `resume`."""

    def trigger(self, name: str) -> JobRecord:
        """Enqueue the schedule's call at once; return the job."""

    async def atrigger(self, name: str) -> JobRecord:
        """Async twin of `trigger`."""
