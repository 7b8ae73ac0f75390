"""The kept logs of runs, as statements inside a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.run_logs import RUNS_KEPT
from litequeue.sqlite.jobs.control import unknown
from litequeue.sqlite.jobs.ids import is_id
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litequeue.core.outcome import Ended
    from litequeue.core.records import Claimed
    from litequeue.core.run_logs import KeptLog, Position
    from litequeue.sqlite.drivers.connection import Connection


class StoredLog(NamedTuple):
    """One run's log as it is stored."""

    attempt: int
    written: int
    dropped: int
    data: bytes


def keep(db: Connection, logs: Sequence[tuple[Claimed, KeptLog]], now: float) -> None:
    """Store what these runs have logged so far: those that still run."""
    _keep(db, [(job, kept, now, 0) for job, kept in logs])


def keep_last(db: Connection, ended: Sequence[Ended]) -> None:
    """Store the logs of runs that have ended, unless another run of the job has begun meanwhile."""
    logs = [(end.job, end.log, end.at, 1) for end in ended if end.log is not None]
    if logs:  # most runs have none
        _keep(db, logs)


def _keep(db: Connection, logs: Sequence[tuple[Claimed, KeptLog, float, int]]) -> None:
    db.many(
        SQL["keep_log"],
        [(at, kept.written, kept.dropped, kept.data, job.id, job.attempt, last) for job, kept, at, last in logs],
    )
    for job, *_ in logs:
        if job.attempt > RUNS_KEPT:  # else there are no more
            db.rows(SQL["drop_older_logs"], {"job": job.id, "most": RUNS_KEPT})


def logs(db: Connection, job_id: str, after: Position, now: float) -> list[StoredLog]:
    """Return what is stored of the job's runs and was not there at that position; raises `JobNotFound`."""
    if not is_id(job_id) or not db.rows(SQL["standing"], {"id": job_id, "now": now}):
        raise unknown(job_id)
    rows = db.rows(SQL["logs"], {"job": job_id, "attempt": after.attempt, "written": after.written})
    return [StoredLog(*row) for row in rows]


def follow(db: Connection, job_id: str, now: float, until: float) -> None:
    """Note until when the job's log is followed."""
    if is_id(job_id):
        db.rows(SQL["forget_followers"], {"now": now})
        db.rows(SQL["follow_log"], {"job": job_id, "until": until})


def followed(db: Connection, now: float) -> frozenset[str]:
    """Return the jobs whose logs are followed."""
    return frozenset(str(job) for (job,) in db.rows(SQL["followed"], {"now": now}))
