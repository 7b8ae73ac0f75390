"""The jobs of a group as its user holds them. Knows no store."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

from litequeue.core.hints import JobGroupWords
from litequeue.core.interruptible import interruptible
from litequeue.core.records import Progress
from litequeue.core.slices import in_slices
from litequeue.errors import JobCancelled, JobExpired, JobFailed, JobNotFound
from litequeue.job import Job
from litequeue.job_waits import AsCompleted, as_completed, await_all, wait_all

if TYPE_CHECKING:
    from datetime import timedelta

    from litequeue.core.groups import GroupRecord
    from litequeue.core.plan import Members
    from litequeue.task_owner import Owner

R = TypeVar("R")
OnError = Literal["raise", "return"]
_NOT_STORED = (
    "this group is not stored yet: it is when the transaction in which it was made has been committed, and never if "
    "that is rolled back"
)


@interruptible
class JobGroup(JobGroupWords, Generic[R]):
    """The jobs of a group that is stored: their results, their progress, and their cancel.

    `await group` waits for the results. Its id is opaque text, by which `queue.group(id)` finds it in any process.
    """

    __slots__ = ("_born", "_id", "_members", "_owner")

    def __init__(
        self, group_id: str | None, owner: Owner | None, members: tuple[Any, ...], born: float | None = None
    ) -> None:
        self._id, self._owner = group_id, owner
        self._born = born  # when it was enqueued in a transaction that may be rolled back: its id is then another's
        self._members = members  # jobs, and tuples of members: of groups inside

    @property
    def id(self) -> str:
        """Its id. Raises `JobNotFound` while it is not stored, and for a group of nothing, which is not."""
        if self._id is None:
            raise JobNotFound(_NOT_STORED if self._owner else "a group of nothing is not stored, and has no id")
        return self._id

    @property
    def jobs(self) -> list[Job[Any]]:
        """The jobs whose results it is: of each member the last one, in order, those of groups inside among them."""
        return list(_flat(self._known()))

    @property
    def progress(self) -> Progress:
        """How many of its jobs have ended by now, of how many; its note tells how many of these have not succeeded."""
        if self._is_empty():
            return Progress(0, 0)
        self._require_mine()
        return self._stored().compositions.progress(self.id)

    async def aprogress(self) -> Progress:
        """Async twin of `progress`."""
        if self._is_empty():
            return Progress(0, 0)
        await self._arequire_mine()
        return await self._stored().compositions.aprogress(self.id)

    def results(
        self, timeout: timedelta | float | str | None = None, on_error: Literal["raise", "return"] = "raise"
    ) -> list[Any]:
        """Wait for all of its jobs to end, and return their results in order: in lists where it has groups inside.

        The first in order that has not succeeded is raised, as `Job.result` does; with `on_error="return"` a
        `JobFailed` stands in the place of its result. Raises `TimeoutError`, which says how many have not ended.
        """
        checked = _on_error(on_error)
        wait_all(self.jobs, timeout)
        return _results(self._known(), checked)

    async def aresults(
        self, timeout: timedelta | float | str | None = None, on_error: Literal["raise", "return"] = "raise"
    ) -> list[Any]:
        """Async twin of `results`."""
        checked = _on_error(on_error)
        jobs = await await_all(self.jobs, timeout)
        results = [await _aresult(job, checked) async for job in in_slices(jobs)]
        return _nested(self._known(), iter(results))

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self.aresults().__await__()

    def as_completed(self, timeout: timedelta | float | str | None = None) -> AsCompleted[Any]:
        """Yield its jobs as they end; see `litequeue.as_completed`."""
        return as_completed(self.jobs, timeout)

    def cancel(self) -> bool:
        """Cancel what has not ended of it, and of what leads to it; return False if all had ended.

        Jobs that run are asked to end, as by `Job.cancel`.
        """
        if self._is_empty():
            return False
        self._require_mine()
        return self._stored().compositions.cancel(self.id)

    async def acancel(self) -> bool:
        """Async twin of `cancel`."""
        if self._is_empty():
            return False
        await self._arequire_mine()
        return await self._stored().compositions.acancel(self.id)

    def id_in(self, owner: object) -> str:
        """Return its id. Raises `ValueError` where it is of another queue, `JobNotFound` where it was rolled back."""
        if owner is not self._owner and self._owner is not None:
            raise ValueError(f"the group {self.id} is of another queue: {self._owner!r}")
        self._require_mine()
        return self.id

    def _require_mine(self) -> None:
        """Before anything is asked of it: that must not be of another group."""
        if self._born is not None:
            try:
                found = self._stored().compositions.look_up(self.id)
            except JobNotFound:
                return  # its transaction is open yet, or it is gone
            self._mine(found)

    async def _arequire_mine(self) -> None:
        if self._born is not None:
            try:
                found = await self._stored().compositions.alook_up(self.id)
            except JobNotFound:
                return
            self._mine(found)

    def _mine(self, found: GroupRecord) -> None:
        if found.created_at != self._born:
            raise JobNotFound(f"no group {self.id} of these calls: the transaction that enqueued it was rolled back")
        self._born = None

    def _is_empty(self) -> bool:
        return self._owner is None

    def _stored(self) -> Owner:
        if self._owner is None:
            raise JobNotFound("an empty group is not stored")
        return self._owner

    def become(self, group: JobGroup[R]) -> None:
        """Note that it is stored, as this group."""
        self._id, self._members, self._born = group._id, group._members, group._born

    def _known(self) -> tuple[Any, ...]:
        """Its members. Raises `JobNotFound` while it is not stored."""
        if self._id is None and self._owner is not None:
            raise JobNotFound(_NOT_STORED)
        return self._members

    def __len__(self) -> int:
        return sum(1 for _ in _flat(self._known()))

    def __iter__(self) -> Iterator[Job[Any]]:
        return _flat(self._known())

    def __getitem__(self, place: int) -> Job[Any]:
        return self.jobs[place]

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, JobGroup)
            and self._id is not None
            and (self._id, self._owner, self._born) == (other._id, other._owner, other._born)
        )

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        if self._id is None and self._owner is not None:
            return "<JobGroup, not stored yet>"
        return f"<JobGroup {self._id or 'of nothing'} {len(self):,} jobs>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError(
            f"group {self._id} cannot be pickled: it belongs to a queue of this process; "
            f"pass its id, and look it up there: queue.group({self._id!r})"
        )


def _flat(members: tuple[Any, ...]) -> Iterator[Job[Any]]:
    for member in members:
        if isinstance(member, tuple):
            yield from _flat(member)
        else:
            yield member


def _on_error(given: str) -> bool:
    """Whether errors are returned."""
    if given not in get_args(OnError):
        raise ValueError(f'on_error must be "raise" or "return", got {given!r}')
    return given == "return"


def _results(members: tuple[Any, ...], return_errors: bool) -> list[Any]:  # noqa: FBT001
    results: list[Any] = []
    for member in members:
        if isinstance(member, tuple):
            results.append(_results(member, return_errors))
            continue
        try:
            results.append(member.result())
        except (JobFailed, JobCancelled, JobExpired) as error:
            if not return_errors:
                raise
            results.append(as_failed(member.id, error))
    return results


async def _aresult(job: Job[Any], return_errors: bool) -> Any:  # noqa: FBT001
    try:
        return await job.aresult()
    except (JobFailed, JobCancelled, JobExpired) as error:
        if not return_errors:
            raise
        return as_failed(job.id, error)


def _nested(members: tuple[Any, ...], results: Iterator[Any]) -> list[Any]:
    """Put the results of jobs, in order, into lists as their groups are."""
    return [_nested(member, results) if isinstance(member, tuple) else next(results) for member in members]


def as_failed(job_id: str, error: Exception) -> JobFailed:
    """Return how a job ended that has not succeeded, as one kind of value."""
    if isinstance(error, JobFailed):
        return error
    return JobFailed(job_id, type(error).__name__, str(error), "")


def empty_group() -> JobGroup[Any]:
    """Return a group of nothing."""
    return JobGroup(None, None, ())


def found_group(owner: Owner, group_id: str, found: Members) -> JobGroup[Any]:
    """Return a group that was looked up."""

    def members(some: Members) -> tuple[Any, ...]:
        return tuple(owner.job_of(*each) if each and isinstance(each[0], str) else members(each) for each in some)

    return JobGroup(group_id, owner, members(found))
