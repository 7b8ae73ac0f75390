"""Cron expressions: what they name, and when that comes. Knows no schedule and no clock.

With a fixed hour field, a wall time that does not exist is due right after the gap, and one that occurs twice is due
once; with `*` hours every real hour counts (as in Vixie cron).
"""

from __future__ import annotations

import copy
import functools
import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

from litequeue.core.hints import hinted
from litequeue.scheduling.wall_time import DAY, change, instant, offset

if TYPE_CHECKING:
    from datetime import tzinfo
    from zoneinfo import ZoneInfo

_FIELDS = ("minute", "hour", "day", "month", "weekday", "second")
_SIZES = (60, 24, 31, 12, 7, 60)
_LOWEST = (0, 0, 1, 1, 0, 0)
_HASHED = ((0, 59), (0, 23), (1, 28), (1, 12), (0, 6), (0, 59))  # what H stands for; every month has 28 days
_H = re.compile(r"[hH](?:\(([0-9]{1,3})-([0-9]{1,3})\))?(?:/([0-9]{1,3}))?")


class Cron(msgspec.Struct, frozen=True):
    """Wall times in the IANA time zone `zone`; made by `cron()`.

    `seed`: the name of the schedule, by which `H` is hashed. `since`: when it was given to a schedule that was due.
    """

    expression: str
    zone: str
    seed: str = ""
    since: float | None = None


@hinted
def cron(expression: str, *, tz: str | ZoneInfo | None = None) -> Cron:
    """Return a trigger for the wall times that a cron expression names.

    `expression` has 5 fields (minute hour day month weekday), 6 (the sixth is seconds) or is a word such as `@daily`.
    `H` is a number that is hashed from the schedule's name. `tz` is an IANA time zone, the machine's own if None.
    Raises `ValueError`.

    >>> cron("0 6 * * *", tz="Europe/Paris")
    Cron(expression='0 6 * * *', zone='Europe/Paris', seed='', since=None)
    """
    if not isinstance(expression, str):
        raise TypeError(f'a cron expression must be text such as "0 6 * * *", got {expression!r}')
    expression = " ".join(expression.split())
    from litequeue.scheduling import timezones

    _check(expression, numbered(expression, "any name"))
    return Cron(expression, timezones.name_of(tz))


def named(trigger: Cron, name: str) -> Cron:
    """Return the trigger of the schedule of that name; raises `ValueError` if its `H` then names no date."""
    if not has_hash(trigger.expression):
        return trigger
    _check(trigger.expression, numbered(trigger.expression, name))
    return msgspec.structs.replace(trigger, seed=name)


def has_hash(expression: str) -> bool:
    """Tell whether the expression has an `H`."""
    return any(item[0] in "hH" for item in re.split(r"[\s,]+", expression) if item)


@functools.lru_cache(maxsize=256)
def numbered(expression: str, seed: str) -> str:
    """Return the expression with a number for each `H`: the same for one seed on every machine and release."""
    if not has_hash(expression):
        return expression
    fields = enumerate(expression.split())
    return " ".join(",".join(_number(item, index, seed) for item in field.split(",")) for index, field in fields)


def _number(item: str, index: int, seed: str) -> str:
    found = _H.fullmatch(item)
    if found is None or index >= len(_HASHED):
        return item
    low, high = _HASHED[index] if found[1] is None else (int(found[1]), int(found[2]))
    span = high - low + 1
    step = span if found[3] is None else int(found[3])
    if not 0 < step <= span or low < _LOWEST[index] or high >= _LOWEST[index] + _SIZES[index]:
        return item  # refused with its field
    import hashlib  # not before it is needed: it loads OpenSSL

    digest = hashlib.sha256(f"{seed}\0{index}".encode("utf-8", "surrogatepass")).digest()
    start = low + int.from_bytes(digest[:8], "big") % step
    return str(start) if found[3] is None else f"{start}-{high}/{step}"


# -- checks --


def _check(expression: str, numbers: str) -> None:
    if slip := _step_slip(expression):
        raise ValueError(f"the cron expression {expression!r} {slip}")
    if fault := _fault(expression, numbers):
        raise ValueError(f'not a cron expression: {expression!r}: {fault}; write for example "0 6 * * *" or "@daily"')
    try:
        _next_wall(numbers, 0)
    except ValueError as error:
        raise ValueError(f"the cron expression {expression!r} matches no date") from error


def _step_slip(expression: str) -> str:
    """Say what a step that is as long as its field does, and what was probably meant."""
    for index, field in enumerate(expression.split()[: len(_SIZES)]):
        for item in field.split(","):
            step = re.fullmatch(r"[^/]+/([0-9]{1,6})", item)
            if step and int(step[1]) >= _SIZES[index]:
                once = ("an hour", "a day", "a month", "a year", "a week", "a minute")[index]
                return (
                    f"has a step in its {_FIELDS[index]} field, {field!r}, that is as long as the field or longer: it"
                    f" would fire once {once}; write {_meant(index, int(step[1]))}"
                )
    return ""


