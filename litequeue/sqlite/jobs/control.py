"""Control: cancel, retry and prune, as statements inside one write transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from litequeue.core.records import Status
from litequeue.errors import JobNotFound, KeyConflict, Unsupported
from litequeue.sqlite.jobs.finish import STATES, finish
from litequeue.sqlite.jobs.keys import holder_of
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection, Steps

CHUNK = 500


def cancel(job_id: str, now: float, delete_at: float | None) -> Steps[bool]:
    """Cancel a job that has not begun, or ask the running one to end."""
    rows = yield SQL["request_cancel"], {"id": job_id}
    if not rows:
        if not (yield SQL["standing"], {"id": job_id, "now": now}):
            raise _unknown(job_id)
        return False
    state, attempt = rows[0]
    if STATES[state] is not Status.RUNNING:
        yield from finish(job_id, attempt, Status.CANCELLED, now, delete_at, was=STATES[state])
    return True


def retry(job_id: str, now: float) -> Steps[None]:
    """Queue an ended job again; its key must still be free."""
    rows = yield SQL["standing"], {"id": job_id, "now": now}
    if not rows:
        raise _unknown(job_id)
    state, _, task, key = rows[0]
    if STATES[state] in (Status.QUEUED, Status.RUNNING, Status.WAITING):
        raise Unsupported(
            f"job {job_id} is {STATES[state]}; only failed, cancelled, expired and scheduled jobs can be retried"
        )
    if STATES[state] is Status.SUCCEEDED:
        raise Unsupported(f"job {job_id} succeeded; enqueue it again instead of retrying it")
    if key is not None:
        holder = yield from holder_of(task, key, now)
        if holder is not None and holder[0] != job_id:
            raise KeyConflict(f"key {key!r} of task {task!r} is held by job {holder[0]} now", holder[0])
    yield SQL["retry"], {"id": job_id, "now": now}


def _unknown(job_id: str) -> JobNotFound:
    return JobNotFound(f"no job {job_id} in this file: it never existed, or it has been pruned")


def prune(db: Connection, now: float, limit: int) -> int:
    """Delete jobs whose time has come, with their errors; of the newest, all but its id."""
    db.rows(SQL["prune_emptied"])
    over = [job_id for (job_id,) in db.rows(SQL["prunable"], {"now": now, "limit": limit})]
    if over:
        ids = {"ids": json.dumps(over)}
        for statement in ("prune_errors", "empty_newest", "prune"):
            db.rows(SQL[statement], ids)
    return len(over)
