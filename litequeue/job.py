"""A job as values: what is asked for, what is on record, what runs, how it ended. Knows no store and no task."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import msgspec

from litequeue.core.duration import seconds, utc
from litequeue.core.interruptible import interruptible
from litequeue.errors import JobCancelled, JobExpired, JobFailed, JobNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

R = TypeVar("R")
FOREVER = math.inf

KeyScope = Literal["kept", "unfinished", "queued"]
OnConflict = Literal["return", "raise", "replace"]


class Status(str, Enum):
    """Where a job stands. `failed` is the dead-letter queue."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    __str__ = str.__str__

    @property
    def finished(self) -> bool:
        """Whether a job in this state has ended."""
        return self in _FINISHED


_FINISHED = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED})


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """One call to store. Times are unix seconds; `run_at` None is at once; None leaves a limit to the task."""

    task: str
    queue: str
    payload: bytes
    created_at: float
    priority: int = 0
    run_at: float | None = None
    expires_at: float | None = None
    timeout: float | None = None
    retries: int | None = None
    key: str | None = None
    key_scope: KeyScope = "kept"
    on_conflict: OnConflict = "return"
    tags: tuple[str, ...] = ()
    schedule: str | None = None
    aliases: tuple[str, ...] = ()  # keys that the same call may have been given before
    alike: Callable[[bytes, bytes], bool] | None = None  # whether two payloads are one call


class JobError(msgspec.Struct, frozen=True):
    """What one attempt died of."""

    attempt: int
    at: datetime
    type: str
    message: str
    traceback: str


class Progress(msgspec.Struct, frozen=True):
    """What a running job last said of itself."""

    done: float
    total: float | None = None
    note: str | None = None


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it stood when it was read."""

    id: str
    task: str
    queue: str
    status: Status
    priority: int
    attempt: int
    failures: int
    deaths: int
    created_at: float
    run_at: float
    started_at: float | None
    finished_at: float | None
    expires_at: float | None
    key: str | None
    tags: tuple[str, ...]
    schedule: str | None
    worker: str | None
    cancel_requested: bool
    progress: Progress | None
    payload: bytes
    result: bytes | None
    errors: tuple[JobError, ...]


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """A job in a worker's hands; `(id, attempt)` is the fencing token."""

    id: str
    attempt: int
    task: str
    queue: str
    payload: bytes
    priority: int
    failures: int
    deaths: int
    timeout: float | None
    retries: int | None
    key: str | None
    created_at: float


class Source(Protocol):
    """Where a `Job` is looked up again: the part of an engine that a job needs."""

    def look_up(self, job_id: str) -> JobRecord:
        """Return the job as it now stands, or raise `JobNotFound`."""

    async def alook_up(self, job_id: str) -> JobRecord:
        """Async twin of `look_up`."""

    def cancel(self, job_id: str) -> bool:
        """Cancel it; False when it has ended already."""

    async def acancel(self, job_id: str) -> bool:
        """Async twin of `cancel`."""

    def retry(self, job_id: str) -> None:
        """Queue an ended job anew."""

    async def aretry(self, job_id: str) -> None:
        """Async twin of `retry`."""

    def wait(self, job_id: str, timeout: float | None) -> JobRecord:
        """Block until it has ended, or raise `TimeoutError`."""

    async def await_end(self, job_id: str, timeout: float | None) -> JobRecord:
        """Async twin of `wait`."""


def moment(seconds: float | None) -> datetime | None:
    """Turn unix seconds into an aware UTC datetime."""
    return None if seconds is None else utc(seconds)


