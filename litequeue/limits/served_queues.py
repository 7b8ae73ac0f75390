"""The queues that a worker serves, and how many jobs of each at once, where that is bounded. Knows no SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from litequeue.core.names import check_queue

MOST_SLOTS = 100_000


class ServedQueues(NamedTuple):
    """The names of the queues, None: all; and the slots of those that are bounded."""

    names: tuple[str, ...] | None
    slots: dict[str, int]


def served_queues(given: Any) -> ServedQueues:
    """Check the queues a worker is to serve: names, or a mapping of them to slots, where None is any number."""
    if given is None:
        return ServedQueues(None, {})
    if isinstance(given, str):
        raise TypeError(f"queues must be a list of names, got one string; write [{given!r}]")
    if not isinstance(given, Iterable):
        raise TypeError(f"queues must be a list of names, or a mapping of names to slots, got {given!r}")
    names = tuple(dict.fromkeys(check_queue(name, "a queue's name") for name in given))
    if not names:
        raise ValueError("queues must name at least one queue, or be None for all")
    slots = given if isinstance(given, Mapping) else {}
    return ServedQueues(names, {name: checked_slots(name, many) for name, many in slots.items() if many is not None})


def checked_slots(queue: str, slots: Any) -> int:
    """Refuse an invalid number of slots."""
    if isinstance(slots, bool) or not isinstance(slots, int) or not 1 <= slots <= MOST_SLOTS:
        raise ValueError(
            f"queues: {queue} must have a whole number of slots from 1 to {MOST_SLOTS:,}, or None for any number, got "
            f"{slots!r}; leave a queue out that is not to be served"
        )
    return slots


def queues_text(slots: Mapping[str, int | None]) -> str:
    """Return queues with their slots as they are given on the command line.

    >>> queues_text({"email": None, "reports": 2})
    'email,reports:2'
    """
    return ",".join(name if many is None else f"{name}:{many}" for name, many in slots.items())
