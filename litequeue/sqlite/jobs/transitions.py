"""Each change of a job's state, as the statements it takes inside one write transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from litequeue.core.engine import Cycle, Rescued, Submitted
from litequeue.core.outcome import Cancelled, ErrorInfo, Failed, Released, Retried, Settled, Snoozed, Succeeded
from litequeue.errors import Fenced, JobNotFound, KeyConflict, StoreError, Unsupported
from litequeue.job import FOREVER, Claimed, Status
from litequeue.sqlite.jobs.claim import claim, in_turn
from litequeue.sqlite.jobs.user_answers import alike, at_once
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from litequeue.core.engine import Demand, NewWorker
    from litequeue.core.outcome import Ended
    from litequeue.job import NewJob
    from litequeue.sqlite.drivers.connection import Connection, Row, Steps
    from litequeue.sqlite.file.migrate import Fence
    from litequeue.sqlite.jobs.user_answers import Ask

CHUNK = 500
DEATH_LIMIT = 3

STATES: tuple[Status, ...] = tuple(Status)
NUMBER: dict[Status, int] = {status: number for number, status in enumerate(STATES)}

_INSERT = SQL["insert"]
_INSERT_ALONE = SQL["insert_alone"]
_INSERT_HANDED = SQL["insert_handed"]
_SUBMIT = f"{_INSERT}\nRETURNING CAST(id AS TEXT)"
_SUCCEED = SQL["succeed"]
_TOGETHER = 100
_ALL = 5 * _TOGETHER  # their parameters
_SUCCEED_TOGETHER = SQL["succeed_together"].replace("(?, ?, ?, ?, ?)", ", ".join(["(?, ?, ?, ?, ?)"] * _TOGETHER))


# ---- submit


def submit(new: NewJob, ask: Ask = at_once) -> Steps[Submitted]:
    """Store one job, or find the one that holds its key."""
    for key in () if new.key is None else (new.key, *new.aliases):
        rows = yield SQL["key_holder"], {"task": new.task, "key": key}
        if rows:
            return (yield from _meet_holder(new, rows[0], ask))
    [(job_id,)] = yield _SUBMIT, _values(new)
    return Submitted(job_id, fresh=True)


def submit_among(jobs: Sequence[NewJob]) -> Steps[list[Submitted]]:
    """Store jobs, all or none, in a transaction whose owner may go on and commit after a `KeyConflict`."""
    if len(jobs) == 1:
        return [(yield from submit(jobs[0]))]
    submitted: list[Submitted] = []
    yield "SAVEPOINT litequeue_submit", ()
    try:
        for job in jobs:
            submitted.append((yield from submit(job)))  # noqa: PERF401 - a comprehension cannot yield
    except KeyConflict:
        yield "ROLLBACK TO litequeue_submit", ()
        yield "RELEASE litequeue_submit", ()
        raise
    yield "RELEASE litequeue_submit", ()
    return submitted


def insert(db: Connection, new: NewJob, fence: Fence) -> list[Submitted]:
    """Store one job without a key: a single statement, and so a transaction by itself.

    Only on a connection that nobody else uses meanwhile: RETURNING would cost half as much again as the INSERT.
    """
    try:
        db.rows(_INSERT_ALONE, (fence.version, *_values(new)))
    except StoreError:
        fence.explain(db)
        raise
    return [Submitted(str(db.last_id), True)]


def insert_handed(db: Connection, new: NewJob, worker: int, now: float, fence: Fence) -> Claimed | None:
    """Store it as this worker's own, under the same conditions; None, and nothing stored, if that one has work."""
    task, queue, payload, _, *rest = _values(new)
    values = (task, queue, payload, NUMBER[Status.RUNNING], *rest, worker, now, fence.version, worker, worker)
    if not db.changed(_INSERT_HANDED, [values]):
        return None
    return Claimed(
        str(db.last_id), 1, new.task, new.queue, new.payload, new.priority, 0, 0, new.timeout, new.retries,
        None, new.created_at,
    )  # fmt: skip


