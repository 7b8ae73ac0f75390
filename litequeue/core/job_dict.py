"""A job as plain values that JSON can hold. Knows no store and no task."""

from __future__ import annotations

from typing import Literal, TypedDict

from litequeue.core.duration import utc
from litequeue.core.pydantic_schema import IsoTime
from litequeue.core.records import JobSummary, ProgressDict, last_error, reason_of


class JobDict(TypedDict):
    """What `job.to_dict()` holds. Times are ISO 8601 text in UTC; `error` is that of the last failed attempt.

    `reason`: why it was cancelled, or has failed.
    """

    id: str
    task: str
    version: int
    queue: str
    status: Literal["scheduled", "queued", "running", "waiting", "succeeded", "failed", "cancelled", "expired"]
    priority: int
    attempt: int
    tries: int
    key: str | None
    tags: list[str]
    schedule: str | None
    created_at: IsoTime
    run_at: IsoTime
    started_at: IsoTime | None
    finished_at: IsoTime | None
    expires_at: IsoTime | None
    progress: ProgressDict | None
    error: str | None
    reason: str | None


def job_dict(job: JobSummary) -> JobDict:
    """Return a job as plain values: without its arguments, its result and its tracebacks."""
    return {
        "id": job.id,
        "task": job.task_name,
        "version": job.version,
        "queue": job.queue,
        "status": job.status.value,
        "priority": job.priority,
        "attempt": job.attempt,
        "tries": job.tries,
        "key": job.key,
        "tags": list(job.tags),
        "schedule": job.schedule,
        "created_at": utc(job.created_at).isoformat(),
        "run_at": utc(job.run_at).isoformat(),
        "started_at": _iso(job.started_at),
        "finished_at": _iso(job.finished_at),
        "expires_at": _iso(job.expires_at),
        "progress": None if job.progress is None else job.progress.to_dict(),
        "error": last_error(job),
        "reason": reason_of(job),
    }


def _iso(moment: float | None) -> str | None:
    return None if moment is None else utc(moment).isoformat()
