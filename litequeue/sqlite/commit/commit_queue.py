"""Who writes next: callers line up, and are told when it is their turn to lead. Knows no connection."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from litequeue.core.asyncio_context import require_asyncio
from litequeue.errors import StoreBusy, StoreError
from litequeue.sqlite.commit.batch import Entry, wake

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator

LOOK_EVERY = 1.0  # seconds between looks of one who waits, should nobody tell
LOOKS = 10  # after so many in vain, who waits is refused, as by another process's lock

_WAITED = (
    f"other writers of this process were not done within {LOOKS * LOOK_EVERY:.0f} s, and nothing was stored; keep "
    "transactions short, and write inside one only from the thread or coroutine that opened it"
)


class CommitQueue:
    """Threads and coroutines that want to write: whoever holds `lead` does, and then tells the first in line.

    Python raises Ctrl-C between any two instructions of the main thread. So a thread takes the lead by `with lead`
    alone, a C lock that cannot be lost; and since word can be, who waits also looks by himself every second.
    """

    def __init__(self, lead_by_thread: Callable[[], object]) -> None:
        self.lead = threading.Lock()
        self._lead_by_thread = lead_by_thread
        self._gate = threading.Lock()
        self._waiting: deque[Entry[Any]] = deque()
        self._thread_called = False

    @property
    def free(self) -> bool:
        """Whether nobody writes and nobody waits to."""
        return not self._waiting and not self.lead.locked()

    def wait(self, entry: Entry[Any]) -> bool:
        """Queue up and block; True: it is this caller's turn to take the lead, False: its work is done.

        Raises `StoreBusy` after `LOOKS` looks. Whoever leaves by an error calls `leave`.
        """
        if entry.lock is None:
            entry.lock = threading.Lock()
            entry.lock.acquire()
            with self._gate:
                self._waiting.append(entry)
        looks = 0
        while not entry.done:
            if self._is_next(entry):
                return True
            if not entry.lock.acquire(timeout=LOOK_EVERY):
                looks += 1
                self._look_after(entry, looks)
        return False

    @contextmanager
    def alone(self) -> Generator[None, None, None]:
        """Lead for the block, for oneself alone."""
        entry = Entry[None](None)
        try:
            self.wait(entry)
            with self.lead:
                self._remove(entry)
                yield
        finally:
            self.leave(entry)

    async def wait_async(self, entry: Entry[Any]) -> None:
        """Queue up from a loop, and await until the work is done; for one without work, until it has the lead.

        Raises what the work raised, and `StoreBusy` as `wait` does: whoever returns without work has the lead.
        """
        loop = require_asyncio()
        entry.future = loop.create_future()
        with self._gate:
            self._waiting.append(entry)
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

    def _is_next(self, entry: Entry[Any]) -> bool:
        with self._gate:
            # what is begun while nobody leads was left so by an interrupted leader; the next one deals with it
            first = next((one for one in self._waiting if one is entry or not one.begun), None)
            return first is entry and not self.lead.locked()

    def _takes_lead(self, entry: Entry[Any]) -> bool:
        # not by `with`: held across awaits; where Ctrl-C is raised into a loop's thread, the loop ends with it
        if entry.work is not None or not self._is_next(entry) or not self.lead.acquire(blocking=False):
            return False
        self._remove(entry)
        return True

    def _look_after(self, entry: Entry[Any], looks: int) -> None:
        """Word may have been lost: tell the first again. Raise `StoreBusy` for one who waited in vain."""
        if looks >= LOOKS and self._remove(entry):
            raise StoreBusy(_WAITED)
        self._pass_over_the_absent()
        self._thread_called = False
        self.tell_next()

    def _pass_over_the_absent(self) -> None:
        """Send to the end of the line whoever does not take the lead, because its loop stands still: maybe for us."""
        with self._gate:
            for _ in range(0 if self.lead.locked() else len(self._waiting)):
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
        """Go away, with the work unless it has been begun; and let the line go on."""
        if not entry.done:
            self._remove(entry)
        self.tell_next()

    def _remove(self, entry: Entry[Any]) -> bool:
        """Take it out of the line; False when it is not there, or is being worked on."""
        with self._gate:
            if entry.begun or entry not in self._waiting:
                return False
            self._waiting.remove(entry)
            return True

    def tell_next(self) -> None:
        """Tell the first in line, if there is one, that the lead is free; for a coroutine's work, call a thread."""
        while self._waiting and not self.lead.locked():
            with self._gate:
                if not self._waiting:
                    return
                first = next((one for one in self._waiting if not one.begun), self._waiting[0])
                if first.work is None or first.future is None:
                    if first.tell():
                        return
                    self._waiting.remove(first)  # of a loop that is closed
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
                first.fail(StoreError(f"nothing was stored: no thread to write with ({error})"))
                first.tell()
                return False  # it has been dealt with: the next one is told
        return True  # what somebody has begun is dealt with by the next who leads: asking again would never end

    def start_anew(self) -> None:
        """After a fork, in the child: those in line are not here, nor is whoever held a lock."""
        self.lead, self._gate = threading.Lock(), threading.Lock()
        self._waiting.clear()
        self._thread_called = False

    # ---- while one leads

    def thread_came(self) -> bool:
        """In the thread that was called: take the lead if it is free. Whoever has it calls again, so never wait here.

        That one may need this very thread to begin and to commit. No Ctrl-C is raised in it, so no `with`.
        """
        with self._gate:
            self._thread_called = False
        return self.lead.acquire(blocking=False)

    def take_batch(self, most: int) -> list[Entry[Any]]:
        """Begin the work at the head of the line, up to one that wants to lead alone; `finish` takes it out."""
        with self._gate:
            self._thread_called = False
            batch = list(takewhile(lambda entry: entry.work is not None, islice(self._waiting, most)))
            for entry in batch:
                if entry.begun:
                    entry.settle()  # by a second Ctrl-C nobody has
                entry.begun = True
        return batch

    def finish(self, batch: list[Entry[Any]]) -> None:
        """Take what is done out of the line and tell its callers; what is not is for the next who leads."""
        told: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}  # a loop is woken once for all
        for entry in batch:
            if entry.then is not None and entry.done and entry.error is None:
                entry.then(entry.value)
        with self._gate:
            while self._waiting and self._waiting[0].done:
                entry = self._waiting.popleft()
                if entry.future is None:
                    entry.tell()
                else:
                    told.setdefault(entry.future.get_loop(), []).append(entry.future)
        for loop, futures in told.items():
            wake(loop, futures)


async def finish(future: asyncio.Future[Any]) -> Any:
    """Await to the end even when cancelled: a transaction left half begun would lock the file."""
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
    if cancelled is not None:
        raise cancelled
    return value
