"""Jobs that are stored after the commit of the application's own transaction. Knows no store and no task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from litequeue.core.interruptible import interruptible
from litequeue.errors import JobNotFound
from litequeue.job import Job

if TYPE_CHECKING:
    from litequeue.core.after_commit import Hook
    from litequeue.core.engine import Source
    from litequeue.core.records import NewJob

R = TypeVar("R")


@interruptible
class PendingJob(Job[R]):
    """One call that is stored after a commit. Until then it has no id, and what needs one raises `JobNotFound`."""

    __slots__ = ("_id", "_task")

    def __init__(self, new: NewJob, source: Source) -> None:
        self._id: str | None = None
        self._source = source
        self._task = new.task
        self._record = self._born = None

    @property
    def id(self) -> str:
        """The job's id, once it is stored."""
        if self._id is None:
            raise JobNotFound(
                f"this call of {self._task} is not stored yet: it is when the transaction in which it was made has "
                f"been committed, and never if that is rolled back"
            )
        return self._id

    @id.setter  # noqa: A003
    def id(self, value: str) -> None:
        self._id = value

    def become(self, job: Job[R]) -> None:
        """Note that it is stored, as this job."""
        for name in Job.__slots__:
            setattr(self, name, getattr(job, name))

    def __repr__(self) -> str:
        return f"<Job of {self._task}, not stored yet>" if self._id is None else super().__repr__()


def stored_by(
    hook: Hook, calls: Iterable[NewJob], source: Source, store: Callable[[], Sequence[Job[R]]]
) -> list[Job[R]]:
    """Have the hook store the calls, and return their jobs, which know it when it has."""
    pending, later = _prepared(calls, source, store)
    hook(later)
    return pending


async def astored_by(
    hook: Hook, calls: Iterable[NewJob], source: Source, store: Callable[[], Sequence[Job[R]]]
) -> list[Job[R]]:
    """Async twin of `stored_by`: by the hook's own `acall`, if it has one."""
    pending, later = _prepared(calls, source, store)
    acall: Any = getattr(hook, "acall", None)
    if acall is None:
        hook(later)
    else:
        await acall(later)
    return pending


def _prepared(
    calls: Iterable[NewJob], source: Source, store: Callable[[], Sequence[Job[R]]]
) -> tuple[list[Job[R]], Callable[[], None]]:
    pending = [PendingJob[R](new, source) for new in calls]

    def later() -> None:
        for each, job in zip(pending, store(), strict=True):
            each.become(job)

    return list(pending), later
