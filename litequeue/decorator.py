"""The decorator that makes a function a task, and what it refuses. Knows no store and no queue."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar, overload

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


def check_callable_without_arguments(task: Task[..., Any]) -> None:
    """Refuse a task with a schedule whose call would not fit its signature."""
    options = task.options
    if options.unique or options.expires is not None or options.delay is not None:
        raise ValueError(
            f"{task.name}: unique=, expires= and delay= apply to single calls; remove them beside schedule="
        )
    try:
        task.s()
    except TypeError as error:
        raise TypeError(
            f"{error}: a task with a schedule is called without arguments; give them defaults, "
            f"or use queue.schedules.add(name, {task.name}.s(...), trigger)"
        ) from None
