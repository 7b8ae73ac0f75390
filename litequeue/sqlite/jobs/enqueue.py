"""Enqueue: store jobs, or find those that hold their keys, as statements inside one write transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, overload

from litequeue.core.engine import Submitted
from litequeue.core.records import NewJobs, Status
from litequeue.core.stored_names import task_of
from litequeue.errors import KeyConflict, StoreError
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs.keys import holder_of
from litequeue.sqlite.jobs.large_values import INLINE, inline, keep_payload
from litequeue.sqlite.jobs.room import Room
from litequeue.sqlite.jobs.states import NUMBER, STATES
from litequeue.sqlite.jobs.user_answers import alike, at_once
from litequeue.sqlite.limits.bring_back import bring_back
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.core.records import NewJob
    from litequeue.sqlite.drivers.connection import Connection, Row, Steps
    from litequeue.sqlite.file.migrate import Fence
    from litequeue.sqlite.jobs.user_answers import Ask

T = TypeVar("T")

_INSERT = SQL["insert"]
_INSERT_ALONE = SQL["insert_alone"]
_KEEP_PAYLOAD = SQL["keep_payload"]
_KEEP_TAKES = SQL["keep_takes"]
_SUBMIT = f"{_INSERT}\nRETURNING CAST(id AS TEXT)"
_TOGETHER = 20  # as fast as 200, to a tenth; what is left over goes one by one
_INSERT_TOGETHER = SQL["insert_together"].replace("(VALUES (?))", f"(VALUES {', '.join(['(?)'] * _TOGETHER)})")
_SUBMIT_TOGETHER = f"{_INSERT_TOGETHER}\nRETURNING CAST(id AS TEXT)"


def submit(new: NewJob, ask: Ask = at_once, room: Room | None = None) -> Steps[Submitted]:
    """Store one job, or find the one that holds its key. `room`: what the transaction has found for others."""
    found = None if new.key is None else (yield from holder(new))
    if found is not None:
        return (yield from _meet_holder(new, found, ask))
    if new.max_pending is not None and not new.waiting:
        yield from (Room() if room is None else room).take(new)
    [(job_id,)] = yield _SUBMIT, _values(new)
    if len(new.payload) > INLINE:
        yield keep_payload(job_id, new.payload)
    if new.key_for is not None and new.key is not None:
        yield SQL["hold_key"], {"job": int(job_id), "now": new.created_at, "held_for": new.key_for}
    if new.takes is not None:
        yield _KEEP_TAKES, (job_id, new.takes)
    return Submitted(job_id, fresh=True)


def holder(new: NewJob) -> Steps[Row | None]:
    """Return the job that holds this one's key, as `holder_of` does."""
    for key in () if new.key is None else (new.key, *new.aliases):
        found = yield from holder_of(new.task, key, new.created_at, new.former_names)
        if found is not None:
            return found
    return None


def is_one_insert(new: NewJob) -> bool:
    """Whether it is stored by an INSERT alone, of which many go together."""
    return _is_one_statement(new) and new.key is None and new.max_pending is None


def submit_run(jobs: Sequence[NewJob]) -> Steps[list[str]]:
    """Store jobs that are one INSERT each; return their ids."""
    ids: list[str] = []
    for at in range(0, len(jobs), _TOGETHER):
        some = jobs[at : at + _TOGETHER]
        values = tuple(value for new in some for value in _values(new))
        rows = yield _submit_these(len(some)), values
        ids += map(str, sorted(int(job_id) for (job_id,) in rows))  # SQLite leaves the order of RETURNING open
    return ids


@lru_cache(maxsize=_TOGETHER)
def _submit_these(count: int) -> str:
    head, row = _INSERT.split("VALUES\n")
    return f"{head}VALUES {', '.join([row.strip()] * count)}\nRETURNING CAST(id AS TEXT)"


def submit_among(jobs: Sequence[NewJob]) -> Steps[list[Submitted]]:
    """Store jobs, all or none, in a transaction whose owner may go on and commit after an error."""
    if isinstance(jobs, NewJobs):
        return all_or_none(_submit_together(jobs))
    if len(jobs) == 1 and _is_one_statement(jobs[0]):
        return _submit_each(jobs)  # one statement changes something
    return all_or_none(_submit_each(jobs))


def _is_one_statement(new: NewJob) -> bool:
    more = new.takes is not None or new.key_for is not None
    return len(new.payload) <= INLINE and new.on_conflict != "replace" and not more


