"""Who in this process waits for which job's end. Knows the notifier, and no store."""

from __future__ import annotations

import errno
import threading
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from litequeue.core.interruptible import interruptible
from litequeue.ipc.notifier import DONE, Listener

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from litequeue.job import JobRecord

T = TypeVar("T")

# How long a wait trusts the notifier before it looks by itself, in seconds.
SAFETY_POLL = 1.0
LOOK = 0.25  # seconds that a look may take when there is no time left, as for result(timeout=0)
UNREAD = "has an unknown status: others kept the file's connection busy for the whole time"
ALL = b"all"  # a message that stands for more ids than fit into one


# The loops on which workers in this process run coroutines, each with the folder beside the worker's file.
_workers_loops: list[tuple[asyncio.AbstractEventLoop, str]] = []


def refuse_waits(loop: asyncio.AbstractEventLoop, place: str) -> None:
    """Let no thread block in a wait for a job of this file while it runs this loop, which may have to run that job."""
    _workers_loops.append((loop, place))


def refuse_waits_no_more(loop: asyncio.AbstractEventLoop, place: str) -> None:
    """The worker has left this loop."""
    with suppress(ValueError):
        _workers_loops.remove((loop, place))


def check_may_wait(reads: Reads) -> None:
    """Raise `RuntimeError` in a thread that runs a loop of a worker of that file."""
    import asyncio

    running = asyncio._get_running_loop()  # noqa: SLF001  public in all but its name; the other one raises, which costs
    if running is not None and (running, str(reads.directory)) in _workers_loops:
        raise RuntimeError(
            "result() would block the event loop on which this queue's worker runs coroutines, for good if the job is "
            "one of them; use `await job` or `await job.aresult(timeout=...)`"
        )


class Waiter:
    """One wait for one job, by a thread. `listener`: where it listens, for itself and all others."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.listener: Listener | None = None
        self._wakeup = threading.Lock()  # an Event does the same in ten calls of Python
        self._wakeup.acquire()

    @interruptible
    def wait(self, timeout: float) -> None:
        """Sleep until the job may have ended."""
        self._wakeup.acquire(timeout=timeout)

    @interruptible
    def listen(self, listener: Listener, timeout: float) -> list[bytes]:
        """The same, and return what other processes say meanwhile."""
        self.listener = listener  # wake() sees that we listen, or we see that it woke us: never neither
        try:
            return [] if self.was_told() else listener.wait(timeout)
        finally:
            self.listener = None

    def was_told(self) -> bool:
        """Whether it has been told to look; once."""
        return self._wakeup.acquire(blocking=False)

    def wake(self) -> None:
        """Tell the one who waits to look."""
        with suppress(RuntimeError):  # it has been told already
            self._wakeup.release()
        listener = self.listener
        if listener is not None:
            listener.wake()


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


class Reads(Protocol):
    """How waits read the file."""

    @property
    def directory(self) -> Path:
        """Where locks and sockets lie, beside the file."""

    def doing(self, record: JobRecord) -> str:
        """Say where an unfinished job stands, and what it waits for."""

    def busy(self) -> bool:
        """Whether the reading connection is in use."""

    def free_within(self, seconds: float) -> bool:
        """Wait until the reading connection is free, at most so long; return whether it was."""

    def soon(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Make a call that reads in another thread, for a coroutine."""


