"""Threads that run plain functions, with a limit on their time. Knows jobs as values, and no store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from litequeue.core.current_run import current_app
from litequeue.worker.executor.pool import Pool, Setup
from litequeue.worker.executor.stoppable import StoppableThread

if TYPE_CHECKING:
    from litequeue.core.records import Claimed
    from litequeue.worker.executor.context import Run
    from litequeue.worker.executor.mailbox import Mailbox
    from litequeue.worker.executor.shared_listener import SharedListener


class _Thread(StoppableThread):
    """One thread of the pool. `listener`: where it waits, instead of at its wakeup, in place of the loop."""

    __slots__ = ("given_up", "listener", "slot", "wakeup")

    def __init__(self, slot: int) -> None:
        super().__init__()
        self.slot = slot
        self.wakeup = threading.Lock()
        self.wakeup.acquire()
        self.listener: SharedListener | None = None
        self.given_up = False

    def call(self) -> None:
        """Let it look at the backlog; one call is as good as two."""
        listener = self.listener
        if listener is not None:
            listener.call_away()
        elif self.wakeup.locked():
            self.wakeup.release()


Claim = Callable[[Callable[[], None]], bytes | None]


class ThreadPool(Pool):
    """Threads, started as they are needed."""

    settles = True

    def __init__(self, size: int, setup: Setup, mailbox: Mailbox) -> None:
        super().__init__(size, setup, mailbox)
        self._lock = threading.Lock()
        self._idle: list[_Thread] = []
        self._threads: dict[int, _Thread] = {}
        self._slots = list(range(size))
        self._stopping = False
        self._claim: Claim
        self._app = current_app.get(None)

    @property
    def busy(self) -> int:
        """How many threads are running a job."""
        return len(self._threads) - len(self._idle)

    def _wake(self) -> None:
        self._mailbox.wake()

    def _staff(self, wanted: int) -> None:
        with self._lock:
            called = self._call_idle(wanted)
            new = [self._new_thread() for _ in range(min(wanted - called, len(self._slots)))]
        if called:
            time.sleep(0)  # they need the interpreter now, and we do not
        self._start(new)

    def _start(self, new: list[_Thread]) -> None:
        for thread in new:
            # a daemon: a function that never returns must not keep the process from ending
            name = f"litequeue-{thread.slot}"
            try:
                threading.Thread(target=self._work, args=(thread,), name=name, daemon=True).start()
            except RuntimeError:  # the system gives no more: the existing threads run the backlog
                with self._lock:
                    self._threads.pop(thread.slot)
                    self._slots.append(thread.slot)
                if not self._threads:
                    raise

    def _call_idle(self, wanted: int) -> int:
        called = min(wanted, len(self._idle))
        for _ in range(called):
            self._idle[-1].call()  # before it is taken out: a Ctrl-C between the two must not lose it
            self._idle.pop()
        return called

    def warm(self, listener: SharedListener, claim: Claim) -> None:
        """Have a thread that `admit` finds idle, and one that waits at the listener in place of the loop."""
        with self._lock:
            if not listener.listened and self._idle:
                self._send_to_listen(self._idle[0], listener, claim)
            new = [self._new_thread() for _ in range(min(2, self.size) - len(self._threads))]
        self._start(new)

    def _send_to_listen(self, thread: _Thread, listener: SharedListener, claim: Claim) -> None:
        listener.listened, self._claim = True, claim
        thread.listener = listener
        if thread.wakeup.locked():
            thread.wakeup.release()

    def admit(self, job: Claimed, now: float) -> None:
        """Add a job to the backlog from any thread, where a Ctrl-C may come at any time; an idle thread begins it."""
        self._put_first(job, now)
        with self._lock:
            called = self._call_idle(1)
        if not called:
            self._wake()  # in vain for now: the backlog is released when it has stood for too long

    def interrupt(self, run: Run) -> bool:
        """Raise `JobTimeout` in the thread of this run. A thread inside a C call gets it when that call returns.

        False: not now, because the thread is in our own work, which must not be left half done; try again soon.
        """
        thread = self._thread_of(run)
        return thread is None or thread.stop(run)

    def stack(self, run: Run) -> Callable[[], str]:
        """Return what tells where the thread of this run is."""
        thread = self._thread_of(run)
        return str if thread is None else lambda: thread.stack(run)

    def _let_go(self, run: Run) -> bool:
        thread = self._thread_of(run)
        if thread is None:
            return False
        with thread.lock:
            if thread.run is not run:
                return False
            thread.given_up = True
            run.written_off = True
        self._keep(run)
        with self._lock:
            self._threads.pop(thread.slot, None)
            self._slots.append(thread.slot)
        return True

    def stop(self) -> None:
        """End idle threads; busy ones end after their jobs."""
        with self._lock:
            self._stopping = True
            idle, self._idle = self._idle, []
        for thread in idle:
            thread.call()

    def _thread_of(self, run: Run) -> _Thread | None:
        return next((thread for thread in list(self._threads.values()) if thread.run is run), None)

    def _new_thread(self) -> _Thread:
        thread = _Thread(self._slots.pop(0))
        self._threads[thread.slot] = thread
        return thread

    def _work(self, thread: _Thread) -> None:
        thread.ident = threading.get_ident()
        if self._app is not None:
            current_app.set(self._app)
        while not thread.given_up:
            try:
                job = self.backlog.popleft()
            except IndexError:
                if not self._await_jobs(thread):
                    return
                continue
            if job.held is None or not self._is_late(job):
                self._one(thread, job)

    def _await_jobs(self, thread: _Thread) -> bool:
        """Wait for more jobs; False: there will be none."""
        with self._lock:
            if self._stopping:
                self._threads.pop(thread.slot, None)
                return False
            if self.backlog:
                return True
            self._idle.append(thread)
        self._wake()
        thread.wakeup.acquire()
        listener = thread.listener
        if listener is not None:
            hears = listener.listen(
                lambda: self._claim(lambda: self._leave_idle(thread)), lambda: self._is_wanted(thread)
            )
            self._leave_idle(thread, another=hears)
        else:
            self._leave_idle(thread)
        return True

    def _is_wanted(self, thread: _Thread) -> bool:
        with self._lock:
            return thread not in self._idle or bool(self.backlog)

    def _leave_idle(self, thread: _Thread, *, another: bool = True) -> None:
        """It is idle no more; where it listened, another idle thread does, or else the loop."""
        with self._lock:
            listener, thread.listener = thread.listener, None
            if thread in self._idle:  # it heard of jobs itself, or the thread that called it was interrupted
                self._idle.remove(thread)
            if listener is None:
                return
            if another and self._idle and not self._stopping:
                self._send_to_listen(self._idle[0], listener, self._claim)
            else:
                listener.leave()

    def _one(self, thread: _Thread, job: Claimed) -> None:
        run = self._begin(job, thread.slot)
        outcome = thread.execute(run)
        if not thread.given_up:
            self._end(run, outcome, thread.slot)
        else:
            self._mailbox.note_gone(job)
