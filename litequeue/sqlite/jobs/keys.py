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
    *holder, holds = rows[0]
    if holds:
        return tuple(holder)
    yield SQL["free_key"], named
    return None
