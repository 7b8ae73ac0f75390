"""How a job ends, or its run returns to its queue, and its errors: `finish`, `reschedule`, many successes together."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from litequeue.core.outcome import ErrorInfo
from litequeue.core.records import FOREVER, Status
from litequeue.sqlite.compose.consequences import Consequences
from litequeue.sqlite.compose.ended import follow
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs import line
from litequeue.sqlite.jobs.large_values import inline, keep_result
from litequeue.sqlite.jobs.states import NUMBER
from litequeue.sqlite.limits.bring_back import leave
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litequeue.sqlite.drivers.connection import Connection, Row, Steps

MOST = 10**15  # what the schema lets a counter reach: in a thousand years only someone else's write does

MOST_ERRORS = 100  # of a job that are kept: the first half of these, and the last

_USED_UP = ErrorInfo("CountersUsedUp", f"it has begun, failed or lost its worker {MOST} times; it cannot run again", "")
_FINISH = SQL["finish"]
_FINISH_TOLD = f"{_FINISH}\nRETURNING schedule IS NOT NULL"
_TOGETHER = 100
_EACH = 5  # parameters
_SUCCEED_TOGETHER = SQL["succeed_together"].replace("(?, ?, ?, ?, ?)", ", ".join(["(?, ?, ?, ?, ?)"] * _TOGETHER))


def until(now: float, span: float) -> float | None:
    """When what is kept for that many seconds is to be deleted; None: never."""
    return None if span == FOREVER else now + span


def finish(
    job_id: str,
    attempt: int,
    status: Status,
    now: float,
    delete_at: float | None,
    *,
    was: Status = Status.RUNNING,
    result: bytes | None = None,
    failed: int = 0,
    died: int = 0,
    error: ErrorInfo | None = None,
    then: Consequences,
    ends: list[tuple[str | int, int]] | None = None,
) -> Steps[bool]:
    """End a job; False, and nothing changed, when it is not in that attempt and state any more.

    `failed`, `died`: what is added to its counters; `error`: the reason, kept with the attempt. `then`: notes what the
    end brings with it. `ends`: takes the end, of many, for the caller to `follow` all of them together.
    """
    end = NUMBER[status], now, delete_at, None if result is None else inline(result), failed, died
    rows = yield _FINISH_TOLD, (*end, job_id, attempt, NUMBER[was])
    if not rows:
        return False
    if result is not None and end[3] is None:
        yield keep_result(job_id, result)
    if error is not None:
        yield from _record(job_id, attempt, now, error)
    if rows[0][0]:
        yield from line.leave([job_id], now)
    if was is not Status.RUNNING:  # what a run held is given back with its end
        if was is Status.WAITING:
            yield SQL["unpark"], {"id": job_id}
            yield SQL["hold_no_more"], {"nodes": f"[{job_id}]"}
        yield from leave([job_id])
    if ends is not None:
        ends.append((job_id, NUMBER[status]))
    else:
        yield from follow([(job_id, NUMBER[status])], now, then)
    return True


def finish_all(
    db: Connection, status: Status, now: float, delete_at: float | None, jobs: Sequence[Row], then: Consequences
) -> None:
    """End jobs that do not run, for no fault of theirs: by id, attempt, state, and whether each is a schedule's."""
    db.many(_FINISH, [(NUMBER[status], now, delete_at, None, 0, 0, *job[:3]) for job in jobs])
    waiting = [job_id for job_id, _, state, _ in jobs if state == NUMBER[Status.WAITING]]
    if waiting:
        db.rows(SQL["forget_parked"], {"ids": json.dumps(waiting)})
        db.rows(SQL["hold_no_more"], {"nodes": json.dumps(waiting)})
    if jobs:
        perform(db, leave([job_id for job_id, *_ in jobs]))
        perform(db, follow([(job_id, NUMBER[status]) for job_id, *_ in jobs], now, then))
    leave_lines(db, [job_id for job_id, _, _, of_schedule in jobs if of_schedule], now)


def leave_lines(db: Connection, ended: Sequence[str | int], now: float) -> None:
    """Let the next ones begin of the schedules of these jobs, which have ended."""
    if ended:
        perform(db, line.leave(ended, now))


def reschedule(
    job_id: str,
    attempt: int,
    now: float,
    delete_at: float | None,
    *,
    run_at: float | None = None,
    begun: bool = True,
    failed: int = 0,
    died: int = 0,
    error: ErrorInfo | None = None,
    then: Consequences,
) -> Steps[Status | None]:
    """Return a run to its queue, to start at once or at `run_at`; return its status then, None when it came too late.

    Where its cancel was asked for while it ran, it ends here instead, and is kept until `delete_at`.
    """
    status = Status.QUEUED if run_at is None else Status.SCHEDULED
    returning = {"id": job_id, "attempt": attempt, "state": NUMBER[status], "run_at": run_at, "unbegun": int(not begun)}
    rows = yield SQL["reschedule"], returning | {"failed": failed, "died": died, "most": MOST}
    if not rows:
        why = error or _USED_UP
        end = finish(job_id, attempt, Status.FAILED, now, delete_at, failed=failed, died=died, error=why, then=then)
        return Status.FAILED if (yield from end) else None
    if error is not None:
        yield from _record(job_id, attempt, now, error)
    if not rows[0][0]:
        return status
    yield from finish(job_id, attempt, Status.CANCELLED, now, delete_at, was=status, then=then)
    return Status.CANCELLED


def succeed(db: Connection, ends: list[Any]) -> int:
    """End runs as succeeded, given flat: now, delete_at, result, id, attempt of each; return how many were in time.

    Of results that stand in the job's row. Of jobs of schedules: `leave_lines` is the caller's.
    """
    size, chunk = len(ends), _EACH * _TOGETHER
    whole = size // chunk * chunk
    done = db.changed(_SUCCEED_TOGETHER, [ends[at : at + chunk] for at in range(0, whole, chunk)]) if whole else 0
    if whole == size:
        return done
    left = [(4, *ends[at : at + 3], 0, 0, *ends[at + 3 : at + 5], 3) for at in range(whole, size, _EACH)]
    return done + db.changed(_FINISH, left)


def _record(job_id: str, attempt: int, now: float, error: ErrorInfo) -> Steps[None]:
    yield SQL["record_error"], {"id": job_id, "attempt": attempt, "now": now, **error._asdict()}
    if attempt > MOST_ERRORS:  # else there are fewer
        yield SQL["drop_middle_errors"], {"id": job_id, "most": MOST_ERRORS}