def insert_many(db: Connection, jobs: Sequence[NewJob]) -> list[Submitted]:
    """Store jobs without keys, under the same condition: SQLite numbers them one after another."""
    db.many(_INSERT, map(_values, jobs))
    last = db.last_id
    return [Submitted(str(number), True) for number in range(last - len(jobs) + 1, last + 1)]


def _values(new: NewJob) -> tuple[Any, ...]:
    later = new.run_at is not None and new.run_at > new.created_at
    key = new.key
    return (
        new.task,
        new.queue,
        new.payload,
        0 if later else 1,
        new.priority,
        new.run_at if later else new.created_at,
        new.created_at,
        new.expires_at,
        new.timeout,
        new.retries,
        key,
        None if key is None else new.key_scope,
        key,  # held
        json.dumps(new.tags) if new.tags else None,
        new.schedule,
    )


def _columns(new: NewJob) -> dict[str, Any]:
    later = new.run_at is not None and new.run_at > new.created_at
    return {
        "queue": new.queue,
        "payload": new.payload,
        "state": 0 if later else 1,
        "priority": new.priority,
        "run_at": new.run_at if later else new.created_at,
        "expires_at": new.expires_at,
        "timeout": new.timeout,
        "retries": new.retries,
        "tags": json.dumps(new.tags) if new.tags else None,
    }


def _meet_holder(new: NewJob, holder: Row, ask: Ask) -> Steps[Submitted]:
    job_id, payload, state, begun = holder
    if new.on_conflict == "raise":
        raise KeyConflict(f"key {new.key!r} of task {new.task!r} is held by job {job_id} ({STATES[state]})", job_id)
    if new.on_conflict == "replace" and state < 2 and not begun:
        yield SQL["replace"], _columns(new) | {"id": job_id}
        return Submitted(job_id, fresh=False)
    if payload == new.payload or alike(new, payload, ask):
        return Submitted(job_id, fresh=False)
    if new.on_conflict == "replace":
        why = f"has begun already ({STATES[state]}), so its arguments cannot be replaced"
    else:
        why = (
            f"({STATES[state]}) has other arguments; use another key, "
            f"or on_conflict='replace' for a job that has not begun"
        )
    raise KeyConflict(f"key {new.key!r} of task {new.task!r}: job {job_id} {why}", job_id)


# ---- settle and claim


def turn(
    db: Connection,
    worker: int,
    demands: Sequence[Demand],
    queues: tuple[str, ...] | None,
    ended: Sequence[Ended],
    now: float,
    result_ttl: float,
    first_queue: int,
) -> Cycle:
    """Record ends, wake what is due, and claim: one round of a worker."""
    lost = settle(db, ended) if ended else []
    (run_at, expires_at, registered), *lanes = db.rows(SQL["look"], {"worker": worker})
    overdue = expires_at is not None and expires_at <= now
    due = run_at is not None and run_at <= now
    if overdue:
        expire(db, now, result_ttl)
    if due:
        db.rows(SQL["promote"], {"now": now, "limit": CHUNK})
    if overdue or due:
        (run_at, expires_at, _), *lanes = db.rows(SQL["look"], {"worker": worker})
    claimed: list[Claimed] = []
    # with expired jobs left over from a full chunk, none may be claimed before the rest are marked
    if registered and (expires_at is None or expires_at > now):
        rotated = in_turn(lanes, queues, first_queue)
        for demand in demands:
            claimed += claim(db, worker, demand, rotated, now)
    nexts = [moment for moment in (run_at, expires_at) if moment is not None]
    return Cycle(claimed, lost, min(nexts, default=None), bool(registered))


def settle(db: Connection, ended: Sequence[Ended]) -> list[Ended]:
    """Record how runs ended; return those whose attempt is not the running one any more."""
    good: list[Any] = []  # flat, as the statement takes them: a tuple for each and then one of all costs twice
    others: list[Ended] = []
    for end in ended:
        outcome, job = end.outcome, end.job
        if type(outcome) is Succeeded:
            at, keep_for = end.at, end.keep_for
            good += at, None if keep_for == FOREVER else at + keep_for, outcome.result, job.id, job.attempt
        else:
            others.append(end)
    lost = [end for end in others if not _settle_one(db, end)]
    if good and _succeed(db, good) != len(ended) - len(others):
        lost += [end for end in ended if type(end.outcome) is Succeeded and not _on_record(db, end)]
    return lost


