"""What keeps a job from being started: looked for in the order in which a claim decides. Reads little of any file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from litequeue.core.records import Status
from litequeue.core.source import MOST_BEFORE
from litequeue.core.store import DEATHS
from litequeue.core.stored_names import other_version, task_of
from litequeue.core.why import (
    Behind,
    BehindKey,
    Full,
    InLine,
    InOrder,
    NoQueue,
    NoSlot,
    NoTask,
    NotOffered,
    NoWorker,
    Obstacle,
    Paused,
    Quarantined,
    Rated,
    TooMuch,
    Unknown,
    obstacle_text,
    settled_text,
)
from litequeue.ipc.process_identity import Identity
from litequeue.limits.resources import unmet
from litequeue.limits.task_rules import takes_of
from litequeue.sqlite.compose.groups import parents
from litequeue.sqlite.jobs import row_values
from litequeue.sqlite.limits import rules
from litequeue.sqlite.limits.taken import Taken
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from litequeue.core.clock import Clock
    from litequeue.core.records import JobRecord
    from litequeue.core.store import WorkerRecord
    from litequeue.limits.held import Take
    from litequeue.sqlite.drivers.connection import Connection
    from litequeue.sqlite.limits.rules import Rules

LOST = "a worker that is dead or stands still: another one takes it over within seconds, if one is running"


def why(db: Connection, job_id: str, clock: Clock, lives: Callable[[str], bool]) -> str:
    """Return in one sentence why a job does not run, or that it runs or has ended. Raises `JobNotFound`."""
    with row_values.snapshot(db):
        record = row_values.look_up(db, job_id, clock.now())
        return _sentence(db, record, clock, lives)


def doing(db: Connection, record: JobRecord, clock: Clock, lives: Callable[[str], bool]) -> str:
    """Return the same of a job that was read before, and has not ended, for the error of a wait for it."""
    return f"is still {record.status}: {_sentence(db, record, clock, lives)}"


def _sentence(db: Connection, record: JobRecord, clock: Clock, lives: Callable[[str], bool]) -> str:
    now = clock.now()
    worker = _worker_of(db, record, lives) if record.status is Status.RUNNING else None
    return settled_text(record, now, worker) or obstacle_text(obstacle(db, record, clock, lives), now)


def _worker_of(db: Connection, record: JobRecord, lives: Callable[[str], bool]) -> str:
    known = next((each for each in row_values.workers(db) if str(each.id) == record.worker), None)
    if known is None or not lives(known.token):
        return LOST
    identity = Identity.from_text(known.identity)
    return f"worker {known.id} (pid {identity.pid} on {identity.host})"


def obstacle(db: Connection, record: JobRecord, clock: Clock, lives: Callable[[str], bool]) -> Obstacle:
    """Return what keeps a job that has not begun, and is due, from being started."""
    if record.status is Status.WAITING:
        return parents(db, int(record.id)) or _in_line(db, record)
    living = [worker for worker in row_values.workers(db) if lives(worker.token)]
    found = _unserved(record, living, rules.stored_uses(db).get(task_of(record.task), {}))
    if found is None:
        found = _ruled_out(db, record, clock)
    if found is None:
        found = _no_slot(db, record, living)
    if found is None and record.deaths >= DEATHS:
        found = Quarantined(record.deaths)
    return Behind(_before(db, record)) if found is None else found


def _unserved(record: JobRecord, living: Sequence[WorkerRecord], uses: dict[str, int]) -> Obstacle | None:
    if not living:
        return NoWorker()
    knowing = [worker for worker in living if record.task in worker.tasks]
    if not knowing:
        return NoTask(other_version(record.task, [task for worker in living for task in worker.tasks]))
    serving = _serving(record, knowing)
    if not serving:
        return NoQueue(record.queue)
    missing = unmet(uses, [worker.offers for worker in serving])
    return None if missing is None else NotOffered(missing)


def _serving(record: JobRecord, living: Sequence[WorkerRecord]) -> list[WorkerRecord]:
    """Those of these workers that have the task, and serve the queue."""
    return [
        worker
        for worker in living
        if record.task in worker.tasks and (worker.queues is None or record.queue in worker.queues)
    ]


def _no_slot(db: Connection, record: JobRecord, living: Sequence[WorkerRecord]) -> Obstacle | None:
    slots = {worker.id: worker.slots.get(record.queue) for worker in _serving(record, living)}
    if None in slots.values():
        return None
    running: dict[int, int] = dict(db.rows(SQL["running_of_queue"], {"queue": record.queue}))
    return NoSlot(record.queue) if all(running.get(each, 0) >= (most or 0) for each, most in slots.items()) else None


def _in_line(db: Connection, record: JobRecord) -> Obstacle:
    rows = db.rows(SQL["before_in_line"], {"id": int(record.id)})
    return InLine(record.schedule, str(rows[0][0]) if rows else None)


def _before(db: Connection, record: JobRecord) -> int:
    line = {"queue": record.queue, "rank": -record.priority, "id": int(record.id), "limit": MOST_BEFORE}
    [(before,)] = db.rows(SQL["before_it"], line)
    return int(before)


# ---- limits and pauses


def _ruled_out(db: Connection, record: JobRecord, clock: Clock) -> Obstacle | None:
    paused = _paused(db, record)
    if paused is not None:
        return paused
    known = rules.read(db)
    rule = known.of(record.task)
    if rule is None:
        return None
    stored = db.rows(SQL["takes_of"], {"ids": f"[{record.id}]"}) if rule.depends else []
    fits = takes_of(rule, stored[0][1] if stored else None)
    if fits.missing:
        return Unknown()
    taken = Taken(db, known, clock.monotonic())
    for number, take in enumerate(fits.takes):
        found = _limited(record, take, known, taken, clock, ordered=rule.ordered and number == 0)
        if found is not None:
            return found
    return _behind_of_its_key(db, record)


def _paused(db: Connection, record: JobRecord) -> Obstacle | None:
    task = task_of(record.task)
    for kind, name, since in sorted(db.rows(SQL["stored_pauses"])):
        if name == (record.queue if kind == "queue" else task):
            return Paused(kind, name, since)
    return None


def _limited(
    record: JobRecord, take: Take, known: Rules, taken: Taken, clock: Clock, *, ordered: bool
) -> Obstacle | None:
    allowed = known.allowed(take.limit)
    if take.cost > allowed.most:
        return TooMuch(take.limit, take.cost, allowed.most)
    holder = taken.holder(take.limit, take.key) if ordered else None
    if holder not in (None, int(record.id)):
        return InOrder(take.limit, take.key, str(holder))
    room = taken.room(take.limit, take.key)
    if room.fits(take.cost):
        return None
    opens_at = room.opens_at(take.cost)
    if opens_at == math.inf or allowed.rate is None:
        running = taken.running.get((take.limit, take.key), 0)
        return Full(take.limit, take.key, running, allowed.concurrency or 0, take.cost)
    return Rated(take.limit, take.key, str(allowed.rate), clock.now() + (opens_at - clock.monotonic()))


def _behind_of_its_key(db: Connection, record: JobRecord) -> Obstacle | None:
    """Whether it is parked although its key has room: those before it are brought back first."""
    rows = db.rows(SQL["parked_with"], {"id": int(record.id)})
    return BehindKey(*rows[0]) if rows else None
