"""What a limit allows by its code and by an operator, as text in the file. Knows no SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from litequeue.limits.limit import Allowed, allowed_of
from litequeue.limits.rate import Rate

if TYPE_CHECKING:
    from litequeue.core.limits import LimitSettings

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


def with_settings(code: str | None, operator: str | None, settings: LimitSettings) -> dict[str, int | Rate | None]:
    """Return what an operator has set once these settings are added. Raises `TypeError` or `ValueError`."""
    now, fields = effective(code, operator), operator_fields(operator)
    if "concurrency" in settings:
        fields["concurrency"] = allowed_of(settings["concurrency"], None, smooth=False).concurrency
    if "rate" in settings or "smooth" in settings:
        rate = settings["rate"] if "rate" in settings else _text(now.rate)
        smooth = settings.get("smooth", now.rate is not None and now.rate.smooth and rate is not None)
        fields["rate"] = allowed_of(None, rate, smooth=smooth).rate
    return fields


def settings_of(allowed: Allowed) -> LimitSettings:
    """Return what is allowed as plain values."""
    rate = allowed.rate
    return {
        "concurrency": allowed.concurrency,
        "rate": _text(rate),
        "smooth": rate is not None and rate.smooth,
    }


def settings_set(operator: str | None) -> LimitSettings | None:
    """Return what an operator has set as plain values; None: nothing."""
    fields = operator_fields(operator)
    if not fields:
        return None
    all_of_it = settings_of(effective(None, operator))
    found: LimitSettings = {}
    if "concurrency" in fields:
        found["concurrency"] = all_of_it["concurrency"]
    if "rate" in fields:
        found |= {"rate": all_of_it["rate"], "smooth": all_of_it["smooth"]}
    return found


def _text(rate: Rate | None) -> str | None:
    return None if rate is None else str(rate)
