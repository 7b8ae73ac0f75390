"""A trigger in plain English, for listings."""

from __future__ import annotations

from litequeue.core import duration
from litequeue.scheduling import intervals
from litequeue.scheduling.cron import Cron
from litequeue.scheduling.cron_words import MONTHS, WEEKDAYS, cron_words, ordinal
from litequeue.scheduling.intervals import Calendar, Every
from litequeue.scheduling.triggers import At, FirstOf, Trigger


def words(trigger: Trigger) -> str:
    """Return when a trigger is due, such as `every day at 06:00 Europe/Paris`.

    >>> from litequeue import cron, every
    >>> words(every("90s", jitter=5))
    'every 90 s, up to 5 s late by chance'
    """
    match trigger:
        case Cron():
            return cron_words(trigger)
        case Every(interval):
            return f"every {_length(interval)}{_first(trigger)}{_late(trigger)}"
        case Calendar():
            return f"{_calendar(trigger)}{_late(trigger)}"
        case At(when):
            return f"at {_moment(when)}"
        case FirstOf(members):
            return ", or ".join(map(words, members))


def _moment(when: float) -> str:
    moment = duration.utc(when)
    return f"{moment:%Y-%m-%d %H:%M:%S}".removesuffix(":00") + " UTC"


def _length(seconds: float) -> str:
    """Return a duration in one unit, or as short text: `90 s`, `15 minutes`, `2h30m`."""
    for unit, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds % unit == 0:
            count = int(seconds // unit)
            return name if count == 1 else f"{count} {name}s"
    return "second" if seconds == 1 else f"{seconds:g} s" if seconds < 600 else duration.text(seconds)


def _first(trigger: Every | Calendar) -> str:
    return f" from {_moment(trigger.first_at)} on" if isinstance(trigger.first_at, float) else ""


def _late(trigger: Every | Calendar) -> str:
    late = _length(trigger.jitter)
    return f", up to {'1 ' * (not late[0].isdigit())}{late} late by chance" if trigger.jitter else ""


def _calendar(trigger: Calendar) -> str:
    """Say on which day, if it is known from which date the trigger is counted."""
    every = "every " + (trigger.unit if trigger.count == 1 else intervals.length(trigger))
    begin = intervals.start(trigger)
    time = f"at {intervals.time_text(trigger)} {trigger.zone}"
    if begin is None or trigger.unit == "day":
        return f"{every} {time}{_first(trigger)}"
    date = intervals.local_date(trigger, begin)
    day = {
        "week": WEEKDAYS[date.isoweekday() % 7],
        "month": f"the {ordinal(date.day)}" + (" or its last day" if date.day > 28 else ""),
    }.get(trigger.unit, f"{date.day} {MONTHS[date.month - 1]}")
    return f"{every} on {day} {time}{_first(trigger)}"
