"""What an integration wants done around each job's function, such as closing connections. Knows none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from litequeue.core.interruptible import calls_the_task, interruptible


class Around(NamedTuple):
    """Called before and after each function of a job, in its thread; `acall` before and after each coroutine."""

    call: Callable[[], object]
    acall: Callable[[], Awaitable[object]]


around: list[Around] = []
prepared_by: list[str] = []  # `module:function`, called in a child process before it imports the application's tasks


def prepare_children_by(function: str) -> None:
    """Have this function, given as `module:name`, called in each child process first."""
    if function not in prepared_by:
        prepared_by.append(function)


def surround(each: Around) -> None:
    """Have this called from now on in this process."""
    if each not in around:
        around.append(each)


@interruptible
@calls_the_task
def surrounded(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a job's function. An error before or after it is one of the job's."""
    for each in around:
        each.call()
    try:
        return function(*args, **kwargs)
    finally:
        for each in around:
            each.call()


@interruptible
@calls_the_task
async def asurrounded(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Async twin of `surrounded`."""
    for each in around:
        await each.acall()
    try:
        return await function(*args, **kwargs)
    finally:
        for each in around:
            await each.acall()
