"""Which functions on a stack belong to litequeue, and which of those may be interrupted. Knows none by name.

Every function of litequeue is protected, of any name and module, except those that are marked with a decorator
of this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from types import CodeType, FrameType, TracebackType

F = TypeVar("F", bound=Callable[..., Any])

_PACKAGE = __name__.rsplit(".", 2)[0]  # the name that it goes by here: a copy may have another one
_INSIDE = f"{_PACKAGE}."

# By identity: two functions may have equal code. The code is kept, so that no other gets its number.
_interruptible: dict[int, CodeType] = {}
_catching: dict[int, CodeType] = {}
_calling: dict[int, CodeType] = {}


def interruptible(marked: F) -> F:
    """Mark a function, or a class for all of its methods, as one that may be interrupted anywhere in it.

    Such a function leaves nothing half done; functions of ours that it calls stay protected. It waits for long, calls
    the application, or is called by running jobs again and again: a thread would be found in it at nearly every look.
    """
    for member in vars(marked).values() if isinstance(marked, type) else [marked]:
        _mark(getattr(member, "fget", member), _interruptible)
    return marked


def catches_interrupts(function: F) -> F:
    """Mark a function that catches what is raised in it, or in functions it calls: its callers are not affected."""
    _mark(function, _catching)
    return function


def calls_the_task(function: F) -> F:
    """Mark a function that calls the application's function: that one's traceback begins below it."""
    _mark(function, _calling)
    return function


def _mark(function: Any, codes: dict[int, CodeType]) -> None:
    while hasattr(function, "__wrapped__"):  # a static method, a context manager
        function = function.__wrapped__
    code = getattr(function, "__code__", None)
    if code is not None:
        codes[id(code)] = code


def is_protected(frame: FrameType | None) -> bool:
    """Whether a thread with this innermost frame is in work of ours that must not be left half done."""
    while frame is not None:
        number = id(frame.f_code)
        if number in _catching:
            return False
        if number not in _interruptible and _is_ours(frame):
            return True
        frame = frame.f_back
    return False


def _is_ours(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name.startswith(_INSIDE) or name == _PACKAGE


def without_ours(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback from the application's function on; all of it, if nothing would be left."""
    rest = trace
    while rest is not None and id(rest.tb_frame.f_code) in _calling:
        rest = rest.tb_next
    return rest or trace
