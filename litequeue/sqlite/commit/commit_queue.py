"""Which caller writes next: callers queue for the writer thread, or for the connection itself. Knows no connection."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from litequeue.core.asyncio_context import require_asyncio, wake
from litequeue.core.budget import BUDGET
from litequeue.errors import StoreBusy, StoreError
from litequeue.sqlite.commit.batch import Entry
from litequeue.sqlite.commit.gathering import Gathering

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator

LOOK_EVERY = 1.0  # seconds between the looks of a caller that waits, in case it is not told
LOOKS = 10  # after so many in vain the caller is refused, as by another process's lock

_WAITED = (
    f"other writers of this process were not done within {LOOKS * LOOK_EVERY:.0f} s, and nothing was stored; keep "
    "transactions short, and write inside one only from the thread or coroutine that opened it"
)


class NoThread(StoreError):
    """The writer thread cannot be started; nothing was stored."""


class CommitQueue:
    """Threads and coroutines that found the connection busy. `lead` is the right to use it; its holder calls the next.

    Work is committed by the writer thread, for all callers that wait; a caller that wants the connection itself, for a
    block, gets the right to it when it is first in the queue. Python raises Ctrl-C between any two instructions of the
    main thread. So a thread takes the right by `with lead` alone, a C lock that cannot be lost; and since a call can be
    lost, each caller that waits looks again every second.
    """

    def __init__(self, lead_by_thread: Callable[[], object]) -> None:
        self.connection_lock: threading.Lock = threading.Lock()
        self._lead_by_thread = lead_by_thread
        self._gate = threading.RLock()  # re-entrant: a signal handler may write inside each of these calls
        self._waiting: deque[Entry[Any]] = deque()
        self._thread_called = False
        self._gathering = Gathering(self._waiting)

    @property
    def free(self) -> bool:
        """Whether no caller writes or waits to write."""
        return not self._waiting and not self.connection_lock.locked()

    def wait(self, entry: Entry[Any]) -> bool:
        """Queue up and block until the work is done; without work, until it may use the connection: then True.

        Raises `StoreBusy` after `LOOKS` looks. A caller that leaves by an error calls `leave`.
        """
        entry.lock = threading.Lock()
        entry.lock.acquire()
        self._append(entry)
        self.tell_next()
        looks = 0
        while not entry.done:
            if entry.work is None and self._is_next(entry):
                return True
            if not entry.lock.acquire(timeout=LOOK_EVERY):
                looks += 1
                self._look_after(entry, looks)
        return False

    @contextmanager
    def alone(self) -> Generator[None, None, None]:
        """Have the connection for the block, alone."""
        entry = Entry[None](None)
        try:
            self.wait(entry)
            with self.connection_lock:
                self._remove(entry)
                yield
        finally:
            self.leave(entry)

    async def wait_async(self, entry: Entry[Any]) -> None:
        """Queue up from a loop, and await until the work is done; without work, until it may use the connection.

        Raises what the work raised, and `StoreBusy` as `wait` does. A caller without work holds `lead` on return.
        """
        loop = require_asyncio()
        entry.future = loop.create_future()
        self._append(entry)
        self.tell_next()
        entry.timer = loop.call_later(LOOK_EVERY, self._look_from_loop, entry, 1)
        try:
            while not (entry.done or self._takes_lead(entry)):
                await entry.future
                entry.future = loop.create_future()
        except BaseException:
            self.leave(entry)
            raise
        finally:
            entry.timer.cancel()
        if entry.done:
            entry.outcome()

    def _append(self, entry: Entry[Any]) -> None:
        with self._gate:
            self._waiting.append(entry)
            self._gathering.note()

    def _is_next(self, entry: Entry[Any]) -> bool:
        with self._gate:
            first = self._waiting[0] if self._waiting else None
            return first is entry and entry.work is None and not self.connection_lock.locked()

    def _takes_lead(self, entry: Entry[Any]) -> bool:
        # not by `with`: held across awaits; where Ctrl-C is raised into a loop's thread, the loop ends with it
        if not self._is_next(entry) or not self.connection_lock.acquire(blocking=False):
            return False
        self._remove(entry)
        return True

    def _look_after(self, entry: Entry[Any], looks: int) -> None:
        """A call may have been lost: tell the first again. Raise `StoreBusy` for one that waited in vain."""
        if looks >= LOOKS and self._remove(entry):
            raise StoreBusy(_WAITED)
        self._pass_over_the_absent()
        self._thread_called = False
        self.tell_next()

    def _pass_over_the_absent(self) -> None:
        """Move to the end of the queue a caller that does not come, because its loop stands still: maybe for us."""
        with self._gate:
            for _ in range(0 if self.connection_lock.locked() else len(self._waiting)):
                if self._waiting[0].work is not None or self._waiting[0].future is None:
                    break
                self._waiting.rotate(-1)

    def _look_from_loop(self, entry: Entry[Any], looks: int) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        try:
            self._look_after(entry, looks)
        except StoreBusy as error:
            entry.fail(error)
        if entry.done:
            entry.tell()
        else:
            entry.timer = loop.call_later(LOOK_EVERY, self._look_from_loop, entry, looks + 1)

    def leave(self, entry: Entry[Any]) -> None:
        """Leave the queue, with the work unless the writer thread has begun it, and tell the next caller."""
        if not entry.done:
            self._remove(entry)
        self.tell_next()

    def _remove(self, entry: Entry[Any]) -> bool:
        """Take it out of the queue; False when it is not there: its work has been begun."""
        with self._gate:
            try:
                self._waiting.remove(entry)
            except ValueError:
                return False
            return True

    def tell_next(self) -> None:
        """Tell the first in the queue, if any, that the connection is free; for work, call the writer thread."""
        while self._waiting and not self.connection_lock.locked():
            with self._gate:
                if not self._waiting:
                    return
                first = self._waiting[0]
                if first.work is None:
                    if first.tell():
                        return
                    self._remove(first)  # of a loop that is closed
                    continue
                called, self._thread_called = self._thread_called, True
            if called or self._call_thread(first):
                return

    def _call_thread(self, first: Entry[Any]) -> bool:
        try:
            self._lead_by_thread()
        except RuntimeError as error:  # no thread can be started, or the interpreter is ending
            self._thread_called = False
            if self._remove(first):
                first.fail(NoThread(f"nothing was stored: no thread to write with ({error})"))
                first.tell()
            return False  # it has been dealt with: the next one is told
        return True

    def reset_after_fork(self) -> None:
        """After a fork, in the child: the callers in the queue are not here, nor is the holder of a lock."""
        self.connection_lock, self._gate = threading.Lock(), threading.RLock()
        self._waiting.clear()
        self._thread_called = False
        self._gathering = Gathering(self._waiting)

    # ---- in the writer thread, in which no Ctrl-C is raised

    def thread_came(self) -> bool:
        """Take `lead` if it is free. The caller that holds it calls again, so never wait here.

        That caller may need this very thread to begin and to commit.
        """
        with self._gate:
            self._thread_called = False
        return self.connection_lock.acquire(blocking=False)

    def gather(self) -> None:
        """Let the callers of the last batch come again, for a moment."""
        self._gathering.wait()

    def take_batch(self, most: int) -> list[Entry[Any]]:
        """Take the work at the head of the queue, up to a caller that wants the connection. `finish` must follow."""
        batch: list[Entry[Any]] = []
        size = 0
        with self._gate:
            self._thread_called = False
            while self._waiting and len(batch) < most and size < BUDGET and self._waiting[0].work is not None:
                batch.append(entry := self._waiting.popleft())
                size += entry.size
        return batch

    def finish(self, batch: list[Entry[Any]]) -> bool:
        """Tell the callers of a batch that their work is done; return whether there were any."""
        told: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}  # a loop is woken once for all
        self._gathering.expect(len(batch))
        for entry in batch:
            if entry.then is not None and entry.error is None:
                entry.then(entry.value)
        for entry in batch:
            if entry.future is None:
                entry.tell()
            else:
                told.setdefault(entry.future.get_loop(), []).append(entry.future)
        for loop, futures in told.items():
            wake(loop, futures)
        return bool(batch)


async def finish(future: asyncio.Future[Any], then: Callable[[], object] = lambda: None) -> Any:
    """Await to the end even when cancelled: a transaction left half begun would lock the file.

    `then` is called when it has succeeded, before a cancel is raised.
    """
    import asyncio

    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as error:
            cancelled = error
        except BaseException:
            break
    value = future.result()
    then()
    if cancelled is not None:
        raise cancelled
    return value
