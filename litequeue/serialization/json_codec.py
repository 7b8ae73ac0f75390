"""Turn values into bytes and back. Knows no task, job or store."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Protocol, cast

import msgspec

from litequeue.errors import DecodeError
from litequeue.serialization.faithful import refusal

_JSON = frozenset({str, int, float, bool, list, dict, type(None)})
_REBUILT = (str, int, float, PurePath, OrderedDict, Counter)


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


class PlainValues:
    """Reads values as plain data, whatever a task says of them."""

    __slots__ = ("_codec",)

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def decode_result(self, data: bytes | None, _call: bytes | None = None) -> Any:
        """Return a result; None where there is none. Raises what the codec raises."""
        return None if data is None else self._codec.decode(data)

    def decode_value(self, data: bytes) -> Any:
        """Return an emitted value."""
        return self._codec.decode(data)


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
        if type(value) not in _JSON:  # what stands for the result of a job; str() would make text of it
            raise TypeError(f"{type(value).__name__} is not plain data")
        return kind(value)
    raise Opaque


_encoder = msgspec.json.Encoder(enc_hook=_plain)
# sets have an order of their own in every process, and equal dicts may have different ones
_sorting_encoder = msgspec.json.Encoder(enc_hook=_plain, order="deterministic")
_decoder = msgspec.json.Decoder()


def as_plain(value: object) -> Any:
    """Return what is read again of what is written for a value."""
    return _decoder.decode(_encoder.encode(value))


def to_canonical_json(value: object) -> bytes:
    """Encode a value that `to_json` has accepted; equal values give equal bytes."""
    return _sorting_encoder.encode(value)


def to_json(value: object, nulls: int = 0) -> bytes:
    """Return JSON, or raise what msgspec or the value raises. A value that JSON would change is an error too.

    `nulls`: how many nulls are known to be in it.
    """
    data = _encoder.encode(value)
    # msgspec writes null for nan and infinity, and says nothing
    if b"null" in data and value is not None and data.count(b"null") > nulls:
        json.dumps(msgspec.to_builtins(value, str_keys=True, enc_hook=_plain), allow_nan=False)
    return data
