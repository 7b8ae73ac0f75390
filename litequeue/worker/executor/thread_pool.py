"""Threads that run plain functions, with a limit on their time. Knows jobs as values, and no store."""

from __future__ import annotations

import threading
import time
from contextvars import copy_context
from typing import TYPE_CHECKING

from litequeue.core.interruptible import catches_interrupts
from litequeue.errors import JobTimeout
from litequeue.ipc.thread_interrupt import insist, interrupt, withdraw
from litequeue.worker.executor.execute import execute, written_off
from litequeue.worker.executor.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.core.outcome import Outcome
    from litequeue.ipc.notifier import Listener
    from litequeue.job import Claimed
    from litequeue.worker.executor.execute import Run


class _Thread:
    """One thread and the run it is at. `listener`: where it waits, instead of at its notifier, while it is the sentry."""

    __slots__ = ("notifier", "listener", "given_up", "ident", "lock", "run", "slot", "told")

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.ident = 0
        self.lock = threading.Lock()
        self.notifier = threading.Lock()
        self.notifier.acquire()
        self.listener: Listener | None = None
        self.run: Run | None = None
        self.told = False
        self.given_up = False

    def ring(self) -> None:
        """Let it look at the line; one ring is as good as two."""
        listener = self.listener
        if listener is not None:
            listener.wake()
        elif self.notifier.locked():
            self.notifier.release()

    def wait(self) -> list[bytes]:
        """Sleep until it is rung; return what was sent to it."""
        if self.listener is None:
            self.notifier.acquire()
            return []
        return self.listener.wait(None)


