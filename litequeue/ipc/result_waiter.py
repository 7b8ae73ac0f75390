"""One wait for one job's end, by a thread or a coroutine: sleep until it is told. Knows no file."""

from __future__ import annotations

import threading
from contextlib import suppress
from contextvars import Context, copy_context
from typing import TYPE_CHECKING

from litequeue.core.interruptible import interruptible

if TYPE_CHECKING:
    import asyncio

    from litequeue.ipc.notifier import Listener


class Waiter:
    """One wait for one job, by a thread. `listener`: where it listens, for itself and all others."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.context: Context = copy_context()  # tells which job waits, if one does
        self.listener: Listener | None = None
        self._notifier = threading.Lock()  # an Event does the same in ten calls of Python
        self._notifier.acquire()

    @interruptible
    def wait(self, timeout: float) -> bool:
        """Sleep until it is told that the job may have ended; return whether it was."""
        return self._notifier.acquire(timeout=timeout)

    @interruptible
    def listen(self, listener: Listener, timeout: float) -> list[bytes]:
        """Sleep until it is told or another process says something, and return what that was."""
        self.listener = listener  # wake() sees that we listen, or we see that it woke us: never neither
        try:
            return listener.wait(timeout) if self._notifier.locked() else []
        finally:
            self.listener = None

    def was_told(self) -> bool:
        """Whether it has been told to look; once."""
        return self._notifier.acquire(blocking=False)

    def wake(self) -> None:
        """Tell the waiting thread to look."""
        with suppress(RuntimeError):  # it has been told already
            self._notifier.release()
        listener = self.listener
        if listener is not None:
            listener.wake()


class AsyncWaiter:
    """The same on an event loop."""

    def __init__(self, job_id: str) -> None:
        import asyncio

        self.job_id = job_id
        self.context: Context = copy_context()
        self.event: asyncio.Event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def wake(self) -> None:
        """Tell the waiting coroutine to look; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self.event.set)
        except RuntimeError:
            return  # its loop is closed: the coroutine waits no more
