"""Whether a worker is to stop, and who asked for it: noted in its lock file, and logged. Knows no job."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING

from litequeue.core.duration import text
from litequeue.core.logger import log
from litequeue.core.owner_process import getpid
from litequeue.worker.idleness import Idleness
from litequeue.worker.signals import HANDLERS, SignalFile, Stops, leave

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.ipc.process_lock import ProcessLock


class StopRequest:
    """The stop requests of one worker. `at_once`: what runs is to be released; `when_idle`: end when no job is ready.

    `returns`: the program goes on by itself after the worker's end, as after `run()`. `grace`: seconds for what runs.
    """

    def __init__(self, grace: float) -> None:
        self.made: bool = False
        self.at_once: bool = False
        self.when_idle: bool = False
        self.grace: float = grace
        self.asks_jobs: bool = False  # to end by themselves, at once
        self.drains: str = ""  # why it claims nothing more, and ends once what runs has ended; empty: it goes on
        self.how_to_hurry: str = ""  # for the log line that says what is waited for
        self._owner = 0
        self._heard: deque[tuple[str, int]] = deque()  # what told it to stop, and how often; not logged yet
        self._said = self._process = 0
        self._over = threading.Event()
        self._process_lock: ProcessLock | None = None
        self._wake: Callable[[], None]
        self._signal_file: SignalFile | None = None
        self.stops: Stops = Stops()
        self.returns: bool = False
        self.idleness: Idleness = Idleness()

    @property
    def drained(self) -> bool:
        """Whether the worker has ended."""
        return self._over.is_set()

    @property
    def noted(self) -> bool:
        """Whether stops can be noted: since the worker has made its lock file."""
        return self._process_lock is not None

    def note_in(self, process_lock: ProcessLock, wake: Callable[[], None]) -> None:
        """Note stops there from now on, and have them wake the worker.

        A signal is noted even while a call in C keeps its handler from running.
        """
        self._wake, self._process, self._process_lock = wake, os.getpid(), process_lock
        if self.made:  # since before there was a place to note it
            self.note_stop()
        # HAZARD: a SIGHUP by which the application reloads is no stop, and would excuse each later death
        descriptor = process_lock.signal_descriptor() if self.returns and HANDLERS.hears_all else None
        if descriptor is not None:
            self._signal_file = SignalFile(descriptor)

    def note_stop(self) -> None:
        """Note, for the workers that reap it, that this worker was told to stop. From any thread; one write."""
        if (
            self._process_lock is not None and os.getpid() == self._process
        ):  # no child of a fork that Python knows not of
            self._process_lock.note_stop()

    def told(self, who: str, times: int) -> None:
        """Stop, as requested from outside the program `times` times. For signal handlers: `say` logs it later."""
        self._heard.append((who, times))
        self.stop(now=times > 1)

    def stop(self, *, now: bool = False) -> None:
        """Stop as the program itself requests it; from any thread."""
        if self.is_anothers:
            return
        self.made = True
        self.note_stop()
        self.at_once = self.at_once or now
        self.wake()

    def drain(self, why: str) -> None:
        """Claim nothing more, and end once what runs has ended by itself; a stop is obeyed meanwhile. Any thread."""
        if not self.drains:
            self.drains = why
            self.wake()

    def wake(self) -> None:
        """Have the worker check for stops, and for tasks; from any thread, also before it can be woken."""
        if self.noted:
            self._wake()

    def own(self) -> None:
        """Note that this process has the worker's thread."""
        self._owner = getpid()

    @property
    def is_anothers(self) -> bool:
        """Whether the worker belongs to the process that forked this one, possibly without Python's hooks."""
        return self._owner not in (0, getpid())

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the worker's end, for so many seconds at most; return whether it has ended."""
        return self._over.wait(seconds)

    def shorten(self, grace: float) -> None:
        """Let go quickly: ask what runs to end, and release what has not after so many seconds."""
        self.grace, self.asks_jobs = min(self.grace, grace), True

    def say(self) -> None:
        """Log the reason of the stop."""
        while self._heard:
            who, times = self._heard.popleft()
            if times <= self._said:
                continue
            self._said = times
            if times > 1:
                log.warning("%s: releasing running jobs now", who)
            else:
                again = "; send it again, a second from now, to release them" if who.startswith("SIG") else ""
                log.warning("%s: finishing running jobs, up to %s%s", who, text(self.grace), again)

    def keep_short(self) -> None:
        """Discard signals whose handlers have run. Called now and then by the thread that runs the handlers."""
        if self._signal_file is not None:
            self._signal_file.rewind()

    def close(self) -> None:
        """Stop recording signals."""
        if self._signal_file is not None:
            self._signal_file.close()

    def begin(self) -> None:
        """Note that the worker begins; again if `run(until_idle=True)` is called again."""
        self._over.clear()
        self.at_once = self.at_once and self.made  # not what the failure of the run before has made of it

    def end(self) -> None:
        """Note that the worker has ended."""
        self._over.set()
        leave(self)
        HANDLERS.on_drained()
