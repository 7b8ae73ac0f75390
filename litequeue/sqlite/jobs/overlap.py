"""What a tick does while its schedule's last job has not ended, inside one write transaction. Knows no trigger."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.engine import Submitted
from litequeue.core.outcome import ErrorInfo
from litequeue.core.records import Status
from litequeue.core.scheduled_call import job_of, plan_of, unraised
from litequeue.core.stored_names import in_words
from litequeue.sqlite.compose.store import store
from litequeue.sqlite.jobs import enqueue, line
from litequeue.sqlite.jobs.control import Was, cancel
from litequeue.sqlite.jobs.states import NUMBER
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.core.records import NewJob
    from litequeue.core.scheduled_call import CallOptions
    from litequeue.core.schedules import ScheduleRecord
    from litequeue.sqlite.compose.consequences import Consequences
    from litequeue.sqlite.drivers.connection import Row, Steps


class Tick(NamedTuple):
    """What became of a tick: the id of its job, None if it was skipped. `fresh`: no earlier tick had that job.

    `cancelled`: the last job, if it was asked to end, with what it was.
    """

    job: str | None
    fresh: bool = True
    cancelled: tuple[str, Was] | None = None


class Firing(NamedTuple):
    """What the ticks of a schedule have in common. `delete_at`, `then`: of a job that one cancels; see `finish`."""

    options: CallOptions
    now: float
    delete_at: float | None
    then: Consequences


class Due(NamedTuple):
    """The job of one tick, and the options of its call."""

    new: NewJob
    options: CallOptions

    def store(self) -> Steps[Submitted]:
        """Store it with its callbacks; or find the job that holds its key, of which callbacks are its own."""
        if not any(self.options.callbacks()) or (yield from enqueue.holder(self.new)) is not None:
            return (yield from enqueue.submit(self.new))
        stored = yield from store(plan_of(self.new, self.options))
        return Submitted(stored.last, fresh=True)

    def store_behind(self, last: str | None) -> Steps[Submitted]:
        """Store it to wait until those of its line have ended; `last`: such a one, if any is known."""
        schedule = str(self.new.schedule)
        yield from line.mend(schedule, self.new.created_at)
        if last is not None:
            yield from line.join_free(schedule, last)
        submitted = yield from self.store()
        if submitted.fresh:
            yield from line.join(schedule, submitted.id)
        return submitted


def store_tick(schedule: ScheduleRecord, run_at: float, firing: Firing) -> Steps[Tick]:
    """Store the job of one tick, as the schedule's `overlap` has it. A tick whose key is held has none."""
    due = Due(unraised(job_of(schedule, firing.options, run_at, firing.now)), firing.options)
    if schedule.overlap == "allow":
        return _tick((yield from due.store()))
    last = yield from _unfinished(schedule.last_job)
    match schedule.overlap:
        case "skip":
            return Tick(None, fresh=False) if last is not None else _tick((yield from due.store()))
        case "queue":
            return _tick((yield from due.store_behind(None if last is None else last[0])))
        case "replace":
            return (yield from _replace(last, due, firing))


def store_now(schedule: ScheduleRecord, options: CallOptions, now: float) -> Steps[Submitted]:
    """Store the schedule's call beside its ticks; where these run one after another, behind them."""
    due = Due(job_of(schedule, options, now, now), options)
    if schedule.overlap in ("skip", "allow"):
        return (yield from due.store())
    if schedule.overlap == "replace":
        submitted = yield from due.store()
        if submitted.fresh:
            yield from line.join_free(schedule.name, submitted.id)
        return submitted
    last = yield from _unfinished(schedule.last_job)
    return (yield from due.store_behind(None if last is None else last[0]))


def _tick(submitted: Submitted) -> Tick:
    """A job that was there is not the schedule's: its tick is skipped."""
    return Tick(submitted.id) if submitted.fresh else Tick(None, fresh=False)


def _unfinished(job_id: str | None) -> Steps[Row | None]:
    rows = [] if job_id is None else (yield SQL["unfinished"], {"id": job_id})
    return rows[0] if rows else None


def _replace(last: Row | None, due: Due, firing: Firing) -> Steps[Tick]:
    new = due.new
    if last is None:
        return _tick((yield from due.store_behind(None)))
    job_id, task, state, begun, key = last
    if (task, key) == (new.task, new.key) and state < NUMBER[Status.RUNNING] and not begun:
        held = state == NUMBER[Status.WAITING] and bool((yield SQL["is_held"], {"id": job_id}))  # else it is parked
        yield from enqueue.replace(job_id, new, waiting=held)
        return Tick(job_id, fresh=False)
    holder = yield from enqueue.holder(new)
    if holder is not None and holder[0] != job_id:
        return _tick((yield from due.store()))
    other = ErrorInfo("Replaced", f"the schedule {new.schedule!r} calls {in_words(new.task)} by now", "")
    why = other if task != new.task else None
    was = yield from cancel(job_id, firing.now, firing.delete_at, firing.then, why)
    behind = job_id if was is not None and was.status is Status.RUNNING else None
    stored = yield from due.store_behind(behind)
    return _tick(stored)._replace(cancelled=None if was is None else (job_id, was))
