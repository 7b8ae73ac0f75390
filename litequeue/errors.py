"""Every error litequeue raises, as one tree. Knows nothing of queues, stores or workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class LiteQueueError(Exception):
    """The root of every error that litequeue raises on purpose."""


class JobFailed(LiteQueueError):
    """The job ended as `failed`; raised where its result is asked for.

    `error_type`, `message` and `traceback` are text: the exception itself stays in the worker.
    """

    def __init__(self, job_id: str, error_type: str, message: str, traceback: str = "") -> None:
        super().__init__(
            f"job {job_id} failed: {error_type}: {message}" if message else f"job {job_id} failed: {error_type}"
        )
        self.job_id = job_id
        self.error_type = error_type
        self.message = message
        self.traceback = traceback

    def __reduce__(self) -> tuple[type[JobFailed], tuple[str, ...]]:
        return type(self), (self.job_id, self.error_type, self.message, self.traceback)


class JobCancelled(LiteQueueError):
    """The job was cancelled. A task may raise it to end itself as `cancelled`."""


class JobExpired(LiteQueueError):
    """The job had not begun by its `expires` time, so it never ran."""


class JobNotFound(LiteQueueError):
    """No job of that id is in the file: it never existed, or it has been pruned."""


class JobTimeout(LiteQueueError, TimeoutError):
    """The job ran longer than its `timeout`; raised inside the running function."""


class LockTimeout(LiteQueueError, TimeoutError):
    """A lock of `queue.lock()` was not free in time. `name` is the lock's, `holder` says who held it, if known."""

    def __init__(self, message: str, name: str, holder: str | None) -> None:
        super().__init__(message)
        self.name = name
        self.holder = holder

    def __reduce__(self) -> tuple[type[LockTimeout], tuple[str, str, str | None]]:
        return type(self), (str(self), self.name, self.holder)


class KeyConflict(LiteQueueError):
    """The key is held by another job, whose id is `job_id`."""

    def __init__(self, message: str, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id

    def __reduce__(self) -> tuple[type[KeyConflict], tuple[str, ...]]:
        return type(self), (str(self), self.job_id)


class QueueFull(LiteQueueError):
    """The task has `max_pending=` jobs queued, or would have more with these `calls`. Nothing of them is stored."""

    def __init__(self, task: str, max_pending: int, calls: int, *, waited: float | None = None) -> None:
        which = "a call more does" if calls == 1 else f"{calls:,} calls more do"
        if calls > max_pending:
            advice = f"never: give enqueue_many() at most {max_pending:,} calls at once, by chunk="
        elif waited is None:
            advice = "wait for workers with using(wait_for_room='30s'), or drop the call"
        else:
            advice = f"waited {waited:g} s; are its workers running, and fast enough? `litequeue status` tells"
        super().__init__(f"{which} not fit beside the queued jobs of {task}: max_pending={max_pending:,}; {advice}")
        self.task = task
        self.max_pending = max_pending
        self.calls = calls
        self.waited: float | None = waited

    def __reduce__(self) -> tuple[Any, ...]:
        return _queue_full, (self.task, self.max_pending, self.calls, self.waited)


def _queue_full(task: str, max_pending: int, calls: int, waited: float | None) -> QueueFull:
    return QueueFull(task, max_pending, calls, waited=waited)


class PartlyEnqueued(LiteQueueError):
    """`enqueue_many(calls, chunk=...)` ended early; its cause says why. `jobs`: those that are stored, and stay so."""

    def __init__(self, message: str, jobs: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.jobs: Sequence[Any] = jobs

    def __reduce__(self) -> tuple[type[PartlyEnqueued], tuple[str]]:
        return type(self), (str(self),)  # jobs belong to a queue of this process


class EmitLimit(LiteQueueError):
    """The run has emitted as many values, or as many bytes, as one run may. What it emitted before stays."""


class PayloadTooLarge(LiteQueueError, ValueError):
    """The encoded arguments exceed the queue's `max_payload`."""


class EncodeError(LiteQueueError, TypeError):
    """A value cannot be stored; `path` names its place, such as `kwargs['on_end'][0]`."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class DecodeError(LiteQueueError, ValueError):
    """Stored bytes do not fit the task's signature, or cannot be read."""


class UnknownTask(LiteQueueError, LookupError):
    """No task of that name is declared on this queue."""


class ScheduleNotFound(LiteQueueError, LookupError):
    """No schedule of that name is in the file."""


class LimitNotFound(LiteQueueError, LookupError):
    """No limit of that name is in the file."""


class ScheduleExists(LiteQueueError):
    """A schedule of that name is in the file already."""


class StoreError(LiteQueueError):
    """The file could not be read or written: it is damaged, read-only, not a database, or the disk is full."""


class StoreBusy(StoreError):
    """Another writer held the file for longer than the busy timeout."""


class StoreDamaged(StoreError):
    """The file is damaged, or not a database. Nothing is acknowledged, and a worker that meets the damage ends."""


class StoreReplaced(StoreError):
    """The file at the path is not the one that was opened, or the `-wal` and `-shm` beside it are another file's."""


class DriverConflict(StoreError):
    """A second SQLite library would open, in this process, a file that one already has open."""


class UnsafeFilesystem(StoreError):
    """The file is on a file system on which WAL mode is not safe, or it has a second name."""


class NotAQueue(StoreError):
    """The database holds none of litequeue's tables."""


class SchemaTooNew(StoreError):
    """The file was written by a newer litequeue than this one."""


class PlainCallWarning(LiteQueueError, UserWarning):
    """A task was called plainly, which enqueues nothing; `$LITEQUEUE_PLAIN_CALLS` asks to be told.

    A warning with `warn`, raised with `error`.
    """


class Unsupported(LiteQueueError):
    """The operation is not possible here."""


class Fenced(BaseException):
    """Another worker has the job by now: nothing that this run writes is kept.

    A `BaseException`, so that a task's `except Exception` does not swallow it.
    """