def _submit_each(jobs: Sequence[NewJob]) -> Steps[list[Submitted]]:
    submitted: list[Submitted] = []
    room = Room()
    for job in jobs:
        submitted.append((yield from submit(job, room=room)))  # noqa: PERF401 - a comprehension cannot yield
    return submitted


def all_or_none(steps: Steps[T]) -> Steps[T]:
    """Run statements that leave nothing behind if they fail, in a transaction that goes on."""
    yield "SAVEPOINT litequeue_submit", ()
    try:
        result = yield from steps
        yield "RELEASE litequeue_submit", ()
    except GeneratorExit:
        raise
    except BaseException:
        with suppress(StoreError):  # where the error has ended the transaction
            yield "ROLLBACK TO litequeue_submit", ()
            yield "RELEASE litequeue_submit", ()
        raise
    return result


def size_of(jobs: Sequence[NewJob]) -> int:
    """How many bytes of payloads they are."""
    if isinstance(jobs, NewJobs):
        return sum(map(len, jobs.payloads))
    return sum([len(new.payload) for new in jobs])


def insert(db: Connection, new: NewJob, fence: Fence) -> Sequence[Submitted]:
    """Store one small job without a key: a single statement, and so a transaction by itself.

    Only on a connection that no other thread uses meanwhile: RETURNING would cost half as much again as the INSERT.
    """
    try:
        db.rows(_INSERT_ALONE, (fence.version, *_values(new)))
    except StoreError:
        fence.explain(db)
        raise
    return [Submitted(str(db.last_id), True)]


def insert_many(db: Connection, jobs: Sequence[NewJob]) -> Sequence[Submitted]:
    """Store jobs without keys, under the same condition: SQLite numbers them one after another."""
    if isinstance(jobs, NewJobs):
        whole, left = _together(jobs)
        db.many(_INSERT_TOGETHER, whole)
        db.many(_INSERT, left)
    else:
        db.many(_INSERT, map(_values, jobs))
    last = db.last_id
    numbers = range(last - len(jobs) + 1, last + 1)
    payloads = jobs.payloads if isinstance(jobs, NewJobs) else [new.payload for new in jobs]
    if max(map(len, payloads), default=0) > INLINE:
        db.many(_KEEP_PAYLOAD, (each for each in zip(numbers, payloads, strict=True) if len(each[1]) > INLINE))
    takes = jobs.takes if isinstance(jobs, NewJobs) else [new.takes for new in jobs]
    if takes is not None:
        db.many(_KEEP_TAKES, (each for each in zip(numbers, takes, strict=True) if each[1] is not None))
    return Numbered(numbers)


def submit_alone(db: Connection, jobs: Sequence[NewJob], ask: Ask) -> Sequence[Submitted]:
    """Store them in a transaction of our own, which an error ends."""
    room = Room()
    if isinstance(jobs, NewJobs):
        perform(db, room.take(jobs.like, len(jobs)))
        return insert_many(db, jobs)
    if any(job.key is not None for job in jobs):
        return [perform(db, submit(job, ask, room)) for job in jobs]
    for job in jobs:
        if job.max_pending is not None:
            perform(db, room.take(job))
    return insert_many(db, jobs)


class Numbered(Sequence[Submitted]):
    """New jobs whose ids are these numbers: made into values when they are looked at, after the commit."""

    def __init__(self, numbers: range) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> Submitted: ...
    @overload
    def __getitem__(self, place: slice) -> Numbered: ...
    def __getitem__(self, place: int | slice) -> Submitted | Numbered:
        if isinstance(place, slice):
            return Numbered(self._numbers[place])
        return Submitted(str(self._numbers[place]), True)

    def __iter__(self) -> Iterator[Submitted]:
        return (Submitted(str(number), True) for number in self._numbers)


def _together(jobs: NewJobs) -> tuple[Iterator[tuple[Any, ...]], Iterator[tuple[Any, ...]]]:
    """The parameters of `insert_together`, and those of `insert` for what is left over."""
    payloads = jobs.payloads
    task, queue, _, *rest = _values(jobs.like)
    whole = len(payloads) // _TOGETHER * _TOGETHER
    return (
        ((task, queue, *rest, *map(inline, payloads[at : at + _TOGETHER])) for at in range(0, whole, _TOGETHER)),
        ((task, queue, inline(payload), *rest) for payload in payloads[whole:]),
    )


