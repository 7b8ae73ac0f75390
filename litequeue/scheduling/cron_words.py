"""A cron expression in plain English, or the expression itself where words would be clumsy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from litequeue.scheduling.cron import numbered

if TYPE_CHECKING:
    from litequeue.scheduling.cron import Cron

WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_NTH = ("first", "second", "third", "fourth", "fifth")
_MOST = 4  # a longer list is harder to read than the expression
_ANY = {"*", "?"}
_WORDS = {
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


def cron_words(trigger: Cron) -> str:
    """Return when it is due, such as `on weekdays at 06:00 Europe/Paris`."""
    numbers = numbered(trigger.expression, trigger.seed).lower()
    minute, hour, day, month, weekday, second = [*_WORDS.get(numbers, numbers).split(), "0"][:6]
    date = _date(day, month, weekday)
    if date is not None and (times := _times(second, minute, hour)):
        return f"{date or 'every day'}{',' if ', or' in date else ''} at {times} {trigger.zone}"
    if date is not None and (frequency := _frequency(second, minute, hour)):
        said = ", ".join(part for part in (frequency, date) if part)
        return f"{said} ({trigger.zone})" if date or " from " in frequency else said
    return f"cron {trigger.expression} {trigger.zone}"


def ordinal(number: int) -> str:
    """Return `1st`, `2nd`, `11th`.

    >>> ordinal(22)
    '22nd'
    """
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if 10 < number < 20 else ending}"


def _times(second: str, minute: str, hour: str) -> str:
    """Say the times of the day, if they are few: `06:00 and 18:00`."""
    seconds, minutes, hours = (_listed(field, 0) for field in (second, minute, hour))
    if not (seconds and minutes and hours) or len(seconds) * len(minutes) * len(hours) > _MOST:
        return ""
    ending = [f":{each:02}" for each in seconds] if seconds != [0] else [""]
    return _joined([f"{h:02}:{m:02}{s}" for h in hours for m in minutes for s in ending])


def _frequency(second: str, minute: str, hour: str) -> str:
    """Say what comes again within a day: `every 15 minutes`, `every 2 hours at minute 30`."""
    if (minute, hour) == ("*", "*") and second != "0":
        return _each(second, 60, "second")
    if second != "0":
        return ""
    hours = re.fullmatch(r"([0-9]+)-([0-9]+)", hour)
    if frequency := _each(minute, 60, "minute"):
        span = (
            f" from {int(hours[1]):02}:00 to {int(hours[2]):02}:59" if hours and int(hours[1]) < int(hours[2]) else ""
        )
        return frequency + span if hour == "*" or span else ""
    if not minute.isdigit():
        return ""
    past = "" if minute == "0" else f" at minute {int(minute)}"
    if frequency := _each(hour, 24, "hour"):
        return frequency + past
    if hours and int(hours[1]) < int(hours[2]):
        return f"every hour from {int(hours[1]):02}:{int(minute):02} to {int(hours[2]):02}:{int(minute):02}"
    return ""


def _each(field: str, size: int, unit: str) -> str:
    if field in {"*", "*/1"}:
        return f"every {unit}"
    step = re.fullmatch(r"(?:\*|0)/([0-9]+)", field)
    return f"every {int(step[1])} {unit}s" if step and size % int(step[1]) == 0 else ""


def _date(day: str, month: str, weekday: str) -> str | None:
    """Say the dates: `on the 1st of the month, or on Mondays`; nothing for all of them, None where it is clumsy."""
    days, weekdays, months = _days(day), _weekdays(weekday), _months(month)
    if days is None or weekdays is None or months is None:
        return None
    if days and months and not weekdays:
        return f"on {days} of {months}"
    on_day = f"on {days} of the month" if days else ""
    dates = ", or ".join(part for part in (on_day, weekdays) if part)
    if not months:
        return dates
    return f"{dates} in {months}" if dates and ", or" not in dates else f"every day in {months}" if not dates else None


def _days(field: str) -> str | None:
    if field in _ANY:
        return ""
    if field == "l":
        return "the last day"
    listed = _listed(field, 1)
    return f"the {_joined([ordinal(day) for day in listed])}" if listed else None


def _weekdays(field: str) -> str | None:
    if field in _ANY:
        return ""
    plain = re.sub("sun|mon|tue|wed|thu|fri|sat", lambda name: str(_index(WEEKDAYS, name[0])), field)
    if plain == "1-5":
        return "on weekdays"
    if plain in {"0,6", "6,0", "6-7", "6,7", "6-0"}:
        return "at weekends"
    if nth := re.fullmatch(r"([0-7])#([1-5])|l([0-7])", plain):
        which = _NTH[int(nth[2]) - 1] if nth[2] else "last"
        return f"on the {which} {WEEKDAYS[int(nth[1] or nth[3]) % 7]} of the month"
    listed = _listed(plain, 0)
    return f"on {_joined([f'{WEEKDAYS[day % 7]}s' for day in listed])}" if listed else None


def _months(field: str) -> str | None:
    if field == "*":
        return ""
    plain = re.sub("|".join(name[:3].lower() for name in MONTHS), lambda name: str(_index(MONTHS, name[0]) + 1), field)
    listed = _listed(plain, 1)
    return _joined([MONTHS[month - 1] for month in listed]) if listed else None


def _index(names: tuple[str, ...], short: str) -> int:
    return [name[:3].lower() for name in names].index(short)


def _listed(field: str, lowest: int) -> list[int] | None:
    """Return the numbers of a short list; None for anything else."""
    items = field.split(",")
    if len(items) > _MOST or not all(item.isascii() and item.isdigit() for item in items):
        return None
    return sorted({max(lowest, int(item)) for item in items})


def _joined(items: list[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
