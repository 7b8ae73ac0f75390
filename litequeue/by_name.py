"""Calls of tasks by their names, also of those that only another process has. Knows no store."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, cast, overload

from litequeue.core.duration import seconds
from litequeue.core.interruptible import interruptible
from litequeue.core.names import task_name
from litequeue.core.registry import Registry
from litequeue.core.stored_names import checked_version, task_of, version_of
from litequeue.core.warn import warn_caller
from litequeue.options import Options, Using, check_known
from litequeue.serialization.signature import NameAlone
from litequeue.task import Task

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from litequeue.calls import GivenCall
    from litequeue.job import Job
    from litequeue.task_owner import Owner

MOST_KNOWN = 1000  # names of tasks that are not declared here


@interruptible
class CallsByName:
    """Enqueues calls of tasks by name. `name`: that of a task, as text, whether or not it is declared here.

    A task that is declared here checks the call and decides as `task.enqueue()` does. Of another one nothing is known:
    its arguments are stored as JSON, its worker checks them, and queue, priority, expiry and key come from `using()`.
    """

    def _named(self, name: str) -> Task[..., Any]:
        raise NotImplementedError

    def enqueue(self, name: str, /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Store one call of the task of that name, and return its job; see `Task.enqueue`."""
        return self._named(name).enqueue(*args, **kwargs)

    async def aenqueue(self, name: str, /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Async twin of `enqueue`."""
        return await self._named(name).aenqueue(*args, **kwargs)

    @overload
    def enqueue_many(self, name: str, calls: Iterable[GivenCall]) -> list[Job[Any]]: ...
    @overload
    def enqueue_many(self, name: str, calls: Iterable[GivenCall], *, chunk: int) -> Sequence[Job[Any]]: ...
    def enqueue_many(self, name: str, calls: Iterable[GivenCall], *, chunk: int | None = None) -> Sequence[Job[Any]]:
        """Store many calls of the task of that name, all or none; see `Task.enqueue_many`."""
        task = self._named(name)
        return task.enqueue_many(calls) if chunk is None else task.enqueue_many(calls, chunk=chunk)

    @overload
    async def aenqueue_many(
        self, name: str, calls: Iterable[GivenCall] | AsyncIterable[GivenCall]
    ) -> list[Job[Any]]: ...
    @overload
    async def aenqueue_many(
        self, name: str, calls: Iterable[GivenCall] | AsyncIterable[GivenCall], *, chunk: int
    ) -> Sequence[Job[Any]]: ...
    async def aenqueue_many(
        self, name: str, calls: Iterable[GivenCall] | AsyncIterable[GivenCall], *, chunk: int | None = None
    ) -> Sequence[Job[Any]]:
        """Async twin of `enqueue_many`."""
        task = self._named(name)
        return await (task.aenqueue_many(calls) if chunk is None else task.aenqueue_many(calls, chunk=chunk))


class HasNames(CallsByName):
    """Enqueues calls by name, with or without options."""

    _names: Names

    def using(self, **options: Unpack[Using]) -> NamedCalls:
        """Return what enqueues calls by name with these options, which are those of `Task.using`."""
        check_known(options, Using, "using()")
        return NamedCalls(self._names, options)

    def _named(self, name: str) -> Task[..., Any]:
        return self._names.find(name)


class NamedCalls(CallsByName):
    """What `queue.using(...)` returns: it enqueues calls by name, with these options."""

    def __init__(self, names: Names, options: Using) -> None:
        self._names, self._options = names, options
        checked = dict(options)
        if checked.pop("wait_for_room", None) is not None:  # of which task it is asked is not known yet
            seconds(options["wait_for_room"] or 0, "wait_for_room")
        names.unknown("any").using(**cast("Using", checked))  # checks them now

    def _named(self, name: str) -> Task[..., Any]:
        return self._names.find(name).using(**self._options)

    def __repr__(self) -> str:
        return f"<NamedCalls using({', '.join(self._options)})>"


class Names:
    """Finds the tasks of one queue by name, and stands in for those that are not declared in this process."""

    def __init__(self, tasks: Registry[Task[..., Any]], owner: Owner) -> None:
        self._tasks, self._owner = tasks, owner
        self._unknown: dict[str, Task[..., Any]] = {}

    def find(self, name: str) -> Task[..., Any]:
        """Return the task of that name, or what enqueues its calls."""
        if name in self._tasks:
            return self._tasks[name]
        if not isinstance(name, str):
            _refuse(name)
        declared: Task[..., Any] | None = self._tasks.get(task_of(name))
        if declared is not None and declared.stored_name == name:
            return declared
        known = self._unknown.get(name)
        if known is None:
            known = self.unknown(name)
            self._warn_of_slip(name)
            if len(self._unknown) >= MOST_KNOWN:
                self._unknown.clear()
            self._unknown[name] = known
        return known

    def unknown(self, name: str) -> Task[..., Any]:
        """Return what enqueues calls of a task that is not declared here. `name`: perhaps with a version, `send@2`."""
        version = checked_version(version_of(name))
        found: Task[..., Any] = Task(_not_here, task_name(task_of(name)), Options(version=version), self._owner)
        found.signature = NameAlone(self._owner.codec, found.name)
        return found

    def _warn_of_slip(self, name: str) -> None:
        near = self._tasks.near(name)
        if near is not None and task_of(name) not in self._tasks:
            warn_caller(
                f"no task {name!r} is declared in this process, did you mean {near!r}? The call is stored for a worker "
                f"that has such a task"
            )


def _refuse(given: object) -> NoReturn:
    if isinstance(given, Task):
        raise TypeError(f"this takes the name of a task; for a task itself write {given.name}.enqueue(...)")
    if callable(given):
        name = getattr(given, "__name__", "the function")
        raise TypeError(f"this takes the name of a task; declare {name} with @queue.task and call {name}.enqueue(...)")
    raise TypeError(f"this takes the name of a task as text, got {given!r}")


def _not_here(*_args: Any, **_kwargs: Any) -> NoReturn:
    raise NotImplementedError("the task is not declared in this process")
