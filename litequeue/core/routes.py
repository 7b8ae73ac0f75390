"""Into which queue the calls of a task go that names none: the first pattern of its name decides. Knows no task."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from litequeue.core.names import check_queue

DEFAULT = "default"


class Routes:
    """Patterns of tasks' names, such as `send_*`, each with a queue; the first that matches counts."""

    def __init__(self, given: Mapping[str, str] | None) -> None:
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"routes must map patterns of tasks' names to queues, got {given!r}")
        self._routes: list[tuple[str, str]] = [(_pattern(each), _queue(each, to)) for each, to in (given or {}).items()]

    def queue_of(self, task: str) -> str:
        """Return the queue for a task of that name."""
        for pattern, queue in self._routes:
            if fnmatchcase(task, pattern):
                return queue
        return DEFAULT

    def __repr__(self) -> str:
        return f"<Routes {len(self._routes)}>"


def _pattern(given: object) -> str:
    if not isinstance(given, str) or not given.strip():
        raise ValueError(f"routes must name patterns of tasks' names, such as 'send_*', got {given!r}")
    if "@" in given:
        raise ValueError(f"routes go by the name of a task, which has no version; leave out the @ in {given!r}")
    return given


def _queue(pattern: str, given: object) -> str:
    return check_queue(given, f"the queue of the route {pattern!r}")
