"""One event loop, the application's or one of our own in a thread, and whether it answers. Knows no job."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from litequeue.core.clock import SystemClock
from litequeue.core.frames import current_frames
from litequeue.core.logger import log
from litequeue.ipc.workers_loops import refuse_waits, refuse_waits_no_more
from litequeue.worker.executor.held_loop import HoldWatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

EXITS = (SystemExit, KeyboardInterrupt)  # what asyncio lets a task end its loop by
SELECTORS = {"selectors", "asyncio.windows_events"}  # modules in which a loop waits
ASK_EVERY = 1.0  # seconds from an answer until the next question
LARGEST_STEP = 2.5  # seconds that count from one look to the next: no loop could answer while this process was stopped
JOIN = 5.0  # seconds in which a loop that answers ends
UNHEARD = 0.5  # seconds after which one that has not begun to end is left to itself


class EventLoop:
    """A loop on which coroutines of one file's worker run; `loop` None: one of our own, in a thread that begins now."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None, place: str) -> None:
        self.own: bool = loop is None
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop() if loop is None else loop
        self.called: bool = False  # it was told of jobs in the backlog, and has not looked yet
        self.waking: bool = False  # it will wake the worker at the end of this iteration
        self.named: bool = False  # it was said that it does not answer
        self.holds: HoldWatch = HoldWatch(self)
        self.left: set[Any] = set()  # what runs on it, was told to end, and does not
        self._place = place
        self.ident: int = 0  # of its thread, as far as known
        self._runner = 0  # of a loop written in C, as uvloop's: the number of the frame that runs it
        self._asked = self._ending = False
        self._silent = 0.0
        self._looked = self._answered = SystemClock.monotonic()
        self._thread: threading.Thread | None = None
        self._winding_up: asyncio.Task[None] | None = None
        if self.own:
            self._start()
        else:
            self.call(self._answer)  # so that its thread is known
        refuse_waits(self.loop, place)

    @property
    def over(self) -> bool:
        """Whether the loop has ended and will not answer any more."""
        return self.loop.is_closed()

    def here(self) -> bool:
        """Whether this thread is running the loop now."""
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    def call(self, what: Callable[..., object], *arguments: object) -> bool:
        """Schedule a call in the loop's thread; return False if the loop has ended."""
        try:
            self.loop.call_soon_threadsafe(what, *arguments)
        except RuntimeError:
            return False
        return True

    def silence(self, *, ask: bool) -> float:
        """Return for how many seconds the loop has not answered; `ask`: ask it to, because it has work.

        Only time between looks of the caller counts, so that a process that was stopped as a whole, or a C call that
        kept the interpreter, does not count as silence.
        """
        now = SystemClock.monotonic()
        step, self._looked = min(now - self._looked, LARGEST_STEP), now
        if not self._asked:
            self._silent = 0.0
            if ask and now - self._answered >= ASK_EVERY:
                self._asked = True
                self.call(self._answer)
        else:
            self._silent += step
        return self._silent

    def rests(self) -> bool:
        """Whether it waits for something to do, or does not run now."""
        frame = self._frame()
        waits = frame is None or _module(frame) in SELECTORS or id(frame) == self._runner
        return waits or not self.loop.is_running()

    def task(self) -> asyncio.Task[Any] | None:
        """The task that is in its step now, as any thread may ask."""
        return asyncio.current_task(self.loop)

    def _frame(self) -> FrameType | None:
        return current_frames().get(self.ident)

    def stack(self) -> str:
        """The present stack of its thread, as in a traceback; empty if it cannot be read."""
        frame = self._frame()
        return "" if frame is None else "".join(traceback.format_stack(frame)).rstrip()

    def leave(self) -> None:
        """Let the loop end by itself once it is empty: another loop has replaced it."""
        self.call(self._wind_up)

    def stop(self) -> None:
        """Cancel what is left on the loop and end it, if it is our own; a blocked loop is left behind."""
        refuse_waits_no_more(self.loop, self._place)
        if self._thread is None:
            return
        heard = threading.Event()
        patience = 0.0 if self.named else UNHEARD if self._asked or self.left else JOIN
        if self.call(self._stop, heard) and not self.here() and heard.wait(patience):
            self._thread.join(timeout=JOIN)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="litequeue-loop", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the system gives no more
            self.loop.close()
            raise

    def _run(self) -> None:
        self.ident = threading.get_ident()
        asyncio.set_event_loop(self.loop)
        try:
            while not self._ending:  # a job may stop it, or call sys.exit() in a task of its own: others run on it
                self._run_until_stopped()
        finally:
            refuse_waits_no_more(self.loop, self._place)
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            with suppress(RuntimeError, *EXITS):  # it was stopped from within once more
                self.loop.run_until_complete(_one_turn())
            self.loop.close()

    def _run_until_stopped(self) -> None:
        try:
            self.loop.run_forever()
        except EXITS as error:
            log.log(
                logging.WARNING, "%r was raised on an event loop of the worker's own, which goes on", error, error=error
            )

    def _answer(self) -> None:
        self.ident = threading.get_ident()  # the application's loop may run anywhere
        caller = sys._getframe(1)  # noqa: SLF001
        self._runner = 0 if _module(caller) == "asyncio.events" else id(caller)  # that one is gone soon
        self._answered = SystemClock.monotonic()
        self._asked = False

    def _wind_up(self) -> None:
        self._winding_up = self.loop.create_task(self._end_when_idle())

    async def _end_when_idle(self) -> None:
        while others := asyncio.all_tasks() - {self._winding_up}:
            await asyncio.wait(others)
        self._end()

    def _stop(self, heard: threading.Event) -> None:
        heard.set()
        self._end()

    def _end(self) -> None:
        self._ending = True
        self.loop.stop()


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


async def _one_turn() -> None:
    await asyncio.sleep(0)
