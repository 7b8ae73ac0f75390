"""Triggers, and when they are due. Pure: the time is an argument. Knows no job, no store and no clock.

A tick is a due time in unix seconds. In a cron trigger with a fixed hour field, a wall time that does not exist is due
right after the gap, and one that occurs twice is due once; with `*` hours every real hour counts (as in Vixie cron).
"""

from __future__ import annotations

import copy
import functools
import json
import math
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import msgspec

from litequeue.core import duration
from litequeue.core.schedules import CatchUp

if TYPE_CHECKING:
    from datetime import tzinfo
    from zoneinfo import ZoneInfo

LATE = 10.0  # seconds: with catch_up="none" a tick older than this is skipped
SHORTEST = 0.01  # seconds between the ticks of every()

_DAY = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FIELDS = ("minute", "hour", "day", "month", "weekday", "second")


class Cron(msgspec.Struct, frozen=True):
    """Wall times in the IANA time zone `zone`; made by `cron()`."""

    expression: str
    zone: str


class Every(msgspec.Struct, frozen=True):
    """Ticks `interval` seconds apart, each delayed at random by up to `jitter` seconds. Made by `every()`."""

    interval: float
    jitter: float = 0.0


class At(msgspec.Struct, frozen=True):
    """One tick, at `when` in unix seconds; made by `at()`."""

    when: float


Trigger: TypeAlias = Cron | Every | At


class Due(msgspec.Struct, frozen=True):
    """The ticks to fire now, oldest first, and the next due time (None: never again)."""

    ticks: tuple[float, ...]
    next_at: float | None


def cron(expression: str, *, tz: str | ZoneInfo | None = None) -> Cron:
    """Return a trigger for the wall times that a cron expression names.

    `expression` has 5 fields (minute hour day month weekday), 6 (the sixth is seconds) or is a word such as `@daily`.
    `tz` is an IANA time zone, the machine's own if None. Raises `ValueError`.

    >>> cron("0 6 * * *", tz="Europe/Paris")
    Cron(expression='0 6 * * *', zone='Europe/Paris')
    """
    if not isinstance(expression, str):
        raise TypeError(f'a cron expression must be text such as "0 6 * * *", got {expression!r}')
    expression = " ".join(expression.split())
    from litequeue.scheduling import timezones

    _check_expression(expression)
    return Cron(expression, timezones.name_of(tz))


def every(interval: timedelta | float | str, *, jitter: timedelta | float | str = 0) -> Every:
    """Return a trigger whose ticks are `interval` apart, without drift.

    `interval` (at least 0.01 seconds) and `jitter` are durations: `"10m"`, seconds or a `timedelta`. Each tick is
    delayed at random by up to `jitter`. Raises `ValueError`.

    >>> every("10m", jitter=5)
    Every(interval=600.0, jitter=5.0)
    """
    length = duration.seconds(interval, "interval")
    if length < SHORTEST:
        raise ValueError(f'interval must be at least {SHORTEST} seconds, got {interval!r}; write every("10m")')
    return Every(length, duration.seconds(jitter, "jitter"))


def at(when: datetime | str) -> At:
    """Return a trigger that fires once, at an aware `datetime` or ISO text with an offset; at once if that has passed.

    >>> at("1970-01-01T00:01:00Z")
    At(when=60.0)
    """
    return At(duration.instant(when, "at"))


def check_catch_up(catch_up: CatchUp) -> CatchUp:
    """Return what a schedule does about ticks that were missed, or raise `ValueError`."""
    if catch_up not in get_args(CatchUp):
        raise ValueError(f'catch_up must be "one", "all" or "none", got {catch_up!r}')
    return catch_up


def first(trigger: Trigger, now: float) -> float | None:
    """Return the first due time of a trigger added at `now`. It is after `now`, unless an `At` has already passed."""
    match trigger:
        case At(when):
            return when
        case Cron() | Every():
            return following(trigger, now)


def following(trigger: Trigger, tick: float) -> float | None:
    """Return the first tick after `tick`, or None. The ticks of `Every` are counted from `tick`."""
    match trigger:
        case Cron():
            return _cron_after(trigger, tick)
        case Every(interval):
            return tick + interval
        case At():
            return None


