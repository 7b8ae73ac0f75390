"""Hints that msgspec refuses: unions of types that look alike in JSON. Knows no task."""

from __future__ import annotations

import enum
import functools
import types
import typing
from pathlib import PurePath
from typing import Any

import msgspec

from litequeue.serialization import json_codec

_PLAIN = (str, int, float, bool, list, dict)
_VAGUE = (PurePath, str, bytes, bytearray, memoryview, set, frozenset, tuple)  # what nearly any text or list makes
Notes = list[tuple[object, object]]


class _AnyOfIts(type):
    """msgspec asks whether what is built is of the class; it is of one of the members."""

    def __instancecheck__(cls, instance: object) -> bool:
        return True


class Either(metaclass=_AnyOfIts):
    """Stands for a union in a hint. `members`: its types, in the order in which a value may be one of them."""

    members: tuple[Any, ...] = ()

    @classmethod
    def build(cls, value: Any, notes: Notes | None) -> Any:
        """Return the value as the member that is written as just this JSON, else as the first that it fits.

        `notes` gets the values that are members themselves, and become another one.
        """
        fitting: list[Any] = []
        opaque = False
        for member in cls.members:
            try:
                back = convert(value, member, notes)
            except json_codec.Opaque:
                opaque = True
            except Exception:  # noqa: S112  the user's own class may raise anything while it is built
                continue
            else:
                if json_codec.as_plain(back) == value:
                    fitting = [back]
                    break
                fitting.append(back)
        if not fitting:
            raise json_codec.Opaque if opaque else ValueError("it is none of them")
        if notes is not None and fitting[0] != value and any(_is_one_as_it_is(value, member) for member in cls.members):
            notes.append((value, fitting[0]))
        return fitting[0]


def _is_one_as_it_is(value: Any, member: Any) -> bool:
    try:
        back = convert(value, member)
    except Exception:  # the user's own class may raise anything while it is built
        return False
    return type(back) is type(value) and bool(back == value)


def convert(value: Any, hint: Any, notes: Notes | None = None) -> Any:
    """Convert plain data to a hint that `convertible` returned. The classes' own code may raise anything."""
    return msgspec.convert(value, hint, str_keys=True, dec_hook=functools.partial(_rebuild, notes=notes))


def convertible(hint: Any) -> tuple[Any, bool]:
    """Return the hint, with an `Either` for each union that msgspec refuses, and whether there is one.

    Raises what msgspec raises for a hint that it refuses for another reason.
    """
    try:
        msgspec.json.Decoder(hint, dec_hook=_rebuild)
    except TypeError:
        hint = _rewritten(hint)
        msgspec.json.Decoder(hint, dec_hook=_rebuild)
        return hint, True
    return hint, False


def _rebuild(kind: Any, value: Any, notes: Notes | None = None) -> Any:
    if isinstance(kind, type) and issubclass(kind, Either):
        return kind.build(value, notes)
    return json_codec.rebuild(kind, value)


def _rewritten(hint: Any) -> Any:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    named = getattr(hint, "__value__", None) or getattr(hint, "__supertype__", None)  # `type X = ...`, NewType
    if named is not None:
        return _rewritten(named)
    if origin is typing.Annotated:
        return _rewritten(inside[0])
    if origin in (typing.Union, types.UnionType):
        return _either(hint, inside)
    if origin is None or origin is typing.Literal:
        return hint
    parts = tuple(each if each is ... else _rewritten(each) for each in inside)
    return hint.copy_with(parts) if hasattr(hint, "copy_with") else origin[parts]


def _either(hint: Any, inside: tuple[Any, ...]) -> Any:
    try:
        msgspec.json.Decoder(hint, dec_hook=_rebuild)
    except TypeError:
        members = sorted((convertible(part)[0] for part in inside if part is not type(None)), key=_rank)
        made: Any = _AnyOfIts("Either", (Either,), {"members": tuple(members)})
        return made | None if type(None) in inside else made
    return hint


def _kind(member: Any) -> Any:
    return typing.get_origin(member) or member


def _rank(member: Any) -> int:
    """What says most about a value comes first."""
    kind = _kind(member)
    if member is Any or kind in _PLAIN:
        return 1
    if not isinstance(kind, type) or issubclass(kind, enum.Enum) or hasattr(kind, "_fields"):
        return 0
    return 2 if issubclass(kind, _VAGUE) else 0
