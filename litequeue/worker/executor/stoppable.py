"""One run that can be told to stop: in a thread, by an error raised there, or as a task of an event loop.

Knows no pool and no store.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from litequeue.core.interruptible import catches_interrupts
from litequeue.errors import JobTimeout
from litequeue.ipc.thread_interrupt import insist, interrupt, withdraw
from litequeue.worker.executor.execute import execute, written_off
from litequeue.worker.executor.stacks import of_thread

if TYPE_CHECKING:
    from litequeue.core.outcome import Outcome
    from litequeue.worker.executor.context import Run

TELL_AGAIN = 0.005  # seconds until a run that could not be stopped just now is told again


class StoppableThread:
    """One thread and the run it is at. `ident`: the thread's number."""

    __slots__ = ("ident", "lock", "run", "told")

    def __init__(self, ident: int = 0) -> None:
        self.ident: int = ident
        self.lock: threading.Lock = threading.Lock()
        self.run: Run | None = None
        self.told: bool = False

    def stop(self, run: Run) -> bool:
        """Raise `JobTimeout` in the thread, if it is still at this run; from another thread.

        False: not now, because the thread is in our own work, which must not be left half done; try again soon.
        """
        with self.lock:
            if self.run is not run:
                return True
            if self.told:
                return insist(self.ident)
            self.told = True
            return interrupt(self.ident, JobTimeout)

    def stack(self, run: Run) -> str:
        """Return where it is at this run; empty once that has ended."""
        found = of_thread(self.ident)
        return found if self.run is run else ""  # asked last: it may be at another by now

    @catches_interrupts
    def execute(self, run: Run) -> Outcome:
        """Run a plain function, in this thread; nothing is raised in it any more when this returns."""
        outcome: Outcome | None = None
        try:
            self.run = run
            outcome = copy_context().run(execute, run)  # what a function sets is not there for the next
            self._finish()
        except JobTimeout:  # it came after the function's end, which counts
            self._finish()
        return written_off(run) if outcome is None else outcome

    @catches_interrupts
    def _finish(self) -> None:
        """Make sure that no time limit is raised in this thread any more; a pending one is caught."""
        while True:
            try:
                with self.lock:
                    self.run = None
                    if self.told:
                        withdraw()
                        self.told = False
                return
            except JobTimeout:
                continue


class StoppableTask(asyncio.Task[Any]):
    """A task that remembers that another task cancelled it: Python tells this since 3.11 only."""

    told: bool = False

    def cancel(self, msg: Any = None) -> bool:
        """Cancel it."""
        if asyncio.current_task(self.get_loop()) is not self:
            self.told = True
        return super().cancel(msg)
