"""Plain calls of tasks: told of, or refused, while a program moves over from a queue where a call enqueues.

Knows no task. A worker calls the function itself, which is never told of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litequeue.core.warn import warn_caller
from litequeue.errors import PlainCallWarning

VARIABLE = "LITEQUEUE_PLAIN_CALLS"


def guarded(function: Callable[..., Any], name: str, how: str | None) -> Callable[..., Any]:
    """Return what a plain call of the task calls. `how`: "warn", "error", or None or "" for the function itself."""
    if not how:
        return function
    if how not in {"warn", "error"}:
        raise ValueError(f'${VARIABLE} must be "warn" or "error", or not be set, got {how!r}')

    def call(*args: Any, **kwargs: Any) -> Any:
        text = (
            f"{name}(...) runs the function here and now, and enqueues nothing; write {name}.enqueue(...), "
            f"or {name}.function(...) where a plain call is meant (${VARIABLE}={how})"
        )
        if how == "error":
            raise PlainCallWarning(text)
        warn_caller(text, PlainCallWarning)
        return function(*args, **kwargs)

    return call
