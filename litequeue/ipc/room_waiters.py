"""Waits for room in tasks that have as many queued jobs as they may: one look a second for all of a process.

Knows no file: `queued` counts the queued jobs of a task up to a number, `version` is a value that differs after every
commit to the file.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.clock import SystemClock
from litequeue.core.interruptible import interruptible
from litequeue.errors import StoreError
from litequeue.ipc.result_waiter import AsyncWaiter, Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.errors import QueueFull

LOOK_EVERY = 1.0  # seconds: for claims of other processes
GATHER = 0.01  # seconds between two looks for which claims of this process are the reason


class _Wanted(NamedTuple):
    """What a waiter wants: room for so many calls of a task that may have so many queued."""

    task: str
    most: int
    calls: int


class RoomWaiters:
    """All waits of this process for room in the tasks of one file. A thread of ours looks, while there are any."""

    def __init__(self, queued: Callable[[str, int], int], version: Callable[[], object]) -> None:
        self._queued, self._version = queued, version
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start without waiters; also after a fork, in the child: they are the parent's, as the thread is."""
        self._lock = threading.Lock()
        self._waiting: dict[Waiter | AsyncWaiter, _Wanted] = {}  # in the order in which they came
        self._stirred = threading.Event()
        self._thread: threading.Thread | None = None

    @interruptible
    def wait(self, full: QueueFull, timeout: float) -> None:
        """Block until there may be room, at most so many seconds."""
        until = SystemClock.monotonic() + timeout
        waiter, wanted = Waiter(full.task), _Wanted(full.task, full.max_pending, full.calls)
        try:
            self._add(waiter, wanted)
            while (left := until - SystemClock.monotonic()) > 0:
                if waiter.wait(min(left, LOOK_EVERY)):  # in pieces: an error for this thread comes between them
                    return
        finally:
            self._remove(waiter)

    async def await_room(self, full: QueueFull, timeout: float) -> None:
        """Async twin of `wait`."""
        import asyncio

        until = SystemClock.monotonic() + timeout
        waiter, wanted = AsyncWaiter(full.task), _Wanted(full.task, full.max_pending, full.calls)
        try:
            self._add(waiter, wanted)
            left = until - SystemClock.monotonic()
            timer = asyncio.get_running_loop().call_later(max(0.0, left), waiter.event.set)
            try:
                await waiter.event.wait()
            finally:
                timer.cancel()
        finally:
            self._remove(waiter)

    def stir(self) -> None:
        """Jobs of this process were claimed or cancelled: there may be room."""
        if self._waiting:
            self._stirred.set()

    def _add(self, waiter: Waiter | AsyncWaiter, wanted: _Wanted) -> None:
        with self._lock:
            self._waiting[waiter] = wanted
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="litequeue-room", daemon=True)
                self._thread.start()
        self._stirred.set()  # armed, and then looked: no room that came in between goes unseen

    def _remove(self, waiter: Waiter | AsyncWaiter) -> None:
        with self._lock:
            self._waiting.pop(waiter, None)

    @staticmethod
    def _fits(wanted: _Wanted, queued: int) -> bool:
        return queued + wanted.calls <= wanted.most

    @interruptible
    def _watch(self) -> None:
        """Look when this process has claimed, and once a second whether any other has; end when nobody waits."""
        seen: object = None
        rest = threading.Event()
        while True:
            stirred = self._stirred.wait(LOOK_EVERY)
            self._stirred.clear()
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
            try:
                version = self._version()
                if stirred or version != seen:
                    self._look()
                seen = version
            except StoreError:
                self._wake(list(self._waiting))  # each meets the error by itself
            rest.wait(GATHER)

    def _look(self) -> None:
        """Wake those for whom there is room, in the order in which they came."""
        with self._lock:
            waiting = list(self._waiting.items())
        queued: dict[str, int] = {}
        full: set[str] = set()
        woken: list[Waiter | AsyncWaiter] = []
        for waiter, wanted in waiting:
            task = wanted.task
            if task not in queued:
                queued[task] = self._queued(task, max(each.most for _, each in waiting if each.task == task))
            if task not in full and self._fits(wanted, queued[task]):
                queued[task] += wanted.calls
                woken.append(waiter)
            else:
                full.add(task)  # a smaller one that came later does not pass a larger one
        self._wake(woken)

    @staticmethod
    def _wake(waiters: list[Waiter | AsyncWaiter]) -> None:
        for waiter in waiters:
            waiter.wake()
