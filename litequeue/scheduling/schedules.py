"""The schedules kept in the file, as users see them, and as code declares them. Knows no SQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypedDict, TypeVar, get_args

from litequeue.core import scheduled_call
from litequeue.core.duration import instant, seconds, utc
from litequeue.core.names import check_name, some
from litequeue.core.records import Page, moment
from litequeue.core.retry import Duration
from litequeue.core.schedules import CatchUp, Keeper, Overlap, ScheduleRecord
from litequeue.core.stored_names import task_of
from litequeue.core.warn import warn_caller
from litequeue.scheduling import start, triggers

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from litequeue.core.records import JobRecord
    from litequeue.core.scheduled_call import ScheduledCall

J = TypeVar("J")  # what a job's record is made into: a `Job`


class SchedulableCall(Protocol):
    """A call as a value, made by `task.s(...)`."""

    def scheduled(self) -> ScheduledCall:
        """Return it as a schedule keeps it."""


class ScheduleOptions(TypedDict, total=False):
    """The options of a schedule; see `Schedule`."""

    overlap: Overlap
    catch_up: CatchUp
    until: datetime | str | None
    max_runs: int | None
    expires: Duration | None


class Schedule:
    """A schedule to declare in code: `@task(schedule=Schedule(every("1h"), args=("eu",)))`, or a list of these.

    `args`, `kwargs`: of the call. `name`: the task's unless given. `overlap` says what a tick does while the job of the
    last one has not ended: `"skip"` it, `"queue"` it behind that one, `"allow"` both at once, or `"replace"` that one.
    `catch_up`: which ticks fire that were missed while no worker ran: `"one"` the latest, `"all"` each (with overlap
    "queue" or "allow"), `"none"` none older than 10 seconds. `until`: an aware datetime or ISO text after which no tick
    comes. `max_runs`: how many jobs its ticks enqueue in all. `expires`: a duration, from its tick, in which a job must
    begin; the task's unless given. Raises `TypeError` and `ValueError`.
    """

    __slots__ = ("args", "kwargs", "name", "options", "trigger")

    def __init__(
        self,
        trigger: triggers.Trigger,
        *,
        args: tuple[Any, ...] | list[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> None:
        if not isinstance(args, (tuple, list)):
            raise TypeError(f"args must be a tuple of positional arguments, got {args!r}; write args=({args!r},)")
        if not isinstance(kwargs or {}, Mapping):
            raise TypeError(f"kwargs must be a dict of keyword arguments, got {kwargs!r}")
        self.trigger: triggers.Trigger = triggers.check(trigger, "a trigger")
        self.args: tuple[Any, ...] = tuple(args)
        self.kwargs: dict[str, Any] = dict(kwargs or {})
        self.name: str | None = None if name is None else check_name(name, "a schedule's name")
        self.options: ScheduleOptions = options
        checked(options)

    def _key(self) -> tuple[object, ...]:
        return self.trigger, self.args, self.kwargs, self.name, self.options

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.trigger, self.name))

    def __repr__(self) -> str:
        return f"<Schedule {self.name or 'of its task'} {triggers.describe(self.trigger)}>"


def checked(options: ScheduleOptions) -> dict[str, Any]:
    """Check the options of a schedule, and turn them into the fields of its record."""
    known = ScheduleOptions.__annotations__
    if unknown := ", ".join(sorted(set(options) - set(known))):
        raise TypeError(f"a schedule has no option {unknown}; it takes {', '.join(sorted(known))}")
    overlap, catch_up = options.get("overlap", "skip"), triggers.check_catch_up(options.get("catch_up", "one"))
    until, most, expires = options.get("until"), options.get("max_runs"), options.get("expires")
    if overlap not in get_args(Overlap):
        raise ValueError(f'overlap must be "skip", "queue", "allow" or "replace", got {overlap!r}')
    if catch_up == "all" and overlap not in {"queue", "allow"}:
        raise ValueError(
            f'catch_up="all" enqueues a job for each missed tick, of which overlap="{overlap}" keeps one; '
            f'give overlap="queue" (one after another) or overlap="allow" as well'
        )
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise ValueError(f"max_runs must be a positive whole number, or None for no limit, got {most!r}")
    length = None if expires is None else seconds(expires, "expires")
    if length is not None and length <= 0:
        raise ValueError(f"expires must be positive, or None for no limit, got {expires!r}")
    return {
        "overlap": overlap,
        "catch_up": catch_up,
        "until": None if until is None else instant(until, "until"),
        "max_runs": most,
        "expires": length,
    }


def record_of(name: str, call: ScheduledCall, trigger: triggers.Trigger, options: ScheduleOptions) -> ScheduleRecord:
    """Return the record of a schedule, as it is to be put into the file."""
    fields = checked(options)
    if fields["expires"] is None:
        fields["expires"] = call.expires
    return ScheduleRecord(
        name=name,
        task=call.task,
        queue=call.queue,
        payload=call.payload,
        priority=call.priority,
        trigger=triggers.encode(triggers.named(trigger, name)),
        options=scheduled_call.encode(call.options),
        **fields,
    )


class StoredSchedule(Generic[J]):
    """One schedule, as it was when it was read."""

    def __init__(self, record: ScheduleRecord, jobs: Callable[..., Page[J]]) -> None:
        self._record, self._jobs = record, jobs

    @property
    def name(self) -> str:
        """Its name; a schedule declared by `@task(schedule=...)` has the name of its task unless another was given."""
        return self._record.name

    @property
    def task(self) -> str:
        """The name of the task that it enqueues."""
        return task_of(self._record.task)

    @property
    def queue(self) -> str:
        """The queue into which it enqueues."""
        return self._record.queue

    @property
    def trigger(self) -> triggers.Trigger:
        """Its trigger; raises `ValueError` if this release or machine does not understand it."""
        return start.declared(triggers.decode(self._record.trigger))

    @property
    def overlap(self) -> Overlap:
        """What a tick does while the last job has not ended: `"skip"`, `"queue"`, `"allow"` or `"replace"`."""
        return self._record.overlap

    @property
    def catch_up(self) -> CatchUp:
        """Which of the ticks fire that were missed while no worker ran: `"one"`, `"all"` or `"none"`."""
        return self._record.catch_up

    @property
    def until(self) -> datetime | None:
        """After which it does not fire any more."""
        return moment(self._record.until)

    @property
    def max_runs(self) -> int | None:
        """How many jobs its ticks enqueue in all; None: there is no limit."""
        return self._record.max_runs

    @property
    def expires(self) -> float | None:
        """In how many seconds from its tick a job must begin; None: there is no limit."""
        return self._record.expires

    @property
    def options(self) -> dict[str, Any]:
        """The other options that the call was given, such as `retries` and `tags`; raises `ValueError` as `trigger`."""
        return scheduled_call.decode(self._record.options).shown()

    @property
    def declared(self) -> bool:
        """Whether it is declared in code, not only stored in the file."""
        return self._record.declared is not None

    @property
    def module(self) -> str | None:
        """The module that declares it, or the path of a script; None if it was added by `queue.schedules.add`."""
        return self._record.module

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

    @property
    def runs(self) -> int:
        """How many jobs its ticks have enqueued."""
        return self._record.runs

    @property
    def skipped(self) -> int:
        """How many ticks have no job of their own: they were skipped, or another tick has replaced theirs."""
        return self._record.skipped

    @property
    def skipping(self) -> int:
        """How many ticks in a row were skipped up to now."""
        return self._record.skipping

    @property
    def skipping_since(self) -> datetime | None:
        """When the first of these ticks came; None if the last tick has a job."""
        return moment(self._record.skipping_since)

    def jobs(self, limit: int = 100) -> Page[J]:
        """List its jobs, newest first: those of its ticks, and of `trigger_now`."""
        return self._jobs(schedule=self.name, limit=limit)

    def __repr__(self) -> str:
        state = "paused" if self.paused else f"next {self.next_at}"
        try:
            when = triggers.describe(self.trigger)
        except ValueError:
            when = "not understood"
        return f"<StoredSchedule {self.name} {when} {state}>"


class Schedules(Generic[J]):
    """The schedules of a queue: those declared in code, and those added here. Kept in the file."""

    def __init__(
        self,
        keeper: Keeper,
        job: Callable[[JobRecord, float], J],
        jobs: Callable[..., Page[J]],
        now: Callable[[], float],
    ) -> None:
        self._keeper, self._job, self._jobs, self._now = keeper, job, jobs, now

    def add(
        self,
        name: str,
        call: SchedulableCall,
        trigger: triggers.Trigger,
        *,
        replace: bool = True,
        **options: Unpack[ScheduleOptions],
    ) -> StoredSchedule[J]:
        """Enqueue `call` (made by `task.s(...)`) whenever `trigger` is due, from now on.

        The options are those of `Schedule`: `overlap`, `catch_up`, `until`, `max_runs`, `expires`. What is changed of a
        schedule that is declared in code holds until the code changes. With `replace=False`, raises `ScheduleExists`
        if the name is taken. Warns where `until` has passed: the program may well be older than that.
        """
        kept = self._keeper.put(self._given(name, call, trigger, options), replace=replace)
        return StoredSchedule(kept, self._jobs)

    async def aadd(
        self,
        name: str,
        call: SchedulableCall,
        trigger: triggers.Trigger,
        *,
        replace: bool = True,
        **options: Unpack[ScheduleOptions],
    ) -> StoredSchedule[J]:
        """Async twin of `add`."""
        kept = await self._keeper.aput(self._given(name, call, trigger, options), replace=replace)
        return StoredSchedule(kept, self._jobs)

    def _given(
        self, name: str, call: SchedulableCall, trigger: triggers.Trigger, options: ScheduleOptions
    ) -> ScheduleRecord:
        name, trigger = check_name(name, "a schedule's name"), triggers.check(trigger, "a trigger")
        given = record_of(name, check_call(call, options), trigger, options)
        if given.until is not None and given.until < self._now():
            warn_caller(f"the schedule {name!r} has no tick any more: its until= was {utc(given.until).isoformat()}")
        return given

    def remove(self, name: str) -> None:
        """Delete a schedule. One declared in code is added again when a worker starts. Raises `ScheduleNotFound`."""
        self._keeper.remove(name)

    async def aremove(self, name: str) -> None:
        """Async twin of `remove`."""
        await self._keeper.aremove(name)

    def pause(self, name: str) -> None:
        """Pause a schedule until it is resumed. Raises `ScheduleNotFound`."""
        self._keeper.pause(name)

    async def apause(self, name: str) -> None:
        """Async twin of `pause`."""
        await self._keeper.apause(name)

    def resume(self, name: str, *, run_missed: bool = False) -> None:
        """Resume a schedule from now on. `run_missed`: what it has missed meanwhile fires now, by its `catch_up`.

        Raises `ScheduleNotFound`.
        """
        self._keeper.resume(name, run_missed=run_missed)

    async def aresume(self, name: str, *, run_missed: bool = False) -> None:
        """Async twin of `resume`."""
        await self._keeper.aresume(name, run_missed=run_missed)

    def trigger_now(self, name: str) -> J:
        """Enqueue the schedule's call now, in addition to its ticks; return the job. Raises `ScheduleNotFound`.

        It counts as the schedule's last job. With overlap "queue" it runs after those before it. Where the call has a
        key that is held, returns the job that holds it, or raises `KeyConflict`, as its `on_conflict` says.
        """
        return self._triggered(self._keeper.trigger(name))

    async def atrigger_now(self, name: str) -> J:
        """Async twin of `trigger_now`."""
        return self._triggered(await self._keeper.atrigger(name))

    def _triggered(self, record: JobRecord) -> J:
        return self._job(record, record.created_at)  # in a transaction that may yet be rolled back

    def __getitem__(self, name: str) -> StoredSchedule[J]:
        return StoredSchedule(self._keeper.get(name), self._jobs)

    async def aget(self, name: str) -> StoredSchedule[J]:
        """Async twin of `queue.schedules[name]`."""
        return StoredSchedule(await self._keeper.aget(name), self._jobs)

    def __iter__(self) -> Iterator[StoredSchedule[J]]:
        return iter([StoredSchedule(record, self._jobs) for record in self._keeper.list()])

    async def __aiter__(self) -> AsyncIterator[StoredSchedule[J]]:
        for record in await self._keeper.alist():
            yield StoredSchedule(record, self._jobs)

    def __len__(self) -> int:
        return len(self._keeper.list())

    def __repr__(self) -> str:
        return f"<Schedules {some([record.name for record in self._keeper.list()]) or 'none'}>"


def check_call(call: SchedulableCall, options: ScheduleOptions) -> ScheduledCall:
    """Refuse what is no call, what a schedule cannot keep of it, and options that do not go together with these."""
    if not hasattr(call, "scheduled"):
        raise TypeError(f"a schedule needs a call made by task.s(...), got {_instead(call)}")
    kept = call.scheduled()
    _refuse_clash(kept, options)
    return kept


def _instead(given: Any) -> str:
    if hasattr(given, "parts"):
        return "a chain or a group; schedule a task that enqueues it, or give the first call on_success="
    return f"{given!r}; write {given.name}.s(...)" if hasattr(given, "enqueue_many") else repr(given)


def _refuse_clash(call: ScheduledCall, options: ScheduleOptions) -> None:
    fields, kept = checked(options), call.options
    overlap, expires, delay = fields["overlap"], fields["expires"] or call.expires, kept.delay or 0.0
    if kept.key is not None and kept.key_scope == "unfinished" and overlap != "skip":
        raise ValueError(
            f'overlap="{overlap}" lets a tick have a job before the last one has ended, but until then the key of the '
            f'call is held; give key_scope="queued", which frees it when a job begins, or leave out overlap='
        )
    if expires is not None and expires <= delay:
        raise ValueError(
            f"each job would expire before it may run: it must begin within {expires:g} s of its tick (expires=), "
            f"and may not in the first {delay:g} s (delay=)"
        )
