"""Turn a call and its result into bytes and back, according to the task's signature. Knows no job, queue or store."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from litequeue.errors import DecodeError, EncodeError
from litequeue.serialization.json_codec import (
    Codec,
    JsonCodec,
    Opaque,
    checked_writer,
    drops,
    faithful,
    first_failing,
    rebuild,
    refusal,
    to_canonical_json,
    to_json,
)  # fmt: skip

if sys.version_info >= (3, 14):
    from annotationlib import Format, get_annotations

    # There an annotation is evaluated when it is looked at, and may fail.
    _signature = functools.partial(inspect.signature, annotation_format=Format.FORWARDREF)
    _annotations = functools.partial(get_annotations, format=Format.FORWARDREF)
else:
    _signature = inspect.signature
    _annotations = inspect.get_annotations

NoneType: type[None] = type(None)
_Call = tuple[tuple[Any, ...], dict[str, Any]]
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
LARGEST_RESULT = 900_000_000  # bytes; SQLite holds at most 1,000,000,000 in a row
_calls = msgspec.json.Decoder(tuple[list[Any], dict[str, Any]])
_SURE = (bytes, date, timedelta, Decimal, UUID)  # not datetime and time: an offset with seconds is cut to minutes
_SCALARS: frozenset[type] = frozenset({str, int, float, bool, NoneType})


class Signature:
    """The signature of a task: encodes its calls and results, and decodes them into the annotated types.

    Hints are resolved at the first call, so that they may name what is defined further down the module. A hint that
    cannot be resolved, or that msgspec cannot convert to, counts as `Any`. Types are checked and converted to where
    the codec is a `JsonCodec`; what any other codec returns is left alone.
    """

    __slots__ = ("_known", "_own", "_signature", "_writer", "codec", "function", "is_coroutine", "mask", "task_name")

    def __init__(self, function: Callable[..., Any], codec: Codec, task_name: str, mask: Iterable[str] = ()) -> None:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{task_name}() is a generator function; a task returns one result, such as a list")
        self.function: Callable[..., Any] = function
        self.codec: Codec = codec
        self.task_name: str = task_name
        self.mask: frozenset[str] = frozenset(mask)
        self.is_coroutine: bool = any(map(inspect.iscoroutinefunction, _layers(function)))
        try:
            self._signature: inspect.Signature = _signature(function)
        except ValueError as error:
            raise TypeError(f"{task_name}() has no readable signature; wrap it in a function of your own") from error
        self._own: bool = type(codec) is JsonCodec  # a subclass may do anything
        self._writer = to_json if self._own else checked_writer(codec)
        self._known: _Plan | None = None

    def __repr__(self) -> str:
        return f"<Signature {self.task_name}{self._signature} codec={self.codec.name}>"

    def encode_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, canonical: bool = False) -> bytes:
        """Return the bytes of one call, the same however it is written; defaults are filled in when the job runs.

        With `canonical`, also the same in every process and for equal dicts, so that calls can be compared.
        Raises `TypeError` where the call does not fit the signature, and `EncodeError` where a value cannot be stored.
        """
        plan = self._known or self._plan()
        if not kwargs and plan.takes(args, plan.sendable):
            return self._encode(args, kwargs)
        args, kwargs = self._bind(plan, args, kwargs)
        data = self._encode(args, kwargs)
        if not plan.sends(args, kwargs):
            self._check(plan, args, kwargs, data)
        return self._canonical(self._call(args, kwargs)) if canonical and isinstance(self.codec, JsonCodec) else data

    def decode_call(self, data: bytes) -> _Call:
        """Return the arguments, as annotated. Raises `DecodeError` if they do not fit the present signature."""
        plan = self._known or self._plan()
        args, kwargs = self._decode(data)
        if not kwargs and plan.takes(args, plan.native):
            return tuple(args), kwargs
        try:
            args, kwargs = self._bind(plan, args, kwargs)
            values = [slot.restore(value, label) for label, slot, value in plan.each(args, kwargs)]
        except (TypeError, _Misfit) as error:
            why = f"the stored call does not fit the present signature of {self.task_name}(): "
            if isinstance(error, _Misfit) and error.name in self.mask:  # what it says of the value is for no listing
                raise DecodeError(f"{why}{error.brief}") from None
            raise DecodeError(f"{why}{error}") from error
        return tuple(values[: len(args)]), dict(zip(kwargs, values[len(args) :], strict=True))

    def identities(self, data: bytes) -> list[bytes]:
        """Return the bytes that identify a canonical call, the present ones first; a mask does not change them."""
        if not isinstance(self.codec, JsonCodec) or (self._own and not self.mask):
            return [data]
        return self.codec.encodings(list(self._decode(data)))

    def alike(self, one: bytes, other: bytes) -> bool:
        """Return whether two calls are the same; a new or removed mask, or a change of keys, alters the bytes only."""
        if not isinstance(self.codec, JsonCodec):
            return False
        try:
            return to_canonical_json(self._decode(one)) == to_canonical_json(self._decode(other))
        except DecodeError:
            return False

    def encode_result(self, value: object) -> bytes:
        """Return the bytes of a result. Raises `EncodeError`, whose `path` starts at `result`."""
        try:
            data = self._writer(value)
        except Exception as error:
            raise refusal(self._writer, value, "result", error) from error.__cause__ or error
        if len(data) > LARGEST_RESULT:  # the store would refuse it, and all that is settled with it
            why = f"it takes {len(data):,} bytes, more than SQLite can hold; store the data elsewhere and return a path"
            raise EncodeError(f"cannot store result: {why}", path="result")
        return data

    def decode_result(self, data: bytes | None) -> Any:
        """Return the result as annotated, or as plain data if it does not fit: a wrong hint hides no result."""
        if data is None:
            return None
        value = self._read(data)
        try:
            return (self._known or self._plan()).result.restore(value, "result")
        except _Misfit:
            return value

    def _plan(self) -> _Plan:
        checked = isinstance(self.codec, JsonCodec)
        self._known = _plan(self._signature, _hints(self.function) if checked else {}, checked=checked)
        return self._known

    def _bind(self, plan: _Plan, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Call:
        if not kwargs and plan.least <= len(args) <= plan.most:
            return tuple(args), {}
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.task_name}() {error}") from None
        return bound.args, dict(sorted(bound.kwargs.items()))

    def _encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        try:
            return self._writer([args, kwargs] if not self.mask else self._call(args, kwargs))
        except Exception as error:
            raise self._blame(args, kwargs, error) from error.__cause__ or error

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """Return the call as it is stored; a third item names the arguments that listings must not show."""
        if not self.mask:
            return [args, kwargs]
        return [args, kwargs, (self._known or self._plan()).places(self.mask, args, kwargs)]

    def _canonical(self, call: list[Any]) -> bytes:
        data = to_canonical_json(call)
        return data if self._own else self._writer(msgspec.json.decode(data))

    def _blame(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], error: Exception) -> EncodeError:
        plan = self._known or self._plan()
        found = first_failing(self._writer, ((label, value) for label, _, value in plan.each(args, kwargs)))
        if found is None:
            return EncodeError(f"cannot store the arguments of {self.task_name}(): {error}")
        label, value, failure = found
        return refusal(self._writer, value, label, failure)

    def _check(self, plan: _Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any], data: bytes) -> None:
        pairs = zip(plan.each(args, kwargs), plan.each(*self._decode(data)), strict=True)
        try:
            for (label, slot, value), (_, _, plain) in pairs:
                back = slot.restore(plain, label, given=type(value))
                # plain data is given for what the annotation then makes of it
                if not (faithful(value, back) or (faithful(value, plain) and not drops(value, back))):
                    raise _unfaithful(label, slot.hint, value, back)
        except _Misfit as error:
            raise TypeError(f"{self.task_name}() {error}") from error.__cause__

    def _read(self, data: bytes) -> Any:
        try:
            return self.codec.decode(data)
        except DecodeError:
            raise
        except Exception as error:
            raise DecodeError(f"the codec {self.codec.name!r} cannot read what is stored: {error!r}") from error

    def _decode(self, data: bytes) -> tuple[Sequence[Any], dict[str, Any]]:
        if self._own:
            try:
                return _calls.decode(data)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                return self._decode_any(data)  # which tells what is wrong
        return self._decode_any(data)

    def _decode_any(self, data: bytes) -> tuple[Sequence[Any], dict[str, Any]]:
        match self._read(data):
            case [[*_] as args, dict() as kwargs] | [[*_] as args, dict() as kwargs, [*_]]:
                return args, kwargs
        raise DecodeError(f"not a call of {self.task_name}(): expected [arguments, keyword arguments]")


class _Misfit(Exception):
    """A value does not fit its annotation; `brief` says so without showing the value."""

    def __init__(self, name: str, brief: str, why: str) -> None:
        super().__init__(brief + why)
        self.name = name
        self.brief = brief


class _Slot(msgspec.Struct, frozen=True):
    """One parameter, or the result: its hint, and the types that need no work on the way in and out."""

    name: str
    hint: Any = Any
    native: _Types = None
    sendable: _Types = None

    def restore(self, value: Any, label: str, given: type | None = None) -> Any:
        if self.native is None or type(value) in self.native:
            return value
        try:
            return msgspec.convert(value, self.hint, str_keys=True, dec_hook=rebuild)
        except Opaque:
            return value
        except Exception as error:  # the user's own class may raise anything while it is built
            got, text = (given or type(value)).__name__, str(error)
            why = "" if text.startswith("Expected") and "$" not in text else f": {text}"
            raise _Misfit(self.name, f"argument {label} must be {_spell(self.hint)}, got {got}", why) from error


class _Plan(msgspec.Struct, frozen=True):
    """A prepared signature: what each argument is, and how many may be given by position alone."""

    least: int
    most: int
    positional: tuple[_Slot, ...]
    rest: _Slot
    named: dict[str, _Slot]
    others: _Slot
    result: _Slot
    native: tuple[_Types, ...]
    sendable: tuple[_Types, ...]

    def takes(self, args: Sequence[Any], easy: tuple[_Types, ...]) -> bool:
        """Return whether the call is by position alone, and each value has a type that needs no conversion."""
        if not self.least <= len(args) <= self.most:
            return False
        for value, fine in zip(args, easy):  # noqa: B905, SIM110 - defaults may be absent; `all` is slower
            if fine is not None and type(value) not in fine:
                return False
        return True

    def sends(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        return all(slot.sendable is None or type(value) in slot.sendable for _, slot, value in self.each(args, kwargs))

    def each(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[tuple[str, _Slot, Any]]:
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
        """Return the positions and keywords of a call that go to parameters of these names."""
        order = [slot.name for slot in self.positional]
        order += [self.rest.name] * (len(args) - len(order))
        given = [index for index in range(len(args)) if order[index] in names]
        rest = self.others.name in names
        return given + [name for name in kwargs if name in names or (rest and name not in self.named)]


def _unfaithful(label: str, hint: Any, value: object, back: object) -> EncodeError:
    wanted = "annotate the parameter with its type, or pass" if hint is Any else f"{_spell(hint)} cannot carry it; pass"
    came = f"{type(value).__name__} would come back as {type(back).__name__} {back!r:.60}"
    return EncodeError(f"cannot store {label}: {came}; {wanted} plain data or an id", path=label)


def _plan(signature: inspect.Signature, hints: Mapping[str, Any], *, checked: bool) -> _Plan:
    by, given = inspect.Parameter, signature.parameters.values()
    anything = _SCALARS if checked else None
    slots = {
        p.name: _slot(p.name, hints.get(p.name, Any), anything=anything, optional=p.default is None) for p in given
    }
    required = [p.kind for p in given if p.default is by.empty]

    def of(*kinds: object) -> list[_Slot]:
        return [slots[p.name] for p in given if p.kind in kinds]

    positional = of(by.POSITIONAL_ONLY, by.POSITIONAL_OR_KEYWORD)
    return _Plan(
        least=required.count(by.POSITIONAL_ONLY) + required.count(by.POSITIONAL_OR_KEYWORD),
        most=-1 if by.KEYWORD_ONLY in required else len(positional),
        positional=tuple(positional),
        rest=[*of(by.VAR_POSITIONAL), _Slot("args", sendable=anything)][0],
        named={slot.name: slot for slot in of(by.POSITIONAL_OR_KEYWORD, by.KEYWORD_ONLY)},
        others=[*of(by.VAR_KEYWORD), _Slot("kwargs", sendable=anything)][0],
        result=_slot("result", hints.get("return", Any)),
        native=tuple(slot.native for slot in positional),
        sendable=tuple(slot.sendable for slot in positional),
    )


def _slot(name: str, hint: Any, *, anything: _Types = None, optional: bool = False) -> _Slot:
    if hint is Any or hint is object:
        return _Slot(name, sendable=anything)
    try:
        msgspec.json.Decoder(hint, dec_hook=rebuild)
        native = _native(hint)
    except Exception:  # an annotation may be any object at all, and is no reason to refuse the task
        return _Slot(name, sendable=anything)
    if optional:
        native |= {NoneType}
    return _Slot(name, hint, native, native & _SCALARS | {kind for kind in _SURE if hint is kind})


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


def _layers(function: Any) -> Iterator[Any]:
    """Yield the function, then what it wraps, down to the one whose annotations `inspect.signature` shows."""
    while True:
        yield function
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif not isinstance(function, type) and isinstance(getattr(function, "__call__", None), types.MethodType):  # noqa: B004
            function = function.__call__
        else:
            return


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Resolve each annotation by itself, so that one that cannot be leaves the others in force."""
    *_, inner = _layers(function)
    inner = vars(inner).get("__init__", inner) if isinstance(inner, type) else inner
    scope = getattr(inner, "__globals__", {})
    return {name: _resolved(hint, scope) for name, hint in _annotations(inner).items()}


def _resolved(hint: Any, scope: dict[str, Any]) -> Any:
    holder = types.SimpleNamespace(__annotations__={"hint": hint})
    try:
        return typing.get_type_hints(holder, globalns=scope, include_extras=True)["hint"]
    except Exception:  # a string annotation is code, and may raise anything
        return Any
