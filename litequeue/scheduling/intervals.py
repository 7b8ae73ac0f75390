"""Ticks a fixed time apart, or a number of days, weeks, months or years. Knows no schedule and no clock."""

from __future__ import annotations

import math
import re
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from litequeue.core import duration
from litequeue.core.hints import hinted
from litequeue.scheduling.wall_time import DAY, EPOCH, instant, offset

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

SHORTEST = 0.01  # seconds between the ticks of every()
MOST = 100 * 366  # days: a longer calendar interval is a slip, and would pass the last of all dates

FirstAt: TypeAlias = 'float | Literal["now"] | None'
Unit = Literal["day", "week", "month", "year"]

_DAYS: dict[Unit, int] = {"day": 1, "week": 7, "month": 31, "year": 366}
_CALENDAR = re.compile(r"\s*(?:([0-9]{1,9})\s*)?(day|week|month|year)s?\s*")
_SHORT = re.compile(r"\s*([0-9]{1,9})\s*([dw])\s*")
_TIME = re.compile(r"\s*([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?\s*")


class Every(msgspec.Struct, frozen=True):
    """Ticks `interval` seconds apart, each delayed at random by up to `jitter` seconds. Made by `every()`.

    They are counted from `first_at`, which is the first, or from `since`, when it was added; else from tick to tick.
    """

    interval: float
    jitter: float = 0.0
    first_at: FirstAt = None
    since: float | None = None


class Calendar(msgspec.Struct, frozen=True):
    """Each `count` days, weeks, months or years, at a second of the day. Made by `every(..., at=...)`.

    They are counted from the date of `first_at`, which is the first, or of `since`, when it was added. A month that is
    too short takes its last day.
    """

    count: int
    unit: Unit
    second: int
    zone: str
    jitter: float = 0.0
    first_at: FirstAt = None
    since: float | None = None


@hinted
def every(
    interval: timedelta | float | str,
    *,
    jitter: timedelta | float | str = 0,
    first_at: datetime | str | None = None,
    at: time | str | None = None,
    tz: str | ZoneInfo | None = None,
) -> Every | Calendar:
    """Return a trigger whose ticks are `interval` apart, without drift.

    `interval` (at least 0.01 seconds) and `jitter` are durations: `"10m"`, seconds or a `timedelta`. Each tick is
    delayed at random by up to `jitter`. `first_at` is the moment of the first tick, from which the others are counted:
    an aware `datetime`, ISO text with an offset, or `"now"`: at once when the schedule is added; one interval later
    if None.

    With `at`, a time such as `"09:00"`, the interval is one of the calendar: `"1 day"`, `"2 weeks"`, `"1 month"`,
    `"1 year"`, counted from the day on which the schedule is added. A month that is too short takes its last day. `tz`
    is an IANA time zone, the machine's own if None. With `first_at` a moment, that gives the day and the time, and
    `at` is left out. Raises `ValueError`.

    >>> every("10m", jitter=5)
    Every(interval=600.0, jitter=5.0, first_at=None, since=None)
    """
    delay = duration.seconds(jitter, "jitter")
    first: FirstAt = (
        "now" if first_at == "now" else None if first_at is None else duration.instant(first_at, "first_at")
    )
    found = _calendar(interval, at_a_time=at is not None)
    if found is not None:
        return _in_calendar(*found, interval, delay, first, at, tz)
    if at is not None:
        raise ValueError(
            f'at= needs an interval of days, weeks, months or years, got {interval!r}; write every("1 day", at=...)'
        )
    if tz is not None:
        raise ValueError(f'tz= needs at=, a time of the day: every("1 day", at="09:00", tz={tz!r})')
    length = duration.seconds(interval, "interval")
    if length < SHORTEST:
        raise ValueError(f'interval must be at least {SHORTEST} seconds, got {interval!r}; write every("10m")')
    return Every(length, delay, first)


def _calendar(interval: object, *, at_a_time: bool) -> tuple[int, Unit] | None:
    """Read `"2 weeks"`; beside `at` also `"2w"` and whole days of a `timedelta`."""
    if isinstance(interval, timedelta) and at_a_time and interval % timedelta(days=1) == timedelta(0):
        return interval.days, "day"
    if not isinstance(interval, str):
        return None
    if long := _CALENDAR.fullmatch(interval.lower()):
        units: dict[str, Unit] = {unit: unit for unit in _DAYS}
        return int(long[1] or 1), units[long[2]]
    short = _SHORT.fullmatch(interval.lower())
    return (int(short[1]), "day" if short[2] == "d" else "week") if short and at_a_time else None


