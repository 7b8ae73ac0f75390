"""Turn rows into values: jobs, workers, schedules. Reads only."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from litequeue.core.duration import utc
from litequeue.core.records import JobError, JobRecord, ListedJob, Progress
from litequeue.core.schedules import ScheduleRecord
from litequeue.core.store import WorkerRecord
from litequeue.core.stored_names import task_of
from litequeue.errors import JobNotFound
from litequeue.sqlite.jobs.ids import is_id
from litequeue.sqlite.jobs.states import STATES
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from litequeue.sqlite.drivers.connection import Connection, Row, Steps


def look_up(db: Connection, job_id: str, now: float) -> JobRecord:
    """Read one job."""
    return _job(row_of(db, "look_up", job_id, now))


def look_up_many(db: Connection, job_ids: Iterable[str], now: float) -> dict[str, JobRecord]:
    """Read those of these jobs that are on record, by id."""
    ids = [job_id for job_id in set(job_ids) if is_id(job_id)]
    rows = db.rows(SQL["look_up_many"], {"ids": json.dumps(ids), "now": now})
    return {job.id: job for job in map(_job, rows)}


def require_job(job_id: str, now: float) -> Steps[JobRecord]:
    """Read one job inside a transaction, which must hold it."""
    [row] = yield SQL["look_up"], {"id": job_id, "now": now}
    return _job(row)


def has_ended(db: Connection, job_id: str, now: float) -> bool:
    """Read whether it has ended."""
    state, *_ = row_of(db, "standing", job_id, now)
    return STATES[state].finished


def ended_among(db: Connection, job_ids: Sequence[str]) -> list[str]:
    """Read which of these jobs have ended, or are not on record."""
    return [job_id for (job_id,) in db.rows(SQL["ended_among"], {"ids": json.dumps(job_ids)})]


def queued_among(db: Connection, job_ids: Sequence[str]) -> list[str]:
    """Read which of these jobs could begin, and have not."""
    return [job_id for (job_id,) in db.rows(SQL["queued_among"], {"ids": json.dumps(job_ids)})]


def row_of(db: Connection, statement: str, job_id: str, now: float) -> Row:
    """Read one row about a job that is on record, or raise `JobNotFound`."""
    rows = db.rows(SQL[statement], {"id": job_id, "now": now}) if is_id(job_id) else ()
    if not rows:
        raise not_found(job_id)
    return rows[0]


def not_found(job_id: str) -> JobNotFound:
    """Make the error of a look-up of a job that is not on record."""
    return JobNotFound(f"no job {job_id} in this file: it never existed, or it has been pruned")


def listed(row: Row) -> ListedJob:
    """Turn a row of a listing into a job."""
    *common, last_error = row
    return ListedJob(**_summary(common), last_error=last_error)


def _job(row: Row) -> JobRecord:
    *common, payload, result, errors, _ = row
    return JobRecord(
        **_summary(common),
        payload=payload,
        result=result,
        errors=tuple(_error(entry) for entry in json.loads(errors)) if errors else (),
    )


def _summary(row: Sequence[Any]) -> dict[str, Any]:
    (job_id, task, queue, state, priority, attempt, failures, deaths, retries, created_at, run_at, started_at,
     finished_at, expires_at, key, tags, schedule, worker, cancel_requested, progress, reason) = row  # fmt: skip
    return {
        "id": str(job_id),
        "task": task,
        "queue": queue,
        "status": STATES[state],
        "priority": priority,
        "attempt": attempt,
        "failures": failures,
        "deaths": deaths,
        "retries": retries,
        "created_at": created_at,
        "run_at": run_at,
        "started_at": started_at,
        "finished_at": finished_at,
        "expires_at": expires_at,
        "key": key,
        "tags": _tags(tags) if tags else (),
        "schedule": schedule,
        "worker": None if worker is None else str(worker),
        "cancel_requested": bool(cancel_requested),
        "progress": _progress(progress) if progress else None,
        "reason": reason,
    }


def _tags(text: str) -> tuple[str, ...]:
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except (msgspec.MsgspecError, RecursionError):  # someone else wrote it: no reason to hide the job
        return (text,)


def _progress(text: str) -> Progress | None:
    try:
        return msgspec.json.decode(text, type=Progress)
    except (msgspec.MsgspecError, RecursionError):  # someone else wrote it: no reason to hide the job
        return None


def _error(entry: list[Any]) -> JobError:
    attempt, at, kind, message, traceback = entry
    return JobError(attempt, utc(at), kind, message, traceback)


def workers(db: Connection) -> list[WorkerRecord]:
    """Read the registered workers."""
    return [_worker(row) for row in db.rows(SQL["workers"])]


def _worker(row: Row) -> WorkerRecord:
    number, token, identity, queues, tasks, threads, coroutines, *others, modules, slots, offers = row
    started_at, beats, beat_at, running = others
    return WorkerRecord(
        id=number,
        token=token,
        identity=identity,
        queues=_queues(queues),
        tasks=names_in(tasks),
        threads=threads,
        coroutines=coroutines,
        started_at=started_at,
        beats=beats,
        beat_at=beat_at,
        running=running,
        modules=names_in(modules),
        slots=_numbers(slots),
        offers=_numbers(offers),
    )


def _queues(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else names_in(text)


def names_in(text: str) -> tuple[str, ...]:
    """Read names that are stored as a list in JSON."""
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except (msgspec.MsgspecError, RecursionError):  # someone else wrote it: a worker that has none
        return ()


def _numbers(text: str | None) -> dict[str, int]:
    try:
        return {} if text is None else msgspec.json.decode(text, type=dict[str, int])
    except (msgspec.MsgspecError, RecursionError):  # someone else wrote it: a worker that has none
        return {}


def schedules(db: Connection) -> list[ScheduleRecord]:
    """Read all schedules, by name."""
    return [schedule(row) for row in db.rows(SQL["schedules"])]


def find_schedule(name: str) -> Steps[ScheduleRecord | None]:
    """Read the schedule of that name."""
    rows = yield SQL["schedule"], {"name": name}
    return schedule(rows[0]) if rows else None


def schedule(row: Row) -> ScheduleRecord:
    """Turn a row into a schedule."""
    (name, task, queue, payload, priority, trigger, overlap, catch_up, until, max_runs, expires, module, declared,
     paused, created_at, next_at, last_at, last_job, runs, skipped, skipping, skipping_since,
     options) = row  # fmt: skip
    return ScheduleRecord(
        name=name,
        task=task,
        queue=queue,
        payload=payload,
        priority=priority,
        trigger=trigger,
        overlap=overlap,
        catch_up=catch_up,
        until=until,
        max_runs=max_runs,
        expires=expires,
        module=module,
        declared=declared,
        paused=bool(paused),
        created_at=created_at,
        next_at=next_at,
        last_at=last_at,
        last_job=last_job,
        runs=runs,
        skipped=skipped,
        skipping=skipping,
        skipping_since=skipping_since,
        options=options,
    )


@contextmanager
def snapshot(db: Connection) -> Generator[None, None, None]:
    """Let every statement of the block see the file as it is at the first."""
    db.script("BEGIN")
    try:
        yield
    finally:
        if db.in_transaction:  # not where a Ctrl-C came, and the next reader has ended it
            db.script("ROLLBACK")  # nothing was written


def durations(db: Connection, limit: int) -> dict[str, list[float]]:
    """The last runs' seconds, by task."""
    spans: dict[str, list[float]] = {}
    for task, span in db.rows(SQL["recent_durations"], {"limit": limit}):
        spans.setdefault(task_of(task), []).append(span)
    return spans
