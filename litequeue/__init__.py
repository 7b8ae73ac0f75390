"""litequeue: the task queue that fits in one file."""

from typing import TYPE_CHECKING

from litequeue.compose.call import Call
from litequeue.compose.composition import chain, chord, group
from litequeue.compose.job_group import JobGroup
from litequeue.core.compositions import Failure
from litequeue.core.hints import missing_public_name
from litequeue.core.records import JobError, Page, Progress, Status
from litequeue.core.retry import GiveUp, Retry, Snooze
from litequeue.core.streams import StreamEvent
from litequeue.errors import (
    DecodeError,
    DriverConflict,
    EmitLimit,
    EncodeError,
    Fenced,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFound,
    JobTimeout,
    KeyConflict,
    LimitNotFound,
    LiteQueueError,
    LockTimeout,
    NotAQueue,
    PartlyEnqueued,
    PayloadTooLarge,
    PlainCallWarning,
    QueueFull,
    ScheduleExists,
    ScheduleNotFound,
    SchemaTooNew,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreReplaced,
    UnknownTask,
    UnsafeFilesystem,
    Unsupported,
)
from litequeue.job import Job
from litequeue.job_waits import as_completed, await_all, wait_all
from litequeue.limits.limit import Limit
from litequeue.limits.stored import Limits, Pause, StoredLimit
from litequeue.lock import Lock
from litequeue.queue import Queue, default_queue, task
from litequeue.scheduling.cron import cron
from litequeue.scheduling.intervals import every
from litequeue.scheduling.schedules import Schedule, Schedules, StoredSchedule
from litequeue.scheduling.triggers import at, first_of
from litequeue.serialization.json_codec import Codec
from litequeue.stream import Stream
from litequeue.task import Task
from litequeue.worker.executor.context import Run, current_job
from litequeue.worker.executor.job_filter import JobFilter

if TYPE_CHECKING:
    from litequeue.worker.worker import Worker
else:

    def __getattr__(name: str) -> object:
        """Import the worker's side, asyncio among it, when it is asked for: most programs only enqueue."""
        if name == "Worker":
            from litequeue.worker.worker import Worker

            return Worker
        raise missing_public_name(name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "Call",
    "Codec",
    "DecodeError",
    "DriverConflict",
    "EmitLimit",
    "EncodeError",
    "Failure",
    "Fenced",
    "GiveUp",
    "Job",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobFilter",
    "JobGroup",
    "JobNotFound",
    "JobTimeout",
    "KeyConflict",
    "Limit",
    "LimitNotFound",
    "Limits",
    "LiteQueueError",
    "Lock",
    "LockTimeout",
    "NotAQueue",
    "Page",
    "PartlyEnqueued",
    "Pause",
    "PayloadTooLarge",
    "PlainCallWarning",
    "Progress",
    "Queue",
    "QueueFull",
    "Retry",
    "Run",
    "Schedule",
    "ScheduleExists",
    "ScheduleNotFound",
    "Schedules",
    "SchemaTooNew",
    "Snooze",
    "Status",
    "StoreBusy",
    "StoreDamaged",
    "StoreError",
    "StoreReplaced",
    "StoredLimit",
    "StoredSchedule",
    "Stream",
    "StreamEvent",
    "Task",
    "UnknownTask",
    "UnsafeFilesystem",
    "Unsupported",
    "Worker",
    "as_completed",
    "at",
    "await_all",
    "chain",
    "chord",
    "cron",
    "current_job",
    "default_queue",
    "every",
    "first_of",
    "group",
    "task",
    "wait_all",
]
__version__ = "0.1.0"

# So tracebacks, records of failures and logs name an error as it is imported: `litequeue.JobTimeout`.
for _public in [value for name, value in globals().items() if name in __all__ and isinstance(value, type)]:
    if issubclass(_public, BaseException):
        _public.__module__ = __name__
