"""The schedules kept in the file, as users see them. Knows no SQL."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Generic, TypeVar

from litequeue.core.engine import CatchUp, Keeper, ScheduleRecord
from litequeue.core.names import check_name, some
from litequeue.core.records import Call, moment
from litequeue.scheduling import start, triggers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

J = TypeVar("J")  # what a job's id is made into: a `Job`


class Schedule:
    """One schedule, as it was when it was read."""

    def __init__(self, record: ScheduleRecord) -> None:
        self._record = record

    @property
    def name(self) -> str:
        """Its name; a schedule declared by `@task(schedule=...)` has the name of its task."""
        return self._record.name

    @property
    def task(self) -> str:
        """The name of the task that it enqueues."""
        return self._record.task

    @property
    def queue(self) -> str:
        """The queue into which it enqueues."""
        return self._record.queue

    @property
    def trigger(self) -> triggers.Trigger:
        """Its trigger; raises `ValueError` if this release or machine does not understand it."""
        return start.declared(triggers.decode(self._record.trigger))

    @property
    def catch_up(self) -> CatchUp:
        """Which of the ticks fire that were missed while no worker ran: `"one"`, `"all"` or `"none"`."""
        return self._record.catch_up

    @property
    def declared(self) -> bool:
        """Whether it is declared in code (`@task(schedule=...)`), not only stored in the file."""
        return self._record.declared

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
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
        """The id of the job that it enqueued last, or None."""
        return self._record.last_job

    def __repr__(self) -> str:
        state = "paused" if self.paused else f"next {self.next_at}"
        try:
            when = triggers.describe(self.trigger)
        except ValueError:
            when = "not understood"
        return f"<Schedule {self.name} {when} {state}>"


class Schedules(Generic[J]):
    """The schedules of a queue: those declared in code, and those added here. Kept in the file."""

    def __init__(self, keeper: Keeper, job: Callable[[str], J]) -> None:
        self._keeper = keeper
        self._job = job

    def add(
        self, name: str, call: Call, trigger: triggers.Trigger, *, catch_up: CatchUp = "one", replace: bool = True
    ) -> Schedule:
        """Enqueue `call` (made by `task.s(...)`) whenever `trigger` is due, from now on.

        `catch_up` says which ticks fire that were missed while no worker ran: `"one"` the latest, `"all"` each,
        `"none"` none older than 10 seconds. With `replace=False`, raises `ScheduleExists` if the name is taken.
        """
        if not isinstance(call, Call):
            raise TypeError(f"a schedule needs a call made by task.s(...), got {call!r}")
        checked = triggers.check(trigger, "a trigger")
        record = ScheduleRecord(
            name=check_name(name, "a schedule's name"),
            task=call.task,
            queue=call.queue,
            payload=call.payload,
            priority=call.priority,
            trigger=triggers.encode(triggers.named(checked, name)),
            declared=False,
            catch_up=triggers.check_catch_up(catch_up),
        )
        self._keeper.put(record, replace=replace)
        return self[name]

    def remove(self, name: str) -> None:
        """Delete a schedule. One declared in code is added again when a worker starts. Raises `ScheduleNotFound`."""
        self._keeper.remove(name)

    def pause(self, name: str) -> None:
        """Pause a schedule until it is resumed. Raises `ScheduleNotFound`."""
        self._keeper.pause(name)

    def resume(self, name: str) -> None:
        """Resume a schedule from now on; ticks of the pause are not caught up. Raises `ScheduleNotFound`."""
        self._keeper.resume(name)

    def trigger_now(self, name: str) -> J:
        """Enqueue the schedule's call at once, in addition to its ticks; return the job. Raises `ScheduleNotFound`."""
        return self._job(self._keeper.trigger(name))

    def __getitem__(self, name: str) -> Schedule:
        return Schedule(self._keeper.get(name))

    def __iter__(self) -> Iterator[Schedule]:
        return iter([Schedule(record) for record in self._keeper.list()])

    def __len__(self) -> int:
        return len(self._keeper.list())

    def __repr__(self) -> str:
        return f"<Schedules {some([record.name for record in self._keeper.list()]) or 'none'}>"


def declared(call: Call, trigger: triggers.Trigger) -> ScheduleRecord:
    """Return the schedule of a task that was declared with this trigger."""
    return ScheduleRecord(
        name=call.task,
        task=call.task,
        queue=call.queue,
        payload=call.payload,
        priority=call.priority,
        trigger=triggers.encode(triggers.named(trigger, call.task)),
        declared=True,
    )
