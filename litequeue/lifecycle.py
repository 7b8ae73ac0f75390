"""How a worker is started and stopped: in this thread with signals, or beside the caller's code. Knows no job."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from litequeue.duration import text
from litequeue.eventloop import require_asyncio
from litequeue.logger import aside, log

if TYPE_CHECKING:
    from types import FrameType

    from typing_extensions import Self

STOPS = (signal.SIGINT, signal.SIGTERM)
LAST_WAIT = 3.0  # seconds for what is put back in a hurry
STARTED = "this worker has been started already; make another with queue.worker()"


class Lifecycle(ABC):
    """Whoever inherits this does its work in `_serve`.

    There it sets `_ready` when it works, and looks at `_stopping`; `_wake` makes it look.
    """

    name: str
    grace: float

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: BaseException | None = None
        self._ready, self._over = threading.Event(), threading.Event()
        self._stopping = self._hurry = self._until_idle = False
        self._signals = 0

    def run(self, *, until_idle: bool = False) -> bool:
        """Work in this thread until a signal, or `stop()`; with `until_idle`, until no job is ready.

        In the main thread the first SIGINT or SIGTERM stops claiming and lets running jobs end within `grace`; a
        second puts them back at once. Returns whether all that had begun was finished, and none of it put back.
        """
        if self._thread is not None:
            raise RuntimeError(STARTED)
        self._until_idle = until_idle
        with _signals(self._on_signal):
            self._work()
        if self._failure is not None:
            raise self._failure
        return self._finished_all()

    def stop(self, *, now: bool = False) -> None:
        """Stop claiming, and end when what runs has ended, or put it back `now`. From any thread; does not wait."""
        self._stopping = True
        self._hurry = self._hurry or now
        self._wake()

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()
        self._join()

    async def __aenter__(self) -> Self:
        self._loop = require_asyncio()
        await asyncio.to_thread(self._start)
        return self

    async def __aexit__(self, *raised: object) -> None:
        self.stop()
        try:
            await asyncio.to_thread(self._join)
        except BaseException:  # cancelled, as by a second Ctrl-C: what runs is put back now
            self.stop(now=True)
            raise

    def _start(self) -> None:
        if self._thread is not None:
            raise RuntimeError(STARTED)
        self._thread = threading.Thread(target=self._work, name=f"litequeue-{self.name}", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def _join(self) -> None:
        if self._thread is not None:
            try:
                # not by join(): up to Python 3.12 that takes the thread for ended after a Ctrl-C
                if self._thread.is_alive():  # in a forked child it is not
                    self._over.wait()
            except BaseException:  # a second Ctrl-C: the process goes, so what runs is put back now
                self.stop(now=True)
                self._over.wait(LAST_WAIT)
                raise
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1  # first of all: the second one may come while this one is at work
        if self._signals == 1:
            advice = "%s: finishing what runs, up to %s; again to put it back now"
            log.warning(advice, signal.Signals(number).name, text(self.grace))
        else:
            log.warning("%s again: putting running jobs back now", signal.Signals(number).name)
        self.stop(now=self._signals > 1)

    @aside()  # a log handler that stands still must not keep a worker from beating
    def _work(self) -> None:
        """Sign on, serve, sign off; whatever goes wrong reaches the one who started us."""
        try:
            self._open()
            try:
                self._sign_on()
                self._serve()
            except BaseException:
                self._hurry = True  # what runs is not left to run on while its job is given back
                self._end()
                raise
            finally:
                self._close()
        except BaseException as error:
            self._failure = error
            log.critical("worker %s stops: %s", self.name, error)
        finally:
            self._ready.set()
            self._over.set()

    # ---- what the worker does

    @abstractmethod
    def _open(self) -> None:
        """Make what the work needs."""

    @abstractmethod
    def _sign_on(self) -> None:
        """Enter the record."""

    @abstractmethod
    def _serve(self) -> None:
        """Work until told to stop, then end."""

    @abstractmethod
    def _end(self) -> None:
        """Let what runs end, or put it back where there is no time."""

    @abstractmethod
    def _close(self) -> None:
        """Leave the record, and let go of what `_open` made."""

    @abstractmethod
    def _wake(self) -> None:
        """Have the work look at what it is told; from any thread, and before `_open`."""

    @abstractmethod
    def _finished_all(self) -> bool:
        """Whether nothing that had begun was put back."""


@contextlib.contextmanager
def _signals(handler: Any) -> Any:
    """Handle SIGINT and SIGTERM for the block, in the main thread; elsewhere signals are the application's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in STOPS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


# ---- fork: what a task starts is stopped by a signal as any process is, not asked to finish the parent's jobs

_masks = threading.local()  # of the thread that forks


def _before_fork() -> None:
    # a signal that came between the fork and Python's own work in the child would be lost
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)


def _in_parent() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _in_child() -> None:
    for number in STOPS:
        if isinstance(getattr(signal.getsignal(number), "__self__", None), Lifecycle):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
