"""A job, a group or a call as the commands show it: as plain values, or as text. Prints nothing."""

from __future__ import annotations

from typing import Any

from litequeue.cli.printing import iso, one_line, to_json
from litequeue.cli.report import task_fields
from litequeue.core.duration import text
from litequeue.core.records import JobRecord, JobSummary, Status, reason_of
from litequeue.core.tree import GroupSummary
from litequeue.errors import LiteQueueError
from litequeue.queue import Queue
from litequeue.serialization.forms import CHUNK, LINK, stored_call
from litequeue.serialization.json_codec import Codec, JsonCodec

MASKED = "***"


def tries_text(job: JobSummary, queue: Queue | None) -> str:
    """Return which try a job is at, and of how many where that is known: "2 of 5"; of one that never began "-"."""
    if not job.attempt:
        return "-"
    most = _max_tries(job, queue)
    return str(job.tries) if most is None else f"{job.tries} of {most}"


def _max_tries(job: JobSummary, queue: Queue | None) -> int | None:
    task = None if queue is None else queue.tasks.get(job.task_name)
    retries = task.options.policy.retries if job.retries is None and task is not None else job.retries
    return None if retries is None else 1 + retries


def took(job: JobSummary, now: float) -> str:
    """Return how long the last run has taken, or takes."""
    if job.started_at is None or not (job.finished_at or job.status is Status.RUNNING):
        return "-"
    return text(max(0.0, (job.finished_at or now) - job.started_at))


def progress_text(job: JobSummary) -> str:
    """Return the progress that a job reported, as one line."""
    progress = job.progress
    if progress is None:
        return ""
    total = "" if progress.total is None else f"/{progress.total:g}"
    return one_line(f"{progress.done:g}{total} {progress.note or ''}")


def job_fields(job: JobRecord, queue: Queue | None = None) -> dict[str, Any]:
    """Return a job as plain values; bytes that the queue's codec does not read are None."""
    codec = _codec(queue)
    return {
        "id": job.id,
        **task_fields(job.task),
        "queue": job.queue,
        "status": str(job.status),
        "priority": job.priority,
        "attempt": job.attempt,
        "tries": job.tries,
        "max_tries": _max_tries(job, queue),
        "failures": job.failures,
        "deaths": job.deaths,
        "created_at": iso(job.created_at),
        "run_at": iso(job.run_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
        "expires_at": iso(job.expires_at),
        "key": job.key,
        "tags": list(job.tags),
        "schedule": job.schedule,
        "worker": job.worker,
        "reason": reason_of(job),
        "cancel_requested": job.cancel_requested,
        "progress": None
        if job.progress is None
        else {"done": job.progress.done, "total": job.progress.total, "note": job.progress.note},
        **call_fields(job.payload, queue),
        "result": None if job.result is None else decoded(codec, job.result),
        "errors": [
            {
                "attempt": error.attempt,
                "at": iso(error.at),
                "type": error.type,
                "message": error.message,
                "traceback": error.traceback,
            }
            for error in job.errors
        ],
    }


def group_fields(group: GroupSummary) -> dict[str, Any]:
    """Return a group as plain values. `total`, `done`: of its jobs that are on record, those of groups inside too."""
    counts = {str(status): group.by_status[status] for status in Status if group.by_status.get(status)}
    return {
        "id": group.id,
        "created_at": iso(group.created_at),
        "members": group.members,
        "total": sum(counts.values()),
        "done": sum(count for status, count in group.by_status.items() if status.finished),
        "by_status": counts,
        "failed": group.failed,
    }


def _codec(queue: Queue | None) -> Codec:
    return JsonCodec() if queue is None else queue.codec


def call_fields(payload: bytes, queue: Queue | None) -> dict[str, Any]:
    """Return the arguments of a call as plain values; None where the queue's codec does not read them.

    `form`: "call"; "link", where the jobs before it hand on the first argument; "chunk", where the arguments are items
    and the function is called with each. Those that its task masks are stars.
    """
    call = stored_call(decoded(_codec(queue), payload))
    if call is None:
        return {"args": None, "kwargs": None, "form": None}
    hidden = range(len(call.args)) if call.form == CHUNK and call.masked else call.masked
    return {
        "args": [MASKED if place in hidden else value for place, value in enumerate(call.args)],
        "kwargs": {name: MASKED if name in hidden else value for name, value in call.kwargs.items()},
        "form": _FORMS[call.form],
    }


_FORMS = {None: "call", LINK: "link", CHUNK: "chunk"}


def call_text(fields: dict[str, Any]) -> str:
    """Return the arguments among the fields of a job or a schedule as text."""
    if fields["args"] is None:
        return "not JSON: name the app (app:queue), whose codec reads them"
    given = [to_json(value) for value in fields["args"]]
    if fields["form"] == "chunk":
        return f"each of [{', '.join(given)}]"
    if fields["form"] == "link":
        given[0] = "<result>"
    given += [f"{one_line(name)}={to_json(value)}" for name, value in fields["kwargs"].items()]
    return f"({', '.join(given)})"


def decoded(codec: Codec, data: bytes) -> Any:
    """Decode bytes; None if this codec cannot read them."""
    try:
        return codec.decode(data)
    except (LiteQueueError, ValueError, TypeError, LookupError, EOFError):
        return None