def due(trigger: Trigger, next_at: float, now: float, catch_up: CatchUp = "one", limit: int = 500) -> Due:
    """Return the ticks to fire at `now`, by the schedule's `catch_up`, and the next due time.

    `next_at` is the oldest tick not fired yet. With `catch_up="all"` at most `limit` ticks are returned, and the next
    due time may still be past: call again. A `next_at` so far ahead that the clock must have been set back is
    brought near again. Raises `ValueError` for one before all dates, where floats are too far apart to count in.
    """
    if next_at < duration.EARLIEST:
        raise ValueError(f"its next due time, {next_at!r}, is before the year 1")
    match trigger:
        case At():
            return Due(_kept(catch_up, next_at, now), None) if next_at <= now else Due((), next_at)
        case Every():
            return _every_due(trigger, next_at, now, catch_up, limit)
    return _cron_due(trigger, next_at, now, catch_up, limit)


def encode(trigger: Trigger) -> str:
    """Return a trigger as JSON text, which `decode` reads."""
    match trigger:
        case Cron(expression, zone):
            return json.dumps({"cron": expression, "zone": zone})
        case Every(interval, jitter):
            return json.dumps({"every": interval, "jitter": jitter})
        case At(when):
            return json.dumps({"at": when})


def decode(text: str) -> Trigger:
    """Return the trigger that `encode` wrote. Raises `ValueError` for anything else, or a zone unknown here."""
    try:
        return _decoded(text)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a stored trigger: {text!r}: {error}") from error


def describe(trigger: Trigger) -> str:
    """Return a trigger as a line for listings, such as `cron 0 6 * * * Europe/Paris`.

    >>> describe(every("10m"))
    'every 10m'
    """
    match trigger:
        case Cron(expression, zone):
            return f"cron {expression} {zone}"
        case Every(interval, jitter):
            return f"every {duration.text(interval)}" + (f" jitter {duration.text(jitter)}" if jitter else "")
        case At(when):
            return f"at {duration.utc(when).isoformat()}"


# -- checks at the call --


def _check_expression(expression: str) -> None:
    if fault := _fault(expression):
        raise ValueError(f'not a cron expression: {expression!r}: {fault}; write for example "0 6 * * *" or "@daily"')
    try:
        _next_wall(expression, 0)
    except ValueError as error:
        raise ValueError(f"the cron expression {expression!r} matches no date") from error


def _fault(expression: str) -> str:
    fields = expression.split()
    if expression.startswith("@"):
        return "" if _parses(expression) else "no such word"
    if len(fields) not in {5, 6}:
        return f"it has {len(fields)} fields, not 5 (minute hour day month weekday) or 6 (and seconds last)"
    for index, (name, field) in enumerate(zip(_FIELDS, fields, strict=False)):
        alone = ["*"] * len(fields)
        alone[index] = field
        if _is_random(field) or not _parses(" ".join(alone)):
            return f"its {name} field, {field!r}, is not understood or out of range"
    return "" if _parses(expression) else "its fields cannot be combined"


def _is_random(field: str) -> bool:
    """Tell whether croniter would draw the field at random, again at each look, or hash it."""
    return field[0] in "rRhH"


def _parses(expression: str) -> bool:
    try:
        return bool(_parsed(expression))
    except (ValueError, TypeError, LookupError, AttributeError):  # croniter raises its own ValueError, or trips
        return False


@functools.lru_cache(maxsize=256)  # many schedules have one trigger, and a cron expression takes long to check
def _decoded(text: str) -> Trigger:
    return _from_fields(json.loads(text))


def _from_fields(fields: dict[str, Any]) -> Trigger:
    match fields:
        case {"cron": expression, "zone": str(zone)}:
            return cron(expression, tz=zone)
        case {"every": interval, "jitter": jitter}:
            return every(interval, jitter=jitter)
        case {"at": float(when) | int(when)} if not isinstance(when, bool):
            return at(_EPOCH + timedelta(seconds=when))
        case _:
            raise ValueError("it does not name a kind of trigger")


# -- what is due --


def _every_due(trigger: Every, next_at: float, now: float, catch_up: CatchUp, limit: int) -> Due:
    step = trigger.interval
    if next_at > now + step + trigger.jitter:  # the clock was set back
        return Due((), now + step)
    if next_at > now:
        return Due((), next_at)
    missed = math.floor((now - next_at) / step) + 1
    if next_at + missed * step <= now:  # the division was rounded
        missed += 1
    if catch_up == "all":
        fired = min(missed, limit)
        return Due(tuple(next_at + number * step for number in range(fired)), next_at + fired * step)
    latest = min(next_at + (missed - 1) * step, now)
    return Due(_kept(catch_up, latest, now), next_at + missed * step)


