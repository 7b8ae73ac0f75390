"""Triggers, and when they are due. Pure: the time is an argument. Knows no job, no store and no clock.

A tick is a due time in unix seconds.
"""

from __future__ import annotations

import functools
import json
import math
from datetime import datetime, timedelta
from typing import Any, TypeAlias, get_args

import msgspec

from litequeue.core import duration
from litequeue.core.schedules import CatchUp
from litequeue.scheduling import cron as crons
from litequeue.scheduling import intervals
from litequeue.scheduling.cron import Cron, cron
from litequeue.scheduling.intervals import Calendar, Every, every
from litequeue.scheduling.wall_time import EPOCH

LATE = 10.0  # seconds: with catch_up="none" a tick older than this is skipped


class At(msgspec.Struct, frozen=True):
    """One tick, at `when` in unix seconds; made by `at()`."""

    when: float


class FirstOf(msgspec.Struct, frozen=True):
    """The ticks of all of its members; made by `first_of()`."""

    members: tuple[Single, ...]


Single: TypeAlias = Cron | Every | Calendar | At
Trigger: TypeAlias = Single | FirstOf


class Due(msgspec.Struct, frozen=True):
    """The ticks to fire now, oldest first, and the next due time (None: never again)."""

    ticks: tuple[float, ...]
    next_at: float | None


def at(when: datetime | str) -> At:
    """Return a trigger that fires once, at an aware `datetime` or ISO text with an offset; at once if that has passed.

    >>> at("1970-01-01T00:01:00Z")
    At(when=60.0)
    """
    return At(duration.instant(when, "at"))


def first_of(*triggers: Single) -> FirstOf:
    """Return a trigger that is due whenever one of these is: once where several are due at the same moment.

    >>> first_of(at("1970-01-01T00:01:00Z"), at("1970-01-01T00:02:00Z"))
    FirstOf(members=(At(when=60.0), At(when=120.0)))
    """
    if len(triggers) == 1 and isinstance(triggers[0], (list, tuple)):
        raise TypeError("first_of() takes the triggers themselves, not a list of them: write first_of(a, b)")
    if len(triggers) < 2:
        raise ValueError(f"first_of() needs two triggers or more, got {len(triggers)}")
    for each in triggers:
        if isinstance(each, FirstOf):
            raise ValueError("first_of() cannot be inside another; write all triggers into one")  # noqa: TRY004 - it is a trigger
        check(each, "a trigger in first_of()")
    return FirstOf(triggers)


def check(trigger: object, what: str) -> Trigger:
    """Return the trigger; raises `TypeError` for anything else."""
    if not isinstance(trigger, (Cron, Every, Calendar, At, FirstOf)):
        raise TypeError(f"{what} must be made by cron(), every(), at() or first_of(), got {trigger!r}")
    return trigger


def check_catch_up(catch_up: CatchUp) -> CatchUp:
    """Return what a schedule does about ticks that were missed, or raise `ValueError`."""
    if catch_up not in get_args(CatchUp):
        raise ValueError(f'catch_up must be "one", "all" or "none", got {catch_up!r}')
    return catch_up


def named(trigger: Trigger, name: str) -> Trigger:
    """Return the trigger as that of the schedule of that name, by which the `H` of its cron expressions are hashed."""
    match trigger:
        case Cron():
            return crons.named(trigger, name)
        case FirstOf(members):
            return FirstOf(tuple(crons.named(each, name) if isinstance(each, Cron) else each for each in members))
        case _:
            return trigger


# -- when it is due --


def first(trigger: Trigger, now: float) -> float | None:
    """Return the first due time of a trigger added at `now`. It is after `now`, but for `"now"` and a past `At`."""
    match trigger:
        case At(when):
            return when
        case FirstOf(members):
            return min((tick for each in members if (tick := first(each, now)) is not None), default=None)
        case Every(first_at="now") | Calendar(first_at="now"):
            return now
        case Every(first_at=float(first_at)) | Calendar(first_at=float(first_at)) if first_at >= now:
            return float(math.floor(first_at)) if isinstance(trigger, Calendar) else first_at
        case _:
            return following(trigger, now)


def following(trigger: Trigger, tick: float) -> float | None:
    """Return the first tick after `tick`, or None. Those of an `Every` without a first one are counted from `tick`."""
    found = _after(trigger, tick)
    return None if found == math.inf else found


