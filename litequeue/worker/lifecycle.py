"""How a worker is started and stopped: in this thread, or beside the caller's code. Knows no job and no signal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING

from litequeue.core.asyncio_context import require_asyncio
from litequeue.core.background import in_thread
from litequeue.core.clock import SystemClock
from litequeue.core.duration import text
from litequeue.core.logger import aside, log
from litequeue.core.names import check_name
from litequeue.core.owner_process import getpid
from litequeue.worker.signals import (
    HANDLERS,
    LAST_WAIT,
    MOMENT,
    SignalFile,
    Stops,
    enter,
    handle_signals,
    leave,
    say_what_kills,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

    from litequeue.ipc.process_lock import ProcessLock

STARTED = "this worker has already been started; make another with queue.worker()"


class Notice:
    """The stop requests of one worker: counts them, notes them in the lock file, and logs them."""

    def __init__(self, stop: Callable[..., None], grace: float) -> None:
        self._stop, self._grace = stop, grace
        self._heard: deque[tuple[str, int]] = deque()  # what told it to stop, and how often; not logged yet
        self._said = self._process = 0
        self._over = threading.Event()
        self._process_lock: ProcessLock | None = None
        self._signal_file: SignalFile | None = None
        self.stops: Stops = Stops()
        self.returns: bool = False

    @property
    def drained(self) -> bool:
        """Whether the worker has ended."""
        return self._over.is_set()

    @property
    def noted(self) -> bool:
        """Whether stops can be noted: since the worker has made its lock file."""
        return self._process_lock is not None

    def note_in(self, process_lock: ProcessLock, *, stopping: bool) -> None:
        """Note stops there from now on; a signal is noted even while a call in C keeps its handler from running."""
        self._process, self._process_lock = os.getpid(), process_lock
        if stopping:  # since before there was a place to note it
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
        self._stop(now=times > 1)

    def stop(self, *, now: bool = False) -> None:
        """Stop as the program itself requests it."""
        self._stop(now=now)

    def wait(self, seconds: float) -> bool:
        """Wait for the worker's end; return whether it has ended."""
        return self._over.wait(seconds)

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
                again = "; again to release them now" if who.startswith("SIG") else ""
                log.warning("%s: finishing running jobs, up to %s%s", who, text(self._grace), again)

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

    def end(self) -> None:
        """Note that the worker has ended."""
        self._over.set()
        leave(self)
        HANDLERS.on_drained()


