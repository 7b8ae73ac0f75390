"""Jobs that are stored after the commit of the application's own transaction. Knows no store and no task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from litequeue.core.after_commit import hook_of
from litequeue.core.interruptible import interruptible
from litequeue.core.records import as_shown
from litequeue.core.stored_names import task_of
from litequeue.errors import JobNotFound
from litequeue.job import Job

if TYPE_CHECKING:
    from litequeue.core.after_commit import OnCommit
    from litequeue.core.engine import Submitted
    from litequeue.core.records import NewJob
    from litequeue.core.source import Source

R = TypeVar("R")


@interruptible
class PendingJob(Job[R]):
    """One call that is stored after a commit. Until then it has no id, and what needs one raises `JobNotFound`."""

    __slots__ = ("_hash", "_id", "_task")

    def __init__(self, new: NewJob, source: Source) -> None:
        self._id: str | None = None
        self._hash: int | None = None
        self._source = source
        self._task = task_of(new.task)
        self._record = self._born = self._ended = None

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

    @property
    def task(self) -> str:
        """The name of its task."""
        return self._task

    def __eq__(self, other: object) -> bool:
        return self is other or (self._id is not None and super().__eq__(other))

    def __hash__(self) -> int:
        if self._hash is None:  # it stays: it may be in a set before it has an id
            self._hash = object.__hash__(self) if self._id is None else super().__hash__()
        return self._hash

    def become(self, job: Job[R]) -> None:
        """Note that it is stored, as this job."""
        for name in Job.__slots__:
            setattr(self, name, getattr(job, name))

    def __repr__(self) -> str:
        return f"<Job of {self._task}, not stored yet>" if self._id is None else super().__repr__()


class Deferred(Generic[R]):
    """Calls of one task that a hook is to have stored after a commit; their jobs know it when it has.

    `make` returns the job of a call that is stored.
    """

    def __init__(
        self,
        jobs: Sequence[NewJob],
        source: Source,
        submit: Callable[[Sequence[NewJob]], Sequence[Submitted]],
        make: Callable[[NewJob, Submitted], Job[R]],
    ) -> None:
        self._jobs, self._submit, self._make = jobs, submit, make
        self._is_stored = False
        self._pending = [PendingJob[R](new, source) for new in as_shown(jobs)]

    def by(self, on_commit: OnCommit) -> list[Job[R]]:
        """Leave them to the hook that the option means, and return their jobs."""
        hook_of(on_commit)(self._store)
        return list(self._pending)

    async def aby(self, on_commit: OnCommit) -> list[Job[R]]:
        """Async twin of `by`: by the hook's own `acall`, if it has one."""
        hook = hook_of(on_commit)
        acall: Any = getattr(hook, "acall", None)
        if acall is None:
            hook(self._store)
        else:
            await acall(self._store)
        return list(self._pending)

    def _store(self) -> None:
        if self._is_stored:  # a hook of the application's may call it again
            return
        submitted = self._submit(self._jobs)
        self._is_stored = True
        for each, new, stored in zip(self._pending, as_shown(self._jobs), submitted, strict=True):
            each.become(self._make(new, stored))
