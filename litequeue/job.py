"""A job as its user holds it: a snapshot of one call, and what can be done to it. Knows no store and no task."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from litequeue.core.duration import seconds, utc
from litequeue.core.hints import JobWords
from litequeue.core.interruptible import interruptible
from litequeue.core.job_dict import JobDict, job_dict
from litequeue.core.logged_job import LoggedJob
from litequeue.core.pydantic_schema import pydantic_schema
from litequeue.core.records import (
    JobError,
    JobRecord,
    JobSummary,
    ListedJob,
    NewJob,
    Progress,
    Status,
    as_submitted,
    moment,
    reason_of,
)
from litequeue.core.source import Source
from litequeue.core.why import still_runs
from litequeue.errors import JobCancelled, JobExpired, JobFailed, JobNotFound, JobTimeout
from litequeue.stream import Stream, checked_after

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from litequeue.stream import Values

R = TypeVar("R")


@interruptible
class Job(JobWords, LoggedJob, Generic[R]):
    """One stored call. Attributes are the state at the last load; `refresh()` loads them again.

    `await job` waits for the result. Ids are opaque text.
    """

    __slots__ = ("_born", "_ended", "_record", "_source", "_values", "id")

    def __init__(
        self,
        job_id: str,
        source: Source,
        values: Values,
        record: JobSummary | NewJob | None = None,
        born: float | None = None,
    ) -> None:
        self.id: str = job_id
        self._born = born  # when it was enqueued in a transaction that may be rolled back: its id is then another's
        self._source, self._values, self._record = source, values, record
        self._ended: JobRecord | None = None  # its end, as a wait for many jobs has loaded it

    def _loaded(self) -> JobSummary:
        record = self._record
        if isinstance(record, NewJob):
            record = self._record = as_submitted(self.id, record)
        elif record is None:
            record = self._record = self._mine(self._source.look_up(self.id))
        return record

    def _mine(self, record: JobRecord) -> JobRecord:
        """Refuse another job's record; one that is found to be this job's is committed, and stays so."""
        if self._born is not None and record.created_at != self._born:
            raise JobNotFound(f"no job {self.id} of this call: the transaction that enqueued it was rolled back")
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
        """The name of the task that it was enqueued under, which may be an alias of the task by now."""
        return self._loaded().task_name

    @property
    def version(self) -> int:
        """The version of the task for which it was enqueued; 1 unless the task says another."""
        return self._loaded().version

    @property
    def queue(self) -> str:
        """The name of its queue."""
        return self._loaded().queue

    @property
    def status(self) -> Status:
        """Its state at the last load."""
        return self._loaded().status

    @property
    def attempt(self) -> int:
        """How many times it has been claimed: the number of its last run."""
        return self._loaded().attempt

    @property
    def tries(self) -> int:
        """The number of its present, next or last try: 1 + the failures before it; `retries` bounds it.

        A run that a stop, a death or a `Snooze` cut short is not counted.
        """
        return self._loaded().tries

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
        """The name of the schedule that enqueued it, or None."""
        return self._loaded().schedule

    @property
    def reason(self) -> str | None:
        """Why it is cancelled or failed: `parent 41 failed`, or the last error; None where nothing tells, or otherwise.

        As of `errors`, a job of a listing may be loaded again.
        """
        record = self._loaded()
        if record.status in (Status.FAILED, Status.CANCELLED) and record.reason is None:
            _ = self.errors  # a listing has the last one cut
        return reason_of(self._loaded())

    @property
    def progress(self) -> Progress | None:
        """The progress that it last reported, or None."""
        return self._loaded().progress

    @property
    def errors(self) -> tuple[JobError, ...]:
        """The errors of its failed attempts, oldest first; of more than 100, the first 50 and the last 50.

        A listing does not read them: a job of `queue.jobs()` is loaded again at their first use, which raises
        `JobNotFound` if it has been pruned meanwhile. In a coroutine, `await job.arefresh()` first.
        """
        record = self._loaded()
        if isinstance(record, ListedJob) and record.last_error is None:
            return ()
        if not isinstance(record, JobRecord):
            record = self._record = self._mine(self._source.look_up(self.id))
        return record.errors

    @property
    def created_at(self) -> datetime:
        """When it was enqueued."""
        return utc(self._loaded().created_at)

    @property
    def run_at(self) -> datetime:
        """The earliest time at which it may run."""
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
        """Load the job's present state and return the job. Raises `JobNotFound` once the job has been pruned."""
        self._ended = None
        self._record = self._mine(self._source.look_up(self.id))
        return self

    async def arefresh(self) -> Job[R]:
        """Async twin of `refresh`."""
        self._ended = None
        self._record = self._mine(await self._source.alook_up(self.id))
        return self

    def position(self) -> int | None:
        """Return how many jobs of its queue come before it now; None when it is not queued. 0: it is the next.

        By priority, then in the order in which they were enqueued. At most 10,000 are counted: that many, or more.
        """
        self._require_mine()
        return self._source.position(self.id)

    async def aposition(self) -> int | None:
        """Async twin of `position`."""
        await self._arequire_mine()
        return await self._source.aposition(self.id)

    def cancel(self, *, wait: timedelta | float | str | None = None) -> bool:
        """Cancel the job; return False if it has already ended.

        A job that has not begun ends at once. A running coroutine is cancelled. A running function is asked to end:
        its `current_job().cancelled` becomes true. With `wait`, a duration: block until it has ended, and return
        whether it ended as cancelled. Raises `TimeoutError`, whose message tells of the run, if it still runs then.
        """
        self._require_mine()
        if wait is None:
            return self._source.cancel(self.id)
        longest = seconds(wait, "wait")
        self._source.check_may_wait(blocking=True)
        self._source.cancel(self.id)
        found = self._end_within(longest)
        if isinstance(found, TimeoutError):
            raise still_runs(self._source.look_up(self.id), longest, found)
        return self._is_cancelled(found)

    async def acancel(self, *, wait: timedelta | float | str | None = None) -> bool:
        """Async twin of `cancel`."""
        await self._arequire_mine()
        if wait is None:
            return await self._source.acancel(self.id)
        longest = seconds(wait, "wait")
        self._source.check_may_wait()
        await self._source.acancel(self.id)
        found = await self._aend_within(longest)
        if isinstance(found, TimeoutError):
            raise still_runs(await self._source.alook_up(self.id), longest, found)
        return self._is_cancelled(found)

    def _end_within(self, longest: float) -> JobRecord | TimeoutError:
        try:
            return self._source.wait(self.id, longest)
        except JobTimeout:  # of the job in which this one is waited for
            raise
        except TimeoutError as error:
            return error

    async def _aend_within(self, longest: float) -> JobRecord | TimeoutError:
        try:
            return await self._source.await_end(self.id, longest)
        except TimeoutError as error:
            return error

    def _is_cancelled(self, record: JobRecord) -> bool:
        self._record = self._mine(record)
        return record.status is Status.CANCELLED

    def retry(self) -> tuple[str, ...]:
        """Queue the failed, cancelled or expired job again, with all its retries. A scheduled job runs at once.

        Jobs that its end had cancelled wait for it again; return the ids of those that do not, since other jobs have
        taken their keys. Raises `KeyConflict` if another job has taken its own key meanwhile, `Unsupported` for a job
        that cannot be retried: one whose parent has not succeeded, too.
        """
        self._require_mine()
        self._ended = None
        return self._source.retry(self.id)

    async def aretry(self) -> tuple[str, ...]:
        """Async twin of `retry`."""
        await self._arequire_mine()
        self._ended = None
        return await self._source.aretry(self.id)

    def why(self) -> str:
        """Return in one sentence why it does not run now, or that it runs, or how it has ended.

        Such as that no worker is running, that its queue is paused, that a limit is full, or when it is due.
        """
        self._require_mine()
        return self._source.why(self.id)

    async def awhy(self) -> str:
        """Async twin of `why`."""
        await self._arequire_mine()
        return await self._source.awhy(self.id)

    def result(self, timeout: timedelta | float | str | None = None) -> R:
        """Wait for the job to end, and return its result. `timeout`: seconds or text such as "5s"; None waits for ever.

        Raises `JobFailed`, `JobCancelled`, `JobExpired`, `JobNotFound`, or `TimeoutError`, whose message
        says what the job is doing.
        """
        span = _span(timeout)
        if self._ended is not None:
            return self._outcome(self._ended)
        self._require_mine()
        self._record = self._mine(self._source.wait(self.id, span))
        return self._outcome(self._record)

    async def aresult(self, timeout: timedelta | float | str | None = None) -> R:
        """Async twin of `result`."""
        span = _span(timeout)
        if self._ended is not None:
            return self._outcome(self._ended)
        await self._arequire_mine()
        self._record = self._mine(await self._source.await_end(self.id, span))
        return self._outcome(self._record)

    def __await__(self) -> Generator[Any, None, R]:
        return self.aresult().__await__()

    def stream(self, after: int = 0, *, timeout: timedelta | float | str | None = None) -> Stream:
        """Return what it emits, behind event number `after`: for `for`, or `async for`, which wait for what comes.

        It ends when the job has ended. `timeout`: how long all its waiting may take, a duration; then `TimeoutError`,
        as of `result()`. Raises `JobNotFound` where the iteration begins.
        """
        self._source.check_streams()
        return Stream(self.id, self._source, self._values, checked_after(after), _span(timeout))

    def to_dict(self) -> JobDict:
        """Return its state at the last load as plain values, which JSON can hold; `dict(job)` returns the same.

        Without its arguments, its result and its tracebacks. A web framework that is given a job sends this.
        """
        return job_dict(self._loaded())

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self.to_dict().items())

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, handler: Any) -> Any:
        return pydantic_schema(cls, JobDict, handler)

    def _outcome(self, record: JobRecord) -> R:
        if record.status is Status.SUCCEEDED:
            value: R = self._values.decode_result(record.result, record.payload)
            return value
        if record.status is Status.CANCELLED:
            reason = reason_of(record)
            raise JobCancelled(f"job {self.id} ({record.task_name}) was cancelled{f': {reason}' if reason else ''}")
        if record.status is Status.EXPIRED:
            raise JobExpired(
                f"job {self.id} ({record.task_name}) had not begun by {moment(record.expires_at)}, so it never ran"
            )
        last = record.errors[-1] if record.errors else JobError(record.attempt, self.created_at, "Unknown", "", "")
        raise JobFailed(self.id, last.type, last.message, last.traceback)

    def __repr__(self) -> str:
        record = self._record
        if record is None:
            return f"<Job {self.id}>"
        state = self._loaded()
        return f"<Job {self.id} {state.task_name} {state.status} attempt={state.attempt}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError(
            f"job {self.id} cannot be pickled: it belongs to a queue of this process; "
            f"pass its id, and look it up there: queue.job({self.id!r})"
        )

    def __copy__(self) -> Job[R]:
        return Job(self.id, self._source, self._values, self._record, self._born)

    def __deepcopy__(self, _copied: object) -> Job[R]:
        return self.__copy__()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id and other._source is self._source

    def __hash__(self) -> int:
        return hash(self.id)


def _span(timeout: timedelta | float | str | None) -> float | None:
    return None if timeout is None else seconds(timeout, "timeout")