class ResultWaiters:
    """All waits of this process on one file.

    One of the threads that wait listens to other processes, for all, so that it is told without a detour. Where only
    coroutines wait, a thread of our own does.
    """

    def __init__(self, directory: Callable[[], Path], monotonic: Callable[[], float], reads: Reads) -> None:
        self._directory, self._monotonic, self._reads = directory, monotonic, reads
        self._lock = threading.Lock()
        self._waiting: dict[str, set[Waiter | AsyncWaiter]] = {}
        self._listener: Listener | None = None
        self._listening: Waiter | threading.Thread | None = None
        self._let_go: weakref.finalize[..., ResultWaiters] | None = None

    @property
    def listener(self) -> str:
        """The name of the listener by which those here hear of others; empty when there is none."""
        listener = self._listener
        return "" if listener is None else listener.name

    @interruptible
    def wait(
        self,
        job_id: str,
        timeout: float | None,
        has_ended: Callable[[str], bool],
        look_up: Callable[[str], JobRecord],
    ) -> JobRecord:
        """Block until the job has ended, or raise `TimeoutError`, which says what it is doing."""
        if _workers_loops:
            check_may_wait(self._reads)
        deadline = None if timeout is None else self._monotonic() + timeout
        waiter = Waiter(job_id)
        try:
            # arm, then read, then wait: an end in between wakes us
            self.add(waiter)
            while True:
                if deadline is not None and self._reads.busy():
                    self._wait_to_read(job_id, timeout, deadline)
                if has_ended(job_id):
                    break
                left, listener = self._left(deadline), self._listener
                if not left:
                    break
                if listener is None:
                    self.add(waiter)  # anew, after close()
                elif self._listening is waiter:
                    self._listen(waiter, listener, left)
                else:
                    waiter.wait(left)
            record = look_up(job_id)
            if not record.status.finished:
                doing = self._reads.doing(record) if self._reads.free_within(LOOK) else None
                raise _late(job_id, timeout, _known(record, doing))
            return record
        finally:
            try:
                self.remove(waiter)
            finally:
                self.remove(waiter)  # again, should a Ctrl-C have come amid it: nobody would listen any more

    async def await_end(self, job_id: str, timeout: float | None, look_up: Callable[[str], JobRecord]) -> JobRecord:
        """Async twin of `wait`; the time limit also covers reads, which are made in another thread."""
        import asyncio

        deadline = None if timeout is None else self._monotonic() + timeout
        waiter = AsyncWaiter(job_id)
        self.add(waiter)
        try:
            while True:
                record = await self._soon(partial(look_up, job_id), deadline)
                if record is not None and record.status.finished:
                    return record
                left = self._left(deadline)
                if not left:
                    raise await self._alate(job_id, timeout, record)
                # not wait_for(): up to Python 3.11 it loses a cancel that comes as the event is set
                timer = asyncio.get_running_loop().call_later(left, waiter.event.set)
                try:
                    await waiter.event.wait()
                finally:
                    timer.cancel()
                waiter.event.clear()
                if self._listener is None:
                    self.add(waiter)  # anew, after close()
        finally:
            self.remove(waiter)

    def _left(self, deadline: float | None) -> float:
        """Seconds to wait until the next look; none once the deadline has passed."""
        return SAFETY_POLL if deadline is None else max(0.0, min(deadline - self._monotonic(), SAFETY_POLL))

    def _patience(self, deadline: float) -> float:
        """Seconds that a look may take: also after the deadline it is given a moment."""
        return max(0.0, deadline - self._monotonic()) + LOOK

    def _wait_to_read(self, job_id: str, timeout: float | None, deadline: float) -> None:
        if not self._reads.free_within(self._patience(deadline)):
            raise _late(job_id, timeout, UNREAD)

    async def _soon(self, call: Callable[[], T], deadline: float | None) -> T | None:
        """Read in another thread; None when that takes longer than the deadline."""
        import asyncio

        future: asyncio.Future[Any] = self._reads.soon(call)
        if deadline is None:
            return cast("T", await future)
        timer = asyncio.get_running_loop().call_later(self._patience(deadline), _give_up, future)
        try:
            return cast("T", await future)
        finally:
            timer.cancel()

    async def _alate(self, job_id: str, timeout: float | None, record: JobRecord | None) -> TimeoutError:
        if record is None:
            return _late(job_id, timeout, UNREAD)
        doing = await self._soon(partial(self._reads.doing, record), self._monotonic())
        return _late(job_id, timeout, _known(record, doing))

    @interruptible
    def _listen(self, waiter: Waiter, listener: Listener, left: float) -> None:
        try:
            messages = waiter.listen(listener, left)
        except (OSError, ValueError) as error:
            # a time limit is an OSError as well, and what a signal handler raises may be anything
            if not listener.closed and getattr(error, "errno", None) != errno.EBADF:
                raise
            if listener is self._listener:
                waiter.wait(left)  # it was closed, or its descriptor, by other code: look now and then
        else:
            # an empty one is a mere wake(); none at all, and what the listener has missed before is known already
            if messages and (listener.missed or any(messages)):
                self.heard(listener, messages)
            waiter.was_told()  # it looks in any case

    def add(self, waiter: Waiter | AsyncWaiter) -> None:
        """Arm it: from now on no end goes unseen."""
        with self._lock:
            self._waiting.setdefault(waiter.job_id, set()).add(waiter)
            if self._listener is None:
                self._listener = Listener(self._directory(), DONE)
                # the thread holds us weakly: where a Queue is dropped, its listener closes, and the thread ends
                self._let_go = weakref.finalize(self, _stop_listening, self._listener)
            if not self._is_listened():
                self._appoint(waiter, self._listener)

    def _is_listened(self) -> bool:
        """Whether the listening is there yet: a thread of ours ends where its listener is closed under it."""
        one = self._listening
        if isinstance(one, Waiter):
            return one in self._waiting.get(one.job_id, ())
        return one is not None and one.is_alive()

    def _appoint(self, waiter: Waiter | AsyncWaiter, listener: Listener) -> None:
        if isinstance(waiter, Waiter):
            self._listening = waiter
            return
        arguments = (weakref.ref(self), listener)
        self._listening = threading.Thread(target=_listen, args=arguments, name="litequeue-listener", daemon=True)
        self._listening.start()

    def remove(self, waiter: Waiter | AsyncWaiter) -> None:
        """Forget it; if it listened, another one does from now on."""
        with self._lock:
            waiting = self._waiting.get(waiter.job_id, set())
            waiting.discard(waiter)
            if not waiting:
                self._waiting.pop(waiter.job_id, None)
            if self._listening is waiter:
                self._listening = None
                heir = next((one for ones in self._waiting.values() for one in ones), None)
                if heir is not None and self._listener is not None:
                    self._appoint(heir, self._listener)
                    heir.wake()

    def ended(self, job_ids: Iterable[str]) -> None:
        """Wake those who wait for these jobs."""
        if not self._waiting:
            return
        woken: list[Waiter | AsyncWaiter] = []
        ids = list(job_ids)
        with self._lock:
            for job_id in ids:
                woken.extend(self._waiting.get(job_id, ()))
        for waiter in woken:
            waiter.wake()

    def heard(self, listener: Listener, messages: list[bytes]) -> bool:
        """Wake whom these messages of other processes are about; False when we listen by this listener no more."""
        if listener.missed or ALL in messages:
            self.ended(list(self._waiting))
        else:
            self.ended(job_id for message in messages for job_id in message.decode(errors="replace").split())
        return listener is self._listener

    def close(self) -> None:
        """Stop listening; those who wait begin anew."""
        with self._lock:
            listener, self._listener, self._listening = self._listener, None, None
            waiting = [one for ones in self._waiting.values() for one in ones]
        if listener is not None and self._let_go is not None:
            self._let_go()
        for waiter in waiting:
            waiter.wake()

    def start_anew(self) -> None:
        """After a fork, in the child: the thread and its waiters are the parent's."""
        self._lock = threading.Lock()
        self._waiting = {}
        self._listener = self._listening = None
        if self._let_go is not None:
            self._let_go.detach()


@interruptible
def _listen(waiters: weakref.ref[ResultWaiters], listener: Listener) -> None:
    with suppress(ValueError, OSError):  # it was closed before this wait, or its descriptor by other code
        while True:
            messages = listener.wait(None)
            listening = waiters()
            if listening is None or not listening.heard(listener, messages):
                return
            del listening


def _late(job_id: str, timeout: float | None, what: str) -> TimeoutError:
    return TimeoutError(f"job {job_id} {what}; waited {timeout:g} s")


def _known(record: JobRecord, doing: str | None) -> str:
    return f"({record.task}) {doing or f'is still {record.status}'}"


def _give_up(future: asyncio.Future[Any]) -> None:
    # a result, and no cancel: the caller must be able to tell it from a cancel of its own
    if not future.done():
        future.set_result(None)


def _stop_listening(listener: Listener) -> None:
    listener.wake()
    listener.close()
