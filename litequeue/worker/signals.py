"""Stops of a whole process: by signals, and by the end of the program. Knows no queue and no job."""

from __future__ import annotations

import asyncio
import atexit
import math
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from litequeue.core.clock import SystemClock
from litequeue.core.logger import log

if TYPE_CHECKING:
    from types import FrameType

HANGUP: tuple[signal.Signals, ...] = () if sys.platform == "win32" else (signal.SIGHUP,)
STOPS: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM, *HANGUP)
# Seconds. systemd signals each process of a unit and its supervisor passes the signal on, a terminal that is closed
# and its shell both send SIGHUP: under load that takes a few 0.1 s. A person who reads "send it again" takes
# longer.
MOMENT = 1.0
ELSEWHERE = (
    "signals=True works in the main thread of the main interpreter only, where Python's signal handlers run; "
    "start the worker there, or leave signals to the application and call worker.stop()"
)
LAST_WAIT = 3.0  # seconds for the jobs that are released at the last moment


class Stops:
    """Counts stops: requests within a moment of a stop belong to it. Made for signal handlers, which nest."""

    def __init__(self) -> None:
        self._told: list[float] = []

    def tell(self, now: float) -> int:
        """Note a request at `now`, by the monotonic clock; return the number of stops so far."""
        self._told.append(now)  # the only change, and atomic: the count does not depend on which handler was first
        count, last = 0, -MOMENT
        for moment in sorted(self._told):
            if count == 0 or moment - last >= MOMENT:
                count, last = count + 1, moment
        return count


class Listener(Protocol):
    """An object that signals can stop."""

    stops: Stops
    returns: bool
    """Whether the program goes on after its end by itself, as after `run()`; else the signal is passed on then."""

    @property
    def drained(self) -> bool:
        """Whether it has ended."""

    def note_stop(self) -> None:
        """Note, for other processes, that it was told to stop."""

    def told(self, who: str, times: int) -> None:
        """Stop; with `times` over 1, at once. In a signal handler, so without a lock and without a log line."""

    def stop(self, *, now: bool = False) -> None:
        """Stop as the program itself requests it, from any thread."""

    def wait(self, seconds: float) -> bool:
        """Wait for its end; return whether it has ended."""


class Signals:
    """The process's handler of stop signals, while workers need it; the previous handlers are restored afterwards."""

    def __init__(self) -> None:
        self._listeners: dict[Listener, tuple[signal.Signals, ...]] = {}
        self._before: dict[int, Any] = {}
        self._forget()

    def _forget(self) -> None:
        self._listeners, self._before = {}, {}
        self._passed = Stops()
        self._pending: list[int] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last = -math.inf  # when a stop was noted, or a signal passed on
        self._process = os.getpid()

    def add(self, listener: Listener) -> bool:
        """See `handle_signals`."""
        if listener in self._listeners:
            return False
        if threading.current_thread() is not threading.main_thread():
            raise ValueError(ELSEWHERE)
        if not self.ours:  # the first listener of a process that was forked without Python being told
            self.after_fork()
        wanted = tuple(number for number in STOPS if self._may_handle(number, listener))
        for number in wanted:
            if signal.getsignal(number) != self._on_signal:
                self._before[number] = signal.getsignal(number)
                signal.signal(number, self._on_signal)
        self._listeners[listener] = wanted
        return True

    def _may_handle(self, number: signal.Signals, listener: Listener) -> bool:
        now = signal.getsignal(number)
        if now == self._on_signal:
            return listener.returns or number != signal.SIGINT
        if number in HANGUP:
            # ignored, as by nohup, it stays so; with a handler of the application's it means something else: a reload
            return now == signal.SIG_DFL
        # Ctrl-C raises KeyboardInterrupt in the main thread, which leaves the block of an embedded worker
        return listener.returns or (number != signal.SIGINT and now not in (signal.SIG_IGN, None))

    @property
    def hears_all(self) -> bool:
        """Whether our handler gets each stop signal that does not end the program at once."""
        now = [signal.getsignal(number) for number in STOPS]
        return all(handler == self._on_signal or not callable(handler) for handler in now)

    def remove(self, listener: Listener) -> None:
        """Stop telling this listener of signals."""
        self._listeners.pop(listener, None)
        if threading.current_thread() is not threading.main_thread():
            return  # the handler stays, and passes on every signal
        wanted = {number for numbers in self._listeners.values() for number in numbers}
        for number in self._before.keys() - wanted:
            # a handler installed over ours since may call ours, which then passes the signal on
            if signal.getsignal(number) == self._on_signal:
                before = self._before.pop(number)
                signal.signal(number, signal.SIG_DFL if before is None else before)

    def on_drained(self) -> None:
        """A listener has ended: if it was the last one for which a signal waits, pass the signal on. Any thread."""
        waiting = self._pending[:1]
        if not waiting or not self._all_drained():
            return
        loop, self._loop = self._loop, None
        if loop is not None and loop.is_running():
            with suppress(RuntimeError):  # it was closed meanwhile
                # not by a signal: a handler that the application has added to its loop would be called once more
                loop.call_soon_threadsafe(self._pass_on_pending)
                return
        os.kill(os.getpid(), waiting[0])

    def _all_drained(self) -> bool:
        return all(listener.drained for listener in list(self._listeners))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.ours:
            self._pass_on(number, frame)
            return
        running = [listener for listener in list(self._listeners) if not listener.drained]
        for listener in running:
            listener.note_stop()  # first of all: the next signal may be SIGKILL
        if not running:
            self._on_signal_when_drained(number, frame)
            return
        if number not in self._pending and not any(listener.returns for listener in self._listeners):
            with suppress(RuntimeError):  # no loop runs in this thread
                self._loop = asyncio.get_running_loop()
            self._pending.append(number)
        self._last = SystemClock.monotonic()
        for listener in running:
            listener.told(signal.Signals(number).name, listener.stops.tell(self._last))
        if self._pending and self._all_drained():  # the last one ended just before it could see what is pending
            self._pass_on_pending()

    def _on_signal_when_drained(self, number: int, frame: FrameType | None) -> None:
        if any(listener.returns for listener in self._listeners):
            return  # the program is about to end as it would have without a signal
        last, self._last = self._last, SystemClock.monotonic()
        if self._pending:
            self._pass_on_pending()
        elif self._last - last >= MOMENT:  # else it is the stop that was passed on already
            self._pass_on(number, frame)

    # ---- what was there before

    def _pass_on_pending(self) -> None:
        pending, self._pending = self._pending, []
        self._last = SystemClock.monotonic()
        for number in pending:
            if number in self._before:
                self._pass_on(number, None)
            else:  # the application has its handler back
                os.kill(os.getpid(), number)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """Do what the signal would have done without us."""
        before = self._before.get(number)
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            end_workers()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    @property
    def ours(self) -> bool:
        """Whether the workers belong to this process: not in a child of a fork of which Python was not told."""
        return os.getpid() == self._process

    def after_fork(self) -> None:
        """Restore a child's signals: a process that a task starts is stopped as any other."""
        returns = any(listener.returns for listener in self._listeners)
        for number, before in self._before.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, signal.SIG_DFL if returns or before is None else before)
        self._forget()


