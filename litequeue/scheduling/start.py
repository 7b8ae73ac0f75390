"""What a schedule starts from when its trigger is given or changed. Pure: the time is an argument."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from litequeue.scheduling.cron import Cron
from litequeue.scheduling.intervals import Calendar, Every
from litequeue.scheduling.triggers import At, FirstOf, Single, Trigger, decode, encode, first, following

_SINCE = re.compile(r', "since": [^,}\]]+')


class Start(NamedTuple):
    """A trigger as it is stored, as text, and when it is due first (None: never)."""

    trigger: str
    next_at: float | None


class Before(NamedTuple):
    """What a schedule had before its trigger was changed. `fired`: whether it ever did."""

    trigger: str
    next_at: float | None
    fired: bool


def start(text: str, now: float, before: Before | None = None) -> Start:
    """Return what to store of a trigger (as text) that a schedule is given at `now`, and when it is due.

    A tick that was due before is still due, and the new trigger counts from now on. A trigger that differs in its
    jitter alone goes on as before; an interval of the calendar goes on from its date.
    """
    trigger = decode(text)
    old = None if before is None else _understood(before.trigger)
    if before is None:
        begun = _dated(trigger, now)
        return Start(encode(begun), first(begun, now))
    if old is not None and _alike(trigger) == _alike(old):
        return Start(encode(_continued(trigger, old)), before.next_at)
    if isinstance(trigger, At) and isinstance(old, At):  # the one moment is moved
        return Start(text, trigger.when)
    missed = before.next_at is not None and before.next_at <= now
    begun = _counted_from(trigger, now) if missed else _dated(trigger, now)
    if isinstance(trigger, Calendar) and isinstance(old, Calendar) and _interval(trigger) == _interval(old):
        begun = _continued(trigger, old)
    upcoming = following(begun, now) if before.fired else first(begun, now)
    return Start(encode(begun), before.next_at if missed else upcoming)


def is_same(stored: str, text: str) -> bool:
    """Tell whether a stored trigger is the declared one, both as text; its start is left out of account."""
    return stored == text or _SINCE.sub("", stored) == text


def declared(trigger: Trigger) -> Trigger:
    """Return a stored trigger as it was declared, without the name and the start of its schedule."""
    if isinstance(trigger, FirstOf):
        return FirstOf(tuple(_as_declared(each) for each in trigger.members))
    return _as_declared(trigger)


def _as_declared(trigger: Single) -> Single:
    if isinstance(trigger, Cron):
        return msgspec.structs.replace(trigger, seed="", since=None)
    return _since(trigger, None)


def _understood(text: str) -> Trigger | None:
    try:
        return decode(text)
    except ValueError:  # of another release, or in a zone unknown here
        return None


def _alike(trigger: Trigger) -> list[Single]:
    """A trigger without what only delays its ticks, and without its start."""
    return [
        _since(msgspec.structs.replace(each, jitter=0.0) if isinstance(each, (Every, Calendar)) else each, None)
        for each in _members(trigger)
    ]


def _interval(trigger: Calendar) -> tuple[object, ...]:
    return trigger.count, trigger.unit, trigger.first_at


def _dated(trigger: Trigger, now: float) -> Trigger:
    """Let a trigger be counted from `now` if it needs a date to be counted from."""
    if isinstance(trigger, FirstOf):  # an interval is not to be counted from the ticks of the others
        if any(isinstance(each, At) and each.when < now for each in trigger.members):  # which fires as of then
            return _counted_from(trigger, now)
        return FirstOf(tuple(each if isinstance(each, Cron) else _since(each, now) for each in trigger.members))
    return _since(trigger, now) if isinstance(trigger, Calendar) else trigger


def _counted_from(trigger: Trigger, now: float) -> Trigger:
    if isinstance(trigger, FirstOf):
        return FirstOf(tuple(_since(each, now) for each in trigger.members))
    return _since(trigger, now)


def _continued(trigger: Trigger, old: Trigger) -> Trigger:
    """Let a trigger be counted from where the old one is, which is of its kind."""
    starts = [None if isinstance(each, At) else each.since for each in _members(old)]
    moved = [_since(each, start) for each, start in zip(_members(trigger), starts, strict=True)]
    return FirstOf(tuple(moved)) if isinstance(trigger, FirstOf) else moved[0]


def _members(trigger: Trigger) -> tuple[Single, ...]:
    return trigger.members if isinstance(trigger, FirstOf) else (trigger,)


def _since(trigger: Single, since: float | None) -> Single:
    return trigger if isinstance(trigger, At) else msgspec.structs.replace(trigger, since=since)