def _in_calendar(
    count: int,
    unit: Unit,
    interval: object,
    jitter: float,
    first: FirstAt,
    at: time | str | None,
    tz: str | ZoneInfo | None,
) -> Calendar:
    from litequeue.scheduling import timezones

    if not 1 <= count * _DAYS[unit] <= MOST:
        raise ValueError(f"interval must be between 1 day and 100 years, got {interval!r}")
    zone = timezones.name_of(tz)
    if isinstance(first, float):
        if at is not None:
            raise ValueError("first_at= gives the time of the day already; pass it or at=, not both")
        second = (math.floor(first) + offset(timezones.of(zone), math.floor(first))) % DAY
    elif at is None:
        hint = f'; for exactly {count * _DAYS[unit] * 24} hours write "{count}{unit[0]}"' if unit in _DAYS_ONLY else ""
        raise ValueError(f'every({interval!r}) needs the time of the day: every({interval!r}, at="09:00"){hint}')
    else:
        second = _second_of_day(at)
    return Calendar(count, unit, second, zone, jitter, first)


_DAYS_ONLY = ("day", "week")


def _second_of_day(at: object) -> int:
    if isinstance(at, time) and at.tzinfo is None and not at.microsecond:
        return at.hour * 3600 + at.minute * 60 + at.second
    found = _TIME.fullmatch(at) if isinstance(at, str) else None
    hour, minute, second = (int(part or 0) for part in found.groups()) if found else (24, 0, 0)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f'at must be a time of the day such as "09:00" or "23:59:30", got {at!r}')
    return hour * 3600 + minute * 60 + second


# -- what comes next --


def after_interval(trigger: Every, moment: float) -> float:
    """Return the first tick after a moment."""
    begin = start(trigger)
    if begin is None:
        return moment + trigger.interval
    if moment < begin and begin == trigger.first_at:
        return begin
    number = math.floor((moment - begin) / trigger.interval)
    ticks = (begin + (number + more) * trigger.interval for more in range(3))  # the division is rounded
    return next((tick for tick in ticks if tick > moment), math.inf)


def after_date(trigger: Calendar, moment: float) -> float:
    """Return the first tick after a moment."""
    from litequeue.scheduling import timezones

    begin = start(trigger)
    if begin is None:
        begin = moment
    zone = timezones.of(trigger.zone)
    anchor, day = local_date(trigger, begin), local_date(trigger, moment)
    number = _number_before(trigger, anchor, day)
    if begin == trigger.first_at:
        number = max(0, number)
    while (date_ := _date(trigger, anchor, number)) is not None:
        tick = instant(zone, (date_.toordinal() - EPOCH.toordinal()) * DAY + trigger.second)
        if tick > moment:
            return float(tick)
        number += 1
    return math.inf


def start(trigger: Every | Calendar) -> float | None:
    """Return the moment from which the ticks are counted; None: from tick to tick."""
    return trigger.first_at if isinstance(trigger.first_at, float) else trigger.since


def local_date(trigger: Calendar, moment: float) -> date:
    """Return the date that a moment has in the trigger's time zone."""
    from litequeue.scheduling import timezones

    return duration.utc(moment).astimezone(timezones.of(trigger.zone)).date()


def _number_before(trigger: Calendar, anchor: date, day: date) -> int:
    """How many intervals surely lie between: one less than there may be."""
    if trigger.unit in _DAYS_ONLY:
        return (day - anchor).days // (trigger.count * _DAYS[trigger.unit]) - 1
    months = (day.year - anchor.year) * 12 + day.month - anchor.month
    return months // _months(trigger) - 1


def _date(trigger: Calendar, anchor: date, number: int) -> date | None:
    """The date so many intervals after the anchor, at the ends of the calendar the first one; None: after the last."""
    if trigger.unit in _DAYS_ONLY:
        ordinal = anchor.toordinal() + number * trigger.count * _DAYS[trigger.unit]
        return date.fromordinal(max(1, ordinal)) if ordinal < _LAST else None
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + number * _months(trigger), 12)
    if year > LAST_YEAR:
        return None
    if year < 1:
        return date.min
    return date(year, month + 1, min(anchor.day, _days_in(year, month + 1)))


LAST_YEAR = 9998
_LAST = date(LAST_YEAR, 12, 31).toordinal()


def _days_in(year: int, month: int) -> int:
    return (date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)).day


def _months(trigger: Calendar) -> int:
    return trigger.count * (12 if trigger.unit == "year" else 1)


# -- as text --


def length(trigger: Calendar) -> str:
    """Return the interval as `every()` takes it, such as `2 weeks`."""
    return f"{trigger.count} {trigger.unit}" + ("s" if trigger.count > 1 else "")


def time_text(trigger: Calendar) -> str:
    """Return the time of the day as `every()` takes it, such as `09:00`."""
    minutes, second = divmod(trigger.second, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}" + (f":{second:02}" if second else "")
