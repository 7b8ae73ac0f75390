"""A wait for the end of one job, by a thread or a coroutine, and a watch on many. Knows no file."""

from __future__ import annotations

import threading
from contextlib import suppress
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, TypeAlias

from litequeue.core.interruptible import interruptible

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from litequeue.ipc.notifier import Listener


EMITTED = "+"  # no id begins with it


def emitted_by(job_id: str) -> str:
    """Return the name under which one waits for what a job emits, beside the ids of those that wait for ends."""
    return f"{EMITTED}{job_id}"


class Waiter:
    """One wait for one job, by a thread. `also`: another name to be told of; `listener`: where it listens, for all."""

    def __init__(self, job_id: str, *also: str) -> None:
        self.job_id = job_id
        self.job_ids: tuple[str, ...] = (job_id, *also)
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

    def __init__(self, job_id: str, *also: str) -> None:
        import asyncio

        self.job_id = job_id
        self.job_ids: tuple[str, ...] = (job_id, *also)
        self.context: Context = copy_context()
        self.event: asyncio.Event = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()

    def wake(self) -> None:
        """Tell the waiting coroutine to look; from any thread."""
        _wake_on(self.loop, [self])


class Watch:
    """A watch on many jobs, which tells once of each. `job_ids`: those that it has not told of."""

    def __init__(self, job_ids: Iterable[str], tell: Callable[[Sequence[str]], object]) -> None:
        self.job_ids: set[str] = set(job_ids)
        self.tell: Callable[[Sequence[str]], object] = tell
        self.context: Context = copy_context()


Waits: TypeAlias = Waiter | AsyncWaiter | Watch


def wake_all(told: Mapping[Waits, Sequence[str]]) -> None:
    """Tell each of its jobs; the coroutines of one loop by one call."""
    loops: dict[asyncio.AbstractEventLoop, list[AsyncWaiter]] = {}
    for one, job_ids in told.items():
        if isinstance(one, AsyncWaiter):
            loops.setdefault(one.loop, []).append(one)
        elif isinstance(one, Watch):
            if job_ids:
                one.tell(job_ids)
        else:
            one.wake()
    for loop, ones in loops.items():
        _wake_on(loop, ones)


def _wake_on(loop: asyncio.AbstractEventLoop, ones: Iterable[AsyncWaiter]) -> None:
    with suppress(RuntimeError):  # the loop is closed: its coroutines wait no more
        loop.call_soon_threadsafe(_set, ones)


def _set(ones: Iterable[AsyncWaiter]) -> None:
    for one in ones:
        one.event.set()
