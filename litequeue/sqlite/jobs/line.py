"""Jobs of a schedule that run one after another, as statements inside one write transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Collection

    from litequeue.sqlite.drivers.connection import Steps

ROUNDS = 100  # jobs of one line that someone else has deleted, and that one transaction passes over


def join(schedule: str, job_id: str) -> Steps[None]:
    """Let a job that could begin wait behind those of the line, if there are any."""
    [(held,)] = yield SQL["join_line"], {"schedule": schedule, "job": int(job_id)}
    if held:
        yield SQL["hold"], {"id": job_id}


def join_free(schedule: str, job_id: str) -> Steps[None]:
    """Put a job into the line that does not wait for it: those behind it do."""
    yield SQL["join_line_free"], {"schedule": schedule, "job": int(job_id)}


def rejoin(job_id: str) -> Steps[None]:
    """Let a job wait again that had left its line by its end, and was queued again."""
    for (schedule,) in (yield SQL["line_of"], {"id": job_id}):
        yield from join(schedule, job_id)


def leave(ids: Collection[str | int], now: float) -> Steps[None]:
    """Take out of their lines those of these jobs that have ended, and let the next ones begin."""
    left = yield SQL["leave_line"], {"ids": _listed(ids)}
    lines = {schedule for schedule, held in left if not held}
    if lines:
        yield from begin_next(lines, now)


def begin_next(lines: Collection[str], now: float) -> Steps[None]:
    """Let the first of each line begin whose others are all held."""
    for _ in range(ROUNDS):
        nexts = yield SQL["next_in_line"], {"schedules": json.dumps(list(lines))}
        if not nexts:
            return
        ids = {job for (job,) in nexts}
        begun = yield SQL["begin_in_line"], {"ids": _listed(ids), "now": now}
        gone = ids.difference(job for (job,) in begun)
        if not gone:
            return
        lines = {schedule for schedule, _ in (yield SQL["leave_line"], {"ids": _listed(gone)})}


def mend(schedule: str, now: float) -> Steps[None]:
    """Let the line go on where a job was deleted by someone else, and so never ended."""
    free = yield SQL["free_in_line"], {"schedule": schedule}
    if free:
        yield from leave([job for (job,) in free], now)
    yield from begin_next([schedule], now)


def _listed(ids: Collection[str | int]) -> str:
    return f"[{','.join(map(str, ids))}]"
