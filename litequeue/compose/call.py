"""One call as a value: a task with its options, and the arguments as they are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import msgspec

from litequeue.call_fields import times
from litequeue.compose.composition import CallOf
from litequeue.compose.scheduled import scheduled
from litequeue.compose.whole import Whole
from litequeue.core.attached import Attached
from litequeue.core.interruptible import interruptible
from litequeue.core.records import NewJob

if TYPE_CHECKING:
    from datetime import datetime

    from typing_extensions import Unpack

    from litequeue.core.scheduled_call import ScheduledCall
    from litequeue.job import Job
    from litequeue.options import Using
    from litequeue.task_owner import ComposedTask

R = TypeVar("R")


class Form(NamedTuple):
    """`is_link`: its first argument is to come from what is before it. `takes_nothing`: of that it takes no result.

    `keywords`: the names of arguments that were given by keyword.
    """

    is_link: bool
    takes_nothing: bool
    keywords: tuple[str, ...] = ()


@interruptible
class Call(CallOf[R]):
    """One call of a task as a value, made by `task.s(...)` or `task.si(...)`: to enqueue, join with others, schedule.

    It is never changed. It equals another of the same task with the same arguments and options.
    """

    __slots__ = ("_identity", "form", "task", "template", "whole")
    what = "a call"

    def __init__(
        self,
        task: ComposedTask,
        template: NewJob,
        form: Form,
        whole: Whole = Whole(),  # noqa: B008 - it is frozen
    ) -> None:
        self.task: ComposedTask = task
        self.template: NewJob = template  # without its times
        self.form: Form = form
        self.whole: Whole = whole

    @property
    def attached(self) -> Attached:
        """What hangs on it."""
        return self.task.attached

    def calls(self) -> Iterable[Call[Any]]:
        """Yield its calls: itself."""
        yield self

    def mapped(self, change: Callable[[Any], Any], *, first: bool) -> Call[R]:  # noqa: ARG002
        """Return what `change` makes of it."""
        made: Call[R] = change(self)
        return made

    def with_whole(self, whole: Whole) -> Call[R]:
        """Return the same with other options of the enqueue."""
        return Call(self.task, self.template, self.form, whole)

    def using(self, **options: Unpack[Using]) -> Call[R]:
        """Return the same call with other options: those of `Task.using`."""
        given: dict[str, Any] = dict(options)
        whole = {"within": given.pop("within")} if "within" in given else {}
        made = self
        if given:
            task = self.task.using(**given)
            made = Call(task, task.templated(self.template), self.form, self.whole)
        return made.with_whole(made.whole.using(whole)) if whole else made

    def using_unless_said(self, options: Mapping[str, Any]) -> Call[R]:
        """Return the same call with those of the options that it has not been given."""
        left = {name: value for name, value in options.items() if name not in self.task.chosen}
        return self.using(**cast("Using", left)) if left else self

    def enqueue(self) -> Job[R]:
        """Store the call; see `Task.enqueue`. Raises `TypeError` where it lacks its first argument."""
        return cast("Job[R]", self._enqueue())

    async def aenqueue(self) -> Job[R]:
        """Async twin of `enqueue`."""
        return cast("Job[R]", await self._aenqueue())

    def complete(self) -> NewJob:
        """Return its template, or raise `TypeError` where its first argument is to come from another."""
        if self.form.is_link:
            raise TypeError(
                f"{self!r} lacks its first argument, which the result of what is before it is to be, and nothing is; "
                f"give it here, or write it behind another call: a.s() | {self!r}"
            )
        return self.template

    def new_job(self, now: float, *, link: bool, waits: bool) -> NewJob:
        """Return it as a job to store. `link`: it is given a result; `waits`: for another job."""
        template = self.template
        if link and not self.form.is_link:
            template = self.task.as_link(template, self.form.keywords)
        elif not link:
            template = self.complete()
        changes: dict[str, Any] = {"created_at": now}
        if waits:
            changes |= {"waiting": True, "max_pending": None}
            moment = self._moment()
            if moment is not None:
                changes |= times(self.task.name, now, None, None, moment)
        else:
            changes |= times(self.task.name, now, template.run_at, self.task.call_delay, self.task.call_expires)
        return msgspec.structs.replace(template, **changes)

    def _moment(self) -> datetime | None:
        value = self.task.call_expires
        return None if value is None or isinstance(value, (int, float)) else value

    def scheduled(self) -> ScheduledCall:
        """Return it as a schedule keeps it. Raises `TypeError` where its first argument is missing."""
        return scheduled(self)

    def _key(self) -> tuple[object, ...]:
        if not hasattr(self, "_identity"):
            payload = self.task.signature.stored.canonical(self.template.payload)
            self._identity: tuple[object, ...] = (
                self.task.identity(),
                payload,
                self.form.is_link,
                self.form.takes_nothing,
            )
        return self._identity

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Call) and self._key() == other._key() and self.whole == other.whole

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[object, ...]:
        if self.whole.within is not None:
            raise TypeError(f"{self!r} with within= cannot be pickled: its transaction stays in this process")
        template = msgspec.structs.replace(self.template, alike=None)
        return _unpickled, (self.task, template, self.form)

    def __repr__(self) -> str:
        return f"{self.task.name}.{'si' if self.form.takes_nothing else 's'}(...)"


def _unpickled(task: ComposedTask, template: NewJob, form: Form) -> Call[Any]:
    return Call(task, task.templated(template), form)
