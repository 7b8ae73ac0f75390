"""The threads and coroutines of this process that wait for jobs' ends. Knows the notifier, and no store."""

from __future__ import annotations

import errno
import threading
import time
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from litequeue.core.interruptible import interruptible
from litequeue.core.why import wait_timed_out
from litequeue.errors import StoreError
from litequeue.ipc.notifier import DONE, Listener
from litequeue.ipc.result_poll import Ends, ResultPoll
from litequeue.ipc.result_waiter import AsyncWaiter, Waiter

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable
    from contextvars import Context
    from pathlib import Path

    from litequeue.core.records import JobRecord

T = TypeVar("T")

# Seconds between two looks at the file while this process waits for results, however many of its threads and
# coroutines do: the safety net behind the notifier.
SAFETY_POLL = 1.0
QUIET = 10  # looks after the last wait until the thread that listens sleeps until the next one
LOOK = 0.25  # seconds that a look may take when there is no time left, as for result(timeout=0)
UNREAD = "has an unknown status, because other threads kept the file's connection busy the whole time"
ALL = b"all"  # a message that stands for more ids than fit into one

# The loops on which workers in this process run coroutines, each with the folder beside the worker's file.
_workers_loops: list[tuple[asyncio.AbstractEventLoop, str]] = []


def refuse_waits(loop: asyncio.AbstractEventLoop, place: str) -> None:
    """Refuse waits for jobs of this file in the thread that runs this loop, which may have to run the job."""
    _workers_loops.append((loop, place))


def refuse_waits_no_more(loop: asyncio.AbstractEventLoop, place: str) -> None:
    """Allow waits again: the worker has left this loop."""
    with suppress(ValueError):
        _workers_loops.remove((loop, place))


def check_may_wait(reads: Reads) -> None:
    """Raise `RuntimeError` in a thread that runs an event loop of a worker of that file."""
    import asyncio

    running = asyncio._get_running_loop()  # noqa: SLF001  public in all but its name; the other one raises, which costs
    if running is not None and (running, str(reads.directory)) in _workers_loops:
        raise RuntimeError(
            "result() would block the event loop on which this queue's worker runs coroutines, for good if the job is "
            "one of them; use `await job` or `await job.aresult(timeout=...)`"
        )


_everywhere: list[weakref.ref[ResultWaiters]] = []  # of this process; what is collected removes itself


def waits_in(directory: Path) -> list[tuple[Context, str]]:
    """Return the waits of this process for jobs of the file beside that folder: each context, and the job's id."""
    return [wait for ref in list(_everywhere) if (waiters := ref()) is not None for wait in waiters.waits(directory)]


