"""Enqueue: store jobs, or find those that hold their keys, as statements inside one write transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from litequeue.core.engine import Submitted
from litequeue.core.records import Status
from litequeue.errors import KeyConflict, StoreError
from litequeue.sqlite.jobs.finish import NUMBER, STATES
from litequeue.sqlite.jobs.keys import holder_of
from litequeue.sqlite.jobs.large_values import INLINE, inline, keep_payload
from litequeue.sqlite.jobs.user_answers import alike, at_once
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litequeue.core.records import NewJob
    from litequeue.sqlite.drivers.connection import Connection, Row, Steps
    from litequeue.sqlite.file.migrate import Fence
    from litequeue.sqlite.jobs.user_answers import Ask

_INSERT = SQL["insert"]
_INSERT_ALONE = SQL["insert_alone"]
_KEEP_PAYLOAD = SQL["keep_payload"]
_SUBMIT = f"{_INSERT}\nRETURNING CAST(id AS TEXT)"


def submit(new: NewJob, ask: Ask = at_once) -> Steps[Submitted]:
    """Store one job, or find the one that holds its key."""
    for key in () if new.key is None else (new.key, *new.aliases):
        holder = yield from holder_of(new.task, key, new.created_at)
        if holder is not None:
            return (yield from _meet_holder(new, holder, ask))
    [(job_id,)] = yield _SUBMIT, _values(new)
    if len(new.payload) > INLINE:
        yield keep_payload(job_id, new.payload)
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


def size_of(jobs: Sequence[NewJob]) -> int:
    """How many bytes of payloads they are."""
    return sum([len(new.payload) for new in jobs])


def insert(db: Connection, new: NewJob, fence: Fence) -> list[Submitted]:
    """Store one small job without a key: a single statement, and so a transaction by itself.

    Only on a connection that no other thread uses meanwhile: RETURNING would cost half as much again as the INSERT.
    """
    try:
        db.rows(_INSERT_ALONE, (fence.version, *_values(new)))
    except StoreError:
        fence.explain(db)
        raise
    return [Submitted(str(db.last_id), True)]


def insert_many(db: Connection, jobs: Sequence[NewJob]) -> list[Submitted]:
    """Store jobs without keys, under the same condition: SQLite numbers them one after another."""
    db.many(_INSERT, map(_values, jobs))
    last = db.last_id
    numbers = range(last - len(jobs) + 1, last + 1)
    if max([len(new.payload) for new in jobs], default=0) > INLINE:
        large = ((n, new.payload) for n, new in zip(numbers, jobs, strict=True) if len(new.payload) > INLINE)
        db.many(_KEEP_PAYLOAD, large)
    return [Submitted(str(number), True) for number in numbers]


def _values(new: NewJob) -> tuple[Any, ...]:
    later = new.run_at is not None and new.run_at > new.created_at
    key, payload = new.key, new.payload
    return (
        new.task,
        new.queue,
        payload if len(payload) <= INLINE else None,  # a call of inline() costs a hundredth of an enqueue_many
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
        "payload": inline(new.payload),
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
    if new.on_conflict == "replace" and state < NUMBER[Status.RUNNING] and not begun:
        yield SQL["replace"], _columns(new) | {"id": job_id}
        yield (SQL["drop_payload"], {"id": job_id}) if len(new.payload) <= INLINE else keep_payload(job_id, new.payload)
        return Submitted(job_id, fresh=False)
    if payload == new.payload or alike(new, payload, ask):
        return Submitted(job_id, fresh=False)
    if new.on_conflict == "replace":
        why = f"has already begun ({STATES[state]}), so its arguments cannot be replaced"
    else:
        why = (
            f"({STATES[state]}) has other arguments; use another key, "
            f"or on_conflict='replace' for a job that has not begun"
        )
    raise KeyConflict(f"key {new.key!r} of task {new.task!r}: job {job_id} {why}", job_id)
