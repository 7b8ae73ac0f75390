"""Wait for many jobs, of one queue or of several: `wait_all`, `as_completed`. Knows no store and no task."""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from litequeue.core.asyncio_context import require_asyncio
from litequeue.core.clock import SystemClock
from litequeue.core.duration import seconds
from litequeue.core.interruptible import interruptible
from litequeue.core.names import some
from litequeue.errors import JobNotFound, JobTimeout
from litequeue.ipc.inbox import Inbox
from litequeue.job import Job

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from litequeue.core.records import JobRecord
    from litequeue.core.source import Source

R = TypeVar("R")

LOADED = 100  # jobs that are loaded at once as they end: their results may be large
LOOK = 0.25  # seconds that a look may take when there is no time left, as with timeout=0


def as_completed(jobs: Iterable[Job[R]], timeout: timedelta | float | str | None = None) -> AsCompleted[R]:
    """Return what yields the jobs as they end, by `for` or by `async for`; each one once.

    They may be jobs of several queues, and end in any process. A job is yielded loaded: its `status` and `result()`
    read nothing more. One that is no longer on record is yielded too: of that one they raise `JobNotFound`.

    `timeout`: seconds or text such as "5s", for all of the loop, which raises `TimeoutError` where it would have to
    wait any longer; that says how many have not ended.
    """
    return AsCompleted(_checked(jobs, "as_completed"), _span(timeout))


@interruptible
def wait_all(jobs: Iterable[Job[R]], timeout: timedelta | float | str | None = None) -> list[Job[R]]:
    """Wait until all of the jobs have ended, however they did, and return them, loaded, in the order given.

    `timeout`: seconds or text such as "5s"; then `TimeoutError`, which says how many have not ended. Of a job that is
    no longer on record, `status` and `result()` raise `JobNotFound`.
    """
    given: list[Job[R]] = _checked(jobs, "wait_all")
    for _ in AsCompleted(given, _span(timeout)):
        pass
    return given


async def await_all(jobs: Iterable[Job[R]], timeout: timedelta | float | str | None = None) -> list[Job[R]]:
    """Async twin of `wait_all`."""
    given: list[Job[R]] = _checked(jobs, "await_all")
    async for _ in AsCompleted(given, _span(timeout)):
        pass
    return given


class AsCompleted(Generic[R]):
    """What `as_completed` returns. Each loop over it begins anew, with all of its jobs and all of its time."""

    def __init__(self, jobs: Sequence[Job[R]], timeout: float | None) -> None:
        self._jobs, self._timeout = jobs, timeout

    @interruptible
    def __iter__(self) -> Ends[R]:
        return Ends(self._jobs, self._timeout, blocking=True)

    def __aiter__(self) -> AsyncEnds[R]:
        require_asyncio()
        return AsyncEnds(self._jobs, self._timeout, blocking=False)

    def __repr__(self) -> str:
        return f"<as_completed of {len(self._jobs)} jobs>"


class _Loop(Generic[R]):
    """One loop over jobs as they end.

    When it is over, by whatever reason, nothing of it is left. One that is gone on with after an error begins anew with
    the jobs that it has not yielded.
    """

    def __init__(self, jobs: Sequence[Job[R]], timeout: float | None, *, blocking: bool) -> None:
        self._timeout = timeout
        self._deadline = None if timeout is None else SystemClock.monotonic() + timeout
        self._left: dict[Source, dict[str, list[Job[R]]]] = {}
        for job in jobs:
            self._left.setdefault(_source_of(job), {}).setdefault(job.id, []).append(job)
        self._count = self._number_left()
        for source in self._left:
            source.check_may_wait(blocking=blocking)
        self._ready: deque[Job[R]] = deque()
        self._watches: list[weakref.finalize[..., Any]] = []
        self._look_until = 0.0
        self._begin()

    def _number_left(self) -> int:
        return sum(map(len, self._left.values()))

    def _begin(self) -> None:
        self._pid = os.getpid()
        # a job that may have been rolled back is looked at first: its id may by now be that of another job
        self._inbox: Inbox[Source] = Inbox()
        self._unwatched: dict[Source, list[str]] = {}
        for source, left in self._left.items():
            unsure = [job_id for job_id, jobs in left.items() if any(map(_is_unsure, jobs))]
            if unsure:
                self._inbox.tell(source, None, unsure)
            self._unwatched[source] = list(left.keys() - unsure) if unsure else list(left)

    def _close(self) -> None:
        for stop in self._watches:
            stop()
        self._watches.clear()
        self._begin()

    def _is_short(self) -> bool:
        """Whether there are jobs to wait for, and none is ready."""
        if self._ready or not self._number_left():
            return False
        self._watch()
        return True

    def _watch(self) -> None:
        """Watch what is not watched yet, or no longer."""
        if self._pid != os.getpid():  # a fork within the loop: the watches are the parent's
            self._begin()
        unwatched, self._unwatched = self._unwatched, {}
        for source, ids in unwatched.items():
            if ids:
                name = object()
                self._inbox.looking.add(name)
                self._look_until = SystemClock.monotonic() + LOOK
                stop = weakref.finalize(self, source.watch(ids, partial(self._inbox.tell, source, name)))
                stop.atexit = False
                self._watches.append(stop)

    def _note(self, source: Source, job_ids: Sequence[str], found: Mapping[str, JobRecord]) -> None:
        """Take in what was looked up of jobs that may have ended."""
        left = self._left[source]
        for job_id in job_ids:
            over: list[Job[R]] = []
            others: list[Job[R]] = []
            for job in left.pop(job_id, ()):
                (over if _note_end(job, found.get(job_id)) else others).append(job)
            self._ready.extend(over[:1])  # the others are equal to it
            if others:
                left[job_id] = others
                self._unwatched.setdefault(source, []).append(job_id)

    def _time_left(self) -> float | None:
        """Seconds for which it may wait; raises `TimeoutError` where there are none left."""
        if self._deadline is None:
            return None
        left = self._deadline - SystemClock.monotonic()
        if left <= 0 and self._inbox.looking:  # which jobs had ended before is not known yet
            left = self._look_until - SystemClock.monotonic()
        if left <= 0:
            raise self._late()
        return left

    def _time_to_read(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - SystemClock.monotonic()) + LOOK

    def _late(self, why: str = "") -> TimeoutError:
        ids = [job_id for left in self._left.values() for job_id in left]
        have = "have" if len(ids) > 1 else "has"
        return TimeoutError(
            f"{len(ids):,} of {self._count:,} jobs {have} not ended: {some(ids)}{why}; waited {self._timeout:g} s"
        )


