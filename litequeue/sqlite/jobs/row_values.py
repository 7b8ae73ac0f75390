"""Turn rows into values: jobs, workers, schedules, counts. Reads only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from litequeue.core.duration import utc
from litequeue.core.engine import QueueCount, ScheduleRecord, WorkerRecord
from litequeue.errors import JobNotFound
from litequeue.ipc.dispatch import Serves
from litequeue.job import JobError, JobRecord, Progress, Status
from litequeue.sqlite.jobs.transitions import NUMBER, STATES
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection, Row

_DEAD = frozenset({Status.FAILED, Status.CANCELLED, Status.EXPIRED})


def look_up(db: Connection, job_id: str) -> JobRecord:
    """Read one job."""
    return _job(_row(db, "look_up", job_id))


def has_ended(db: Connection, job_id: str) -> bool:
    """Read whether it has ended."""
    state, _ = _row(db, "run_state", job_id)
    return STATES[state].finished


def _row(db: Connection, statement: str, job_id: str) -> Row:
    rows = db.rows(SQL[statement], {"id": job_id})
    if not rows:
        raise JobNotFound(f"no job {job_id} in this file: it never was, or it has been pruned")
    return rows[0]


def list_jobs(
    db: Connection,
    *,
    status: Status | None,
    task: str | None,
    queue: str | None,
    tag: str | None,
    limit: int,
    before: str | None,
) -> list[JobRecord]:
    """Read the newest jobs that match."""
    name = "list_dead_jobs" if status in _DEAD else "list_jobs"
    where = {"state": None if status is None else NUMBER[status], "task": task, "queue": queue, "tag": tag}
    return [
        _job(row)
        for row in db.rows(SQL[name], where | {"limit": limit, "before": None if before is None else int(before)})
    ]


def _job(row: Row) -> JobRecord:
    (job_id, task, queue, state, priority, attempt, failures, deaths, created_at, run_at, started_at, finished_at,
     expires_at, key, tags, schedule, worker, cancel_requested, progress, payload, result, errors) = row  # fmt: skip
    return JobRecord(
        id=job_id,
        task=task,
        queue=queue,
        status=STATES[state],
        priority=priority,
        attempt=attempt,
        failures=failures,
        deaths=deaths,
        created_at=created_at,
        run_at=run_at,
        started_at=started_at,
        finished_at=finished_at,
        expires_at=expires_at,
        key=key,
        tags=_tags(tags) if tags else (),
        schedule=schedule,
        worker=worker,
        cancel_requested=bool(cancel_requested),
        progress=_progress(progress) if progress else None,
        payload=payload,
        result=result,
        errors=tuple(_error(entry) for entry in json.loads(errors)) if errors else (),
    )


def _tags(text: str) -> tuple[str, ...]:
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except (msgspec.MsgspecError, RecursionError):  # of a foreign hand: no reason to hide the job
        return (text,)


def _progress(text: str) -> Progress | None:
    try:
        return msgspec.json.decode(text, type=Progress)
    except (msgspec.MsgspecError, RecursionError):  # of a foreign hand: no reason to hide the job
        return None


def _error(entry: list[Any]) -> JobError:
    attempt, at, kind, message, traceback = entry
    return JobError(attempt, utc(at), kind, message, traceback)


def workers(db: Connection) -> list[WorkerRecord]:
    """Read the workers on record."""
    return [_worker(row) for row in db.rows(SQL["workers"])]


def served_by(db: Connection, worker: int) -> Serves | None:
    """Read what a worker takes; None when it is not on record."""
    rows = db.rows(SQL["served_by"], {"worker": worker})
    return Serves(frozenset(_names(rows[0][1])), _queues(rows[0][0])) if rows else None


def _worker(row: Row) -> WorkerRecord:
    number, token, identity, queues, tasks, threads, coroutines, started_at, beats, beat_at, running = row
    return WorkerRecord(
        id=number,
        token=token,
        identity=identity,
        queues=_queues(queues),
        tasks=_names(tasks),
        threads=threads,
        coroutines=coroutines,
        started_at=started_at,
        beats=beats,
        beat_at=beat_at,
        running=running,
    )


def _queues(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else _names(text)


def _names(text: str) -> tuple[str, ...]:
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except (msgspec.MsgspecError, RecursionError):  # of a foreign hand: a worker that has none
        return ()


def schedules(db: Connection) -> list[ScheduleRecord]:
    """Read all schedules, by name."""
    return [schedule(row) for row in db.rows(SQL["schedules"])]


def schedule(row: Row) -> ScheduleRecord:
    """Turn a row into a schedule."""
    name, task, queue, payload, priority, trigger, declared, paused, created_at, next_at, last_at, last_job = row
    return ScheduleRecord(
        name=name,
        task=task,
        queue=queue,
        payload=payload,
        priority=priority,
        trigger=trigger,
        declared=bool(declared),
        paused=bool(paused),
        created_at=created_at,
        next_at=next_at,
        last_at=last_at,
        last_job=last_job,
    )


def counts(db: Connection) -> list[QueueCount]:
    """Count the jobs of each queue in each state."""
    return [QueueCount(queue, STATES[state], count, oldest) for queue, state, count, oldest in db.rows(SQL["counts"])]


def ready(db: Connection) -> list[tuple[str, str, int, float]]:
    """Count the ready jobs of each queue and task, with the time the oldest was enqueued."""
    return [(queue, task, count, oldest) for queue, task, count, oldest in db.rows(SQL["ready_counts"])]


def durations(db: Connection, limit: int) -> dict[str, list[float]]:
    """The last runs' seconds, by task."""
    spans: dict[str, list[float]] = {}
    for task, span in db.rows(SQL["recent_durations"], {"limit": limit}):
        spans.setdefault(task, []).append(span)
    return spans