def _meant(index: int, step: int) -> str:
    unit, larger, whole = (
        ("m", 60, "h"),
        ("h", 24, " day"),
        (" day", 7, " week"),
        (" month", 12, " year"),
        (" day", 7, " week"),
        ("s", 60, "m"),
    )[index]
    count, unit = (step // larger, whole) if step % larger == 0 else (step, unit)
    plural = "s" if unit.startswith(" ") and count > 1 else ""
    return f'every("{count}{unit}{plural}"' + (', at="00:00")' if unit.startswith(" ") else ")")


def _fault(expression: str, numbers: str) -> str:
    fields, given = numbers.split(), expression.split()
    if expression.startswith("@"):
        hint = '; a schedule with every("1h", first_at="now") fires at once when it is added'
        return "" if _parses(expression) else "no such word" + (hint if expression == "@reboot" else "")
    if len(fields) not in {5, 6}:
        return f"it has {len(fields)} fields, not 5 (minute hour day month weekday) or 6 (and seconds last)"
    for index, (name, field) in enumerate(zip(_FIELDS, fields, strict=False)):
        alone = ["*"] * len(fields)
        alone[index] = field
        if _is_random(field) or not _parses(" ".join(alone)):
            return f"its {name} field, {given[index]!r}, is not understood or out of range{_slip(field, name)}"
    return "" if _parses(numbers) else "its fields cannot be combined"


def _slip(field: str, name: str) -> str:
    """Return what to write for words of other crons."""
    for item in field.lower().split(","):
        if item[:1] == "r":
            return "; for a value that is chosen once, by the schedule's name, write H"
        if name == "weekday" and (last := re.fullmatch(r"([0-7]|sun|mon|tue|wed|thu|fri|sat)l", item)):
            day = last[1] if last[1].isdigit() else "0123456"["sunmontuewedthufrisat".index(last[1]) // 3]
            return f"; for the last such weekday of the month write L{day}"
        if name == "day" and item == "lw":
            return "; the last weekday of the month has no word: write L, the last day, or L5, the last Friday"
        if name == "day" and re.fullmatch(r"l-[0-9]+", item):
            return "; days are not counted from the end of the month: write L, the last day, or a day such as 28"
    return ""


def _is_random(field: str) -> bool:
    """Tell whether croniter would draw an item at random, again at each look, or hash it in a way of its own."""
    return any(item[:1] in {"r", "R", "h", "H"} for item in field.split(","))


def _parses(expression: str) -> bool:
    try:
        return bool(_parsed(expression))
    except (ValueError, TypeError, LookupError, AttributeError):  # croniter raises its own ValueError, or trips
        return False


# -- what comes next --


def after(trigger: Cron, moment: float) -> float:
    """Return the first tick after a moment."""
    from litequeue.scheduling import timezones

    expression = numbered(trigger.expression, trigger.seed)
    search = _from_any_hour if _has_any_hour(expression) else _from_fixed_hour
    return float(search(expression, timezones.of(trigger.zone), math.floor(moment) + 1))


def _from_fixed_hour(expression: str, zone: tzinfo, start: int) -> int:
    """Return the first tick from `start` on, each wall time being one tick."""
    wall = start - 1 + offset(zone, start - 1)
    while True:
        wall = _next_wall(expression, wall)
        tick = instant(zone, wall)
        if tick >= start:
            return tick


def _from_any_hour(expression: str, zone: tzinfo, start: int) -> int:
    """Return the first instant from `start` on whose wall time is named, though that wall time come twice."""
    while True:
        ahead = offset(zone, start)
        tick = _next_wall(expression, start + ahead - 1) - ahead
        near = min(tick, start + DAY)
        if offset(zone, near) != ahead:
            start = change(zone, start, near)
        elif tick == near:
            return tick
        else:
            start = max(near, tick - 2 * DAY)  # no zone shifts by more, Apia by 25 hours: nothing named lies between


def _has_any_hour(expression: str) -> bool:
    """Tell whether the hour field is "*", or names every hour; "*/2" does not, and must neither skip nor repeat one."""
    return bool(_parsed(expression)[0].expanded[1] == ["*"])


def _next_wall(expression: str, wall: int) -> int:
    parts = _parsed(expression)
    if len(parts) == 1:
        return _next_of(parts[0], wall)
    found = []
    for part in parts:
        try:
            found.append(_next_of(part, wall))
        except ValueError:  # no such date, as the 30th of February: the others may have some
            continue
    if not found:
        raise ValueError("no such date")
    return min(found)


def _next_of(part: Any, wall: int) -> int:
    # A copy: croniter keeps its place in itself, and threads share the parsed one.
    return int(copy.copy(part).get_next(float, start_time=float(wall)))


@functools.lru_cache(maxsize=256)
def _parsed(expression: str) -> tuple[Any, ...]:
    """Return the parts of an expression, which names what any of them does."""
    from croniter import croniter  # type: ignore[import-untyped]

    # croniter takes "5-5" for the whole field, not for 5.
    plain = re.sub(r"(?<![\w/#-])(\w+)-\1(?:/[0-9]+)?(?![\w/-])", r"\1", expression)
    return tuple(croniter(part, 0.0) for part in _either(plain))


def _either(expression: str) -> list[str]:
    """Write a day beside a weekday with `#` or `L`, or `W` beside a weekday, as expressions of one of them each.

    A day and a weekday mean either, but croniter takes these for both, and refuses them in a list with others.
    """
    fields = expression.split()
    if len(fields) not in {5, 6}:
        return [expression]
    day, weekday = fields[2], fields[4]
    items = weekday.split(",")
    nth = [item for item in items if "#" in item or re.fullmatch(r"[lL][0-9]", item)]
    if not nth and "w" not in day.lower():
        return [expression]
    both = day not in {"*", "?"} and weekday not in {"*", "?"}
    groups = [",".join(nth), ",".join(item for item in items if item not in nth)]
    pairs = [("*" if both else day, group) for group in groups if group] + ([(day, "*")] if both else [])
    return [" ".join([*fields[:2], one, fields[3], other, *fields[5:]]) for one, other in pairs]
