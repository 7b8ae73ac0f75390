"""The limits that a queue's code declares: `queue.limit()`. Knows no SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litequeue.core.declaration import Declaration, declared_here
from litequeue.limits.limit import Limit, checked_limit_name, limit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class DeclaredLimits:
    """What `queue.limit()` has declared, by name. `followers` are called when it changes."""

    def __init__(self) -> None:
        self._limits: dict[str, Limit] = {}
        self._places: dict[str, Declaration] = {}
        self.followers: list[Callable[[], object]] = []

    @property
    def all(self) -> Mapping[str, Limit]:
        """The limits, by name."""
        return self._limits

    def add(self, name: str, concurrency: Any, rate: Any, *, smooth: bool) -> Limit:
        """Declare one. Raises `ValueError` where it is declared already, otherwise than here."""
        new = limit_of(checked_limit_name(name), concurrency, rate, smooth=smooth)
        here, old = declared_here(self.add), self._limits.get(name)
        if old is not None and old != new and self._places[name].is_amid(here):
            raise ValueError(f"limit {name!r} is declared already, as {_said(old)}, and now as {_said(new)}")
        self._limits[name], self._places[name] = new, here
        for tell in list(self.followers):
            tell()
        return new


def _said(limit: Limit) -> str:
    concurrency, rate = limit.allowed.concurrency, limit.allowed.rate
    said = [f"concurrency={concurrency}"] if concurrency is not None else []
    said += [f'rate="{rate}"'] if rate is not None else []
    return ", ".join(said)
