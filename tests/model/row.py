"""A row of the model: one job in the columns of the file, and what follows from it alone."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from litequeue.core.records import Claimed, NewJob, Status

SCHEDULED, QUEUED, WAITING, RUNNING, SUCCEEDED, FAILED, CANCELLED, EXPIRED = range(8)
STATES = tuple(
    map(Status, ("scheduled", "queued", "waiting", "running", "succeeded", "failed", "cancelled", "expired"))
)
DEATHS = 3


class Broken(BaseException):
    """A promise is broken. No `Exception`: the product's own loops must not take it for a stumble of theirs."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One job, in the columns of the file."""

    id: int
    task: str
    queue: str
    payload: bytes
    state: int
    priority: int
    run_at: float
    created_at: float
    attempt: int = 0
    begun: int = 0
    failures: int = 0
    deaths: int = 0
    worker: int | None = None
    started_at: float | None = None
    finished_at: float | None = None
    delete_at: float | None = None
    expires_at: float | None = None
    timeout: float | None = None
    retries: int | None = None
    cancel_requested: int = 0
    key: str | None = None
    key_scope: str | None = None
    held_key: str | None = None
    tags: str | None = None
    schedule: str | None = None
    progress: str | None = None
    result: bytes | None = None

    held = None  # plain jobs take of no limit
    heartbeat = None  # and gives no sign of life
    handed = None  # and of no parent

    @property
    def of_schedule(self):
        return self.schedule is not None


COLUMNS = Row.__struct_fields__
place = lambda row: (-row.priority, row.id)  # noqa: E731 - the order of a queue


def claimed(row: Row) -> Claimed:
    """The row as its worker gets it."""
    names = Claimed.__struct_fields__[1:]
    return Claimed(str(row.id), *(getattr(row, name) for name in names))


def replaceable(new: NewJob) -> dict[str, Any]:
    later = new.run_at is not None and new.run_at > new.created_at
    return {
        "queue": new.queue,
        "payload": new.payload,
        "state": SCHEDULED if later else QUEUED,
        "priority": new.priority,
        "run_at": new.run_at if later else new.created_at,
        "expires_at": new.expires_at,
        "timeout": new.timeout,
        "retries": new.retries,
        "tags": json.dumps(new.tags) if new.tags else None,
    }


def expires(row: Row, now: float) -> bool:
    """Whether it has not begun by its `expires`; what has begun once does not expire."""
    return row.state < RUNNING and not row.begun and row.expires_at is not None and row.expires_at <= now


def holds(row: Row, now: float) -> bool:
    """Whether the key that it has on record is still its own."""
    match row.key_scope:
        case "kept":
            return not is_over(row, now)
        case "queued":
            return row.state < RUNNING
        case _:
            return row.state < SUCCEEDED


def is_over(row: Row, now: float) -> bool:
    """Whether its time has passed: then it is not there, except to be pruned."""
    return row.delete_at is not None and row.delete_at <= now


def must_be(true: bool, what: str) -> None:
    if not true:
        raise Broken(what)