def upcoming(trigger: Trigger, next_at: float | None, count: int = 5) -> list[float]:
    """Return the due times from `next_at` on, so many, or as many as there are."""
    found: list[float] = []
    while next_at is not None and len(found) < count and duration.EARLIEST <= next_at <= duration.LATEST:
        found.append(next_at)
        next_at = following(trigger, max(next_at, since(trigger)))
    return found


def jitter(trigger: Trigger, tick: float) -> float:
    """Return by how many seconds a tick may be delayed at random."""
    match trigger:
        case FirstOf(members):
            before = math.nextafter(tick, -math.inf)
            return max((jitter(each, tick) for each in members if _after(each, before) == tick), default=0.0)
        case Every() | Calendar():
            return trigger.jitter
        case _:
            return 0.0


def due(trigger: Trigger, next_at: float, now: float, catch_up: CatchUp = "one", limit: int = 500) -> Due:
    """Return the ticks to fire at `now`, by the schedule's `catch_up`, and the next due time.

    `next_at` is the oldest tick not fired yet. With `catch_up="all"` at most `limit` ticks are returned, and the next
    due time may still be past: call again. A `next_at` so far ahead that the clock must have been set back is
    brought near again. Raises `ValueError` for one before all dates, where floats are too far apart to count in.
    """
    if next_at < duration.EARLIEST:
        raise ValueError(f"its next due time, {next_at!r}, is before the year 1")
    if isinstance(trigger, Every) and intervals.start(trigger) is None:
        return _every_due(trigger, next_at, now, catch_up, limit)
    return _named_due(trigger, next_at, now, catch_up, limit)


def _after(trigger: Trigger, moment: float) -> float:
    """Return the first tick after a moment, or infinity."""
    match trigger:
        case Cron():
            return crons.after(trigger, moment)
        case Every():
            return intervals.after_interval(trigger, moment)
        case Calendar():
            return intervals.after_date(trigger, moment)
        case At(when):
            return when if when > moment else math.inf
        case FirstOf(members):
            return min(_after(each, moment) for each in members)


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


def _named_due(trigger: Trigger, next_at: float, now: float, catch_up: CatchUp, limit: int) -> Due:
    """Of a trigger that names its ticks, whatever came before."""
    if next_at > now:
        return Due((), _near_again(trigger, next_at, now))
    begin = max(next_at, min(now, since(trigger)))  # given to a schedule that was due, it has no other tick before
    if catch_up == "all":
        return _each_missed(trigger, next_at, begin, now, limit)
    after = _after(trigger, begin)
    if after > now:  # none but this one was missed, as is usual
        return Due(_kept(catch_up, next_at, now), None if after == math.inf else after)
    return Due(_kept(catch_up, _latest(trigger, begin, now), now), following(trigger, now))


def _near_again(trigger: Trigger, next_at: float, now: float) -> float:
    """Return the due time to wait for: `next_at`, unless the clock was set back so far that two ticks come before it.

    Two, not one: a clock set back by a moment must not fire the tick just fired once more.
    """
    soon = _after(trigger, now)
    return soon if next_at > _after(trigger, soon) else next_at


def _each_missed(trigger: Trigger, next_at: float, begin: float, now: float, limit: int) -> Due:
    ticks: list[float] = []
    while next_at <= now and len(ticks) < limit:
        ticks.append(next_at)
        next_at = _after(trigger, max(next_at, begin))
    return Due(tuple(ticks), None if next_at == math.inf else next_at)


def _latest(trigger: Trigger, tick: float, now: float) -> float:
    """Return the last tick up to `now`, looking from `tick` by halves: years of ticks are some thirty steps."""
    high = now
    while (after := _after(trigger, tick)) <= high:
        tick, middle = after, (after + high) / 2
        probe = _after(trigger, middle)
        tick, high = (probe, high) if probe <= high else (tick, middle)
    return tick


def _kept(catch_up: CatchUp, latest: float, now: float) -> tuple[float, ...]:
    return () if catch_up == "none" and latest < now - LATE else (latest,)


def since(trigger: Trigger) -> float:
    """Return since when a schedule has a trigger, if that was noted."""
    match trigger:
        case FirstOf(members):
            return max(since(each) for each in members)
        case At():
            return -math.inf
        case _:
            return -math.inf if trigger.since is None else trigger.since


# -- as text --