class Ends(_Loop[R]):
    """A loop by `for`."""

    def __iter__(self) -> Ends[R]:
        return self

    @interruptible
    def __next__(self) -> Job[R]:
        try:
            self._fill()
        except BaseException:
            self._close()
            raise
        if not self._ready:
            self._close()
            raise StopIteration
        return self._ready.popleft()

    @interruptible
    def _fill(self) -> None:
        """Wait until one is ready, or none is left."""
        while self._is_short():
            told = self._inbox.take(LOADED)
            if told is None:
                self._inbox.wait(self._time_left())
            else:
                self._note(*told, self._look_up(*told))

    def _look_up(self, source: Source, job_ids: Sequence[str]) -> Mapping[str, JobRecord]:
        try:
            return source.look_up_many(job_ids, self._time_to_read())
        except JobTimeout:  # of the job in which these are waited for
            raise
        except TimeoutError as error:
            raise self._late(f" ({error})") from error


class AsyncEnds(_Loop[R]):
    """A loop by `async for`."""

    def __aiter__(self) -> AsyncEnds[R]:
        return self

    async def __anext__(self) -> Job[R]:
        try:
            await self._fill()
        except BaseException:
            self._close()
            raise
        if not self._ready:
            self._close()
            raise StopAsyncIteration
        return self._ready.popleft()

    async def _fill(self) -> None:
        """Async twin of `Ends._fill`."""
        while self._is_short():
            told = self._inbox.take(LOADED)
            if told is None:
                await self._inbox.await_any(self._time_left())
            else:
                self._note(*told, await self._look_up(*told))

    async def _look_up(self, source: Source, job_ids: Sequence[str]) -> Mapping[str, JobRecord]:
        try:
            return await source.alook_up_many(job_ids, self._time_to_read())
        except TimeoutError as error:
            raise self._late(f" ({error})") from error


def _source_of(job: Job[Any]) -> Source:
    return job._source  # noqa: SLF001  this file is a part of what a Job is, as are the two below


def _is_unsure(job: Job[Any]) -> bool:
    """Whether the job may have been rolled back, so that its id is another's."""
    return job._born is not None  # noqa: SLF001


def _note_end(job: Job[Any], found: JobRecord | None) -> bool:
    """Note what was loaded of a job, None if it is not on record; return whether it is over."""
    try:
        record = None if found is None else job._mine(found)  # noqa: SLF001
    except JobNotFound:
        record = None
    if record is not None and not record.status.finished:
        return False
    job._record = job._ended = record  # noqa: SLF001
    return True


def _checked(jobs: Any, name: str) -> list[Job[R]]:
    """Refuse what are no jobs, and jobs that are not stored yet."""
    if isinstance(jobs, Job) or not isinstance(jobs, Iterable):
        raise TypeError(f"{name}() takes jobs in a list or another iterable, got {jobs!r}")
    given: list[Job[R]] = []
    for job in jobs:
        if not isinstance(job, Job):
            raise TypeError(
                f"{name}() takes jobs, as enqueue() returns them, got {job!r}; queue.job(id) looks one up by its id"
            )
        _ = job.id  # of one that is stored after a commit yet to come it raises
        given.append(job)
    return given


def _span(timeout: timedelta | float | str | None) -> float | None:
    return None if timeout is None else seconds(timeout, "timeout")
