"""The schedules kept in the file, as users handle them. Knows no SQL."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from litequeue.core.engine import ScheduleRecord
from litequeue.job import moment
from litequeue.options import check_name
from litequeue.scheduling import triggers
from litequeue.task import Call, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from litequeue.job import Job


class Keeper(Protocol):
    """The part of a store that keeps schedules."""

    def schedules(self) -> list[ScheduleRecord]:
        """All of them, by name."""

    def schedule(self, name: str) -> ScheduleRecord:
        """The one of that name; raises `ScheduleNotFound`."""

    def put_schedule(self, schedule: ScheduleRecord, *, replace: bool) -> None:
        """Add it, or change the one of its name."""

    def remove_schedule(self, name: str) -> None:
        """Delete it."""

    def pause_schedule(self, name: str) -> None:
        """Let it fire no more until it is resumed."""

    def resume_schedule(self, name: str) -> None:
        """Let it go on from now."""

    def trigger_schedule(self, name: str) -> str:
        """Enqueue its call at once; return the job's id."""


class Schedule:
    """One schedule as it stood when it was read."""

    def __init__(self, record: ScheduleRecord) -> None:
        self._record = record

    @property
    def name(self) -> str:
        """Its name, which is the task's for one declared by `@task(schedule=...)`."""
        return self._record.name

    @property
    def task(self) -> str:
        """The task it enqueues."""
        return self._record.task

    @property
    def queue(self) -> str:
        """The queue it enqueues into."""
        return self._record.queue

    @property
    def trigger(self) -> triggers.Trigger:
        """When it fires; raises `ValueError` where this release or machine does not understand it."""
        return triggers.decode(self._record.trigger)

    @property
    def declared(self) -> bool:
        """Whether it stands in the code (`@task(schedule=...)`), rather than only in the file."""
        return self._record.declared

    @property
    def paused(self) -> bool:
        """Whether it waits to be resumed."""
        return self._record.paused

    @property
    def next_at(self) -> datetime | None:
        """When it fires next; None: never again."""
        return None if self.paused else moment(self._record.next_at)

    @property
    def last_at(self) -> datetime | None:
        """When it last fired."""
        return moment(self._record.last_at)

    @property
    def last_job(self) -> str | None:
        """The id of the job it enqueued last."""
        return self._record.last_job

    def __repr__(self) -> str:
        state = "paused" if self.paused else f"next {self.next_at}"
        try:
            when = triggers.describe(self.trigger)
        except ValueError:
            when = "not understood here"
        return f"<Schedule {self.name} {when} {state}>"


class Schedules:
    """What fires by itself: those declared in code and those added here. Kept in the file."""

    def __init__(self, keeper: Keeper, job: Callable[[str], Job[Any]]) -> None:
        self._keeper = keeper
        self._job = job

    def add(self, name: str, call: Call, trigger: triggers.Trigger, *, replace: bool = True) -> Schedule:
        """Enqueue `call` (made by `task.s(...)`) whenever `trigger` is due, on from now.

        With `replace=False` raises `ScheduleExists` where the name is taken.
        """
        if not isinstance(call, Call):
            raise TypeError(f"a schedule takes a call made by task.s(...), got {call!r}")
        if not isinstance(trigger, (triggers.Cron, triggers.Every, triggers.At)):
            raise TypeError(f"a trigger is made by cron(), every() or at(), got {trigger!r}")
        record = ScheduleRecord(
            name=check_name(name, "a schedule's name"),
            task=call.task,
            queue=call.queue,
            payload=call.payload,
            priority=call.priority,
            trigger=triggers.encode(trigger),
            declared=False,
        )
        self._keeper.put_schedule(record, replace=replace)
        return self[name]

    def remove(self, name: str) -> None:
        """Delete a schedule; one declared in code comes back when a worker starts. Raises `ScheduleNotFound`."""
        self._keeper.remove_schedule(name)

    def pause(self, name: str) -> None:
        """Let it fire no more until it is resumed. Raises `ScheduleNotFound`."""
        self._keeper.pause_schedule(name)

    def resume(self, name: str) -> None:
        """Let it go on from now; what was missed while it was paused is not made up for. Raises `ScheduleNotFound`."""
        self._keeper.resume_schedule(name)

    def trigger_now(self, name: str) -> Job[Any]:
        """Enqueue its call at once, beside its ticks; return the job. Raises `ScheduleNotFound`."""
        return self._job(self._keeper.trigger_schedule(name))

    def __getitem__(self, name: str) -> Schedule:
        return Schedule(self._keeper.schedule(name))

    def __iter__(self) -> Iterator[Schedule]:
        return iter([Schedule(record) for record in self._keeper.schedules()])

    def __len__(self) -> int:
        return len(self._keeper.schedules())

    def __repr__(self) -> str:
        return f"<Schedules {[schedule.name for schedule in self]}>"


def declared(task: Task[..., Any], trigger: triggers.Trigger) -> ScheduleRecord:
    """Give the schedule of a task that was declared with this trigger."""
    call = task.s()
    return ScheduleRecord(
        name=task.name,
        task=task.name,
        queue=call.queue,
        payload=call.payload,
        priority=call.priority,
        trigger=triggers.encode(trigger),
        declared=True,
    )
