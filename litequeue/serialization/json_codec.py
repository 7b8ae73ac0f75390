"""Turn values into bytes and back, and name values that cannot be stored. Knows no task, job or store."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import Any, Protocol, cast

import msgspec

from litequeue.errors import DecodeError, EncodeError

_DEEPEST = 1_000  # how far down to look for a value that cannot be stored
_ROWS = (list, tuple)
_SETS = (set, frozenset)
_REBUILT = (str, int, float, PurePath, OrderedDict, Counter)
_BESIDE_FIELDS = ("__pydantic_extra__", "__pydantic_private__")


class Codec(Protocol):
    """Turns values into bytes and back: any object with a name and these two methods."""

    name: str

    def encode(self, value: object) -> bytes:
        """Return the bytes to store. Any exception means that the value cannot be stored."""

    def decode(self, data: bytes) -> Any:
        """Return the value that the bytes hold."""


class JsonCodec:
    """JSON, with the types that msgspec knows, pydantic models and paths. Refuses values that JSON would change."""

    name: str = "json"

    def encode(self, value: object) -> bytes:
        """Return `value` as JSON. Raises `EncodeError`, whose `path` starts at `value`."""
        try:
            return to_json(value)
        except Exception as error:
            raise refusal(to_json, value, "value", error) from error

    def decode(self, data: bytes) -> Any:
        """Return JSON as plain data. Raises `DecodeError`."""
        try:
            return _decoder.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise DecodeError(f"this is not JSON that litequeue wrote: {error}") from error

    def encodings(self, value: object) -> list[bytes]:
        """Return every encoding of `value` that the file may hold, the present one first."""
        return [self.encode(value)]


def checked_writer(codec: Codec) -> Callable[[object], bytes]:
    """Return the codec's `encode`, wrapped so that it returns bytes or raises `TypeError`."""

    def encode(value: object) -> bytes:
        data: object = codec.encode(value)
        if isinstance(data, (bytes, bytearray, memoryview)):
            return bytes(data)
        name = getattr(codec, "name", type(codec).__name__)
        raise TypeError(f"the codec {name!r} must return bytes, got {type(data).__name__}")

    return encode


def checked_codec(codec: object) -> Codec:
    """Raise `TypeError` for an object that is not a codec."""
    if not (callable(getattr(codec, "encode", None)) and callable(getattr(codec, "decode", None))):
        raise TypeError(f"codec must be an object with encode() and decode(), got {codec!r}")
    return cast("Codec", codec)


def digest(data: bytes) -> str:
    """Return 32 hex digits (BLAKE2b, 16 bytes), the same for the same bytes in every process."""
    import hashlib

    return hashlib.blake2b(data, digest_size=16).hexdigest()


class Opaque(Exception):
    """The annotation names a class that cannot be built from plain data."""


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "model_dump") and hasattr(kind, "model_validate_json")


def _plain(value: Any) -> Any:
    """Return plain data for a value that msgspec does not know."""
    if _is_model(type(value)):
        return value.model_dump(mode="json", by_alias=True, round_trip=True)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise TypeError(f"{type(value).__name__} is not a JSON type; pass plain data or an id")


def rebuild(kind: Any, value: Any) -> Any:
    """Build a value of a type that msgspec does not know from plain data."""
    if _is_model(kind):  # by way of JSON: a strict model takes a date from text there alone
        return kind.model_validate_json(_encoder.encode(value))
    if isinstance(kind, type) and issubclass(kind, _REBUILT):
        return kind(value)
    raise Opaque


_encoder = msgspec.json.Encoder(enc_hook=_plain)
# sets have an order of their own in every process, and equal dicts may have different ones
_sorting_encoder = msgspec.json.Encoder(enc_hook=_plain, order="deterministic")
_decoder = msgspec.json.Decoder()


def to_canonical_json(value: object) -> bytes:
    """Encode a value that `to_json` has accepted; equal values give equal bytes."""
    return _sorting_encoder.encode(value)


def to_json(value: object) -> bytes:
    """Return JSON, or raise what msgspec or the value raises. A value that JSON would change is an error too."""
    data = _encoder.encode(value)
    if b"null" in data and value is not None:  # msgspec writes null for nan and infinity, and says nothing
        json.dumps(msgspec.to_builtins(value, str_keys=True, enc_hook=_plain), allow_nan=False)
    return data


