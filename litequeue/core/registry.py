"""What is declared under a name: the tasks of one queue, also by the names that they had before. Knows no task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from litequeue.errors import UnknownTask

T = TypeVar("T")


class Registry(dict[str, T]):
    """The tasks of one queue, by name; looked up also by an alias. `followers` are called when there is another one."""

    def __init__(self) -> None:
        super().__init__()
        self.followers: list[Callable[[], object]] = []
        self._aliases: dict[str, str] = {}  # the names of tasks

    def __setitem__(self, name: str, task: T) -> None:
        self.add(name, task, ())

    def add(self, name: str, task: T, aliases: Iterable[str]) -> None:
        """Declare a task, or declare it again, with these aliases and no others."""
        self._aliases = {alias: of for alias, of in self._aliases.items() if of != name} | dict.fromkeys(aliases, name)
        super().__setitem__(name, task)
        for tell in list(self.followers):
            tell()

    def refuse_taken(self, name: str, aliases: Iterable[str]) -> None:
        """Raise `ValueError` where one of these names stands for another task already."""
        if name in self._aliases:
            raise ValueError(
                f"{name!r} is an alias of the task {self._aliases[name]!r}; "
                f"give this task another name, or remove the alias there"
            )
        for alias in aliases:
            owner = self._aliases.get(alias, alias if dict.__contains__(self, alias) else name)
            if alias == name or owner != name:
                raise ValueError(
                    f"{name}: aliases names {alias!r}, "
                    + ("its own name; leave it out" if alias == name else f"which is the task {owner!r}; leave it out")
                )

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._aliases

    def get(self, name: str, default: Any = None) -> Any:
        """Return the task of that name or alias."""
        return self[name] if name in self else default  # noqa: SIM401  this is `get`

    def __missing__(self, name: str) -> T:
        if name in self._aliases:
            return self[self._aliases[name]]
        near = self.near(name)
        known = f"did you mean {near!r}?" if near else f"it has: {', '.join(sorted(self)) or 'none'}"
        raise UnknownTask(f"no task {name!r} is declared on this queue; {known}")

    def near(self, name: str) -> str | None:
        """Return the name of a task that may have been meant, or None."""
        import difflib  # needed where a name is unknown only

        near = difflib.get_close_matches(name, self, n=1)
        return near[0] if near else None
