"""A job as values: what is asked for, what is on record, what a worker holds. Knows no store and no task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, overload

import msgspec

from litequeue.core.duration import utc
from litequeue.core.pydantic_schema import pydantic_schema
from litequeue.core.stored_names import task_of, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
U = TypeVar("U")

FOREVER = math.inf

KeyScope = Literal["kept", "unfinished", "queued"]
OnConflict = Literal["return", "raise", "replace"]


class Status(str, Enum):
    """The state of a job. `failed` is the dead-letter queue."""

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
    """One call to store. Times are unix seconds. `run_at` None: at once. A limit that is None is the task's.

    `key_for`: seconds for which the key is held, whatever becomes of the job; then `key_scope` is "kept".
    `any_arguments`: a job that holds the key is as good, whatever its arguments and its state.
    `max_pending`: how many queued jobs the task may have with this one.
    """

    task: str  # the name under which it is stored, here and below: see stored_names.py
    queue: str
    payload: bytes
    priority: int = 0
    created_at: float
    run_at: float | None = None
    expires_at: float | None = None
    timeout: float | None = None
    retries: int | None = None
    max_pending: int | None = None
    key: str | None = None
    key_scope: KeyScope = "kept"
    key_for: float | None = None
    on_conflict: OnConflict = "return"
    any_arguments: bool = False
    tags: tuple[str, ...] = ()
    schedule: str | None = None
    takes: str | None = None  # of limits, where that depends on the arguments
    aliases: tuple[str, ...] = ()  # keys that the same call may have been given before
    former_names: tuple[str, ...] = ()  # of the task, under which another job may hold the key
    waiting: bool = False  # for other jobs
    alike: Callable[[bytes, bytes], bool] | None = None  # whether two payloads are one call


class NewJobs(Sequence[NewJob]):
    """Calls to store that differ in their arguments only: a sequence of `NewJob`, at a fraction of its memory.

    `like`: what they have in common, without arguments. `takes`: what each takes of limits, if that depends on these.
    """

    __slots__ = ("like", "payloads", "takes")

    def __init__(self, like: NewJob, payloads: list[bytes], takes: list[str] | None = None) -> None:
        self.like: NewJob = like
        self.payloads: list[bytes] = payloads
        self.takes: list[str] | None = takes

    def __len__(self) -> int:
        return len(self.payloads)

    @overload
    def __getitem__(self, place: int) -> NewJob: ...
    @overload
    def __getitem__(self, place: slice) -> NewJobs: ...
    def __getitem__(self, place: int | slice) -> NewJob | NewJobs:
        if isinstance(place, slice):
            return NewJobs(self.like, self.payloads[place], None if self.takes is None else self.takes[place])
        takes = None if self.takes is None else self.takes[place]
        return msgspec.structs.replace(self.like, payload=self.payloads[place], takes=takes)

    def __repr__(self) -> str:
        return f"<NewJobs {self.like.task} {len(self)}>"


def as_shown(jobs: Sequence[NewJob]) -> Iterable[NewJob]:
    """What their `Job`s show until they are loaded, which has nothing to do with their arguments."""
    return repeat(jobs.like, len(jobs)) if isinstance(jobs, NewJobs) else jobs


class JobError(msgspec.Struct, frozen=True):
    """The error with which one attempt failed."""

    attempt: int
    at: datetime
    type: str
    message: str
    traceback: str


class ProgressDict(TypedDict):
    """What `job.progress.to_dict()` holds."""

    done: float
    total: float | None
    note: str | None


class Progress(msgspec.Struct, frozen=True):
    """The progress that a running job last reported."""

    done: float
    total: float | None = None
    note: str | None = None

    def to_dict(self) -> ProgressDict:
        """Return it as plain values; `dict(progress)` returns the same."""
        return {"done": self.done, "total": self.total, "note": self.note}

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self.to_dict().items())

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, handler: Any) -> Any:
        return pydantic_schema(cls, ProgressDict, handler)


class _Named:
    """A job of which the name of its task is known, as it is stored."""

    __slots__ = ()
    task: str

    @property
    def task_name(self) -> str:
        """The name of the task, without its version."""
        return task_of(self.task)

    @property
    def version(self) -> int:
        """The version of the task that its arguments were given for."""
        return version_of(self.task)


class JobSummary(_Named, msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a stored job at little cost, as it was then: all but its arguments, its result and its errors."""

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
    retries: int | None = None  # of this call; None: the task's
    reason: str | None = None  # why it was cancelled, where that was the end of a parent

    @property
    def tries(self) -> int:
        """The number of its present, next or last try: 1 + the failures before it."""
        return max(1, self.failures + (self.status is not Status.FAILED))


class ListedJob(JobSummary, frozen=True, kw_only=True):
    """A job in a listing. `last_error`: as `Type: message`, the message cut."""

    last_error: str | None


class JobRecord(JobSummary, frozen=True, kw_only=True):
    """A stored job as a whole, as it was when it was read."""

    payload: bytes
    result: bytes | None
    errors: tuple[JobError, ...]


def as_submitted(job_id: str, new: NewJob) -> JobRecord:
    """Return the record of a job that has just been stored, or found by its key, as it was asked for."""
    later = new.run_at is not None and new.run_at > new.created_at
    return JobRecord(
        id=job_id,
        task=new.task,
        queue=new.queue,
        status=Status.WAITING if new.waiting else Status.SCHEDULED if later else Status.QUEUED,
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
        retries=new.retries,
        payload=new.payload,
        result=None,
        errors=(),
    )


def reason_of(job: JobSummary) -> str | None:
    """Return `parent 41 failed`, or the last error; None where nothing tells, and in other states.

    Of a job in a listing the text is cut.
    """
    if job.status is Status.FAILED:
        return last_error(job)
    if job.status is not Status.CANCELLED or job.reason is not None:
        return job.reason
    # the error of a job that another call of its key has replaced
    kind, _, message = (last_error(job) or "").partition(": ")
    return message if kind == "Replaced" else None


def last_error(job: JobSummary) -> str | None:
    """Return the last error of a job as `Type: message`."""
    if isinstance(job, ListedJob):
        return job.last_error
    if isinstance(job, JobRecord) and job.errors:
        return f"{job.errors[-1].type}: {job.errors[-1].message}"
    return None


class Page(list[T]):
    """A list of jobs, newest first, that knows how to go on.

    `older`: what to give as `before=` for older jobs; None when all of them were looked at. A page that is shorter than
    its limit although `older` is not None was ended by its `timeout`.
    """

    __slots__ = ("older",)

    def __init__(self, found: Iterable[T] = (), older: str | None = None) -> None:
        super().__init__(found)
        self.older: str | None = older

    def of(self, make: Callable[[T], U]) -> Page[U]:
        """Return the page of what `make` returns for each."""
        return Page(map(make, self), self.older)


class Claimed(_Named, msgspec.Struct, frozen=True, gc=False):
    """A job that a worker has claimed; `(id, attempt)` is the fencing token."""

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
    of_schedule: bool = False
    held: Any = None  # of limits, a `Held`; None: its task has none
    heartbeat: bytes | None = None  # the details that an earlier attempt has told last
    handed: Any = None  # a `Handed`, by its parent, where that was read with the claim; else it is read in the run


def moment(seconds: float | None) -> datetime | None:
    """Turn unix seconds into an aware UTC datetime."""
    return None if seconds is None else utc(seconds)
