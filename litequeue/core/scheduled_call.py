"""A call as a schedule keeps it, and what is stored of it at a tick. Knows no task and no store."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from litequeue.core.plan import TAKES_NOTHING, Callbacks, Dependent, Edge, Plan, RunsOn
from litequeue.core.records import KeyScope, NewJob, OnConflict
from litequeue.core.stored_names import in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from litequeue.core.schedules import ScheduleRecord


# What a job's row takes: someone else may have written the options.
_Priority = Annotated[int, msgspec.Meta(ge=-100, le=100)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Span = Annotated[float, msgspec.Meta(ge=0)]


class CallOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The options of a call for which a schedule has no column; in the file, as JSON. Spans are seconds.

    `timeout` "none": there is no limit. `aliases`, `former_names`: of its key, as of a `NewJob`.
    """

    delay: _Span | None = None
    retries: _Count | None = None
    timeout: _Span | Literal["none"] | None = None
    tags: tuple[str, ...] = ()
    key: str | None = None
    key_scope: KeyScope = "kept"
    on_conflict: OnConflict = "return"
    aliases: tuple[str, ...] = ()
    former_names: tuple[str, ...] = ()
    on_success: Callback | None = None
    on_failure: Callback | None = None

    def callbacks(self) -> Iterator[tuple[RunsOn, str, Callback]]:
        """Yield its callbacks, each with the end that it is for and the name of its option."""
        if self.on_success is not None:
            yield RunsOn.SUCCESS, "on_success", self.on_success
        if self.on_failure is not None:
            yield RunsOn.FAILURE, "on_failure", self.on_failure

    def shown(self) -> dict[str, Any]:
        """Return those that were given, as people read them; of callbacks the tasks and options, not the arguments."""
        names = ["delay", "retries", "timeout", "tags"]
        names += [] if self.key is None else ["key", "key_scope", "on_conflict"]
        shown = {name: getattr(self, name) for name in names if getattr(self, name) not in (None, ())}
        if self.timeout == "none":
            shown["timeout"] = None
        if self.tags:
            shown["tags"] = list(self.tags)
        return shown | {name: each.shown() for _, name, each in self.callbacks()}

    def said(self, decode: Callable[[bytes], Any]) -> object:
        """Return what they say, to compare: the bytes of a codec may differ each time."""
        plain = msgspec.structs.replace(self, on_success=None, on_failure=None)
        return repr(plain), [(name, each.said(decode)) for _, name, each in self.callbacks()]


class Callback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A callback of a scheduled call. `takes`: it is handed the result of its job, or the failure."""

    task: str
    queue: str
    payload: bytes
    takes: bool
    priority: _Priority = 0
    expires: _Span | None = None
    options: CallOptions = CallOptions()

    def shown(self) -> dict[str, Any]:
        """Return its task and its options, as people read them."""
        fields = {"task": in_words(self.task), "queue": self.queue, "priority": self.priority, "expires": self.expires}
        return {name: value for name, value in fields.items() if value is not None} | self.options.shown()

    def said(self, decode: Callable[[bytes], Any]) -> object:
        """Return what it says, to compare."""
        fields = (self.task, self.queue, self.takes, self.priority, self.expires)
        return fields, repr(decode(self.payload)), self.options.said(decode)


class ScheduledCall(msgspec.Struct, frozen=True):
    """A call as a schedule keeps it: the names of task and queue, the encoded arguments, and its options.

    `expires`: in how many seconds a job must begin, from the moment at which it may.
    """

    task: str
    queue: str
    payload: bytes
    priority: int = 0
    expires: float | None = None
    options: CallOptions = CallOptions()


_PLAIN = CallOptions()


def encode(options: CallOptions) -> bytes | None:
    """Return the options as the file keeps them; None: there are none."""
    return None if options == _PLAIN else msgspec.json.encode(options)


def decode(options: bytes | None) -> CallOptions:
    """Return the options that a file has. Raises `ValueError` where someone else wrote them."""
    if options is None:
        return _PLAIN
    try:
        return msgspec.json.decode(options, type=CallOptions)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the options of its call are not understood: {error}") from error


def job_of(schedule: ScheduleRecord, options: CallOptions, at: float, now: float) -> NewJob:
    """Return the schedule's call as a job that may start at that time."""
    expires_at = None if schedule.expires is None else at + schedule.expires
    run_at = at + (options.delay or 0.0)
    return _job(schedule, options, now, run_at=run_at, expires_at=expires_at, schedule=schedule.name)


def unraised(new: NewJob) -> NewJob:
    """Return it as a job that is not stored where its key is held: a tick has no caller to raise to."""
    return msgspec.structs.replace(new, on_conflict="return") if new.on_conflict == "raise" else new


def plan_of(new: NewJob, options: CallOptions) -> Plan:
    """Return what is to be stored of a call with callbacks: its job, and the jobs of these, which wait for it."""
    plan = Plan(
        jobs=[new], groups=[], edges=[], dependents={}, after=[], callbacks=[], last=0, created_at=new.created_at
    )
    _attach(plan, 0, options)
    return plan


def _attach(plan: Plan, node: int, options: CallOptions) -> None:
    for runs_on, _, each in options.callbacks():
        place = len(plan.jobs)
        plan.jobs.append(unraised(_job(each, each.options, plan.created_at, waiting=True)))
        plan.edges.append(Edge(node, place, 0 if each.takes else TAKES_NOTHING, own=False))
        plan.dependents[place] = Dependent(runs_on, each.options.delay or 0.0, each.expires)
        _attach(plan, place, each.options)
        plan.callbacks.append(Callbacks(node, place, len(plan.jobs)))


def _job(call: ScheduleRecord | Callback, options: CallOptions, now: float, **more: Any) -> NewJob:
    return NewJob(
        task=call.task,
        queue=call.queue,
        payload=call.payload,
        priority=call.priority,
        created_at=now,
        retries=options.retries,
        timeout=math.inf if options.timeout == "none" else options.timeout,
        tags=options.tags,
        key=options.key,
        key_scope=options.key_scope,
        on_conflict=options.on_conflict,
        any_arguments=True,
        aliases=options.aliases,
        former_names=options.former_names,
        **more,
    )