class Reads(Ends, Protocol):
    """How waits read the file."""

    @property
    def directory(self) -> Path:
        """Where locks and sockets lie, beside the file."""

    def doing(self, record: JobRecord) -> str:
        """Return in words the state of an unfinished job, and what it waits for."""

    def busy(self) -> bool:
        """Whether the reading connection is in use."""

    def free_within(self, seconds: float) -> bool:
        """Wait until the reading connection is free, at most this long; return whether it was."""

    def soon(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Make a call that reads in another thread, for a coroutine."""


class ResultWaiters:
    """All waits of this process on one file.

    One of the threads that wait listens to other processes, for all, so that it is told without a detour. Where only
    coroutines wait, a thread of our own does.
    """

    def __init__(self, directory: Callable[[], Path], monotonic: Callable[[], float], reads: Reads) -> None:
        self._directory, self._monotonic, self._reads = directory, monotonic, reads
        self._lock = threading.RLock()  # re-entrant: a signal handler may cancel a job inside add()
        self._waiting: dict[str, set[Waiter | AsyncWaiter]] = {}
        self._listener: Listener | None = None
        self._listening: Waiter | threading.Thread | None = None
        self._let_go: weakref.finalize[..., ResultWaiters] | None = None
        self._poll = ResultPoll(reads)
        self._quiet, self._asleep = 0, False  # of the thread that listens for coroutines
        _everywhere.append(weakref.ref(self, _everywhere.remove))

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
        """Block until the job has ended, or raise `TimeoutError`, whose message says what the job is doing."""
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
                if has_ended(job_id) or self._left(deadline) == 0:
                    break
                self._sleep(waiter, deadline)
            record = look_up(job_id)
            if not record.status.finished:
                doing = self._reads.doing(record) if self._reads.free_within(LOOK) else None
                raise wait_timed_out(record, timeout, doing)
            return record
        finally:
            try:
                self.remove(waiter)
            finally:
                self.remove(waiter)  # again, in case a Ctrl-C interrupted it: no thread would listen any more

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
                if left == 0:
                    raise await self._alate(job_id, timeout, record)
                # not wait_for(): up to Python 3.11 it loses a cancel that comes as the event is set
                loop = asyncio.get_running_loop()
                timer = None if left is None else loop.call_later(left, waiter.event.set)
                try:
                    await waiter.event.wait()
                finally:
                    if timer is not None:
                        timer.cancel()
                waiter.event.clear()
                if self._listener is None:
                    self.add(waiter)  # again, after close()
        finally:
            self.remove(waiter)

    def _left(self, deadline: float | None) -> float | None:
        """Seconds until the deadline, 0 once it has passed; None where there is none."""
        return None if deadline is None else max(0.0, deadline - self._monotonic())

    @interruptible
    def _sleep(self, waiter: Waiter, deadline: float | None) -> None:
        """Block until the job may have ended, or the deadline has passed."""
        while (left := self._left(deadline)) != 0:
            listener = self._listener
            if listener is None:
                self.add(waiter)  # again, after close(); so it has to look again
                return
            span = SAFETY_POLL if left is None else min(left, SAFETY_POLL)
            told = self._listen(waiter, listener, span) if self._listening is waiter else waiter.wait(span)
            if told:
                return
            self._look(LOOK if left is None else min(left, LOOK))

    @interruptible
    def _look(self, patience: float, *, always: bool = False) -> None:
        """Look once a second which jobs have ended, for all that wait here, by the thread of ours that wakes first.

        `always`: now, since messages were lost. Each waiter meets an error of the file by itself.
        """
        if not (always or self._poll.is_due(SAFETY_POLL)):
            return
        if self._reads.free_within(patience):
            try:
                self.ended(self._poll.look(self._awaited, always=always))
            except StoreError:
                self.ended(self._awaited())
        elif always:
            self.ended(self._awaited())

    def waits(self, directory: Path) -> list[tuple[Context, str]]:
        """Return the waits here, if this is the file beside that folder."""
        mine = self._reads.directory == directory
        with self._lock:
            return [(one.context, one.job_id) for ones in self._waiting.values() for one in ones if mine]

    def _awaited(self) -> list[str]:
        with self._lock:
            return list(self._waiting)

    def _patience(self, deadline: float) -> float:
        """Seconds that a look may take: also after the deadline it is given a moment."""
        return max(0.0, deadline - self._monotonic()) + LOOK

    def _wait_to_read(self, job_id: str, timeout: float | None, deadline: float) -> None:
        if not self._reads.free_within(self._patience(deadline)):
            raise _late(job_id, timeout, UNREAD)

    async def _soon(self, call: Callable[[], T], deadline: float | None) -> T | None:
        """Read in another thread; None if that takes longer than the deadline."""
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
        return wait_timed_out(record, timeout, doing)

    @interruptible
    def _listen(self, waiter: Waiter, listener: Listener, span: float) -> bool:
        """Sleep, and tell the others here what is heard; return whether this one is told."""
        try:
            messages = waiter.listen(listener, span)
        except (OSError, ValueError) as error:
            # a time limit is an OSError as well, and what a signal handler raises may be anything
            if not listener.closed and getattr(error, "errno", None) != errno.EBADF:
                raise
            # it was closed, or its descriptor, by other code: look now and then
            return waiter.wait(span) if listener is self._listener else waiter.was_told()
        # an empty one is a mere wake(); none at all, and what the listener has missed before is known already
        if messages and (listener.missed or any(messages)):
            self.heard(listener, messages)
        return waiter.was_told()

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
            elif self._asleep:
                self._listener.wake()

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
        self._quiet, self._asleep = 0, False
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
        """Wake those that wait for these jobs."""
        if not self._waiting:
            return
        woken: list[Waiter | AsyncWaiter] = []
        ids = list(job_ids)
        with self._lock:
            for job_id in ids:
                woken.extend(self._waiting.get(job_id, ()))
        for waiter in woken:
            waiter.wake()

    def heard(self, listener: Listener, messages: list[bytes]) -> None:
        """Wake whom these messages of other processes are about."""
        if listener.missed or ALL in messages:
            self._look(LOOK, always=True)
        else:
            self.ended(job_id for message in messages for job_id in message.decode(errors="replace").split())

    def span(self, listener: Listener) -> float | None:
        """How long the thread that listens may sleep, in seconds (None: until it is woken); 0: it is to end."""
        self._asleep = False
        if listener is not self._listener:
            return 0.0
        self._quiet = 0 if self._waiting else self._quiet + 1
        self._asleep = self._quiet > QUIET
        return None if self._asleep and not self._waiting else SAFETY_POLL  # add() sees that we sleep, or we see it

    def hear(self, listener: Listener, messages: list[bytes]) -> None:
        """Tell those that wait here what was heard, and look once a second."""
        if listener.missed or any(messages):
            self.heard(listener, messages)
        if self._waiting:
            self._look(LOOK)

    def close(self) -> None:
        """Stop listening; those that wait begin again."""
        with self._lock:
            listener, self._listener, self._listening = self._listener, None, None
            waiting = [one for ones in self._waiting.values() for one in ones]
        if listener is not None and self._let_go is not None:
            self._let_go()
        for waiter in waiting:
            waiter.wake()

    def reset_after_fork(self) -> None:
        """After a fork, in the child: the thread and its waiters are the parent's."""
        self._lock = threading.RLock()
        self._waiting = {}
        self._listener = self._listening = None
        self._poll.reset_after_fork()
        if self._let_go is not None:
            self._let_go.detach()


@interruptible
def _listen(waiters: weakref.ref[ResultWaiters], listener: Listener) -> None:
    """Listen for coroutines, in a thread of our own. It goes on by looking where other code has closed the listener."""
    deaf = False
    while True:
        listening = waiters()
        span = 0.0 if listening is None else listening.span(listener)
        del listening
        if span == 0 or (deaf and span is None):
            return
        messages: list[bytes] = []
        try:
            if deaf and span is not None:
                time.sleep(span)
            else:
                messages = listener.wait(span)
        except (ValueError, OSError):
            deaf = True
        listening = waiters()
        if listening is not None:
            listening.hear(listener, messages)
        del listening


def _late(job_id: str, timeout: float | None, what: str) -> TimeoutError:
    return TimeoutError(f"job {job_id} {what}; waited {timeout:g} s")


def _give_up(future: asyncio.Future[Any]) -> None:
    # a result, and no cancel: the caller must be able to tell it from a cancel of its own
    if not future.done():
        future.set_result(None)


def _stop_listening(listener: Listener) -> None:
    listener.wake()
    listener.close()
