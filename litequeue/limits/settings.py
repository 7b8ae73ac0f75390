"""What a limit allows by its code and by an operator, as text in the file. Knows no SQL."""

from __future__ import annotations

from typing import Any

import msgspec

from litequeue.limits.limit import Allowed
from litequeue.limits.rate import Rate

# What an operator set, by field; null: any number. What is not there is as declared.
_decoder = msgspec.json.Decoder(Allowed)
_fields = msgspec.json.Decoder(dict[str, Any])
_encode = msgspec.json.Encoder().encode


def encoded(allowed: Allowed) -> str:
    """Return what the code declares, as it is stored."""
    return _encode(allowed).decode()


def declared(text: str | None) -> Allowed:
    """Read what the code declared last; what is not ours counts as any number."""
    if text is None:
        return Allowed()
    try:
        return _decoder.decode(text)
    except msgspec.MsgspecError:
        return Allowed()


def encoded_fields(fields: dict[str, int | Rate | None]) -> str:
    """Return what an operator sets, as it is stored: `concurrency` and `rate`, or one of them."""
    return _encode(fields).decode()


def operator_fields(text: str | None) -> dict[str, int | Rate | None]:
    """Read what an operator has set; what is not ours counts as nothing."""
    if text is None:
        return {}
    try:
        fields = _fields.decode(text)
        allowed = _decoder.decode(text)
    except msgspec.MsgspecError:
        return {}
    return {name: getattr(allowed, name) for name in ("concurrency", "rate") if name in fields}


def effective(code: str | None, operator: str | None) -> Allowed:
    """Return what holds: field by field what the operator set, else what the code declares."""
    allowed, fields = declared(code), operator_fields(operator)
    return msgspec.structs.replace(allowed, **fields) if fields else allowed
