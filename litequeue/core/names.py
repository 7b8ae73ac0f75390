"""What may be a name: of a task, a queue, a schedule, a worker; and how many are told in a message."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN = 3  # names in a message; of the others, how many there are

_NAME = re.compile(r"[^\s,\x00-\x1f\ud800-\udfff][^,\x00-\x1f\ud800-\udfff]{0,199}")  # no surrogates: it is UTF-8


def check_name(value: Any, what: str) -> str:
    """Refuse a name that cannot be listed or given on a command line."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"{what} must be a name of 1 to 200 characters without commas or line breaks, got {value!r}")
    return str.__str__(value)  # a subclass's own repr() would run in a transaction, in an error's message


def task_name(value: object, what: str = "a task's name") -> str:
    """Refuse an invalid name of a task."""
    name = check_name(value, what)
    if "@" in name:
        raise ValueError(f"{what} must be without @, behind which the version of a task is kept, got {value!r}")
    return name


def checked_aliases(given: Iterable[str]) -> tuple[str, ...]:
    """Refuse names that a task cannot have had before."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"aliases must be a list of names that the task had before, got {given!r}")
    return tuple(dict.fromkeys(task_name(name, "each of the aliases") for name in given))


def check_queue(value: Any, what: str = "queue") -> str:
    """Refuse an invalid name of a queue: after `:` a worker's option has how many of its jobs run at once."""
    name = check_name(value, what)
    if re.search(r":\d+$", name):
        plain, _, slots = name.rpartition(":")
        wanted = f"queue.worker(queues={{{plain!r}: {slots}}}), or litequeue run --queues {name}"
        raise ValueError(
            f"{what} must not end in a colon and digits, got {name!r}; to run at most {slots} jobs of {plain!r} at "
            f"once in one worker: {wanted}"
        )
    return name


def some(names: Sequence[str], count: int | None = None) -> str:
    """Return the first names as text, and how many there are more: of `count`, where `names` are not all.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = (len(names) if count is None else count) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
