"""Control: cancel, retry and prune, as statements inside one write transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.budget import BUDGET
from litequeue.core.records import Status
from litequeue.core.stored_names import task_of
from litequeue.errors import JobNotFound, KeyConflict, Unsupported
from litequeue.sqlite.compose.keep import forget, keep_needed
from litequeue.sqlite.compose.revive import check_told, revive, wait_again
from litequeue.sqlite.jobs import line
from litequeue.sqlite.jobs.finish import finish
from litequeue.sqlite.jobs.ids import is_id
from litequeue.sqlite.jobs.keys import has_held_it_long_enough, holder_of
from litequeue.sqlite.jobs.states import NUMBER, STATES
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.core.outcome import ErrorInfo
    from litequeue.sqlite.compose.consequences import Consequences
    from litequeue.sqlite.drivers.connection import Connection, Steps

CHUNK = 500
_PRUNE = (
    *("prune_errors", "prune_payloads", "prune_results", "prune_streams", "prune_logs", "prune_log_followers"),
    *("prune_heartbeats", "prune_takes", "prune_timed_keys", "empty_newest", "prune"),
)
SLICE = 200  # jobs that are deleted between two looks at the clock


class Was(NamedTuple):
    """What a job was when it was cancelled. `frees`: that may have let another one of its schedule begin."""

    status: Status
    frees: bool


def cancel(
    job_id: str,
    now: float,
    delete_at: float | None,
    then: Consequences,
    why: ErrorInfo | None = None,
    ends: list[tuple[str | int, int]] | None = None,
) -> Steps[Was | None]:
    """Cancel a job that has not begun, or ask the running one to end; return what it was, None if it had ended.

    `why`: kept with the job that ends here. `then`, `ends`: see `finish`.
    """
    if not is_id(job_id):
        raise unknown(job_id)
    rows = yield SQL["request_cancel"], {"id": job_id}
    if not rows:
        if not (yield SQL["standing"], {"id": job_id, "now": now}):
            raise unknown(job_id)
        return None
    state, attempt, of_schedule = rows[0]
    was = STATES[state]
    if was is Status.RUNNING:
        return Was(was, frees=False)
    yield from finish(job_id, attempt, Status.CANCELLED, now, delete_at, was=was, error=why, then=then, ends=ends)
    return Was(was, frees=bool(of_schedule))


def retry(job_id: str, now: float, revived: list[str] | None = None) -> Steps[tuple[str, ...]]:
    """Queue an ended job again; its key must still be free. What its end had cancelled waits again.

    Return the ids of those that do not, since another job has taken their key. `revived`: takes those that do.
    """
    rows = (yield SQL["standing"], {"id": job_id, "now": now}) if is_id(job_id) else ()
    if not rows:
        raise unknown(job_id)
    state, _, task, key, of_schedule = rows[0]
    if STATES[state] in (Status.QUEUED, Status.RUNNING, Status.WAITING):
        raise Unsupported(
            f"job {job_id} is {STATES[state]}; only failed, cancelled, expired and scheduled jobs can be retried"
        )
    if STATES[state] is Status.SUCCEEDED:
        raise Unsupported(f"job {job_id} succeeded; enqueue it again instead of retrying it")
    holds = key is not None and not (yield from has_held_it_long_enough(job_id, now))
    if holds:
        holder = yield from holder_of(task, key, now)
        if holder is not None and holder[0] != job_id:
            raise KeyConflict(f"key {key!r} of task {task_of(task)!r} is held by job {holder[0]} now", holder[0])
    if STATES[state] is Status.SCHEDULED:
        yield SQL["retry"], {"id": job_id, "now": now, "holds": int(holds), "state": NUMBER[Status.QUEUED]}
        return ()
    yield from check_told(job_id)
    to = Status.WAITING if (yield from wait_again(job_id)) else Status.QUEUED
    yield SQL["retry"], {"id": job_id, "now": now, "holds": int(holds), "state": NUMBER[to]}
    if of_schedule:
        yield from line.rejoin(job_id)
    return (yield from revive(job_id, now, revived))


def unknown(job_id: str) -> JobNotFound:
    """Make the error for a job that is not on record."""
    return JobNotFound(f"no job {job_id} in this file: it never existed, or it has been pruned")


def prune(db: Connection, now: float, limit: int, is_time_up: Callable[[], bool]) -> int:
    """Delete jobs whose time has come, with all that is kept of them, until time is up; of the newest not its id."""
    db.rows(SQL["prune_emptied"])
    count = 0
    while count < limit and (over := _prunable(db, now, min(SLICE, limit - count))):
        count += len(over)
        if db.rows(SQL["has_compositions"]) == [(1,)]:
            over = keep_needed(db, over, now)
            forget(db, over)
        ids = {"ids": json.dumps(over)}
        for statement in _PRUNE:
            db.rows(SQL[statement], ids)
        if is_time_up():
            break
    return count


def _prunable(db: Connection, now: float, limit: int) -> list[int]:
    """Return the ids of a slice: at least one job, if there is one, and no more than `BUDGET` bytes with it."""
    over: list[int] = []
    left = BUDGET
    for job_id, size in db.rows(SQL["prunable"], {"now": now, "limit": limit}):
        left -= size
        if over and left < 0:
            break
        over.append(job_id)
    return over
