"""Limits and pauses as values, and the part of an engine that keeps them for an operator. Knows no rate and no SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, TypedDict

import msgspec

if TYPE_CHECKING:
    import builtins
    from collections.abc import Collection

PauseKind: TypeAlias = Literal["queue", "task"]


class LimitSettings(TypedDict, total=False):
    """What a limit allows, or some of it: `concurrency` and `rate` (None: any number), `smooth`."""

    concurrency: int | None
    rate: str | None
    smooth: bool


class LimitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A limit as it stands in the file. `allowed` holds; it is `declared`, but where `operator` says otherwise.

    `running`: how much of it runs take now, of all keys together; `started`: how much of its rate, where it has no key.
    `waiting`: ready jobs of its tasks, `parked`: jobs of full keys, of which there are `full_keys`. `full`: it has no
    key, and no room for one more, before `opens_at` where time decides it. Times are unix seconds.
    """

    name: str
    allowed: LimitSettings
    declared: LimitSettings | None = None
    operator: LimitSettings | None = None
    operator_at: float | None = None
    tasks: tuple[str, ...] = ()
    keyed: bool = False
    running: int = 0
    started: int | None = None
    waiting: int = 0
    parked: int = 0
    full_keys: int = 0
    full: bool = False
    opens_at: float | None = None


class PauseRecord(msgspec.Struct, frozen=True):
    """A queue or a task that is paused, and since when, in unix seconds."""

    kind: PauseKind
    name: str
    paused_at: float


class RuleKeeper(Protocol):
    """The part of an engine that keeps what an operator says on what may start: limits and pauses."""

    def list(self) -> builtins.list[LimitRecord]:
        """Return all limits, by name."""

    async def alist(self) -> builtins.list[LimitRecord]:
        """Async twin of `list`."""

    def get(self, name: str) -> LimitRecord:
        """Return the limit of that name, or raise `LimitNotFound`."""

    async def aget(self, name: str) -> LimitRecord:
        """Async twin of `get`."""

    def change(self, name: str, settings: LimitSettings | None) -> bool:
        """Let a limit allow what these settings say, or, given None, what its code declares; whether that is new."""

    async def achange(self, name: str, settings: LimitSettings | None) -> bool:
        """Async twin of `change`."""

    def remove(self, name: str, declared: Collection[str]) -> None:
        """Delete a limit that no code declares: no running worker, and not this process, whose limits are given."""

    async def aremove(self, name: str, declared: Collection[str]) -> None:
        """Async twin of `remove`."""

    def pause(self, kind: PauseKind, name: str) -> bool:
        """Let no job of a queue or a task start; return whether it was not paused before."""

    async def apause(self, kind: PauseKind, name: str) -> bool:
        """Async twin of `pause`."""

    def resume(self, kind: PauseKind, name: str) -> bool:
        """Let them start again; return whether it was paused."""

    async def aresume(self, kind: PauseKind, name: str) -> bool:
        """Async twin of `resume`."""

    def pauses(self) -> builtins.list[PauseRecord]:
        """Return what is paused: queues, then tasks, by name."""

    async def apauses(self) -> builtins.list[PauseRecord]:
        """Async twin of `pauses`."""
