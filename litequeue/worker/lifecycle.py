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
from litequeue.core.owner_process import getpid
from litequeue.options import check_name
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

STARTED = "this worker has been started already; make another with queue.worker()"


class Notice:
    """What others tell one worker: to stop. Where that is noted, and what is said of it."""

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
        """Whether there is a place to note stops: since the worker has made what it needs."""
        return self._process_lock is not None

    def note_in(self, process_lock: ProcessLock, *, stopping: bool) -> None:
        """From now on stops are noted there; a signal even while a call in C keeps its handler from running."""
        self._process, self._process_lock = os.getpid(), process_lock
        if stopping:  # since before there was a place to note it
            self.note_stop()
        # HAZARD: a SIGHUP by which the application reloads is no stop, and would excuse each later death
        descriptor = process_lock.signal_descriptor() if self.returns and HANDLERS.hears_all else None
        if descriptor is not None:
            self._signal_file = SignalFile(descriptor)

    def note_stop(self) -> None:
        """Write down, for the workers that reap it, that it was told to stop. From any thread; one write."""
        if (
            self._process_lock is not None and os.getpid() == self._process
        ):  # no child of a fork that Python knows not of
            self._process_lock.note_stop()

    def told(self, who: str, times: int) -> None:
        """Stop, as told from outside the program, so many times. In a signal handler: `say` logs it later."""
        self._heard.append((who, times))
        self._stop(now=times > 1)

    def stop(self, *, now: bool = False) -> None:
        """Stop as the program itself asks for it."""
        self._stop(now=now)

    def wait(self, seconds: float) -> bool:
        """Wait for the worker's end; return whether it has come."""
        return self._over.wait(seconds)

    def say(self) -> None:
        """Log what has told it to stop."""
        while self._heard:
            who, times = self._heard.popleft()
            if times <= self._said:
                continue
            self._said = times
            if times > 1:
                log.warning("%s: releasing what runs now", who)
            else:
                again = "; again to release it now" if who.startswith("SIG") else ""
                log.warning("%s: finishing what runs, up to %s%s", who, text(self._grace), again)

    def keep_short(self) -> None:
        """Called now and then by the thread whose handlers have run: what they were told need not be kept any more."""
        if self._signal_file is not None:
            self._signal_file.rewind()

    def close(self) -> None:
        """Have signals written down no more."""
        if self._signal_file is not None:
            self._signal_file.close()

    def begin(self) -> None:
        """The worker begins; a second time where `run(until_idle=True)` is called again."""
        self._over.clear()

    def end(self) -> None:
        """The worker has ended."""
        self._over.set()
        leave(self)
        HANDLERS.on_drained()


class Lifecycle(ABC):
    """Whoever inherits this does its work in `_serve`.

    There it sets `_ready` when it works, and looks at `_stopping`; `_wake` makes it look.
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

        In the main thread the first SIGINT, SIGTERM or SIGHUP stops claiming and lets running jobs end within `grace`;
        a second, a moment later or more, releases them at once. Returns whether all that had begun was finished.
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
        """Stop claiming, and end when what runs has ended, or release it `now`. From any thread; does not wait."""
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
        """Be told of the signals that stop a program, if that is wanted; else say which end it with no code run."""
        if self._thread is not None:
            raise RuntimeError(STARTED)
        self._check_process()
        if self._signals:
            handle_signals(self._notice)
        else:
            say_what_kills()

    @contextlib.contextmanager
    def _handling_signals(self) -> Iterator[None]:
        """The same for `run()`, which always handles them in the main thread; elsewhere they are the application's."""
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
        """Whether it works in the process that forked this one, which Python may not have been told of."""
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
        """Wait; a Ctrl-C within a moment of the one that is on its way out already is the same one."""
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

    @aside()  # a log handler that stands still must not keep a worker from beating
    def _work(self) -> None:
        """Sign on, serve, sign off; whatever goes wrong reaches the one who started us."""
        enter(self._notice)
        try:
            self._open()
            try:
                self._register()
                self._serve()
            except BaseException:
                self._hurry = True  # what runs is not left to run on while its job is given back
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
        """Raise where this process cannot work, before a thread is started: in a copy it may never begin."""

    @abstractmethod
    def _open(self) -> None:
        """Make what the work needs."""

    @abstractmethod
    def _register(self) -> None:
        """Enter the record."""

    @abstractmethod
    def _serve(self) -> None:
        """Work until told to stop, then end."""

    @abstractmethod
    def _end(self) -> None:
        """Let what runs end, or release it where there is no time."""

    @abstractmethod
    def _close(self) -> None:
        """Leave the record, and let go of what `_open` made."""

    @abstractmethod
    def _wake(self) -> None:
        """Have the work look at what it is told; from any thread, and before `_open`."""

    @abstractmethod
    def _finished_all(self) -> bool:
        """Whether nothing that had begun was released."""


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
