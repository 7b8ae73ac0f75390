"""Coroutines on one event loop, with a limit on their number. Knows jobs as values, and no store."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from litequeue.execute import aexecute
from litequeue.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Coroutines(Pool):
    """Coroutines on the application's loop, or on one of our own in a thread."""

    def __init__(
        self,
        size: int,
        begin: Callable[[Claimed, int], Run],
        end: Callable[[Run, Outcome, int, Pool], None],
        wake: Callable[[], None],
        *,
        first_slot: int,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        super().__init__(size)
        self._begin, self._end, self._wake = begin, end, wake
        self._slots = list(range(first_slot, first_slot + size))
        self._tasks: dict[Run, tuple[asyncio.Task[None], int]] = {}
        self._loop = loop
        self._own: threading.Thread | None = None
        self._calling = self._asked = self._waking = False

    @property
    def busy(self) -> int:
        """How many are running."""
        return self.size - len(self._slots)

    @property
    def free(self) -> int:
        """How many more jobs could begin at once: none while the loop, which may be the application's, stands still."""
        self._asked = True  # before the look: so either we see that it has answered, or it sees that we asked
        if self._calling:
            return 0
        self._asked = False
        return super().free

    def interrupt(self, run: Run) -> bool:
        """Cancel the coroutine of this run."""
        self._running_loop().call_soon_threadsafe(self._cancel, run)
        return True

    def write_off(self, run: Run) -> bool:
        """Count on this run no more, though its coroutine goes on. False when it has ended meanwhile."""
        known = self._tasks.pop(run, None)  # by one of two alone, in whatever thread
        if known is None:
            return False
        run.written_off = True
        self._slots.append(known[1])
        return True

    def wake(self) -> None:
        """Wake the worker's loop, once those have ended that end in this turn of the coroutines' own."""
        if not self._waking:
            self._waking = True
            asyncio.get_running_loop().call_soon(self._wake_now)

    def stop(self) -> None:
        """End our own loop; coroutines written off are cancelled with it."""
        loop, own = self._loop, self._own
        if own is not None and loop is not None:
            loop.call_soon_threadsafe(loop.stop)
            if own is not threading.current_thread():
                own.join(timeout=5.0)

    def _wake_now(self) -> None:
        self._waking = False
        self._wake()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._own = threading.Thread(target=_run_loop, args=(self._loop,), name="litequeue-loop", daemon=True)
            self._own.start()
        return self._loop

    def _staff(self, wanted: int) -> None:  # noqa: ARG002 - whoever finds room begins
        self._calling = True
        self._running_loop().call_soon_threadsafe(self._answer)

    def warm(self) -> None:
        """Have a loop that `admit` finds running."""
        self._running_loop()

    def admit(self, job: Claimed, now: float) -> None:
        """Put a job in line from any thread, where a Ctrl-C may come at any time; the loop begins it."""
        self._put_first(job, now)
        with suppress(RuntimeError):  # the application's loop is closed: the line is given back
            self._running_loop().call_soon_threadsafe(self._fill)

    take_in = admit

    def _answer(self) -> None:
        self._calling = False
        self._fill()
        if self._asked:  # while we stood still, so nothing was claimed
            self._asked = False
            self._wake()

    def _fill(self) -> None:
        """Begin what is in line, as far as there is room."""
        loop = asyncio.get_running_loop()
        while self._slots:
            slot = self._slots.pop()
            try:
                job = self.line.popleft()
            except IndexError:
                self._slots.append(slot)
                return
            run = self._begin(job, slot)
            # not by the loop's task factory, which may run it to its end before we know of it
            self._tasks[run] = _Task(self._one(run, slot), loop=loop, name=job.task), slot

    def _cancel(self, run: Run) -> None:
        known = self._tasks.get(run)
        if known is not None:
            # a turn of the loop later: a task that is cancelled before its first step never runs, and never ends
            asyncio.get_running_loop().call_soon(known[0].cancel)

    async def _one(self, run: Run, slot: int) -> None:
        outcome = await aexecute(run)
        if self._tasks.pop(run, None) is None:  # written off
            return
        self._end(run, outcome, slot, self)
        self._slots.append(slot)
        if self.line:
            self._fill()


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
