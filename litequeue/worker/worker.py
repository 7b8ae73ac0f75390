"""The worker: started and stopped in this thread, or beside the caller's code. Knows no job; `Loop` does the work."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import TYPE_CHECKING

from litequeue.core.asyncio_context import require_asyncio
from litequeue.core.background import in_thread
from litequeue.core.clock import SystemClock
from litequeue.core.hints import WorkerWords
from litequeue.core.logger import aside, keep_enabled, log
from litequeue.core.names import check_name
from litequeue.scheduling.declared import at_rest
from litequeue.worker.counts import Counts
from litequeue.worker.ctrl_c import CtrlC
from litequeue.worker.loop import Loop
from litequeue.worker.signals import HANDLERS, LAST_WAIT, MOMENT, enter, handle_signals, say_what_kills
from litequeue.worker.stop_request import StopRequest
from litequeue.worker.watchdog import Watchdog
from litequeue.worker.web_server import RELOAD_GRACE, Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from typing_extensions import Self

    from litequeue.core.engine import Home, RunOptions
    from litequeue.core.store import Store
    from litequeue.worker.watchdog import Watcher

STARTED = "this worker has already been started; make another with queue.worker()"


class Worker(WorkerWords):
    """Runs jobs of one queue's file: plain functions in threads, coroutines on a loop, together.

    Use it as a context manager, sync or async: it then runs beside your code and ends with the block. Running jobs are
    finished, and jobs that have not begun stay queued. Or call `run()`, which blocks and handles signals.
    """

    def __init__(self, home: Home, store: Store, options: RunOptions) -> None:
        name = options.name
        self.queue: Home = home
        self.name: str = f"worker-{os.getpid()}" if name is None else check_name(name, "a worker's name")
        self.grace: float = options.grace
        self.max_jobs: int | None = options.max_jobs
        self.max_memory: int | None = options.max_memory
        self.threads: int = options.threads
        self.children: int = options.children
        self.max_jobs_per_child: int | None = options.max_jobs_per_child
        self.max_memory_per_child: int | None = options.max_memory_per_child
        self.coroutines: int = options.coroutines
        self.queues: tuple[str, ...] | None = options.queues
        self.slots: Mapping[str, int] = options.slots
        self.offers: Mapping[str, int] = options.offers
        self._store, self._options = store, options
        self.counts: Counts = Counts()
        self._loop: Loop | None = None
        self._thread: threading.Thread | None = None
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._failure: BaseException | None = None
        self._server: Server
        self._ready, self._running = threading.Event(), False
        self.stop_request: StopRequest = StopRequest(options.grace)
        self.stop_request.idleness.join(self.stop_request, self.counts)
        self.watcher: Watcher | None = None  # is told when it claims, while its loop goes on, and when it stops

    def run(self, *, until_idle: bool = False) -> bool:
        """Work in this thread until a signal, or `stop()`; with `until_idle`, until no job is ready.

        In the main thread the first SIGINT, SIGTERM or SIGHUP stops claiming and lets running jobs end within `grace`.
        A second one, a second later or more, releases them at once. Returns whether every job that had begun has ended.
        """
        if self._thread is not None or self._running:
            raise RuntimeError(STARTED)
        self._failure = None  # of the run before
        self._ready.clear()
        self.stop_request.when_idle = until_idle
        self.stop_request.begin()
        try:
            self._running = True
            with self._handling_signals(), contextlib.nullcontext() if until_idle else at_rest():
                self._work()
        finally:
            self._running = False
        if self._failure is not None:
            raise self._failure
        return self._loop is None or not self._loop.mailbox.cut_short

    def stop(self, *, now: bool = False) -> None:
        """Stop claiming, and end once running jobs have ended; `now`: release them. From any thread; does not wait."""
        self.stop_request.stop(now=now)

    def log_stacks(self) -> None:
        """Log the stack of each running job, with its id, task and run, and how long it has run. From any thread.

        The jobs are not disturbed. `litequeue run` does this at SIGUSR1.
        """
        if self._loop is not None:
            self._loop.runs.stacks.log_all()

    def __enter__(self) -> Self:
        self._listen()
        try:
            self._start()
        except BaseException:  # perhaps a Ctrl-C: `__exit__` is not called after this
            self.stop(now=True)
            HANDLERS.remove(self.stop_request)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *raised: object) -> None:
        self.stop()
        try:
            with CtrlC(self.stop_request):
                self._join(ctrl_c=kind is not None and issubclass(kind, KeyboardInterrupt))
        finally:
            HANDLERS.remove(self.stop_request)

    async def __aenter__(self) -> Self:
        self._event_loop = require_asyncio()
        self._listen()
        starting = in_thread(self._start)
        try:
            await asyncio.shield(starting)
        except BaseException as error:  # `__aexit__` is not called after this
            if isinstance(error, asyncio.CancelledError):
                self.stop(now=True)
                await asyncio.wait({starting}, timeout=LAST_WAIT)
            HANDLERS.remove(self.stop_request)
            raise
        return self

    async def __aexit__(self, *raised: object) -> None:
        self.stop()
        if self._server.is_forced:
            self.stop_request.told("SIGINT", 2)
        ending = in_thread(self._join)  # no task: asyncio.run() cancels those
        try:
            with CtrlC(self.stop_request):
                await asyncio.shield(ending)
        except BaseException:  # cancelled, as by a second Ctrl-C: what runs is released now
            self.stop(now=True)
            await asyncio.wait({ending}, timeout=LAST_WAIT)
            raise
        finally:
            HANDLERS.remove(self.stop_request)

    @property
    def id(self) -> int:
        """Its number in the file; another one each time it registers."""
        return 0 if self._loop is None else self._loop.id

    @property
    def claimed(self) -> int:
        """How many jobs it has claimed."""
        return self.counts.claimed

    @property
    def settled(self) -> int:
        """How many ends of runs it has recorded, those of released jobs included."""
        return self.counts.settled

    @property
    def lost(self) -> int:
        """How many runs ended too late: another worker had their jobs by then."""
        return self.counts.lost

    @property
    def released(self) -> int:
        """How many jobs it has released: they are queued again."""
        return self.counts.released

    @property
    def recycled(self) -> bool:
        """Whether it has ended because of `max_jobs` or `max_memory`, and not by a stop: another may take its place."""
        return self._loop is not None and self._loop.recycled

    @property
    def left_running(self) -> int:
        """How many functions did not stop when told and were left behind; they run until the process ends."""
        return 0 if self._loop is None else self._loop.mailbox.left

    def __repr__(self) -> str:
        running = 0 if self._loop is None else len(self._loop.mailbox.running)
        return f"<Worker running={running}/{self.threads + self.coroutines} claimed={self.claimed} lost={self.lost}>"

    # ---- signals

    def _listen(self) -> None:
        """Handle the signals that stop a program, if asked to; otherwise log which of them kill it."""
        if self._thread is not None:
            raise RuntimeError(STARTED)
        self._store.check_process()
        self._server = Server()  # first: our own handlers would hide the server's
        if self._server.reloads:
            self.stop_request.shorten(RELOAD_GRACE)
        if self._options.signals:
            handle_signals(self.stop_request)
        else:
            say_what_kills()

    @contextlib.contextmanager
    def _handling_signals(self) -> Iterator[None]:
        """Handle signals for `run()`: always in the main thread; in other threads they are the application's."""
        if threading.current_thread() is not threading.main_thread():
            self._listen()
            yield
            return
        self.stop_request.returns = True
        mine = handle_signals(self.stop_request)
        try:
            yield
        finally:
            if mine:
                HANDLERS.remove(self.stop_request)

    def _status(self) -> str:
        running = 0 if self._loop is None else len(self._loop.mailbox.running)
        return f"{running} of {self.threads + self.coroutines} jobs running, {self.claimed} claimed so far"

    def wait_until_started(self) -> bool:
        """Wait until it has registered, or could not; return whether it has."""
        self._ready.wait()
        return self._failure is None

    def _start(self) -> None:
        if self._thread is not None:
            raise RuntimeError(STARTED)
        self.stop_request.own()
        self._thread = threading.Thread(target=self._work, name=f"litequeue-{self.name}", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def _join(self, *, ctrl_c: bool = False) -> None:
        if self.stop_request.is_anothers:
            return
        if self._event_loop is not None and self._event_loop is asyncio._get_running_loop():  # noqa: SLF001
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
                self.stop_request.wait(LAST_WAIT)
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
                self.stop_request.wait()
            except KeyboardInterrupt:
                if not ctrl_c or SystemClock.monotonic() - began >= MOMENT:
                    raise
            else:
                return

    @aside()  # a log handler that stands still must not stop a worker's heartbeat
    def _work(self) -> None:
        """Register, serve, deregister; every error is raised to the caller that started the worker."""
        stop = self.stop_request
        enter(stop)
        keep_enabled()
        try:
            about = self.queue, self._store, self._options, self.name
            self._loop = loop = Loop(*about, stop, self.counts, self._event_loop)
            try:
                if self.watcher is not None:
                    loop.watchdog = Watchdog(self.watcher, self._status)
                loop.register()
                self._ready.set()
                loop.serve()
            except BaseException:
                stop.at_once = True  # what runs is not left to run on while its job is released
                loop.end()
                raise
            finally:
                stop.close()
                loop.close()
        except BaseException as error:
            self._failure = error
            log.critical("worker %s stops: %s", self.name, error)
        finally:
            self._ready.set()
            stop.end()
