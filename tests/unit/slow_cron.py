"""The ticks of a cron expression, found by walking the clock. Knows no croniter, and takes its time.

The rule. With `*` in the hour field each real moment whose wall time is named is a tick. Otherwise each named wall time
is one tick: the first moment that shows it, or the end of the gap where no moment does; those that a gap brings to one
moment are one tick. `5#2` is the second Friday of a month, `l5` its last. A day is named by its day of the month or its
weekday where neither field is `*`, else by both; a list of all seven weekdays is as good as `*` beside a `*/2`, but not
beside a plain day, which croniter then takes for either.
"""

from __future__ import annotations

import calendar
from datetime import datetime, timedelta, timezone, tzinfo
from typing import NamedTuple

LONGEST_BACK = 3 * 3600  # seconds: what comes again may have been there so long before


class Named(NamedTuple):
    """What an expression of numbers, `*`, `/`, `-`, `,` and a day `l` names."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    last_day: bool
    months: frozenset[int]
    weekdays: frozenset[int]
    nth: frozenset[tuple[int, int]]  # weekday, and which of the month, -1 being the last
    seconds: frozenset[int]
    either: bool

    @classmethod
    def of(cls, expression: str) -> Named:
        minute, hour, day, month, weekday, second = [*expression.split(), "0"][:6]
        items = weekday.split(",")
        plain = ",".join(item for item in items if "#" not in item and item[0] != "l")
        weekdays = frozenset(number % 7 for number in _numbers(plain, 0, 6)) if plain else frozenset()
        nth = {(int(item[1:]), -1) for item in items if item[0] == "l"}
        nth |= {(int(item[0]), int(item[2:])) for item in items if "#" in item}
        any_weekday = weekday == "*" or (len(weekdays) == 7 and "*" in day)
        return cls(
            _numbers(minute, 0, 59),
            _numbers(hour, 0, 23),
            frozenset() if day == "l" else _numbers(day, 1, 31),
            day == "l",
            _numbers(month, 1, 12),
            weekdays,
            frozenset(nth),
            _numbers(second, 0, 59),
            day != "*" and not any_weekday,
        )

    @property
    def any_hour(self) -> bool:
        return len(self.hours) == 24

    @property
    def step(self) -> int:
        return 60 if self.seconds == {0} else 1

    def names(self, wall: datetime) -> bool:
        return (
            wall.minute in self.minutes
            and wall.hour in self.hours
            and wall.second in self.seconds
            and self.names_date(wall)
        )

    def names_date(self, wall: datetime) -> bool:
        last = calendar.monthrange(wall.year, wall.month)[1]
        by_day = wall.day in self.days or (self.last_day and wall.day == last)
        weekday = wall.isoweekday() % 7
        nth = {(weekday, (wall.day - 1) // 7 + 1)} | ({(weekday, -1)} if wall.day + 7 > last else set())
        by_weekday = weekday in self.weekdays or bool(nth & self.nth)
        return wall.month in self.months and (by_day or by_weekday if self.either else by_day and by_weekday)


def _numbers(field: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        found.update(range(int(first), int(last or first) + 1, int(step or 1)))
    return frozenset(found)


def ticks(expression: str, zone: tzinfo, start: int, end: int) -> list[int]:
    """Every tick after `start` and up to `end`; both on a whole minute."""
    named = Named.of(expression)
    shown = _shown(zone, start - LONGEST_BACK, end, named.step)
    if named.any_hour:
        found = [moment for moment, wall in shown if named.names(wall)]
    else:
        found = [moment for wall, moment in _once_each(shown, named.step).items() if named.names(wall)]
    return sorted({moment for moment in found if start < moment <= end})


def _shown(zone: tzinfo, start: int, end: int, step: int) -> list[tuple[int, datetime]]:
    """Every moment, and what the clock on the wall shows."""
    whole = range(start - start % step, end + 1, step)
    return [
        (moment, datetime.fromtimestamp(moment, timezone.utc).astimezone(zone).replace(tzinfo=None, fold=0))
        for moment in whole
    ]


def _once_each(shown: list[tuple[int, datetime]], step: int) -> dict[datetime, int]:
    """When each wall time comes, once."""
    comes: dict[datetime, int] = {}
    due = shown[0][1]
    for moment, wall in shown:
        while due <= wall:  # more than one where some are skipped
            comes.setdefault(due, moment)
            due += timedelta(seconds=step)
        due = max(due, wall + timedelta(seconds=step))
    return comes