def drops(value: Any, back: Any) -> bool:
    """Return whether a key of a dict, at any depth, is missing in what comes back as a dict."""
    if isinstance(value, dict) and isinstance(back, dict):
        return len(back) < len(value) or any(drops(value[key], back[key]) for key in value.keys() & back.keys())
    if isinstance(value, _ROWS) and isinstance(back, _ROWS):
        return any(map(drops, value, back))
    return False


def faithful(value: Any, back: Any) -> bool:
    """Return whether a value comes back unchanged: it is equal, or the same with lists for tuples."""
    kind: Any = type(value)
    if value == back:
        return True
    if kind in _ROWS and type(back) in _ROWS:
        return len(value) == len(back) and all(map(faithful, value, back))
    if kind in _SETS and type(back) in _ROWS:
        return bool(_hashable(back) == value)
    if isinstance(value, dict) and isinstance(back, dict):
        return value.keys() == back.keys() and all(faithful(child, back[key]) for key, child in value.items())
    if isinstance(value, datetime) and isinstance(back, datetime):
        return _same_moment(value, back)
    if kind is not type(back):
        return False
    if isinstance(value, tuple):
        return all(map(faithful, value, back))
    if fields := _fields(kind):
        names = (*fields, *_BESIDE_FIELDS)
        return all(faithful(getattr(value, name, None), getattr(back, name, None)) for name in names)
    compares: Any = kind.__eq__
    return bool(compares is object.__eq__)  # it cannot be compared


def _same_moment(value: datetime, back: datetime) -> bool:
    # Where clocks change, a time that comes twice or never equals none of another zone, not even itself (PEP 495).
    return value.utcoffset() == back.utcoffset() and value.replace(tzinfo=None) == back.replace(tzinfo=None)


def _hashable(rows: Any) -> frozenset[Any]:
    """Return the elements of a former set: tuples among them have come back as lists."""

    def tuples(child: Any) -> Any:
        return tuple(map(tuples, child)) if isinstance(child, list) else child

    return frozenset(map(tuples, rows))


def refusal(encode: Callable[[object], bytes], value: object, path: str, error: Exception) -> EncodeError:
    """Follow a failure down to the smallest value that cannot be encoded, and name it."""
    top = path
    above: list[object] = []
    while len(above) < _DEEPEST:
        above.append(value)
        found = first_failing(encode, _children(value))
        if found is None:
            break
        step, value, error = found
        path += step
        if any(value is each for each in above):
            return EncodeError(f"cannot store {path}: it contains itself", path=path)
    if isinstance(error, RecursionError):
        return EncodeError(f"cannot store {top}: it is nested too deeply", path=top)
    return EncodeError(f"cannot store {path}: {_reason(value, error)}", path=path)


def first_failing(
    encode: Callable[[object], bytes], values: Iterable[tuple[str, object]]
) -> tuple[str, object, Exception] | None:
    """Return the name, the value and the error of the first value that cannot be encoded."""
    for name, value in values:
        try:
            encode(value)
        except Exception as error:  # a codec is the user's code
            return name, value, error
    return None


def _children(value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", child) for key, child in value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"[{index}]", child) for index, child in enumerate(value))
    else:
        yield from ((f".{name}", getattr(value, name, None)) for name in _fields(type(value)))


def _fields(kind: Any) -> Sequence[str]:
    """Return the names of the fields of a Struct, dataclass, pydantic model or attrs class, or none."""
    for listing in ("__struct_fields__", "__dataclass_fields__", "model_fields"):
        if hasattr(kind, listing):
            return tuple(getattr(kind, listing))
    return [attribute.name for attribute in getattr(kind, "__attrs_attrs__", ())]


def _reason(value: object, error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "the text contains a lone surrogate, which UTF-8 cannot encode; pass bytes, or clean the text"
    if isinstance(value, float):
        return f"{value!r} is not JSON; pass None or text"
    if isinstance(value, dict):
        return f"its keys must be text or numbers ({error})"
    return str(error) or type(error).__name__
