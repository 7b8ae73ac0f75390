"""Which job holds an idempotency key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Row, Steps


def holder_of(task: str, key: str, now: float) -> Steps[Row | None]:
    """Return its id, state and whether it has begun; a job that holds it no more loses it here."""
    named = {"task": task, "key": key}
    rows = yield SQL["key_holder"], named | {"now": now}
    if not rows:
        return None
    *holder, in_scope, in_time, set_back = rows[0]
    if set_back:
        yield SQL["hold_key_again"], {"job": int(holder[0]), "now": now}
    if in_scope if in_time is None else in_time:
        return tuple(holder)
    yield SQL["free_key"], named
    return None


def has_held_it_long_enough(job_id: str, now: float) -> Steps[bool]:
    """Whether the job's key was to be held for a time, which is over: the key is any job's then."""
    return bool((yield SQL["time_of_key_is_over"], {"job": int(job_id), "now": now}))
