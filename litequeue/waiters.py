"""Who in this process waits for which job's end. Knows the doorbell, and no store."""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from litequeue.doorbell import DONE, Ear

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from litequeue.job import JobRecord

# How long a wait trusts the doorbell before it looks by itself, in seconds.
SAFETY_POLL = 1.0


class Waiter:
    """One wait for one job; `event` is set when the job may have ended."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.event: threading.Event = threading.Event()

    def wake(self) -> None:
        """Tell the one who waits to look."""
        self.event.set()


class AsyncWaiter:
    """The same on an event loop."""

    def __init__(self, job_id: str) -> None:
        import asyncio

        self.job_id = job_id
        self.event: asyncio.Event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def wake(self) -> None:
        """Tell the one who waits to look; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self.event.set)
        except RuntimeError:
            return  # its loop is closed: nobody waits any more


class Waiters:
    """All waits of this process on one file. The first one starts a thread that listens to other processes."""

    def __init__(
        self, directory: Callable[[], Path], monotonic: Callable[[], float], doing: Callable[[JobRecord], str]
    ) -> None:
        self._directory, self._monotonic, self._doing = directory, monotonic, doing
        self._lock = threading.Lock()
        self._waiting: dict[str, set[Waiter | AsyncWaiter]] = {}
        self._ear: Ear | None = None
        self._let_go: weakref.finalize[..., Waiters] | None = None

    def wait(self, job_id: str, timeout: float | None, look_up: Callable[[str], JobRecord]) -> JobRecord:
        """Block until the job has ended, or raise `TimeoutError`, which says what it is doing."""
        deadline = None if timeout is None else self._monotonic() + timeout
        waiter = Waiter(job_id)
        # arm, then read, then wait: an end in between wakes us
        self.add(waiter)
        try:
            while not (record := look_up(job_id)).status.finished:
                waiter.event.wait(self._left(deadline, record, timeout))
                waiter.event.clear()
            return record
        finally:
            self.remove(waiter)

    async def await_end(
        self, job_id: str, timeout: float | None, look_up: Callable[[str], Awaitable[JobRecord]]
    ) -> JobRecord:
        """Async twin of `wait`."""
        import asyncio

        deadline = None if timeout is None else self._monotonic() + timeout
        waiter = AsyncWaiter(job_id)
        self.add(waiter)
        try:
            while not (record := await look_up(job_id)).status.finished:
                left = self._left(deadline, record, timeout)  # outside of `suppress`: it raises the same error
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(waiter.event.wait(), left)
                waiter.event.clear()
            return record
        finally:
            self.remove(waiter)

    def _left(self, deadline: float | None, record: JobRecord, timeout: float | None) -> float:
        if deadline is None:
            return SAFETY_POLL
        left = deadline - self._monotonic()
        if left <= 0:
            raise TimeoutError(f"job {record.id} ({record.task}) {self._doing(record)}; waited {timeout:g} s")
        return min(left, SAFETY_POLL)

    def add(self, waiter: Waiter | AsyncWaiter) -> None:
        """Arm it: from now on no end goes unseen."""
        with self._lock:
            self._waiting.setdefault(waiter.job_id, set()).add(waiter)
            if self._ear is None:
                self._ear = Ear(self._directory(), DONE)
                # the thread holds us weakly: where a Queue is dropped, its ear closes, and the thread ends
                self._let_go = weakref.finalize(self, _stop_listening, self._ear)
                arguments = (weakref.ref(self), self._ear)
                threading.Thread(target=_listen, args=arguments, name="litequeue-ear", daemon=True).start()

    def remove(self, waiter: Waiter | AsyncWaiter) -> None:
        """Forget it."""
        with self._lock:
            waiting = self._waiting.get(waiter.job_id, set())
            waiting.discard(waiter)
            if not waiting:
                self._waiting.pop(waiter.job_id, None)

    def ended(self, job_ids: Iterable[str]) -> None:
        """Wake those who wait for these jobs."""
        if not self._waiting:
            return
        with self._lock:
            woken = [waiter for job_id in job_ids for waiter in self._waiting.get(job_id, ())]
        for waiter in woken:
            waiter.wake()

    def heard(self, ear: Ear, messages: list[bytes]) -> bool:
        """Wake whom these messages of other processes are about; False when we listen by this ear no more."""
        if ear.missed or b"" in messages:
            self.ended(list(self._waiting))
        else:
            self.ended(job_id for message in messages for job_id in message.decode(errors="replace").split())
        return ear is self._ear

    def close(self) -> None:
        """Stop listening."""
        with self._lock:
            ear, self._ear = self._ear, None
        if ear is not None and self._let_go is not None:
            self._let_go()

    def start_anew(self) -> None:
        """After a fork, in the child: the thread and its waiters are the parent's."""
        self._lock = threading.Lock()
        self._waiting = {}
        self._ear = None
        if self._let_go is not None:
            self._let_go.detach()


def _listen(waiters: weakref.ref[Waiters], ear: Ear) -> None:
    with suppress(ValueError, OSError):  # it was closed before this wait, or its descriptor by other code
        while True:
            messages = ear.wait(None)
            listener = waiters()
            if listener is None or not listener.heard(ear, messages):
                return
            del listener


def _stop_listening(ear: Ear) -> None:
    ear.wake()
    ear.close()
