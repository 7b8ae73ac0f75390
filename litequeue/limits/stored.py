"""The limits kept in the file, as an operator sees and changes them: `queue.limits`. Knows no SQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from litequeue.core.duration import utc
from litequeue.core.names import check_name, some
from litequeue.core.records import moment
from litequeue.errors import LimitNotFound
from litequeue.limits.limit import allowed_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from litequeue.core.limits import LimitRecord, LimitSettings, PauseKind, PauseRecord, RuleKeeper


class Pause(NamedTuple):
    """A queue or a task that is paused: `kind` is "queue" or "task"."""

    kind: PauseKind
    name: str
    paused_at: datetime

    @classmethod
    def of(cls, record: PauseRecord) -> Pause:
        """Make it of its record."""
        return cls(record.kind, record.name, utc(record.paused_at))


class StoredLimit:
    """One limit, as it was when it was read."""

    def __init__(self, record: LimitRecord, keeper: RuleKeeper, declared_here: Callable[[], Collection[str]]) -> None:
        self._record, self._keeper, self._declared_here = record, keeper, declared_here

    @property
    def name(self) -> str:
        """Its name; the limit of a task's own `concurrency=` or `rate=` has the name of the task."""
        return self._record.name

    @property
    def concurrency(self) -> int | None:
        """How many run at once; None: any number."""
        return self._record.allowed.get("concurrency")

    @property
    def rate(self) -> str | None:
        """How many start in a window, such as "500/m"; None: any number."""
        return self._record.allowed.get("rate")

    @property
    def smooth(self) -> bool:
        """Whether the starts of the rate are spaced evenly."""
        return self._record.allowed.get("smooth", False)

    @property
    def declared(self) -> LimitSettings | None:
        """What the code declared last, as a dict of `concurrency`, `rate` and `smooth`; None: nothing."""
        return self._record.declared

    @property
    def operator(self) -> LimitSettings | None:
        """What was set since, in the same form, and holds in place of that until it is reset; None: nothing."""
        return self._record.operator

    @property
    def operator_at(self) -> datetime | None:
        """When that was set last."""
        return moment(self._record.operator_at)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks that take of it."""
        return self._record.tasks

    @property
    def keyed(self) -> bool:
        """Whether it holds for each key by itself."""
        return self._record.keyed

    @property
    def running(self) -> int:
        """How much of it running jobs take, of all keys together."""
        return self._record.running

    @property
    def started(self) -> int | None:
        """How much of the window of its rate is taken; None: it has no rate, or has keys."""
        return self._record.started

    @property
    def waiting(self) -> int:
        """How many jobs of its tasks are ready to run, parked ones not included."""
        return self._record.waiting

    @property
    def parked(self) -> int:
        """How many jobs wait because their key is full."""
        return self._record.parked

    @property
    def full_keys(self) -> int:
        """How many keys have such jobs."""
        return self._record.full_keys

    @property
    def full(self) -> bool:
        """Whether there is no room for one more; False where it has keys."""
        return self._record.full

    @property
    def opens_at(self) -> datetime | None:
        """When the rate of a full limit has room again; None: it is not full, or an end makes room."""
        return moment(self._record.opens_at)

    def set(self, **settings: Unpack[LimitSettings]) -> bool:
        """Let it allow something else at once, for all workers, until `reset()`; return whether that is new.

        `concurrency`: how many run at once; `rate`: how many start in a window, such as "250/m"; None for any number;
        `smooth`: spaced evenly. What is left out stays as it is. What runs already goes on.
        """
        return self._keeper.change(self.name, checked_settings(settings))

    async def aset(self, **settings: Unpack[LimitSettings]) -> bool:
        """Async twin of `set`."""
        return await self._keeper.achange(self.name, checked_settings(settings))

    def reset(self) -> bool:
        """Let it allow again what the code declares; return whether that is new."""
        return self._keeper.change(self.name, None)

    async def areset(self) -> bool:
        """Async twin of `reset`."""
        return await self._keeper.achange(self.name, None)

    def remove(self) -> None:
        """Delete a limit that no code declares any more.

        Raises `Unsupported` where this program declares it, or a task of a running worker takes of it.
        """
        self._keeper.remove(self.name, self._declared_here())

    async def aremove(self) -> None:
        """Async twin of `remove`."""
        await self._keeper.aremove(self.name, self._declared_here())

    def __repr__(self) -> str:
        return f"<StoredLimit {self.name} {words(self._record.allowed)} running={self.running}>"


class Limits:
    """The limits of a queue, by name: those that its workers' code has declared. Kept in the file."""

    def __init__(self, keeper: RuleKeeper, declared_here: Callable[[], Collection[str]]) -> None:
        self._keeper, self._declared_here = keeper, declared_here

    def __getitem__(self, name: str) -> StoredLimit:
        return self._of(self._keeper.get(check_name(name, "a limit's name")))

    async def aget(self, name: str) -> StoredLimit:
        """Async twin of `queue.limits[name]`."""
        return self._of(await self._keeper.aget(check_name(name, "a limit's name")))

    def __contains__(self, name: object) -> bool:
        try:
            self._keeper.get(str(name))
        except LimitNotFound:
            return False
        return True

    def __iter__(self) -> Iterator[StoredLimit]:
        return iter([self._of(record) for record in self._keeper.list()])

    async def __aiter__(self) -> AsyncIterator[StoredLimit]:
        for record in await self._keeper.alist():
            yield self._of(record)

    def __len__(self) -> int:
        return len(self._keeper.list())

    def _of(self, record: LimitRecord) -> StoredLimit:
        return StoredLimit(record, self._keeper, self._declared_here)

    def __repr__(self) -> str:
        return f"<Limits {some([record.name for record in self._keeper.list()]) or 'none'}>"


def words(settings: LimitSettings) -> str:
    """Return what is allowed as text: "8 at once, 500/m"."""
    said = [] if settings.get("concurrency") is None else [f"{settings['concurrency']} at once"]
    if settings.get("rate") is not None:
        said.append(f"{settings['rate']}{' smooth' if settings.get('smooth') else ''}")
    return ", ".join(said) or "any number"


def checked_settings(settings: LimitSettings) -> LimitSettings:
    """Refuse what no limit allows before the file is looked at."""
    given: dict[str, Any] = dict(settings)
    unknown = ", ".join(sorted(given.keys() - {"concurrency", "rate", "smooth"}))
    if unknown or not given:
        what = f"a limit has no {unknown}; " if unknown else ""
        raise TypeError(f"{what}give concurrency=, rate= or smooth=; None is for any number")
    if given.get("concurrency") == 0:
        raise ValueError("concurrency must be at least 1; to let nothing start, pause the queue or the task")
    if not isinstance(given.get("smooth", False), bool):
        raise TypeError(f"smooth must be True or False, got {given['smooth']!r}")
    allowed_of(given.get("concurrency"), given.get("rate"), smooth=bool(given.get("smooth")) and "rate" in given)
    return settings
