"""Settle: record how runs ended, and claim the next jobs, as statements inside one write transaction."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from litequeue.core.outcome import Cancelled, Died, Failed, Released, Retried, Settled, Snoozed, Succeeded
from litequeue.core.records import FOREVER, Claimed, Status
from litequeue.core.store import DEATH_LIMIT, Cycle
from litequeue.errors import Fenced
from litequeue.sqlite.compose.consequences import Consequences
from litequeue.sqlite.compose.ended import follow
from litequeue.sqlite.compose.handed import with_handed
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs.claim import claim, claims, with_beats
from litequeue.sqlite.jobs.control import CHUNK
from litequeue.sqlite.jobs.expiry import expire
from litequeue.sqlite.jobs.finish import finish, leave_lines, reschedule, succeed, until
from litequeue.sqlite.jobs.keys import holder_of
from litequeue.sqlite.jobs.lanes import FEW, Lanes
from litequeue.sqlite.jobs.large_values import INLINE
from litequeue.sqlite.jobs.run_logs import keep_last
from litequeue.sqlite.jobs.states import NUMBER
from litequeue.sqlite.limits.bring_back import freed
from litequeue.sqlite.limits.free import Free
from litequeue.sqlite.limits.gate import Gate
from litequeue.sqlite.limits.give_back import give_back, leave_behind
from litequeue.sqlite.limits.rules import NO_RULES
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from litequeue.core.capacity import Capacity
    from litequeue.core.outcome import Ended
    from litequeue.core.store import Demand
    from litequeue.sqlite.drivers.connection import Connection, Steps
    from litequeue.sqlite.jobs.lanes import Turns
    from litequeue.sqlite.limits.rules import KnownRules


def turn(
    db: Connection,
    worker: int,
    demands: Sequence[Demand],
    queues: tuple[str, ...] | None,
    ended: Sequence[Ended],
    now: float,
    result_ttl: float,
    turns: Turns,
    known_rules: KnownRules,
    monotonic: Callable[[], float],
    capacity: Capacity | None,
    then: Consequences,
) -> Cycle:
    """Record ends, make ready what is due, and claim: one cycle of a worker. `then`: see `finish`."""
    lost = settle(db, ended, then) if ended else []
    look = {"worker": worker, "limit": FEW + 1}
    (run_at, expires_at, registered, word), *lanes = db.rows(SQL["look"], look)
    rules = NO_RULES if word is None else known_rules.of(db, word)
    gate = None
    if not rules.are_none or capacity is not None:
        patience = max((demand.patience for demand in demands), default=0.0)
        gate = Gate(db, rules, monotonic(), Free(db, worker, capacity, rules), patience)
    overdue = expires_at is not None and expires_at <= now
    due = run_at is not None and run_at <= now
    if overdue:
        expire(db, now, result_ttl, CHUNK, then)
    if due:
        db.rows(SQL["promote"], {"now": now, "limit": CHUNK})
    let_in = gate is not None and rules.has_keys and gate.parking.look_at_due()
    if overdue or due or let_in:
        (run_at, expires_at, *_), *lanes = db.rows(SQL["look"], look)
    claimed: list[Claimed] = []
    cut = False
    if registered:
        ready = Lanes(db, lanes, queues, past=now if expires_at is not None and expires_at <= now else None)
        ready.gate = gate if not ready.are_few or rules.touch(lanes) or (gate and gate.free.touches(lanes)) else None
        for demand in demands:
            jobs, is_cut = claim(db, worker, demand, ready, turns, now)
            claimed += jobs
            cut = cut or is_cut
        claimed = with_beats(db, with_handed(db, claimed)) if claimed else claimed
    nexts = [moment for moment in (run_at, expires_at) if moment is not None]
    cycle = Cycle(claimed, lost, min(nexts, default=None), bool(registered), cut)
    return cycle if gate is None else _with_rules(db, cycle, gate, has_keys=rules.has_keys)


def _with_rules(db: Connection, cycle: Cycle, gate: Gate, *, has_keys: bool) -> Cycle:
    """Add when full limits open, and the jobs that do not say what they take."""
    return cycle._replace(
        cut=cycle.cut or (gate.parking.count > 0 and not cycle.claimed),
        opens_at=min(gate.opens_at, gate.parking.next_look() if has_keys else math.inf),
        keyless=tuple(claims(db, list(gate.keyless))),
    )


def settle(db: Connection, ended: Sequence[Ended], then: Consequences) -> list[Ended]:
    """Record how runs ended; return those whose attempt is not the running one any more."""
    good: list[Any] = []  # flat, as the statement takes them: a tuple for each and then one of all costs twice
    large: list[tuple[Ended, bytes]] = []
    others: list[Ended] = []
    scheduled: list[str] = []
    limited = [end for end in ended if end.job.held is not None]
    leave_behind(db, limited)
    for end in ended:
        outcome, job = end.outcome, end.job
        if type(outcome) is Succeeded:
            at, keep_for, result = end.at, end.keep_for, outcome.result
            in_row = len(result) <= INLINE
            if not in_row:
                large.append((end, result))
            good += at, None if keep_for == FOREVER else at + keep_for, result if in_row else None, job.id, job.attempt
            if job.of_schedule:
                scheduled.append(job.id)
        else:
            others.append(end)
    lost = [end for end in others if not perform(db, _settle_one(end, then))]
    if good and succeed(db, good) != len(ended) - len(others):
        lost += [end for end in ended if type(end.outcome) is Succeeded and not _on_record(db, end)]
    if large:
        db.many(SQL["keep_result"], [(end.job.id, result) for end, result in large if end not in lost])
    if scheduled:
        leave_lines(db, scheduled, ended[-1].at)
    if good:
        perform(db, follow(_succeeded(ended, lost), ended[-1].at, then))
    keep_last(db, [end for end in ended if end.log is not None])
    give_back(db, limited)
    return lost


def _succeeded(ended: Sequence[Ended], lost: Sequence[Ended]) -> list[tuple[str, int]]:
    number = NUMBER[Status.SUCCEEDED]
    return [(end.job.id, number) for end in ended if type(end.outcome) is Succeeded and not (lost and end in lost)]


def _on_record(db: Connection, end: Ended) -> bool:
    run = {"id": end.job.id, "attempt": end.job.attempt}
    return bool(db.rows(SQL["stands"], run | {"state": NUMBER[Status.SUCCEEDED]}))


def _settle_one(end: Ended, then: Consequences) -> Steps[bool]:
    """Record one end that is no plain success; False when it came too late."""
    job, outcome = end.job, end.outcome
    run = job.id, job.attempt
    when = end.at, until(end.at, end.keep_for)
    match outcome:
        case Settled() | Succeeded():  # on record already: by `completing()`, or with all the other successes
            return True
        case Failed(error):
            return (yield from finish(*run, Status.FAILED, *when, failed=1, error=error, then=then))
        case Died(error) if job.deaths + 1 >= DEATH_LIMIT:
            return (yield from finish(*run, Status.FAILED, *when, died=1, error=error, then=then))
        case Died(error):
            status = yield from reschedule(*run, *when, died=1, error=error, then=then)
        case Cancelled():
            return (yield from finish(*run, Status.CANCELLED, *when, then=then))
        case Retried(run_at, error):
            status = yield from reschedule(*run, *when, run_at=run_at, failed=1, error=error, then=then)
        case Snoozed(run_at):
            status = yield from reschedule(*run, *when, run_at=run_at, then=then)
        case Released(begun):
            if not begun and job.key is not None:  # which it may hold again
                yield from holder_of(job.task, job.key, end.at)
            status = yield from reschedule(*run, *when, begun=begun, then=then)
    return status is not None


def complete(job: Claimed, result: bytes, now: float, delete_at: float | None, then: Consequences) -> Steps[None]:
    """Record a success in the caller's own transaction, or stop that transaction."""
    done = yield from finish(job.id, job.attempt, Status.SUCCEEDED, now, delete_at, result=result, then=then)
    if not done:
        raise Fenced(f"another worker has job {job.id} by now; what run {job.attempt} wrote is rolled back")
    if job.held is not None:
        yield from freed([job.id], [job.held])


def require_mine(job: Claimed) -> Steps[None]:
    """Stop early a transaction that could not be committed."""
    running = {"id": job.id, "attempt": job.attempt, "state": NUMBER[Status.RUNNING]}
    if not (yield SQL["stands"], running):
        raise Fenced(f"another worker has job {job.id} by now; run {job.attempt} may not write any more")


def note_progress(job: Claimed, progress: str) -> Steps[bool]:
    """Record a running job's progress; return whether its cancel was requested."""
    rows = yield SQL["note_progress"], {"id": job.id, "attempt": job.attempt, "progress": progress}
    if not rows:
        raise Fenced(f"another worker has job {job.id} by now; run {job.attempt} may not write any more")
    return bool(rows[0][0])
