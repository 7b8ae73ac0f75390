"""litequeue: the task queue that fits in one file."""

from typing import TYPE_CHECKING

from litequeue.core.records import Call, JobError, Page, Progress, Status
from litequeue.core.retry import GiveUp, Retry, Snooze
from litequeue.errors import (
    DecodeError,
    DriverConflict,
    EncodeError,
    Fenced,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFound,
    JobTimeout,
    KeyConflict,
    LiteQueueError,
    NotAQueue,
    PartlyEnqueued,
    PayloadTooLarge,
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
from litequeue.queue import Queue, default_queue, task
from litequeue.scheduling.cron import cron
from litequeue.scheduling.intervals import every
from litequeue.scheduling.schedules import Schedule, Schedules, StoredSchedule
from litequeue.scheduling.triggers import at, first_of
from litequeue.serialization.json_codec import Codec
from litequeue.task import Task
from litequeue.worker.executor.context import Run, current_job

if TYPE_CHECKING:
    from litequeue.worker.worker import Worker
else:

    def __getattr__(name: str) -> object:
        """Import the worker's side, asyncio among it, when it is asked for: most programs only enqueue."""
        if name == "Worker":
            from litequeue.worker.worker import Worker

            return Worker
        raise AttributeError(f"module 'litequeue' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "Call",
    "Codec",
    "DecodeError",
    "DriverConflict",
    "EncodeError",
    "Fenced",
    "GiveUp",
    "Job",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobNotFound",
    "JobTimeout",
    "KeyConflict",
    "LiteQueueError",
    "NotAQueue",
    "Page",
    "PartlyEnqueued",
    "PayloadTooLarge",
    "Progress",
    "Queue",
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
    "StoredSchedule",
    "Task",
    "UnknownTask",
    "UnsafeFilesystem",
    "Unsupported",
    "Worker",
    "at",
    "cron",
    "current_job",
    "default_queue",
    "every",
    "first_of",
    "task",
]
__version__ = "0.1.0"
