"""Workers: register one, and rescue the jobs of a dead one, as statements inside one write transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from litequeue.core.outcome import ErrorInfo, interrupted
from litequeue.core.records import Status
from litequeue.core.store import DEATH_LIMIT, Rescued
from litequeue.ipc.process_lock import ANY
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs.claim import claims
from litequeue.sqlite.jobs.finish import finish, reschedule, until
from litequeue.sqlite.jobs.row_values import names_in
from litequeue.sqlite.limits.bring_back import freed, leave_order
from litequeue.sqlite.limits.held import with_held
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litequeue.core.store import NewWorker, Parameters
    from litequeue.sqlite.compose.consequences import Consequences
    from litequeue.sqlite.drivers.connection import Connection

ALONE = 3.0  # seconds
_DIED = "its worker process died {} times while running it, the last time running nothing else"


def register(db: Connection, worker: NewWorker, now: float) -> int:
    """Register a worker; return its number, which is never used again."""
    values = {
        "token": worker.token,
        "identity": worker.identity,
        "queues": None if worker.queues is None else json.dumps(worker.queues),
        "tasks": json.dumps(worker.tasks),
        "modules": json.dumps(worker.modules),
        "at_most_once": json.dumps(worker.at_most_once),
        "threads": worker.threads,
        "coroutines": worker.coroutines,
        "slots": json.dumps(dict(worker.slots)) if worker.slots else None,
        "offers": json.dumps(dict(worker.offers)) if worker.offers else None,
        "now": now,
    }
    [(number,)] = db.rows(SQL["register"], values)
    note_parameters(db, worker.parameters)
    return int(number)


def note_parameters(db: Connection, parameters: Parameters) -> None:
    """Record how the present code calls these arguments: a newer version gets those of an older one by name."""
    db.many(SQL["note_parameters"], [(stored, json.dumps(names)) for stored, names in parameters.items()])


def parameters_of(db: Connection, stored_name: str) -> tuple[str, ...] | None:
    """Read what was recorded so."""
    rows = db.rows(SQL["parameters_of"], {"task": stored_name})
    try:
        return msgspec.json.decode(rows[0][0], type=tuple[str, ...]) if rows else None
    except (msgspec.MsgspecError, RecursionError):  # someone else wrote it
        return None


def rescue(
    db: Connection,
    worker: int,
    executing: Iterable[str] | None,
    now: float,
    *,
    result_ttl: float,
    failed_ttl: float,
    blame: bool,
    why: str = "",
    then: Consequences,
) -> Rescued:
    """Release a dead worker's jobs; those it was executing count a death, and fail at the third, when alone.

    What it was executing of a task that may not be repeated fails now. `why`: what became of the worker. `then`: see
    `finish`.
    """
    runs = db.rows(SQL["runs_of"], {"worker": worker})
    held = [job.held for job in with_held(db, claims(db, [int(run[0]) for run in runs])) if job.held is not None]
    begun = {f"{job_id}:{attempt}" for job_id, attempt, *_ in runs}
    declared = db.rows(SQL["at_most_once"], {"worker": worker}) if runs else []
    once = {task for (text,) in declared for task in names_in(text)}
    once_begun = begun
    if executing is not None:
        once_begun = begun if ANY in executing else begun & set(executing)
        begun = begun & set(executing)
    returned: list[str] = []
    dead_lettered: list[str] = []
    cancelled: list[str] = []
    cut_short: list[str] = []
    fates: dict[Status | None, list[str]] = {Status.CANCELLED: cancelled, Status.FAILED: dead_lettered}
    for job_id, attempt, deaths, task in runs:
        blamed = blame and f"{job_id}:{attempt}" in begun
        if task in once and f"{job_id}:{attempt}" in once_begun:
            ends = now, until(now, failed_ttl)
            cut = interrupted(f"It ran, or was about to, when its worker was lost: {why or 'it is gone'}")
            perform(db, finish(job_id, attempt, Status.FAILED, *ends, died=int(blamed), error=cut, then=then))
            cut_short.append(job_id)
            continue
        if blamed and deaths + 1 >= DEATH_LIMIT and len(begun) == 1:
            error = ErrorInfo("WorkerDied", _DIED.format(deaths + 1), "")
            kept = now, until(now, failed_ttl)
            perform(db, finish(job_id, attempt, Status.FAILED, *kept, died=1, error=error, then=then))
            dead_lettered.append(job_id)
            continue
        # never as unbegun: a run that is not noted may have ended, and its worker died before the end was stored
        back = reschedule(job_id, attempt, now, until(now, result_ttl), died=int(blamed), then=then)
        status = perform(db, back)
        fates.get(status, returned).append(job_id)
    if db.rows(SQL["forget_left_behind"], {"worker": worker}):
        db.rows(SQL["look_at_all_keys"], {"now": 0.0, "limit": None})  # what those held is free
    if runs:
        perform(db, leave_order(job_id for job_id, *_ in runs))
        perform(db, freed((job_id for job_id, *_ in runs), held))
    db.rows(SQL["unregister"], {"worker": worker})
    return Rescued(tuple(returned), tuple(dead_lettered), tuple(cancelled), tuple(cut_short))


def may_shrink(db: Connection, worker: int, now: float, *, alone: bool) -> bool:
    """Whether no other worker makes the file smaller alone; with `alone`, from now on this one does, for `ALONE`."""
    values = {"worker": worker, "now": now, "until": now + ALONE}
    if db.rows(SQL["another_shrinks"], values):
        return False
    if alone:
        db.rows(SQL["shrink_alone"], {"worker": worker, "until": now + ALONE})
    return True
