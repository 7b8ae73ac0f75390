"""The threads and coroutines of this process that wait for jobs' ends. Knows the notifier, and no store."""

from __future__ import annotations

import errno
import threading
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from litequeue.core.interruptible import interruptible
from litequeue.core.why import wait_timed_out
from litequeue.errors import JobNotFound, StoreError
from litequeue.ipc.listening_thread import start_listening, stop_listening
from litequeue.ipc.look_ups import NotReadError, within
from litequeue.ipc.notifier import DONE, Listener
from litequeue.ipc.result_poll import CHUNK, Ends, ResultPoll
from litequeue.ipc.result_waiter import AsyncWaiter, Waiter, Waits, Watch, wake_all
from litequeue.ipc.wait_table import WaitTable
from litequeue.ipc.workers_loops import check_may_block

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence
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

    def later(self, call: Callable[[], object]) -> None:
        """Make a call in the same thread; may be asked for at any moment, also amid another request."""

    def end_of(self, job_id: str) -> asyncio.Future[JobRecord | JobNotFound | None]:
        """Look up a job that has ended, for a coroutine; None: it has not."""

    def look_up_soon(self, job_id: str) -> asyncio.Future[JobRecord | JobNotFound]:
        """Look up a job in any state, for a coroutine."""


class ResultWaiters:
    """All waits of this process on one file.

    One of the threads that wait listens to other processes, for all, so that it is told without a detour. Where only
    coroutines wait, a thread of our own does.
    """

    def __init__(self, directory: Callable[[], Path], monotonic: Callable[[], float], reads: Reads) -> None:
        self._directory, self._monotonic, self._reads = directory, monotonic, reads
        self._table = WaitTable()
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

    def check_may_block(self) -> None:
        """Raise `RuntimeError` in a thread that runs an event loop of a worker of this file."""
        check_may_block(lambda: self._reads.directory)

    @interruptible
    def wait(
        self,
        job_id: str,
        timeout: float | None,
        has_ended: Callable[[str], bool],
        look_up: Callable[[str], JobRecord],
    ) -> JobRecord:
        """Block until the job has ended, or raise `TimeoutError`, whose message says what the job is doing."""
        self.check_may_block()
        deadline = None if timeout is None else self._monotonic() + timeout
        waiter = Waiter(job_id)
        try:
            # arm, then read, then wait: an end in between wakes us
            self.add(waiter)
            while True:
                if deadline is not None and self._reads.busy():
                    self._wait_to_read(job_id, timeout, deadline)
                if has_ended(job_id) or self.left(deadline) == 0:
                    break
                self.sleep(waiter, deadline)
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

    async def await_end(self, job_id: str, timeout: float | None) -> JobRecord:
        """Async twin of `wait`; the time limit also covers reads, which are made in another thread."""
        deadline = None if timeout is None else self._monotonic() + timeout
        waiter = AsyncWaiter(job_id)
        self.add(waiter)
        try:
            while True:
                try:
                    found = await within(self._reads.end_of(job_id), self._patience(deadline))
                except NotReadError:
                    raise _late(job_id, timeout, UNREAD) from None
                if found is not None:
                    return require(found)
                if self.left(deadline) == 0:
                    return await self._at_last(job_id, timeout)
                await self.asleep(waiter, deadline)
        finally:
            self.remove(waiter)

    def watch(self, job_ids: Sequence[str], tell: Callable[[Sequence[str]], object]) -> Callable[[], object]:
        """Tell of jobs as they end, once of each; return what ends the watch. See `Source.watch`."""
        watch = Watch(job_ids, tell)
        try:
            with self._table.lock:
                self._table.enter(watch)
                self._be_heard(watch)
            self._reads.later(partial(self._look_first, watch, list(watch.job_ids)))
        except BaseException:
            self._forget(watch)
            raise
        return partial(self._end, watch)

    def _look_first(self, watch: Watch, job_ids: list[str]) -> None:
        """Tell it of those that have ended already: a chunk at a time, so that other reads come between."""
        try:
            ended = self._reads.ended_among(job_ids[:CHUNK])
        except StoreError:
            ended, job_ids = job_ids, []  # the watch's owner meets the error by itself
        except BaseException:
            wake_all({watch: self._table.take(watch, job_ids)})
            raise
        wake_all({watch: self._table.take(watch, ended)})
        if len(job_ids) > CHUNK:
            self._reads.later(partial(self._look_first, watch, job_ids[CHUNK:]))
        else:
            watch.tell(())

    def _end(self, watch: Watch) -> None:
        # in another thread: the collection of garbage may come anywhere, also where the table is changed
        if watch.job_ids:
            with suppress(RuntimeError):  # no thread is started as Python ends
                self._reads.later(partial(self._forget, watch))

    def _forget(self, watch: Watch) -> None:
        self._table.take(watch, tuple(watch.job_ids))

    def left(self, deadline: float | None) -> float | None:
        """Seconds until the deadline, 0 once it has passed; None where there is none."""
        return None if deadline is None else max(0.0, deadline - self._monotonic())

    @interruptible
    def sleep(self, waiter: Waiter, deadline: float | None) -> None:
        """Block until the job may have ended, or the deadline has passed."""
        while (left := self.left(deadline)) != 0:
            listener = self._listener
            if listener is None:
                self.add(waiter)  # again, after close(); so it has to look again
                return
            span = SAFETY_POLL if left is None else min(left, SAFETY_POLL)
            told = self._listen(waiter, listener, span) if self._listening is waiter else waiter.wait(span)
            if told:
                return
            self._look(LOOK if left is None else min(left, LOOK))

    async def asleep(self, waiter: AsyncWaiter, deadline: float | None) -> None:
        """Async twin of `sleep`."""
        import asyncio

        # not wait_for(): up to Python 3.11 it loses a cancel that comes as the event is set
        left = self.left(deadline)
        timer = None if left is None else asyncio.get_running_loop().call_later(left, waiter.event.set)
        try:
            await waiter.event.wait()
        finally:
            if timer is not None:
                timer.cancel()
        waiter.event.clear()
        if self._listener is None:
            self.add(waiter)  # again, after close()

    @interruptible
    def _look(self, patience: float, *, always: bool = False) -> None:
        """Look once a second which jobs have ended, for all that wait here, by the thread of ours that wakes first.

        `always`: now, since messages were lost. Each waiter meets an error of the file by itself.
        """
        if not (always or self._poll.is_due(SAFETY_POLL)):
            return
        if self._reads.free_within(patience):
            try:
                self.ended(self._poll.look(self._table.awaited, always=always))
            except StoreError:
                self.ended(self._table.awaited())
        elif always:
            self.ended(self._table.awaited())

    def waits(self, directory: Path) -> list[tuple[Context, str]]:
        """Return the waits here, if this is the file beside that folder."""
        return self._table.contexts() if self._reads.directory == directory else []

    def _patience(self, deadline: float | None) -> float | None:
        """Seconds that a look may take: also after the deadline it is given a moment."""
        left = self.left(deadline)
        return None if left is None else left + LOOK

    def _wait_to_read(self, job_id: str, timeout: float | None, deadline: float) -> None:
        if not self._reads.free_within(max(0.0, deadline - self._monotonic()) + LOOK):
            raise _late(job_id, timeout, UNREAD)

    async def _at_last(self, job_id: str, timeout: float | None) -> JobRecord:
        """Return the job if it has ended after all, or raise `TimeoutError`."""
        found, doing = None, None
        with suppress(NotReadError):
            found = await within(self._reads.look_up_soon(job_id), LOOK)
        if found is None:
            raise _late(job_id, timeout, UNREAD)
        record = require(found)
        if record.status.finished:
            return record
        with suppress(NotReadError):
            doing = await within(self._reads.soon(partial(self._reads.doing, record)), LOOK)
        raise wait_timed_out(record, timeout, doing)

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
        with self._table.lock:
            self._table.enter(waiter)
            self._be_heard(waiter)

    def _be_heard(self, one: Waits) -> None:
        """Have somebody listen for it."""
        if self._listener is None:
            self._listener = Listener(self._directory(), DONE)
            self._let_go = weakref.finalize(self, stop_listening, self._listener)
        if not self._is_listened():
            self._appoint(one, self._listener)
        elif self._asleep:
            self._listener.wake()

    def _is_listened(self) -> bool:
        """Whether the listening is there yet: a thread of ours ends where its listener is closed under it."""
        one = self._listening
        return self._table.has(one) if isinstance(one, Waiter) else one is not None and one.is_alive()

    def _appoint(self, one: Waits, listener: Listener) -> None:
        if isinstance(one, Waiter):
            self._listening = one
            return
        self._quiet, self._asleep = 0, False
        self._listening = start_listening(weakref.ref(self), listener)

    def remove(self, waiter: Waiter | AsyncWaiter) -> None:
        """Forget it; if it listened, another one does from now on."""
        with self._table.lock:
            self._table.leave(waiter, waiter.job_ids)
            if self._listening is waiter:
                self._listening = None
                heir = self._table.any()
                if heir is not None and self._listener is not None:
                    self._appoint(heir, self._listener)
                    if isinstance(heir, Waiter):
                        heir.wake()

    def ended(self, job_ids: Iterable[str]) -> None:
        """Wake those that wait for these jobs."""
        if self._table:
            wake_all(self._table.of(list(job_ids)))

    def heard(self, listener: Listener, messages: list[bytes]) -> None:
        """Wake whom these messages of other processes are about."""
        if not self._table:  # nor is a file opened again that was closed meanwhile
            return
        if listener.missed or ALL in messages:
            self._look(LOOK, always=True)
        else:
            self.ended(job_id for message in messages for job_id in message.decode(errors="replace").split())

    def span(self, listener: Listener) -> float | None:
        """How long the thread that listens may sleep, in seconds (None: until it is woken); 0: it is to end."""
        self._asleep = False
        if listener is not self._listener:
            return 0.0
        self._quiet = 0 if self._table else self._quiet + 1
        self._asleep = self._quiet > QUIET
        return None if self._asleep and not self._table else SAFETY_POLL  # add() sees that we sleep, or we see it

    def hear(self, listener: Listener, messages: list[bytes]) -> None:
        """Tell those that wait here what was heard, and look once a second."""
        if listener.missed or any(messages):
            self.heard(listener, messages)
        if self._table:
            self._look(LOOK)

    def close(self) -> None:
        """Stop listening; those that wait begin again."""
        with self._table.lock:
            listener, self._listener, self._listening = self._listener, None, None
        if listener is not None and self._let_go is not None:
            self._let_go()
        self.ended(self._table.awaited())

    def reset_after_fork(self) -> None:
        """After a fork, in the child: the thread and its waiters are the parent's."""
        self._table = WaitTable()
        self._listener = self._listening = None
        self._poll.reset_after_fork()
        if self._let_go is not None:
            self._let_go.detach()


def require(found: JobRecord | JobNotFound) -> JobRecord:
    """Return what was looked up, or raise what was found in its place."""
    if isinstance(found, JobNotFound):
        raise found
    return found


def _late(job_id: str, timeout: float | None, what: str) -> TimeoutError:
    return TimeoutError(f"job {job_id} {what}; waited {timeout:g} s")