def _succeed(db: Connection, good: list[Any]) -> int:
    """Record successes; return how many came in time."""
    whole, each, size = len(good) // _ALL * _ALL, _ALL // _TOGETHER, len(good)
    together = db.changed(_SUCCEED_TOGETHER, [good[at : at + _ALL] for at in range(0, whole, _ALL)]) if whole else 0
    return together + db.changed(_SUCCEED, [good[at : at + each] for at in range(whole, size, each)])


def _on_record(db: Connection, end: Ended) -> bool:
    rows = db.rows(SQL["run_state"], {"id": end.job.id})
    return rows == [(NUMBER[Status.SUCCEEDED], end.job.attempt)]


def until(now: float, span: float) -> float | None:
    """When what is kept for that many seconds is to be deleted; None: never."""
    return None if span == FOREVER else now + span


def _settle_one(db: Connection, end: Ended) -> bool:
    """Record one end that is no plain success; False when it came too late."""
    job, outcome = end.job, end.outcome
    run: dict[str, Any] = {"id": job.id, "attempt": job.attempt}
    ending = run | {"now": end.at, "delete_at": until(end.at, end.keep_for)}
    match outcome:
        case Settled() | Succeeded():  # on record already: by `completing()`, or with all the other successes
            return True
        case Failed(error):
            return _mark(db, "fail", ending) and _record_error(db, job, end.at, error)
        case Cancelled():
            return _mark(db, "finish_cancelled", ending)
        case Retried(run_at, error):
            return _mark(db, "retry_later", run | {"run_at": run_at}) and (
                _record_error(db, job, end.at, error) and _returned(db, ending)
            )
        case Snoozed(run_at):
            return _mark(db, "snooze", run | {"run_at": run_at}) and _returned(db, ending)
        case Released(begun):
            return _mark(db, "release" if begun else "put_back", run) and _returned(db, ending)


def _mark(db: Connection, name: str, parameters: dict[str, Any]) -> bool:
    return bool(db.rows(SQL[name], parameters))


def _record_error(db: Connection, job: Claimed, now: float, error: ErrorInfo) -> bool:
    db.rows(SQL["record_error"], {"id": job.id, "attempt": job.attempt, "now": now, **error._asdict()})
    return True


def _returned(db: Connection, ending: dict[str, Any]) -> bool:
    """A job that came back although its cancel was asked for ends here."""
    db.rows(SQL["cancel_returned"], {key: ending[key] for key in ("id", "now", "delete_at")})
    return True


def complete(job: Claimed, result: bytes, now: float, delete_at: float | None) -> Steps[None]:
    """Record a success in the caller's own transaction, or stop that transaction."""
    run = {"id": job.id, "attempt": job.attempt}
    rows = yield SQL["complete"], run | {"now": now, "delete_at": delete_at, "result": result}
    if not rows:
        raise Fenced(f"job {job.id} was given to another worker; what attempt {job.attempt} wrote is rolled back")


def require_mine(job: Claimed) -> Steps[None]:
    """Stop early a transaction that could not be committed."""
    rows = yield SQL["still_mine"], {"id": job.id, "attempt": job.attempt}
    if not rows:
        raise Fenced(f"job {job.id} was given to another worker; attempt {job.attempt} may write nothing more")


def expire(db: Connection, now: float, result_ttl: float) -> None:
    """Mark what has not begun by its `expires`."""
    db.rows(SQL["expire"], {"now": now, "delete_at": until(now, result_ttl), "limit": CHUNK})


# ---- cancel and retry


def cancel(job_id: str, now: float, delete_at: float | None) -> Steps[bool]:
    """Cancel a job that has not begun, or ask the running one to end."""
    ended = yield SQL["cancel"], {"id": job_id, "now": now, "delete_at": delete_at}
    if ended:
        return True
    asked = yield SQL["request_cancel"], {"id": job_id}
    if asked:
        return True
    known = yield SQL["run_state"], {"id": job_id}
    if not known:
        raise _unknown(job_id)
    return False


