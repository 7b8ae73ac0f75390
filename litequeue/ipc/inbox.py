"""What one wait for many jobs was told of, by any thread. Knows no job and no file."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from litequeue.core.interruptible import interruptible

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

S = TypeVar("S")

PIECE = 1.0  # seconds


class Inbox(Generic[S]):
    """Told of ids, each of a source; taken out and waited for by one thread or by one coroutine."""

    def __init__(self) -> None:
        self._told: deque[tuple[S, str]] = deque()
        self._notifier = threading.Lock()
        self._notifier.acquire()
        self._event: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.looking: set[object] = set()  # names of watches that have yet to tell of what had ended before them

    def tell(self, source: S, name: object, job_ids: Sequence[str]) -> None:
        """Take in what the watch of that name tells of; of none: that was all that had ended before."""
        self._told.extend([(source, job_id) for job_id in job_ids])
        if not job_ids:
            self.looking.discard(name)
        with suppress(RuntimeError):  # it has been told already, or its loop is closed
            if self._event is not None and self._loop is not None:
                self._loop.call_soon_threadsafe(self._event.set)
            else:
                self._notifier.release()

    def take(self, most: int) -> tuple[S, list[str]] | None:
        """Return the next ones that are of one source; None: there are none."""
        if not self._told:
            return None
        source, job_id = self._told.popleft()
        ids = [job_id]
        while self._told and len(ids) < most and self._told[0][0] is source:
            ids.append(self._told.popleft()[1])
        return source, ids

    @interruptible
    def wait(self, seconds: float | None) -> None:
        """Sleep until it is told, at most so long, or for a while."""
        # in pieces: an error for this thread comes between them
        self._notifier.acquire(timeout=PIECE if seconds is None else min(seconds, PIECE))

    async def await_any(self, seconds: float | None) -> None:
        """Async twin of `wait`."""
        import asyncio

        loop = asyncio.get_running_loop()
        if self._event is None:
            self._loop, self._event = loop, asyncio.Event()
            if self._told or self._notifier.acquire(blocking=False):  # before there was an event
                return
        event = self._event
        # not wait_for(): up to Python 3.11 it loses a cancel that comes as the event is set
        timer = None if seconds is None else loop.call_later(seconds, event.set)
        try:
            await event.wait()
        finally:
            if timer is not None:
                timer.cancel()
        event.clear()