class Lifecycle(ABC):
    """Starts and stops a worker. A subclass does its work in `_serve`.

    There it sets `_ready` once it is registered, and checks `_stopping`; `_wake` makes it check.
    """

    def __init__(self, name: str | None, grace: float, *, signals: bool) -> None:
        self.name: str = f"worker-{os.getpid()}" if name is None else check_name(name, "a worker's name")
        self.grace: float = grace
        self._signals = signals
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: BaseException | None = None
        self._ready, self._over = threading.Event(), threading.Event()
        self._stopping = self._hurry = self._until_idle = False
        self._notice: Notice = Notice(self.stop, grace)
        self._pid = 0

    def run(self, *, until_idle: bool = False) -> bool:
        """Work in this thread until a signal, or `stop()`; with `until_idle`, until no job is ready.

        In the main thread the first SIGINT, SIGTERM or SIGHUP stops claiming and lets running jobs end within `grace`.
        A second one, a second later or more, releases them at once. Returns whether every job that had begun has ended.
        """
        if self._thread is not None:
            raise RuntimeError(STARTED)
        self._until_idle = until_idle
        self._notice.begin()
        with self._handling_signals():
            self._work()
        if self._failure is not None:
            raise self._failure
        return self._finished_all()

    def stop(self, *, now: bool = False) -> None:
        """Stop claiming, and end once running jobs have ended; `now`: release them. From any thread; does not wait."""
        if self._is_anothers:
            return
        self._stopping = True
        self._notice.note_stop()
        self._hurry = self._hurry or now
        self._wake()

    def __enter__(self) -> Self:
        self._listen()
        try:
            self._start()
        except BaseException:  # perhaps a Ctrl-C: `__exit__` is not called after this
            self.stop(now=True)
            HANDLERS.remove(self._notice)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *raised: object) -> None:
        self.stop()
        try:
            self._join(ctrl_c=kind is not None and issubclass(kind, KeyboardInterrupt))
        finally:
            HANDLERS.remove(self._notice)

    async def __aenter__(self) -> Self:
        self._loop = require_asyncio()
        self._listen()
        starting = in_thread(self._start)
        try:
            await asyncio.shield(starting)
        except BaseException as error:  # `__aexit__` is not called after this
            if isinstance(error, asyncio.CancelledError):
                self.stop(now=True)
                await asyncio.wait({starting}, timeout=LAST_WAIT)
            HANDLERS.remove(self._notice)
            raise
        return self

    async def __aexit__(self, *raised: object) -> None:
        self.stop()
        ending = in_thread(self._join)  # no task: asyncio.run() cancels those
        try:
            await asyncio.shield(ending)
        except BaseException:  # cancelled, as by a second Ctrl-C: what runs is released now
            self.stop(now=True)
            await asyncio.wait({ending}, timeout=LAST_WAIT)
            raise
        finally:
            HANDLERS.remove(self._notice)

    # ---- signals

    def _listen(self) -> None:
        """Handle the signals that stop a program, if asked to; otherwise log which of them kill it."""
        if self._thread is not None:
            raise RuntimeError(STARTED)
        self._check_process()
        if self._signals:
            handle_signals(self._notice)
        else:
            say_what_kills()

    @contextlib.contextmanager
    def _handling_signals(self) -> Iterator[None]:
        """Handle signals for `run()`: always in the main thread; in other threads they are the application's."""
        if threading.current_thread() is not threading.main_thread():
            self._listen()
            yield
            return
        self._notice.returns = True
        mine = handle_signals(self._notice)
        try:
            yield
        finally:
            if mine:
                HANDLERS.remove(self._notice)

    def _start(self) -> None:
        if self._thread is not None:
            raise RuntimeError(STARTED)
        self._pid = getpid()
        self._thread = threading.Thread(target=self._work, name=f"litequeue-{self.name}", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def _is_anothers(self) -> bool:
        """Whether it belongs to the process that forked this one, possibly without Python's hooks."""
        return self._thread is not None and self._pid != getpid()

    def _join(self, *, ctrl_c: bool = False) -> None:
        if self._is_anothers:
            return
        if self._loop is not None and self._loop is asyncio._get_running_loop():  # noqa: SLF001
            raise RuntimeError(
                "waiting here would block the loop on which this worker runs coroutines; use `async with`"
            )
        if self._thread is not None:
            try:
                # not by join(): up to Python 3.12 that takes the thread for ended after a Ctrl-C
                if self._thread.is_alive():  # in a forked child it is not
                    self._wait_for_end(ctrl_c=ctrl_c)
            except BaseException:  # a second Ctrl-C: the process goes, so what runs is released now
                self.stop(now=True)
                self._over.wait(LAST_WAIT)
                raise
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _wait_for_end(self, *, ctrl_c: bool) -> None:
        """Wait for the end. A Ctrl-C within a moment of the one that is ending the block is the same one."""
        began = SystemClock.monotonic()
        while True:
            try:
                self.stop()  # once more: it may have been cut short
                self._over.wait()
            except KeyboardInterrupt:
                if not ctrl_c or SystemClock.monotonic() - began >= MOMENT:
                    raise
            else:
                return

    @aside()  # a log handler that stands still must not stop a worker's heartbeat
    def _work(self) -> None:
        """Register, serve, deregister; every error is raised to the caller that started the worker."""
        enter(self._notice)
        try:
            self._open()
            try:
                self._register()
                self._serve()
            except BaseException:
                self._hurry = True  # what runs is not left to run on while its job is released
                self._end()
                raise
            finally:
                self._notice.close()
                self._close()
        except BaseException as error:
            self._failure = error
            log.critical("worker %s stops: %s", self.name, error)
        finally:
            self._ready.set()
            self._notice.end()
            self._over.set()

    # ---- what the worker does

    @abstractmethod
    def _check_process(self) -> None:
        """Raise if this process cannot run a worker, before a thread is started: in a copy it may never begin."""

    @abstractmethod
    def _open(self) -> None:
        """Open what the worker needs."""

    @abstractmethod
    def _register(self) -> None:
        """Register the worker."""

    @abstractmethod
    def _serve(self) -> None:
        """Work until told to stop, then end."""

    @abstractmethod
    def _end(self) -> None:
        """Let running jobs end, or release them if there is no time."""

    @abstractmethod
    def _close(self) -> None:
        """Deregister the worker, and close what `_open` opened."""

    @abstractmethod
    def _wake(self) -> None:
        """Make the worker check for stops; from any thread, also before `_open`."""

    @abstractmethod
    def _finished_all(self) -> bool:
        """Whether no job that had begun was released."""


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
