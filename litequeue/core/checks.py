"""Checks of the values that options take. Knows no option."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast, get_args

MAX_PAYLOAD = 4 * 1024 * 1024  # bytes


def flag(value: object, what: str) -> bool:
    """Refuse a value that is neither True nor False."""
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False, got {value!r}")
    return value


def plain_function(value: Any, what: str) -> Callable[..., Any]:
    """Refuse an object that cannot be called, and a coroutine function: nothing would await it."""
    if not callable(value) or inspect.iscoroutinefunction(value):
        raise TypeError(f"{what} must be a plain function (not async), got {value!r}")
    return cast("Callable[..., Any]", value)


def one_of(value: Any, choices: Any, what: str) -> Any:
    """Refuse a value that is not one of a Literal's."""
    if value not in get_args(choices):
        raise ValueError(f"{what} must be one of {', '.join(map(repr, get_args(choices)))}, got {value!r}")
    return value


def check_max_payload(value: int) -> int:
    """Refuse an invalid number of bytes."""
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError(f"max_payload must be a positive number of bytes, got {value!r}")
    return value
