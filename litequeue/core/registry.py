"""What is declared under a name: the tasks of one queue. Knows no task."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from litequeue.errors import UnknownTask

T = TypeVar("T")


class Registry(dict[str, T]):
    """The tasks of one queue, by name. `followers` are called when there is another one."""

    def __init__(self) -> None:
        super().__init__()
        self.followers: list[Callable[[], object]] = []

    def __setitem__(self, name: str, task: T) -> None:
        super().__setitem__(name, task)
        for tell in list(self.followers):
            tell()

    def __missing__(self, name: str) -> T:
        import difflib  # needed for an error only

        near = difflib.get_close_matches(name, self, n=1)
        known = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(sorted(self)) or 'none'}"
        raise UnknownTask(f"no task {name!r} is declared on this queue; {known}")