@interruptible
class Job(Generic[R]):
    """One call, on record. Attributes are the state at the last load; `refresh()` loads anew.

    `await job` waits for the result. Ids are opaque text.
    """

    __slots__ = ("_born", "_decode", "_record", "_source", "id")

    def __init__(
        self,
        job_id: str,
        source: Source,
        decode: Callable[[bytes | None], Any],
        record: JobRecord | NewJob | None = None,
        born: float | None = None,
    ) -> None:
        self.id: str = job_id
        self._born = born  # when it was enqueued in a transaction that may be rolled back: its id is then another's
        self._source, self._decode, self._record = source, decode, record

    def _loaded(self) -> JobRecord:
        record = self._record
        if isinstance(record, NewJob):
            record = self._record = _as_submitted(self.id, record)
        elif record is None:
            record = self._record = self._mine(self._source.look_up(self.id))
        return record

    def _mine(self, record: JobRecord) -> JobRecord:
        """Refuse another job's record; one that is found to be this job's is committed, and stays so."""
        if self._born is not None and record.created_at != self._born:
            raise JobNotFound(f"no job {self.id} of this call: the transaction it was enqueued in was rolled back")
        self._born = None
        return record

    def _require_mine(self) -> None:
        """Before anything is done to it: that must not hit another job."""
        if self._born is not None:
            try:
                found = self._source.look_up(self.id)
            except JobNotFound:
                return  # its transaction is open yet
            self._mine(found)

    async def _arequire_mine(self) -> None:
        if self._born is not None:
            try:
                found = await self._source.alook_up(self.id)
            except JobNotFound:
                return
            self._mine(found)

    @property
    def task(self) -> str:
        """The name of the task."""
        return self._loaded().task

    @property
    def queue(self) -> str:
        """The name of the queue it waits in."""
        return self._loaded().queue

    @property
    def status(self) -> Status:
        """Where it stood at the last load."""
        return self._loaded().status

    @property
    def attempt(self) -> int:
        """How many times it has been claimed."""
        return self._loaded().attempt

    @property
    def priority(self) -> int:
        """From -100 to 100, higher first."""
        return self._loaded().priority

    @property
    def key(self) -> str | None:
        """Its idempotency key."""
        return self._loaded().key

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags it was enqueued with."""
        return self._loaded().tags

    @property
    def schedule(self) -> str | None:
        """The schedule that enqueued it."""
        return self._loaded().schedule

    @property
    def progress(self) -> Progress | None:
        """What it last said of itself while running."""
        return self._loaded().progress

    @property
    def errors(self) -> tuple[JobError, ...]:
        """What its failed attempts died of, oldest first."""
        return self._loaded().errors

    @property
    def created_at(self) -> datetime:
        """When it was enqueued."""
        return utc(self._loaded().created_at)

    @property
    def run_at(self) -> datetime:
        """The earliest time for it to run."""
        return utc(self._loaded().run_at)

    @property
    def started_at(self) -> datetime | None:
        """When its last run began."""
        return moment(self._loaded().started_at)

    @property
    def finished_at(self) -> datetime | None:
        """When it ended."""
        return moment(self._loaded().finished_at)

    def refresh(self) -> Job[R]:
        """Load the job's present state; raises `JobNotFound` once it has been pruned. Returns itself."""
        self._record = self._mine(self._source.look_up(self.id))
        return self

    async def arefresh(self) -> Job[R]:
        """Async twin of `refresh`."""
        self._record = self._mine(await self._source.alook_up(self.id))
        return self

    def cancel(self) -> bool:
        """Cancel the job; returns False when it has ended already.

        One that has not begun ends at once; a running coroutine is cancelled; a running function sees
        `current_job().cancelled`.
        """
        self._require_mine()
        return self._source.cancel(self.id)

    async def acancel(self) -> bool:
        """Async twin of `cancel`."""
        await self._arequire_mine()
        return await self._source.acancel(self.id)

    def retry(self) -> None:
        """Queue the failed, cancelled or expired job anew, with all its retries; a scheduled one runs at once.

        Raises `KeyConflict` when its key was taken meanwhile, `Unsupported` for a job that cannot be retried.
        """
        self._require_mine()
        self._source.retry(self.id)

    async def aretry(self) -> None:
        """Async twin of `retry`."""
        await self._arequire_mine()
        await self._source.aretry(self.id)

    def result(self, timeout: timedelta | float | str | None = None) -> R:
        """Wait for the job to end, at most `timeout` (seconds or "5s"; None: for ever); return what it returned.

        Raises `JobFailed`, `JobCancelled`, `JobExpired`, `JobNotFound`, or `TimeoutError`, which says what the job is
        doing.
        """
        self._require_mine()
        self._record = self._mine(self._source.wait(self.id, _span(timeout)))
        return self._outcome(self._record)

    async def aresult(self, timeout: timedelta | float | str | None = None) -> R:
        """Async twin of `result`."""
        await self._arequire_mine()
        self._record = self._mine(await self._source.await_end(self.id, _span(timeout)))
        return self._outcome(self._record)

    def __await__(self) -> Generator[Any, None, R]:
        return self.aresult().__await__()

    def _outcome(self, record: JobRecord) -> R:
        if record.status is Status.SUCCEEDED:
            value: R = self._decode(record.result)
            return value
        if record.status is Status.CANCELLED:
            raise JobCancelled(f"job {self.id} ({record.task}) was cancelled")
        if record.status is Status.EXPIRED:
            raise JobExpired(
                f"job {self.id} ({record.task}) had not begun by {moment(record.expires_at)}, so it never ran"
            )
        last = record.errors[-1] if record.errors else JobError(record.attempt, self.created_at, "Unknown", "", "")
        raise JobFailed(self.id, last.type, last.message, last.traceback)

    def __repr__(self) -> str:
        record = self._record
        if record is None:
            return f"<Job {self.id}>"
        state = self._loaded()
        return f"<Job {self.id} {state.task} {state.status} attempt={state.attempt}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id and other._source is self._source

    def __hash__(self) -> int:
        return hash(self.id)


def _span(timeout: timedelta | float | str | None) -> float | None:
    return None if timeout is None else seconds(timeout, "timeout")


def _as_submitted(job_id: str, new: NewJob) -> JobRecord:
    later = new.run_at is not None and new.run_at > new.created_at
    return JobRecord(
        id=job_id,
        task=new.task,
        queue=new.queue,
        status=Status.SCHEDULED if later else Status.QUEUED,
        priority=new.priority,
        attempt=0,
        failures=0,
        deaths=0,
        created_at=new.created_at,
        run_at=new.created_at if new.run_at is None else new.run_at,
        started_at=None,
        finished_at=None,
        expires_at=new.expires_at,
        key=new.key,
        tags=new.tags,
        schedule=new.schedule,
        worker=None,
        cancel_requested=False,
        progress=None,
        payload=new.payload,
        result=None,
        errors=(),
    )