def encode(trigger: Trigger) -> str:
    """Return a trigger as JSON text, which `decode` reads."""
    return json.dumps(_fields(trigger))


def decode(text: str) -> Trigger:
    """Return the trigger that `encode` wrote. Raises `ValueError` for anything else, or a zone unknown here."""
    try:
        return _decoded(text)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a stored trigger: {text!r}: {error}") from error


def describe(trigger: Trigger) -> str:
    """Return a trigger as a short line for listings, such as `cron 0 6 * * * Europe/Paris`.

    >>> describe(every("10m"))
    'every 10m'
    """
    match trigger:
        case Cron(expression, zone):
            return f"cron {expression} {zone}"
        case Every(interval):
            return f"every {duration.text(interval)}{_jitter_text(trigger)}{_first_text(trigger)}"
        case Calendar(zone=zone):
            time = f" at {intervals.time_text(trigger)} {zone}"
            return f"every {intervals.length(trigger)}{time}{_jitter_text(trigger)}{_first_text(trigger)}"
        case At(when):
            return f"at {duration.utc(when).isoformat()}"
        case FirstOf(members):
            return "first of " + ", ".join(map(describe, members))


def _jitter_text(trigger: Every | Calendar) -> str:
    return f" jitter {duration.text(trigger.jitter)}" if trigger.jitter else ""


def _first_text(trigger: Every | Calendar) -> str:
    match trigger.first_at:
        case float(first_at):
            return f" from {duration.utc(first_at).isoformat()}"
        case "now":
            return " from now"
        case _:
            return ""


def _fields(trigger: Trigger) -> dict[str, Any]:
    match trigger:
        case Cron(expression, zone, seed):
            if not seed and crons.has_hash(expression):
                raise ValueError("an expression with H needs the name of its schedule")
            fields = {"cron": expression, "zone": zone} | ({"name": seed} if seed else {})
        case Every(interval, delay, first_at):
            fields = {"every": interval, "jitter": delay} | _given("first_at", first_at)
        case Calendar(_, _, _, zone, delay, first_at):
            fields = {"every": intervals.length(trigger), "at": intervals.time_text(trigger), "zone": zone}
            fields |= {"jitter": delay} | _given("first_at", first_at)
        case At(when):
            return {"at": when}
        case FirstOf(members):
            return {"first_of": [_fields(each) for each in members]}
    return fields | _given("since", trigger.since)


def _given(key: str, value: object) -> dict[str, Any]:
    return {} if value is None else {key: value}


@functools.lru_cache(maxsize=256)  # many schedules have one trigger, and a cron expression takes long to check
def _decoded(text: str) -> Trigger:
    return _from_fields(json.loads(text))


def _from_fields(fields: dict[str, Any]) -> Trigger:
    match fields:
        case {"first_of": list(members)}:
            return first_of(*map(_single_from, members))
        case _:
            return _single_from(fields)


def _single_from(fields: dict[str, Any]) -> Single:
    match fields:
        case {"cron": expression, "zone": str(zone), **rest}:
            found = _named(cron(expression, tz=zone), rest.get("name", ""))
            return msgspec.structs.replace(found, since=_moment(rest.get("since")))
        case {"every": interval, "at": str(time), "zone": str(zone), "jitter": delay, **rest}:
            return _counted(every(interval, at=time, tz=zone, jitter=delay), rest)
        case {"every": interval, "jitter": delay, **rest}:
            return _counted(every(interval, jitter=delay), rest)
        case {"at": float(when) | int(when)} if not isinstance(when, bool):
            return at(EPOCH + timedelta(seconds=when))
        case _:
            raise ValueError("it does not name a kind of trigger")


def _counted(trigger: Every | Calendar, rest: dict[str, Any]) -> Every | Calendar:
    given = rest.get("first_at")
    first_at = "now" if given == "now" else _moment(given)
    return msgspec.structs.replace(trigger, first_at=first_at, since=_moment(rest.get("since")))


def _moment(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"not a moment: {value!r}")
    if not duration.EARLIEST <= value <= duration.LATEST:
        raise ValueError(f"not a moment: {value!r}")
    return float(value)


def _named(trigger: Cron, name: object) -> Cron:
    if not isinstance(name, str) or (not name and crons.has_hash(trigger.expression)):
        raise ValueError(f"not the name of a schedule: {name!r}")
    return crons.named(trigger, name)