def _cron_due(trigger: Cron, next_at: float, now: float, catch_up: CatchUp, limit: int) -> Due:
    if next_at > now:
        return Due((), _near_again(trigger, next_at, now))
    if catch_up == "all":
        return _each_missed(trigger, next_at, now, limit)
    after = _cron_after(trigger, next_at)
    if after > now:  # none but this one was missed, as is usual
        return Due(_kept(catch_up, next_at, now), after)
    return Due(_kept(catch_up, _latest(trigger, next_at, now), now), _cron_after(trigger, now))


def _near_again(trigger: Cron, next_at: float, now: float) -> float:
    """Return the due time to wait for: `next_at`, unless the clock was set back so far that two ticks come before it.

    Two, not one: a clock set back by a moment must not fire the tick just fired once more.
    """
    soon = _cron_after(trigger, now)
    return soon if next_at > _cron_after(trigger, soon) else next_at


def _each_missed(trigger: Cron, next_at: float, now: float, limit: int) -> Due:
    ticks: list[float] = []
    while next_at <= now and len(ticks) < limit:
        ticks.append(next_at)
        next_at = _cron_after(trigger, next_at)
    return Due(tuple(ticks), next_at)


def _latest(trigger: Cron, tick: float, now: float) -> float:
    """Return the last tick up to `now`, looking from `tick` by halves: years of ticks are some thirty steps."""
    high = now
    while (after := _cron_after(trigger, tick)) <= high:
        tick, middle = after, (after + high) / 2
        probe = _cron_after(trigger, middle)
        tick, high = (probe, high) if probe <= high else (tick, middle)
    return tick


def _kept(catch_up: CatchUp, latest: float, now: float) -> tuple[float, ...]:
    return () if catch_up == "none" and latest < now - LATE else (latest,)


# -- cron: walls are local times, counted like unix seconds; all whole seconds --


def _cron_after(trigger: Cron, moment: float) -> float:
    from litequeue.scheduling import timezones

    zone = timezones.of(trigger.zone)
    start = math.floor(moment) + 1
    search = _from_any_hour if _has_any_hour(trigger.expression) else _from_fixed_hour
    return float(search(trigger.expression, zone, start))


def _from_fixed_hour(expression: str, zone: tzinfo, start: int) -> int:
    """Return the first tick from `start` on, each wall time being one tick."""
    wall = start - 1 + _offset(zone, start - 1)
    while True:
        wall = _next_wall(expression, wall)
        tick = _instant(zone, wall)
        if tick >= start:
            return tick


def _from_any_hour(expression: str, zone: tzinfo, start: int) -> int:
    """Return the first instant from `start` on whose wall time is named, though that wall time come twice."""
    while True:
        offset = _offset(zone, start)
        tick = _next_wall(expression, start + offset - 1) - offset
        near = min(tick, start + _DAY)
        if _offset(zone, near) != offset:
            start = _change(zone, start, near)
        elif tick == near:
            return tick
        else:
            start = max(near, tick - 2 * _DAY)  # no zone shifts by more, Apia by 25 hours: nothing named lies between


def _instant(zone: tzinfo, wall: int) -> int:
    """Return when a wall time comes: the first time if twice, the end of the gap if never (fold: PEP 495)."""
    local = (_EPOCH + timedelta(seconds=wall)).replace(tzinfo=zone)
    before, after = _utc_offset(local), _utc_offset(local.replace(fold=1))
    if before < after:
        return _change(zone, wall - after, wall - before)
    return wall - before


def _change(zone: tzinfo, low: int, high: int) -> int:
    """Return when, after `low` and up to `high`, the zone leaves the offset it has at `low`."""
    offset = _offset(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(zone, middle) == offset else (low, middle)
    return high


def _offset(zone: tzinfo, moment: int) -> int:
    return _utc_offset((_EPOCH + timedelta(seconds=moment)).astimezone(zone))


def _utc_offset(local: datetime) -> int:
    offset = local.utcoffset()
    return int(offset.total_seconds()) if offset else 0


def _has_any_hour(expression: str) -> bool:
    """Tell whether the hour field is "*", or names every hour; "*/2" does not, and must neither skip nor repeat one."""
    return bool(_parsed(expression).expanded[1] == ["*"])


def _next_wall(expression: str, wall: int) -> int:
    # A copy: croniter keeps its place in itself, and threads share the parsed one.
    return int(copy.copy(_parsed(expression)).get_next(float, start_time=float(wall)))


@functools.lru_cache(maxsize=256)
def _parsed(expression: str) -> Any:
    from croniter import croniter  # type: ignore[import-untyped]

    # croniter takes "5-5" for the whole field, not for 5.
    return croniter(re.sub(r"(?<![\w/#-])(\w+)-\1(?:/[0-9]+)?(?![\w/-])", r"\1", expression), 0.0)
