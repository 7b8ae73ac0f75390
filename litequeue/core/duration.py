"""Turn what users write for durations and instants into seconds, and seconds into short text. Knows no clock."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone

# Seconds that a datetime holds in every time zone: days next to the first and the last are left out.
EARLIEST, LATEST = -62_135_424_000.0, 253_402_128_000.0
LONGEST = 1e11  # seconds, 3,000 years: what is longer is a mistake, and would overflow dates later

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)\s*"
_TEXT = re.compile(
    rf"\s*(?:{_NUMBER}w\s*)?(?:{_NUMBER}d\s*)?(?:{_NUMBER}h\s*)?(?:{_NUMBER}m(?!s)\s*)?(?:{_NUMBER}s\s*)?(?:{_NUMBER}ms\s*)?"
)
_MINUTE, _HOUR, _DAY, _WEEK = 60, 3_600, 86_400, 604_800
_UNITS = (_WEEK, _DAY, _HOUR, _MINUTE, 1, 0.001)
_PLAIN = re.compile(rf"\s*{_NUMBER}")


def seconds(value: timedelta | float | int | str, what: str = "duration") -> float:  # noqa: PYI041
    """Return a duration in seconds.

    `value` is a `timedelta`, a number of seconds, or text of weeks, days, hours, minutes, seconds and milliseconds in
    that order: `"250ms" "90s" "10m" "1h30m" "1.5h" "2d" "1w"`. `what` names the option in errors. Raises `TypeError`
    for what is no duration at all, `ValueError` for one that is negative, not finite or not understood.

    >>> seconds("1h30m")
    5400.0
    """
    length = _length(value, what)
    if not math.isfinite(length) or length > LONGEST:
        raise ValueError(f"{what} must be finite and at most 3000 years, got {value!r}; write {_EXAMPLES}")
    if length < 0:
        raise ValueError(f"{what} must not be negative, got {value!r}; write {_EXAMPLES}")
    return length


_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EXAMPLES = 'text such as "90s", "10m", "1h30m" or "2d", a number of seconds, or a timedelta'


def _length(value: object, what: str) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        return _parsed(value, what)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} must be a duration, got {value!r}; write {_EXAMPLES}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _parsed(value: str, what: str) -> float:
    if plain := _PLAIN.fullmatch(value):
        return float(plain[1])
    found = _TEXT.fullmatch(value.lower())
    if found is None or not any(found.groups()):
        raise ValueError(f"{what} is not a duration: {value!r}; write {_EXAMPLES}")
    # fsum: "1.1s100ms" is 1.2, not 1.2000000000000002.
    return math.fsum(float(count) * unit for count, unit in zip(found.groups(), _UNITS, strict=True) if count)


def instant(value: datetime | str, what: str = "at") -> float:
    """Return an instant in unix seconds.

    `value` is an aware `datetime`, or ISO text with an offset such as `"2026-11-23T06:00:00+01:00"` or `"...Z"`.
    `what` names the option in errors. Raises `ValueError` if it has no time zone or is not understood.

    >>> instant("1970-01-01T01:00:00+01:00")
    0.0
    """
    moment = _from_iso(value, what) if isinstance(value, str) else value
    if not isinstance(moment, datetime):
        raise TypeError(f'{what} must be an aware datetime or ISO text ending in "+01:00" or "Z", got {value!r}')
    if moment.utcoffset() is None:
        raise ValueError(_naive(value, what))
    found = moment.timestamp()
    if not EARLIEST <= found <= LATEST:
        raise ValueError(f"{what} must lie between the years 1 and 9999 everywhere on earth, got {value!r}")
    return found


def utc(seconds: float) -> datetime:
    """Return unix seconds as a datetime in UTC; what none can hold, such as infinity, as the nearest that one can.

    >>> utc(60)
    datetime.datetime(1970, 1, 1, 0, 1, tzinfo=datetime.timezone.utc)
    """
    return datetime.fromtimestamp(min(max(seconds, EARLIEST), LATEST), timezone.utc)


def _naive(value: datetime | str, what: str) -> str:
    if isinstance(value, str):
        if _DATE.fullmatch(value.strip()):
            return f'{what} is a date without a time: {value!r}; write such as "{value.strip()}T00:00+01:00"'
        return f'{what} has no time zone: {value!r}; add an offset, such as {value.strip() + "+01:00"!r} or "Z" for UTC'
    return (
        f"{what} is a naive datetime, which does not say in which time zone: {value!r}; make it aware with"
        ' .replace(tzinfo=ZoneInfo("Europe/Paris")), .replace(tzinfo=timezone.utc) or .astimezone() for local time'
    )


def _from_iso(value: str, what: str) -> datetime:
    text = re.sub(r"[zZ]$", "+00:00", value.strip())
    # Python 3.10 reads neither "+0100" nor fractions of other than 3 or 6 digits.
    text = re.sub(r"(:[0-9.]+[+-][0-9]{2})([0-9]{2})$", r"\1:\2", text)
    text = re.sub(r"\.([0-9]+)", lambda digits: "." + digits[1][:6].ljust(6, "0"), text)
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f'{what} is not ISO text: {value!r}; write such as "2026-11-23T06:00:00+01:00"') from error


def text(seconds: float) -> str:
    """Return a duration of `seconds` as short text of at most two units: `12ms 1.5s 2m05s 3h10m 2d4h`.

    >>> text(125)
    '2m05s'
    """
    if seconds < 0:
        return "-" + text(-seconds)
    if not math.isfinite(seconds):
        return str(seconds)
    if round(seconds, 3) < 1:
        return f"{seconds * 1000:.3g}ms" if seconds else "0s"
    if round(seconds, 1) < _MINUTE:
        return f"{round(seconds, 1):g}s"
    return _two_units(seconds)


def _two_units(seconds: float) -> str:
    if round(seconds) < _HOUR:
        minutes, rest = divmod(round(seconds), _MINUTE)
        return f"{minutes}m{rest:02}s" if rest else f"{minutes}m"
    if round(seconds / _MINUTE) < _DAY // _MINUTE:
        hours, rest = divmod(round(seconds / _MINUTE), _HOUR // _MINUTE)
        return f"{hours}h{rest:02}m" if rest else f"{hours}h"
    days, rest = divmod(round(seconds / _HOUR), _DAY // _HOUR)
    return f"{days}d{rest}h" if rest else f"{days}d"
