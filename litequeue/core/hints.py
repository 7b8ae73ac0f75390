"""What to write in place of a word of another queue, for the errors that meet one. Knows no task and no queue."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import update_wrapper
from typing import Any, TypeVar

from litequeue.core.interruptible import interruptible
from litequeue.core.other_queues import ATTRIBUTES, COMMAND_OPTIONS, COMMANDS, OPTIONS

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_SPANS = {"weeks": "w", "days": "d", "hours": "h", "minutes": "m", "seconds": "s", "milliseconds": "ms"}
_FIELDS = (
    ("minute", "minutes"),
    ("hour", "hours"),
    ("day", "day_of_month"),
    ("month", "month_of_year"),
    ("weekday", "day_of_week"),
)


# ---- names that an object does not have


class _Word:
    """A name that is another queue's: to look at it raises `AttributeError`, as if it were not there.

    Not `__getattr__`: up to Python 3.11 that slows down each look at an attribute of the object.
    """

    def __init__(self, name: str, hint: str) -> None:
        self._name, self._hint = name, hint

    def __get__(self, owner: Any, kind: type) -> Any:
        text = f"{kind.__name__!r} object has no attribute {self._name!r}"
        known = str(vars(owner).get("__name__", "task")) if hasattr(owner, "__dict__") else "task"
        raise AttributeError(f"{text}; {self._hint.format(name=known)}", name=self._name)


class _Hinted:
    """An object that answers words of other queues. They are not listed, and type checkers know nothing of them."""

    __slots__ = ()

    def __dir__(self) -> list[str]:
        known = [vars(kind) for kind in type(self).__mro__]
        return [
            name
            for name in super().__dir__()
            if not isinstance(next((names[name] for names in known if name in names), None), _Word)
        ]


def _answers(like: str) -> Callable[[type[T]], type[T]]:
    def fill(kind: type[T]) -> type[T]:
        for word, hint in ATTRIBUTES[like].items():
            setattr(kind, word, _Word(word, hint))
        return kind

    return fill


@_answers("Task")
class TaskWords(_Hinted):
    """Words of other queues' tasks."""

    __slots__ = ()


@_answers("Queue")
class QueueWords(_Hinted):
    """Words of other queues."""

    __slots__ = ()


@_answers("Job")
class JobWords(_Hinted):
    """Words of other queues' jobs and results."""

    __slots__ = ()


@_answers("JobGroup")
class JobGroupWords(_Hinted):
    """Words of other queues' groups."""

    __slots__ = ()


@_answers("Composition")
class CompositionWords(_Hinted):
    """Words of other queues' signatures and canvases."""

    __slots__ = ()


@_answers("Worker")
class WorkerWords(_Hinted):
    """Words of other queues' workers."""

    __slots__ = ()


def missing_public_name(name: str) -> AttributeError:
    """Return the error for a name that the package does not have."""
    hint = ATTRIBUTES["litequeue"].get(name)
    return AttributeError(f"module 'litequeue' has no attribute {name!r}" + (f"; {hint}" if hint else ""), name=name)


# ---- options that a function does not take


def of_options(names: Iterable[str]) -> str:
    """Return what to use in place of these options, as text; empty if none is known.

    >>> of_options(["max_retries", "colour"])
    'instead of max_retries= use retries= of the task'
    """
    return "; ".join(_instead(f"{name}=", OPTIONS[name]) for name in sorted(names) if name in OPTIONS)


def of_command_option(option: str) -> str:
    """Return the same of an option of the command line, such as `-c`."""
    return _instead(option, COMMAND_OPTIONS[option]) if option in COMMAND_OPTIONS else ""


def of_command(command: str) -> str:
    """Return the command of ours that does what another queue's command of that name does; empty if none is known."""
    return COMMANDS.get(command, "")


def _instead(word: str, hint: str) -> str:
    what, nothing, why = hint.partition("nothing: ")
    return f"{word} is not needed: {why}" if nothing and not what else f"instead of {word} use {hint}"


def explained(
    error: TypeError, function: Callable[..., Any], given: Iterable[str], options: Iterable[str]
) -> TypeError:
    """Return the error of a call's arguments, with what to write for one that is an option here or in another queue.

    `function`: the task's; `given`: the names of the arguments; `options`: those of `using()`.
    """
    parameters = inspect.signature(function).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if takes_any or type(error) is not TypeError:  # a kind of it is about a value
        return error
    names = set(given) - parameters.keys()
    taken = ", ".join(f"{name}=..." for name in sorted(names & set(options)))
    hints = (
        [f"options of a call go to using(): {getattr(function, '__name__', 'task')}.using({taken}).enqueue(...)"]
        if taken
        else []
    )
    hints += [found] if (found := of_options(names - set(options))) else []
    return TypeError("; ".join([str(error), *hints])) if hints else error


def hinted(function: F) -> F:
    """Have a function say what to use in place of a keyword argument of another queue that it does not take."""
    code = function.__code__
    takes = frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    what = function.__qualname__.removesuffix(".__init__").replace("Queue.", "") + "()"

    def call(*args: Any, **kwargs: Any) -> Any:
        if not takes.issuperset(kwargs):
            _refuse(what, {name: value for name, value in kwargs.items() if name not in takes})
        return function(*args, **kwargs)

    interruptible(call)  # before it looks like the function, which has a mark of its own
    update_wrapper(call, function)
    return call  # type: ignore[return-value]  # it takes and returns the same


def _refuse(what: str, unknown: dict[str, Any]) -> None:
    """Raise `TypeError` if there is a hint; else Python says it."""
    hint = {"every()": _as_text, "cron()": _as_expression}.get(what, of_options)(unknown)
    if hint:
        raise TypeError(f"{what} has no option {', '.join(sorted(unknown))}; {hint}")


def _as_text(given: dict[str, Any]) -> str:
    if not given.keys() <= _SPANS.keys():
        return ""
    return f'write every("{"".join(f"{given[unit]}{short}" for unit, short in _SPANS.items() if unit in given)}")'


def _as_expression(given: dict[str, Any]) -> str:
    if not given.keys() <= {name for names in _FIELDS for name in names}:
        return ""
    fields = [next((given[name] for name in names if name in given), "*") for names in _FIELDS]
    return f'write cron("{" ".join(_as_field(field) for field in fields)}")'


def _as_field(field: Any) -> str:
    return ",".join(map(str, sorted(field))) if isinstance(field, (set, frozenset, list, tuple)) else str(field)
