"""What a tick does while its schedule's last job has not ended, inside one write transaction. Knows no trigger."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.outcome import ErrorInfo
from litequeue.core.records import NewJob, Status
from litequeue.core.stored_names import in_words
from litequeue.sqlite.jobs import enqueue, line
from litequeue.sqlite.jobs.control import Was, cancel
from litequeue.sqlite.jobs.states import NUMBER
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.core.schedules import ScheduleRecord
    from litequeue.sqlite.drivers.connection import Row, Steps


class Tick(NamedTuple):
    """What became of a tick: the id of its job, None if it was skipped. `fresh`: no earlier tick had that job.

    `cancelled`: the last job, if it was asked to end, with what it was.
    """

    job: str | None
    fresh: bool = True
    cancelled: tuple[str, Was] | None = None


def store_tick(schedule: ScheduleRecord, run_at: float, now: float, delete_at: float | None) -> Steps[Tick]:
    """Store the job of one tick, as the schedule's `overlap` has it. `delete_at`: of a job that it cancels."""
    new = call_of(schedule, run_at, now)
    if schedule.overlap == "allow":
        return Tick((yield from _store(new)))
    last = yield from _unfinished(schedule.last_job)
    match schedule.overlap:
        case "skip":
            return Tick(None, fresh=False) if last is not None else Tick((yield from _store(new)))
        case "queue":
            return Tick((yield from _store_behind(schedule.name, None if last is None else last[0], new)))
        case "replace":
            return (yield from _replace(schedule.name, last, new, delete_at))


def store_now(schedule: ScheduleRecord, now: float) -> Steps[str]:
    """Store the schedule's call beside its ticks; where these run one after another, behind them."""
    new = call_of(schedule, now, now)
    if schedule.overlap in ("skip", "allow"):
        return (yield from _store(new))
    if schedule.overlap == "replace":
        job_id = yield from _store(new)
        yield from line.join_free(schedule.name, job_id)
        return job_id
    last = yield from _unfinished(schedule.last_job)
    return (yield from _store_behind(schedule.name, None if last is None else last[0], new))


def call_of(schedule: ScheduleRecord, run_at: float, now: float) -> NewJob:
    """Return the schedule's call as a job of a tick at that time."""
    return NewJob(
        task=schedule.task,
        queue=schedule.queue,
        payload=schedule.payload,
        priority=schedule.priority,
        created_at=now,
        run_at=run_at,
        expires_at=None if schedule.expires is None else run_at + schedule.expires,
        schedule=schedule.name,
    )


def _unfinished(job_id: str | None) -> Steps[Row | None]:
    rows = [] if job_id is None else (yield SQL["unfinished"], {"id": job_id})
    return rows[0] if rows else None


def _store(new: NewJob) -> Steps[str]:
    return (yield from enqueue.submit(new)).id


def _store_behind(schedule: str, last: str | None, new: NewJob) -> Steps[str]:
    """Store a job that waits until those before it have ended; `last`: such a one, if any is known."""
    yield from line.mend(schedule, new.created_at)
    if last is not None:
        yield from line.join_free(schedule, last)
    job_id = yield from _store(new)
    yield from line.join(schedule, job_id)
    return job_id


def _replace(schedule: str, last: Row | None, new: NewJob, delete_at: float | None) -> Steps[Tick]:
    if last is None:
        return Tick((yield from _store_behind(schedule, None, new)))
    job_id, task, state, begun = last
    if task == new.task and state < NUMBER[Status.RUNNING] and not begun:
        held = state == NUMBER[Status.WAITING] and bool((yield SQL["is_held"], {"id": job_id}))  # else it is parked
        yield from enqueue.replace(job_id, new, waiting=held)
        return Tick(job_id, fresh=False)
    other = ErrorInfo("Replaced", f"the schedule {schedule!r} calls {in_words(new.task)} by now", "")
    why = other if task != new.task else None
    was = yield from cancel(job_id, new.created_at, delete_at, why)
    behind = job_id if was is not None and was.status is Status.RUNNING else None
    stored = yield from _store_behind(schedule, behind, new)
    return Tick(stored, cancelled=None if was is None else (job_id, was))