HANDLERS: Signals = Signals()


def handle_signals(listener: Listener) -> bool:
    """Tell the listener of signals from now on; False if it is already told. `RuntimeError` outside the main thread."""
    try:
        return HANDLERS.add(listener)
    except ValueError as error:  # of signal.signal()
        raise RuntimeError(ELSEWHERE) from error


class SignalFile:
    """Writes the numbers of signals to a file as they arrive, even while no Python code can run.

    A thread in a long call in C keeps handlers written in Python from running; the interpreter's own writes the number
    of each signal to one descriptor, and a file does as well as a pipe. In the main thread only.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._stat = descriptor, os.fstat(descriptor)
        self._start = os.lseek(descriptor, 0, os.SEEK_CUR)
        before = signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
        if before != -1:  # an event loop's, which would miss its signals
            signal.set_wakeup_fd(before)
        _files.append(self)

    def rewind(self) -> None:
        """Write the next number over the first one: a signal may come a thousand times a second."""
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._descriptor), self._stat):
                os.lseek(self._descriptor, self._start, os.SEEK_SET)

    def close(self) -> None:
        """Write no more, and close the descriptor."""
        if self in _files:
            _files.remove(self)
            before = signal.set_wakeup_fd(-1)
            if before != self._descriptor:
                signal.set_wakeup_fd(before)
            with suppress(OSError):  # a job has closed all there are, and the number may be another file's by now
                if os.path.samestat(os.fstat(self._descriptor), self._stat):
                    os.close(self._descriptor)


_files: list[SignalFile] = []


# ---- the end of the program

_living: dict[Listener, int] = {}  # with the process that it works in


def enter(listener: Listener) -> None:
    """Tell the worker when the program ends."""
    _living[listener] = os.getpid()


def leave(listener: Listener) -> None:
    """Forget a worker that has ended."""
    _living.pop(listener, None)


@atexit.register
def end_workers() -> None:
    """At the end of the program: let every worker release its jobs, without a death, and wait a little for that."""
    living = [listener for listener, process in list(_living.items()) if process == os.getpid()]
    for listener in living:
        listener.note_stop()
    for listener in living:
        listener.stop(now=True)
    over = SystemClock.monotonic() + LAST_WAIT
    for listener in living:
        listener.wait(max(0.0, over - SystemClock.monotonic()))


# ---- workers that leave signals to the application

_has_said: list[bool] = []


def say_what_kills() -> None:
    """Log once per process which signals end it without running code: its jobs then count a death."""
    deadly = [number.name for number in reversed(STOPS[1:]) if signal.getsignal(number) == signal.SIG_DFL]
    if deadly and not _has_said and sys.platform != "win32":
        _has_said.append(True)
        log.info(
            "%s would end this program without stopping its worker; pass signals=True, or handle the signal",
            deadly[-1],
        )


# ---- fork

_masks = threading.local()  # of the thread that forks


def _before_fork() -> None:
    # a signal that came between the fork and Python's own work in the child would be lost
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)


def _in_parent() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _in_child() -> None:
    while _files:
        _files[0].close()  # else a signal of the child would be taken for one of its parent
    _living.clear()
    HANDLERS.after_fork()
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
