"""Coroutines on one event loop, with a limit on their number. Knows jobs as values, and no store."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from litequeue.execute import aexecute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from litequeue.execute import Run
    from litequeue.job import Claimed
    from litequeue.outcome import Outcome


class _Task(asyncio.Task[None]):
    """Remembers that it was cancelled, and not by itself: Python tells since 3.11 only."""

    told = False

    def cancel(self, msg: Any = None) -> bool:
        if asyncio.current_task(self.get_loop()) is not self:
            self.told = True
        return super().cancel(msg)


class Coroutines:
    """At most `size` coroutines at a time, on the application's loop or on one of our own in a thread."""

    def __init__(
        self,
        size: int,
        begin: Callable[[Claimed, int], Run],
        end: Callable[[Run, Outcome, int], None],
        *,
        first_slot: int,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.size = size
        self._begin, self._end = begin, end
        self._slots = list(range(first_slot, first_slot + size))
        self._lock = threading.Lock()
        self._tasks: dict[Run, tuple[asyncio.Task[None], int]] = {}
        self._loop = loop
        self._own: threading.Thread | None = None
        self._busy = 0
        self.coming: list[list[Claimed]] = []  # on their way to the loop

    @property
    def free(self) -> int:
        """How many more could begin at once."""
        return self.size - self._busy

    @property
    def busy(self) -> int:
        """How many are running."""
        return self._busy

    def start(self, jobs: Iterable[Claimed]) -> None:
        """Begin these jobs on the loop, all at once."""
        jobs = list(jobs)
        with self._lock:
            self._busy += len(jobs)
            self.coming.append(jobs)
        self._running_loop().call_soon_threadsafe(self._create, jobs)

    def interrupt(self, run: Run) -> None:
        """Cancel the coroutine of this run."""
        self._running_loop().call_soon_threadsafe(self._cancel, run)

    def write_off(self, run: Run) -> bool:
        """Count on this run no more, though its coroutine goes on. False when it has ended meanwhile."""
        with self._lock:
            known = self._tasks.pop(run, None)
            if known is None:
                return False
            run.written_off = True
            self._slots.append(known[1])
            self._busy -= 1
        return True

    def stop(self) -> None:
        """End our own loop; coroutines written off are cancelled with it."""
        loop, own = self._loop, self._own
        if own is not None and loop is not None:
            loop.call_soon_threadsafe(loop.stop)
            if own is not threading.current_thread():
                own.join(timeout=5.0)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._own = threading.Thread(target=_run_loop, args=(self._loop,), name="litequeue-loop", daemon=True)
            self._own.start()
        return self._loop

    def _create(self, jobs: list[Claimed]) -> None:
        loop = asyncio.get_running_loop()
        for job in jobs:
            slot = self._slots.pop()
            run = self._begin(job, slot)
            # not by the loop's task factory, which may run it to its end before we know of it
            self._tasks[run] = _Task(self._one(run, slot), loop=loop), slot
        with self._lock:
            self.coming.remove(jobs)

    def _cancel(self, run: Run) -> None:
        known = self._tasks.get(run)
        if known is not None:
            # a turn of the loop later: a task that is cancelled before its first step never runs, and never ends
            asyncio.get_running_loop().call_soon(known[0].cancel)

    async def _one(self, run: Run, slot: int) -> None:
        outcome = await aexecute(run)
        with self._lock:
            counted = self._tasks.pop(run, None) is not None
            self._busy -= counted
        if counted:
            self._slots.append(slot)
            self._end(run, outcome, slot)


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
