"""A prepared signature: the hint of each argument, and what a value becomes by it. Knows no bytes and no task."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID

import msgspec

from litequeue.errors import EncodeError
from litequeue.serialization.callables import Calling, closure, hints
from litequeue.serialization.faithful import change
from litequeue.serialization.handed import OUR_NAMES, elements_of, holds_stand_ins, is_stand_in, of_results
from litequeue.serialization.json_codec import Opaque
from litequeue.serialization.misplaced import misplaced
from litequeue.serialization.unions import Notes, convert, convertible

NoneType: type[None] = type(None)
_Types = frozenset[type] | None
# What JSON returns as it is, by hint. As in a plain call, a bool is an int, and an int will do for a float.
_NATIVE: dict[Any, frozenset[type]] = {
    int: frozenset({int, bool}),
    float: frozenset({float, int, bool}),
    str: frozenset({str}),
    bool: frozenset({bool}),
    list: frozenset({list}),
    list[Any]: frozenset({list}),
    dict: frozenset({dict}),
    dict[str, Any]: frozenset({dict}),
    NoneType: frozenset({NoneType}),
}
# These always come back equal, so `encode_call` need not try.
_SURE = (bytes, date, timedelta, Decimal, UUID)  # not datetime and time: an offset with seconds is cut to minutes
NUMBERS: frozenset[type] = frozenset({int, float, bool, NoneType})
_SCALARS: frozenset[type] = NUMBERS | {str}


class Misfit(Exception):
    """A value does not fit its annotation; `brief` says so without showing the value."""

    def __init__(self, name: str, brief: str, text: str) -> None:
        super().__init__(text)
        self.name = name
        self.brief = brief


class Slot(msgspec.Struct, frozen=True):
    """One parameter, or the result: its hint, and the types that need no work on the way in and out."""

    name: str
    hint: Any = Any
    native: _Types = None
    sendable: _Types = None
    shown: Any = Any  # the hint as it was written
    why: str = ""  # the hint cannot be used, and what to do
    unresolved: bool = False

    def restore(self, value: Any, label: str, given: type | None = None, notes: Notes | None = None) -> Any:
        """Return plain data as annotated. Raises `Misfit`; `given`: the type to name in it."""
        if self.native is None or type(value) in self.native:
            return value
        try:
            return convert(value, self.hint, notes)
        except Opaque:
            return value
        except Exception as error:  # the user's own class may raise anything while it is built
            if holds_stand_ins(value):
                return self.restore_around(value, label)
            got, text = (given or type(value)).__name__, str(error)
            brief = f"argument {label} must be {_spell(self.shown)}, got {got}"
            part = misplaced(lambda each: convert(each, self.hint), value, label, text)
            why = "" if text.startswith("Expected") and "$" not in text else f": {text}"
            raise Misfit(self.name, brief, part or brief + why) from error

    def restore_around(self, value: Any, label: str) -> Any:
        """Return results that were handed on as annotated, and what stands among them as it is."""
        if is_stand_in(value):
            return value
        if not holds_stand_ins(value):
            return self.restore(value, label)
        elements = elements_of(self.hint, len(value))
        if elements is None:
            brief = f"argument {label} must be {_spell(self.shown)}, got a list of {len(value)} with a JobFailed in it"
            raise Misfit(self.name, brief, brief)
        hints, make = elements
        slots = {id(hint): Slot(self.name, hint, None if hint is Any else frozenset(), shown=hint) for hint in hints}
        parts = enumerate(zip(value, hints, strict=True))
        return make([slots[id(hint)].restore_around(each, f"{label}[{place}]") for place, (each, hint) in parts])


class Plan(msgspec.Struct, frozen=True):
    """A prepared signature: what each argument is, and how many may be given by position alone.

    `loose`: the plan for a call that a wrapper takes and what it wraps would not, where hints are guesses.
    """

    least: int
    most: int
    positional: tuple[Slot, ...]
    rest: Slot
    named: dict[str, Slot]
    others: Slot
    result: Slot
    native: tuple[_Types, ...]
    sendable: tuple[_Types, ...]
    loose: Plan | None = None
    is_loose: bool = False

    def restored(
        self, slot: Slot, value: Any, label: str, given: type | None = None, notes: Notes | None = None
    ) -> Any:
        """Return a value of a call as annotated, as `Slot.restore` does; as it is where the hint is a guess."""
        try:
            return slot.restore(value, label, given, notes)
        except Misfit:
            if self.is_loose:
                return value
            raise

    def takes(self, args: Sequence[Any], easy: tuple[_Types, ...]) -> bool:
        """Return whether the call is by position alone, and each value has a type that needs no conversion."""
        if not self.least <= len(args) <= self.most:
            return False
        for value, fine in zip(args, easy):  # noqa: B905, SIM110 - defaults may be absent; `all` is slower
            if fine is not None and type(value) not in fine:
                return False
        return True

    def sends(self, args: Sequence[Any], kwargs: Mapping[str, Any], start: int = 0) -> bool:
        """Return whether each value, from this one on, has a type that comes back as it was given."""
        values = islice(self.each(args, kwargs), start, None)
        return all(slot.sendable is None or type(value) in slot.sendable for _, slot, value in values)

    def each(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[tuple[str, Slot, Any]]:
        """Yield each value of a call that fits, with its slot and the name for messages."""
        for slot, value in zip(self.positional, args):  # noqa: B905 - either may be the longer
            yield slot.name, slot, value
        for index, value in enumerate(args[len(self.positional) :]):
            yield f"{self.rest.name}[{index}]", self.rest, value
        for name, value in kwargs.items():
            if name in self.named:
                yield name, self.named[name], value
            else:
                yield f"{self.others.name}[{name!r}]", self.others, value

    def places(self, names: Container[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[int | str]:
        """Return the positions and keywords of a call that go, or may go, to parameters of these names."""
        order = [slot.name for slot in self.positional]
        order += [self.rest.name] * (len(args) - len(order))
        given = [index for index in range(len(args)) if self.is_loose or order[index] in names]
        rest = self.others.name in names
        return given + [name for name in kwargs if name in names or (rest and name not in self.named)]


def unfaithful(label: str, slot: Slot, value: object, back: object) -> EncodeError:
    """Return the error for a value that would come back as another."""
    wanted = f"{_spell(slot.shown)} cannot carry it; pass plain data or an id"
    if slot.shown is Any:
        wanted = "annotate the parameter with its type, or pass plain data or an id"
    elif slot.why:
        wanted = slot.why
    path, came = change(value, back, label)
    return EncodeError(f"cannot store {path}: {came}; {wanted}", path=path)


def plan_of(calling: Calling, hints: Mapping[str, Any], *, checked: bool) -> Plan:
    """Prepare the signature of a callable; `hints` by name, those of parameters and of the result ("return")."""
    outer = list(calling.outer.parameters.values())
    if calling.inner is None:
        return _plan(outer, outer, hints, checked=checked)
    inner, names = list(calling.inner.parameters.values()), {p.name for p in calling.own}
    own = [p for p in calling.own if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    merged = [*own, *(p for p in inner if p.name not in names), *(p for p in calling.own if p not in own)]
    loose = msgspec.structs.replace(_plan(merged, outer, hints, checked=checked), is_loose=True)
    return msgspec.structs.replace(_plan(inner, outer, hints, checked=checked), loose=loose)


def _plan(
    given: Sequence[inspect.Parameter], outer: Sequence[inspect.Parameter], hints: Mapping[str, Any], *, checked: bool
) -> Plan:
    """`given`: the parameters whose hints count; `outer`: those that a call must fit."""
    by = inspect.Parameter
    anything = _SCALARS if checked else None
    slots = {
        p.name: _slot(p.name, hints.get(p.name, Any), anything=anything, optional=p.default is None) for p in given
    }
    required = [[p.kind for p in each if p.default is by.empty] for each in (given, outer)]
    in_order = by.POSITIONAL_ONLY, by.POSITIONAL_OR_KEYWORD

    def of(*kinds: object) -> list[Slot]:
        return [slots[p.name] for p in given if p.kind in kinds]

    positional = of(*in_order)
    room = [len(positional), *(sum(p.kind in in_order for p in outer) for _ in [0] if not _takes_any(outer))]
    return Plan(
        least=max(sum(kind in in_order for kind in each) for each in required),
        most=-1 if any(by.KEYWORD_ONLY in each for each in required) else min(room),
        positional=tuple(positional),
        rest=[*of(by.VAR_POSITIONAL), Slot("args", sendable=anything)][0],
        named={slot.name: slot for slot in of(by.POSITIONAL_OR_KEYWORD, by.KEYWORD_ONLY)},
        others=[*of(by.VAR_KEYWORD), Slot("kwargs", sendable=anything)][0],
        result=_slot("result", hints.get("return", Any)),
        native=tuple(slot.native for slot in positional),
        sendable=tuple(slot.sendable for slot in positional),
    )


def _takes_any(parameters: Sequence[inspect.Parameter]) -> bool:
    return any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)


def _slot(name: str, hint: Any, *, anything: _Types = None, optional: bool = False) -> Slot:
    if isinstance(hint, Unresolved):
        easy = anything and NUMBERS
        return Slot(name, sendable=easy, shown=hint.text, why=hint.why(name), unresolved=True)
    if hint is Any or hint is object:
        return Slot(name, sendable=anything)
    try:
        usable, _ = convertible(of_results(hint))
        native = _native(usable)
    except Exception as error:  # an annotation may be any object at all, and is no reason to refuse the task
        why = f"its hint {_spell(hint)} cannot be converted to ({error}); pass plain data or an id"
        return Slot(name, sendable=anything, shown=hint, why=why)
    if optional:
        native |= {NoneType}
    return Slot(name, usable, native, native & _SCALARS | {kind for kind in _SURE if hint is kind}, shown=hint)


def _native(hint: Any) -> frozenset[type]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [_native(part) for part in typing.get_args(hint)]
        return frozenset().union(*parts) if all(parts) else frozenset()
    try:
        return _NATIVE.get(hint, frozenset())
    except TypeError:  # Annotated[..., {}] has no hash
        return frozenset()


def _spell(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


class Unresolved(msgspec.Struct, frozen=True):
    """A hint that names what cannot be found."""

    text: str
    error: str

    def why(self, name: str) -> str:
        """Return what is wrong with the hint of this name, and what to do."""
        return (
            f"the hint {self.text} of {name} cannot be resolved ({self.error}); import what it names outside of "
            f"`if TYPE_CHECKING:`, or define it before the task, at the top level of the module"
        )


def resolved_hints(function: Callable[..., Any], locals_: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve each annotation by itself, so that one that cannot be leaves the others in force."""
    found: dict[str, Any] = {}
    for inside, given in hints(function):
        ours = {name: kind for name, kind in OUR_NAMES.items() if name not in inside.__globals__}
        scope = inside.__globals__, {**ours, **locals_, **closure(inside)}
        found |= {name: _resolved(hint, *scope) for name, hint in given.items()}
    return found


def _resolved(hint: Any, scope: dict[str, Any], around: dict[str, Any]) -> Any:
    holder = types.SimpleNamespace(__annotations__={"hint": hint})
    try:
        return typing.get_type_hints(holder, globalns=scope, localns=around, include_extras=True)["hint"]
    except Exception as error:  # a string annotation is code, and may raise anything
        text = hint if isinstance(hint, str) else getattr(hint, "__forward_arg__", hint)
        return Unresolved(repr(text), f"{type(error).__name__}: {error}")
