"""Who writes next: callers line up, the first one leads, and passes the lead on. Knows no connection."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Entry(Generic[T]):
    """One caller's work, and what became of it. `work` None asks for the lead itself."""

    __slots__ = ("done", "durable", "error", "future", "leads", "lock", "value", "work")

    def __init__(self, work: Callable[[Any], T] | None, *, durable: bool) -> None:
        self.work: Callable[[Any], T] | None = work
        self.durable: bool = durable
        self.value: T | None = None
        self.error: BaseException | None = None
        self.done: bool = False
        self.leads: bool = False
        self.lock: Any = None
        self.future: asyncio.Future[None] | None = None

    def wake(self) -> bool:
        """Tell the caller; False when it can no longer be told, because its loop is closed."""
        if self.future is not None:
            return _wake_future(self.future)
        if self.lock is not None:
            self.lock.release()
        return True

    def outcome(self) -> T:
        """Return what the work returned, or raise what it raised."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


class Line:
    """Threads and coroutines that want to write. At any time at most one of them leads."""

    def __init__(self, lead_by_thread: Callable[[], None]) -> None:
        self._lead_by_thread = lead_by_thread
        self._gate = threading.Lock()
        self._pending: deque[Entry[Any]] = deque()
        self._leading = False

    def lead_if_free(self) -> bool:
        """Take the lead if nobody has it; never waits."""
        with self._gate:
            free, self._leading = not self._leading, True
        return free

    def enter(self, entry: Entry[Any], timeout: float = -1) -> bool:
        """Queue up; return True to the one who now leads, else wait until the work is done or the lead is handed on.

        With a `timeout`, in seconds, one who waited in vain goes away.
        """
        with self._gate:
            self._pending.append(entry)
            if not self._leading:
                self._leading = True
                self._take_lead(entry)
                return True
            entry.lock = threading.Lock()
            entry.lock.acquire()
        try:
            if not entry.lock.acquire(timeout=timeout):
                self._abandon(entry)
                return False
        except BaseException:  # Ctrl-C while waiting
            self._abandon(entry)
            raise
        return entry.leads

    async def hand_in(self, entry: Entry[Any]) -> None:
        """Queue up from a loop, and await until the work is done or, for one without work, the lead is handed on."""
        entry.future = asyncio.get_running_loop().create_future()
        with self._gate:
            self._pending.append(entry)
            first, self._leading = not self._leading, True
        if first:
            self.pass_on()
        try:
            await asyncio.shield(entry.future)
        except asyncio.CancelledError:
            self._abandon(entry)
            raise

    def _abandon(self, entry: Entry[Any]) -> None:
        """An interrupted caller takes its work back if nobody has begun it, and passes on a lead it was given."""
        with self._gate:
            if entry in self._pending:
                self._pending.remove(entry)
        if entry.leads:
            self.pass_on()

    def _take_lead(self, entry: Entry[Any]) -> None:
        """Under the gate: one who leads for itself alone leaves the line; others are taken with their batch."""
        entry.leads = True
        if entry.work is None:
            self._pending.remove(entry)

    def pass_on(self) -> None:
        """Hand the lead to the first in line, if there is one; for a coroutine's work, to a thread."""
        with self._gate:
            if not self._pending:
                self._leading = False
                return
            heir = self._pending[0]
            by_thread = heir.work is not None and heir.future is not None
            if not by_thread:
                self._take_lead(heir)
        if by_thread:
            self._lead_by_thread()
        elif not heir.wake():
            self._abandon(heir)

    def take_batch(self, most: int) -> list[Entry[Any]]:
        """Take the work at the head of the line, up to one that wants to lead alone."""
        batch: list[Entry[Any]] = []
        with self._gate:
            pending = self._pending
            while pending and pending[0].work is not None and len(batch) < most:
                batch.append(pending.popleft())
        return batch


def _wake_future(future: asyncio.Future[None]) -> bool:
    try:
        future.get_loop().call_soon_threadsafe(_resolve, future)
    except RuntimeError:
        return False
    return True


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