def retry(job_id: str, now: float) -> Steps[None]:
    """Queue an ended job anew; its key must still be free."""
    rows = yield SQL["retry_of"], {"id": job_id}
    if not rows:
        raise _unknown(job_id)
    state, task, key = rows[0]
    if STATES[state] in (Status.QUEUED, Status.RUNNING, Status.WAITING):
        raise Unsupported(
            f"job {job_id} is {STATES[state]}; only failed, cancelled, expired and scheduled jobs can be retried"
        )
    if STATES[state] is Status.SUCCEEDED:
        raise Unsupported(f"job {job_id} succeeded; enqueue it again instead of retrying it")
    if key is not None:
        holders = yield SQL["key_holder"], {"task": task, "key": key}
        if holders and holders[0][0] != job_id:
            raise KeyConflict(f"key {key!r} of task {task!r} is held by job {holders[0][0]} now", holders[0][0])
    yield SQL["retry"], {"id": job_id, "now": now}


def _unknown(job_id: str) -> JobNotFound:
    return JobNotFound(f"no job {job_id} in this file: it never was, or it has been pruned")


# ---- rescue


def rescue(
    db: Connection,
    worker: int,
    executing: Iterable[str] | None,
    now: float,
    *,
    result_ttl: float,
    failed_ttl: float,
    blame: bool,
) -> Rescued:
    """Put a dead worker's jobs back; what it was executing is blamed, and fails the third time, when alone."""
    runs = db.rows(SQL["runs_of"], {"worker": worker})
    begun = {f"{job_id}:{attempt}" for job_id, attempt, _ in runs}
    if executing is not None:
        begun &= set(executing)
    returned: list[str] = []
    dead_lettered: list[str] = []
    cancelled: list[str] = []
    for job_id, attempt, deaths in runs:
        run = {"id": job_id, "attempt": attempt}
        guilty = blame and f"{job_id}:{attempt}" in begun
        if guilty and deaths + 1 >= DEATH_LIMIT and len(begun) == 1:
            _dead_letter(db, run, deaths + 1, now, until(now, failed_ttl))
            dead_lettered.append(job_id)
            continue
        # never as unbegun: what is not noted may have ended, and died before its end was stored
        db.rows(SQL["blame" if guilty else "release"], run)
        gone = db.rows(SQL["cancel_returned"], {"id": job_id, "now": now, "delete_at": until(now, result_ttl)})
        (cancelled if gone else returned).append(job_id)
    db.rows(SQL["unregister"], {"worker": worker})
    return Rescued(tuple(returned), tuple(dead_lettered), tuple(cancelled))


def _dead_letter(db: Connection, run: dict[str, Any], deaths: int, now: float, delete_at: float | None) -> None:
    db.rows(SQL["condemn"], run | {"now": now, "delete_at": delete_at})
    message = f"its worker process died {deaths} times while running it, the last time running nothing else"
    db.rows(SQL["record_error"], run | {"now": now, "type": "WorkerDied", "message": message, "traceback": ""})


# ---- workers


def register(db: Connection, worker: NewWorker, now: float) -> int:
    """Enter a worker; return its number, which is never used again."""
    values = {
        "token": worker.token,
        "identity": worker.identity,
        "queues": None if worker.queues is None else json.dumps(worker.queues),
        "tasks": json.dumps(worker.tasks),
        "threads": worker.threads,
        "coroutines": worker.coroutines,
        "now": now,
    }
    [(number,)] = db.rows(SQL["register"], values)
    return int(number)


def note_progress(job: Claimed, progress: str) -> Steps[bool]:
    """Record what a running job says of itself; return whether its cancel was asked for."""
    rows = yield SQL["note_progress"], {"id": job.id, "attempt": job.attempt, "progress": progress}
    if not rows:
        raise Fenced(f"job {job.id} was given to another worker; attempt {job.attempt} may write nothing more")
    return bool(rows[0][0])


# ---- prune


def prune(db: Connection, now: float, limit: int) -> int:
    """Delete jobs whose time has come, with their errors."""
    db.rows(SQL["prune_deleted"], {"limit": limit})
    db.rows(SQL["prune_errors"], due := {"now": now, "limit": limit})
    return len(db.rows(SQL["prune"], due))
