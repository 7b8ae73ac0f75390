"""Rules: what an operator says on what may start, and sees of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs.row_values import workers
from litequeue.sqlite.limits import operating, overview

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Collection

    from litequeue.core.limits import LimitRecord, LimitSettings, PauseKind, PauseRecord
    from litequeue.sqlite.drivers.connection import Steps
    from litequeue.sqlite.kernel import Kernel

T = TypeVar("T")


class StoredRules:
    """The limits and pauses of one file."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._writer = kernel, kernel.writer

    def list(self) -> builtins.list[LimitRecord]:
        """Return all limits, by name."""
        return self._kernel.read_listing(lambda db: overview.limits(db, self._kernel.clock))

    async def alist(self) -> builtins.list[LimitRecord]:
        """Async twin of `list`."""
        return await self._kernel.listed_soon(self.list)

    def get(self, name: str) -> LimitRecord:
        """Return the limit of that name; raises `LimitNotFound`."""
        [found] = self._kernel.read_listing(lambda db: overview.limits(db, self._kernel.clock, name))
        return found

    async def aget(self, name: str) -> LimitRecord:
        """Async twin of `get`."""
        return await self._kernel.listed_soon(lambda: self.get(name))

    def change(self, name: str, settings: LimitSettings | None) -> bool:
        """Let a limit allow what these settings say, or, given None, what its code declares; whether that is new."""
        return self._change(lambda: self._changing(name, settings))

    async def achange(self, name: str, settings: LimitSettings | None) -> bool:
        """Async twin of `change`."""
        return await self._achange(lambda: self._changing(name, settings))

    def _changing(self, name: str, settings: LimitSettings | None) -> Steps[bool]:
        if settings is None:
            return operating.reset_limit(name)
        return operating.set_limit(name, settings, self._kernel.clock.now())

    def remove(self, name: str, declared: Collection[str] = ()) -> None:
        """Delete a limit that no code declares. Raises `LimitNotFound`, `Unsupported`."""
        served = self._served()
        self._change(lambda: operating.remove_limit(name, declared, served))

    async def aremove(self, name: str, declared: Collection[str] = ()) -> None:
        """Async twin of `remove`."""
        served = await self._kernel.soon(self._served)
        await self._achange(lambda: operating.remove_limit(name, declared, served))

    def _served(self) -> builtins.list[str]:
        """The tasks that running workers have."""
        known = self._kernel.read(workers)
        return sorted({task for worker in known if self._kernel.lives(worker.token) for task in worker.tasks})

    def pause(self, kind: PauseKind, name: str) -> bool:
        """Let no job of a queue or a task start; return whether it was not paused."""
        return self._change(lambda: operating.pause(kind, name, self._kernel.clock.now()))

    async def apause(self, kind: PauseKind, name: str) -> bool:
        """Async twin of `pause`."""
        return await self._achange(lambda: operating.pause(kind, name, self._kernel.clock.now()))

    def resume(self, kind: PauseKind, name: str) -> bool:
        """Let them start again; return whether it was paused."""
        return self._change(lambda: operating.resume(kind, name))

    async def aresume(self, kind: PauseKind, name: str) -> bool:
        """Async twin of `resume`."""
        return await self._achange(lambda: operating.resume(kind, name))

    def pauses(self) -> builtins.list[PauseRecord]:
        """Return what is paused: queues, then tasks, by name."""
        return self._kernel.read(overview.pauses)

    async def apauses(self) -> builtins.list[PauseRecord]:
        """Async twin of `pauses`."""
        return await self._kernel.aread(overview.pauses)

    def _change(self, steps: Callable[[], Steps[T]]) -> T:
        held = self._writer.held()
        value = self._writer.run(lambda db: perform(db, steps()))
        self._kernel.announce(held)
        return value

    async def _achange(self, steps: Callable[[], Steps[T]]) -> T:
        return await self._kernel.arun(steps, self._kernel.announce)
