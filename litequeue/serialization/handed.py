"""What parents hand on, as the argument of their child, also where some of them did not succeed. Knows no task."""

from __future__ import annotations

import collections.abc
import types
import typing
from collections.abc import Callable
from typing import Any

from litequeue.core.compositions import Failure, Handed, Lost
from litequeue.errors import JobFailed
from litequeue.serialization.unions import Either

_STAND_INS = frozenset({JobFailed, Failure})
OUR_NAMES: dict[str, Any] = {"JobFailed": JobFailed, "Failure": Failure}  # in hints, imported for type checkers alone
_LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Collection)
_SETS = {
    set: set,
    frozenset: frozenset,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
}
_Make = Callable[[list[Any]], Any]


def received(handed: Handed, read: Callable[[bytes], Any]) -> Any:
    """Return what is handed on as plain data, with a `JobFailed` in the place of each result that there is not."""
    if isinstance(handed, bytes):
        return read(handed)
    if isinstance(handed, list):
        return [received(each, read) for each in handed]
    return _as_error(handed) if isinstance(handed, Lost) else handed


def _as_error(lost: Lost) -> JobFailed:
    failure = lost.failure
    return JobFailed(failure.job_id, failure.error_type, failure.message, lost.traceback)


def is_stand_in(value: Any) -> bool:
    """Whether it stands for the result of a job that has none, and is given to a function as it is."""
    return type(value) in _STAND_INS


def holds_stand_ins(value: Any) -> bool:
    """Whether one stands among results that were handed on."""
    return is_stand_in(value) or (type(value) is list and any(map(holds_stand_ins, value)))


def elements_of(hint: Any, count: int) -> tuple[list[Any], _Make] | None:
    """Return the hint of each of so many elements, and what makes of these what the hint says; None: it takes none."""
    named = getattr(hint, "__value__", None) or getattr(hint, "__supertype__", None)  # `type X = ...`, NewType
    if named is not None:
        return elements_of(named, count)
    if isinstance(hint, type) and issubclass(hint, Either):
        return next(filter(None, (elements_of(member, count) for member in hint.members)), None)
    origin, inside = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return next(filter(None, (elements_of(member, count) for member in inside)), None)
    if origin is typing.Annotated:
        return elements_of(inside[0], count)
    if origin is Any or origin in _LISTS:
        return [inside[0] if inside else Any] * count, list
    if origin in _SETS:
        return [inside[0] if inside else Any] * count, _SETS[origin]
    if origin is tuple and (not inside or inside[-1] is ... or len(inside) == count):
        return (list(inside) if inside and inside[-1] is not ... else [(inside or (Any,))[0]] * count), tuple
    return None


def of_results(hint: Any) -> Any:
    """Return a hint of results without the `JobFailed` that may stand among them: of list[int | JobFailed] list[int].

    No call can carry one, so to the codec the rest is all there is.
    """
    return _of_results(hint, frozenset())


def _of_results(hint: Any, around: frozenset[int]) -> Any:
    if id(hint) in around:  # a type that names itself
        return hint
    around |= {id(hint)}
    named = getattr(hint, "__value__", None)
    if named is not None:
        without = _of_results(named, around)
        return hint if without is named else without
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is None or origin is typing.Literal:
        return hint
    if origin is typing.Annotated:
        without = _of_results(inside[0], around)
        parts = (without, *inside[1:])
        return hint if without is inside[0] else typing.Annotated[parts]
    is_union = origin in (typing.Union, types.UnionType)
    kept = tuple(_of_results(each, around) for each in inside if not (is_union and each is JobFailed))
    if len(kept) == len(inside) and all(map(_is, kept, inside)):
        return hint
    if is_union:
        return typing.Union[kept]  # noqa: UP007  made of a tuple
    return hint.copy_with(kept) if hasattr(hint, "copy_with") else origin[kept]


def _is(one: object, other: object) -> bool:
    return one is other