def _submit_together(jobs: NewJobs) -> Steps[list[Submitted]]:
    yield from Room().take(jobs.like, len(jobs))
    whole, left = _together(jobs)
    numbers: list[int] = []
    for values in whole:
        rows = yield _SUBMIT_TOGETHER, values
        numbers += sorted(int(job_id) for (job_id,) in rows)  # SQLite leaves the order of RETURNING open
    submitted = [Submitted(str(number), True) for number in numbers]
    for values in left:
        [(job_id,)] = yield _SUBMIT, values
        submitted.append(Submitted(job_id, True))
    for each, payload in zip(submitted, jobs.payloads, strict=True):
        if inline(payload) is None:
            yield keep_payload(each.id, payload)
    for each, takes in zip(submitted, jobs.takes or (), strict=False):
        yield _KEEP_TAKES, (each.id, takes)
    return submitted


def _values(new: NewJob) -> tuple[Any, ...]:
    later = new.run_at is not None and new.run_at > new.created_at
    key, payload = new.key, new.payload
    return (
        new.task,
        new.queue,
        payload if len(payload) <= INLINE else None,  # a call of inline() costs a hundredth of an enqueue_many
        2 if new.waiting else 0 if later else 1,
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
        "task": new.task,
        "queue": new.queue,
        "payload": inline(new.payload),
        "state": 2 if new.waiting else 0 if later else 1,
        "priority": new.priority,
        "run_at": new.run_at if later else new.created_at,
        "expires_at": new.expires_at,
        "timeout": new.timeout,
        "retries": new.retries,
        "tags": json.dumps(new.tags) if new.tags else None,
    }


def replace(job_id: str, new: NewJob, *, waiting: bool = False) -> Steps[None]:
    """Make a job that has not begun the new call. `waiting`: it waits for another, and goes on to."""
    state = {"state": NUMBER[Status.WAITING]} if waiting else {}
    yield SQL["replace"], _columns(new) | state | {"id": job_id}
    yield (SQL["drop_payload"], {"id": job_id}) if len(new.payload) <= INLINE else keep_payload(job_id, new.payload)
    yield SQL["unpark"], {"id": job_id}
    yield SQL["look_at_keys_of"], {"ids": f"[{job_id}]"}
    left = yield SQL["drop_order"], {"id": job_id}
    yield from bring_back((limit, key, 1) for limit, key in left)
    yield (SQL["drop_takes"], (job_id,)) if new.takes is None else (_KEEP_TAKES, (job_id, new.takes))


def _meet_holder(new: NewJob, holder: Row, ask: Ask) -> Steps[Submitted]:
    job_id, state, begun, task, for_a_time = holder
    if new.on_conflict == "raise":
        raise KeyConflict(f"{_key(new)} is held by job {job_id} ({STATES[state]})", job_id)
    if new.on_conflict == "replace" and state < NUMBER[Status.RUNNING] and not begun:
        waits = state == NUMBER[Status.WAITING] and (yield from _is_held(job_id))
        yield from replace(job_id, new, waiting=waits)
        return Submitted(job_id, fresh=False)
    # for a time: one call in it, whatever its arguments
    if new.any_arguments or (for_a_time and new.on_conflict == "return"):
        return Submitted(job_id, fresh=False)
    [(payload,)] = yield SQL["payload_of"], {"id": job_id}
    # arguments of another version are not comparable: the key alone says that it is the same call
    unlike = task != new.task and new.on_conflict != "replace"
    if unlike or payload == new.payload or alike(new, payload, ask):
        return Submitted(job_id, fresh=False)
    if new.on_conflict == "replace":
        why = f"has already begun ({STATES[state]}), so its arguments cannot be replaced"
    else:
        why = (
            f"({STATES[state]}) has other arguments; use another key, "
            f"or on_conflict='replace' for a job that has not begun"
        )
    raise KeyConflict(f"{_key(new)}: job {job_id} {why}", job_id)


def _is_held(job_id: str) -> Steps[bool]:
    """Whether a job that waits does so for its parents or its line, and not for a limit."""
    by_parents = yield SQL["is_held_by_parents"], {"node": int(job_id)}
    return bool(by_parents or (yield SQL["is_held"], {"id": job_id}))


def _key(new: NewJob) -> str:
    return f"key {new.key!r} of task {task_of(new.task)!r}"
