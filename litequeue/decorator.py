"""The decorator that makes a function a task, and what it refuses. Knows no store and no queue."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from litequeue.core.names import task_name
from litequeue.scheduling.schedules import check_call
from litequeue.task import AsyncTask, Task

P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """The decorator that `@task(...)` with options returns; it keeps the signature of the function."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        """Make the function a task."""


def checked_name(function: Any, name: str | None) -> str:
    """Refuse what is no function, and an invalid name; return the name of the task."""
    if isinstance(function, Task):
        raise TypeError(f"{function.name} is already a task")
    if not callable(function):
        raise TypeError(
            f"a task is made from a function, got {function!r}; options are given by keyword: @task(name=...)"
        )
    named = task_name(name or getattr(function, "__qualname__", ""))
    if "<lambda>" in named:
        raise ValueError("a lambda needs a name; give one: task(name='...')(lambda ...)")
    return named


def check_scheduled(task: Task[..., Any]) -> None:
    """Refuse a task with schedules whose calls would not fit its signature, or with options that do not go with it."""
    for schedule in task.options.schedules:
        try:
            check_call(task.s(*schedule.args, **schedule.kwargs), schedule.options)
        except TypeError as error:
            raise TypeError(
                f"{error}: the schedule calls the task without these; give them defaults, "
                f"or schedule=Schedule(trigger, args=(...), kwargs={{...}})"
            ) from None