class ThreadPool(Pool):
    """Threads, started as they are needed. One that is idle is the sentry: it hears what is sent to `listener`."""

    def __init__(
        self,
        size: int,
        begin: Callable[[Claimed, int], Run],
        end: Callable[[Run, Outcome, int, Pool], None],
        wake: Callable[[], None],
        listener: Listener,
        receive: Callable[[bytes], None],
    ) -> None:
        super().__init__(size)
        self._lock = threading.Lock()
        self._begin, self._end, self._wake, self._receive = begin, end, wake, receive
        self._listener: Listener | None = listener  # None: somebody is the sentry
        self._idle: list[_Thread] = []
        self._threads: dict[int, _Thread] = {}
        self._slots = list(range(size))
        self._stopping = False

    @property
    def busy(self) -> int:
        """How many threads are at a job."""
        return len(self._threads) - len(self._idle)

    def wake(self) -> None:
        """Wake the worker's loop."""
        self._wake()

    def _staff(self, wanted: int) -> None:
        with self._lock:
            rung = self._ring_idle(wanted)
            new = [self._new_thread() for _ in range(min(wanted - rung, len(self._slots)))]
        if rung:
            time.sleep(0)  # they need the interpreter now, and we do not
        self._start(new)

    def _start(self, new: list[_Thread]) -> None:
        for thread in new:
            # a daemon: a function that never returns must not keep the process from ending
            name = f"litequeue-{thread.slot}"
            try:
                threading.Thread(target=self._work, args=(thread,), name=name, daemon=True).start()
            except RuntimeError:  # the system gives no more: those there are take the line
                with self._lock:
                    self._threads.pop(thread.slot)
                    self._slots.append(thread.slot)
                if not self._threads:
                    raise

    def _ring_idle(self, wanted: int) -> int:
        rung = min(wanted, len(self._idle))
        for _ in range(rung):
            self._idle[-1].ring()  # before it is taken out: a Ctrl-C between the two must not lose it
            self._idle.pop()
        return rung

    # ---- what is handed over

    def post_a_sentry(self) -> None:
        """Have a thread that hears what other processes send, and one that is sooner begun with in this one."""
        with self._lock:
            if self._listener is not None:
                self._ring_idle(1)  # when it rests again, it hears
            new = [self._new_thread() for _ in range(min(2, self.size) - len(self._threads))]
        self._start(new)

    def receive_waiting(self) -> None:
        """Receive what came while there was no sentry."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            try:
                self._open(listener.wait(0.0))
            finally:
                self._listener = listener
            self._staff(len(self.line))

    def _open(self, messages: list[bytes]) -> None:
        for message in messages:
            if message:
                self._receive(message)

    def accept(self, job: Claimed, now: float) -> None:
        """Put a job in line in a thread of our own, which looks there next; should others be in it, they are many."""
        self._put_first(job, now)
        if len(self.line) > 1:
            self._staff(len(self.line) - 1)

    def admit(self, job: Claimed, now: float) -> None:
        """Put a job in line from any thread, where a Ctrl-C may come at any time; an idle thread begins it."""
        self._put_first(job, now)
        with self._lock:
            rung = self._ring_idle(1)
        if not rung:
            self._wake()  # in vain for now: the line is given back when it has stood for too long

    def interrupt(self, run: Run) -> bool:
        """Raise `JobTimeout` in the thread at this run. A thread inside a C call sees it when that returns.

        False: not now, because the thread is amid our own work, which must not be left half done; try again soon.
        """
        thread = self._thread_of(run)
        if thread is None:
            return True
        with thread.lock:
            if thread.run is not run:
                return True
            if thread.told:
                return insist(thread.ident)
            thread.told = True
            return interrupt(thread.ident, JobTimeout)

    def write_off(self, run: Run) -> bool:
        """Count on this run's thread no more: another takes its place. False when it has ended meanwhile."""
        thread = self._thread_of(run)
        if thread is None:
            return False
        with thread.lock:
            if thread.run is not run:
                return False
            thread.given_up = True
            run.written_off = True
        with self._lock:
            self._threads.pop(thread.slot, None)
            self._slots.append(thread.slot)
        return True

    def stop(self) -> None:
        """Let idle threads go; those at a job end after it."""
        with self._lock:
            self._stopping = True
            idle, self._idle = self._idle, []
        for thread in idle:
            thread.ring()

    def _thread_of(self, run: Run) -> _Thread | None:
        return next((thread for thread in list(self._threads.values()) if thread.run is run), None)

    def _new_thread(self) -> _Thread:
        thread = _Thread(self._slots.pop(0))
        self._threads[thread.slot] = thread
        return thread

    def _work(self, thread: _Thread) -> None:
        thread.ident = threading.get_ident()
        while not thread.given_up:
            try:
                job = self.line.popleft()
            except IndexError:
                if not self._rest(thread):
                    return
                continue
            self._one(thread, job)

    def _rest(self, thread: _Thread) -> bool:
        """Wait for more; False when there will be none."""
        with self._lock:
            if self._stopping:
                self._threads.pop(thread.slot, None)
                return False
            if self.line:
                return True
            thread.listener, self._listener = self._listener, None
            # the sentry first, so that it is the last to be called away
            self._idle.insert(0 if thread.listener is not None else len(self._idle), thread)
        self._wake()
        messages = self._wait_for_a_ring(thread)
        self._open(messages)
        return True

    def _wait_for_a_ring(self, thread: _Thread) -> list[bytes]:
        try:
            return thread.wait()
        except (OSError, ValueError):  # the listener was closed, by its worker or by code that does not own it
            thread.listener = None
            return []
        finally:
            self._rise(thread)

    def _rise(self, thread: _Thread) -> None:
        with self._lock:
            if thread in self._idle:  # nobody rang it, or whoever did was interrupted
                self._idle.remove(thread)
            if thread.listener is not None:
                self._listener, thread.listener = thread.listener, None

    @catches_interrupts
    def _one(self, thread: _Thread, job: Claimed) -> None:
        run = thread.run = self._begin(job, thread.slot)
        outcome: Outcome | None = None
        try:
            outcome = copy_context().run(execute, run)  # what a function sets is not there for the next
            self._finish(thread)
        except JobTimeout:  # it came after the function's end, which counts
            self._finish(thread)
        if not thread.given_up:
            self._end(run, written_off(run) if outcome is None else outcome, thread.slot, self)

    @catches_interrupts
    def _finish(self, thread: _Thread) -> None:
        """From here on no time limit can be raised in this thread; one that is on its way is caught."""
        while True:
            try:
                with thread.lock:
                    thread.run = None
                    if thread.told:
                        withdraw()
                        thread.told = False
                return
            except JobTimeout:
                continue
