"""Which job holds an idempotency key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Row, Steps


def holder_of(task: str, key: str, now: float) -> Steps[Row | None]:
    """Return its id, payload, state and whether it has begun; a job whose time has passed frees the key."""
    rows = yield SQL["key_holder"], {"task": task, "key": key}
    if not rows:
        return None
    *holder, delete_at = rows[0]
    if delete_at is None or delete_at > now:
        return tuple(holder)
    yield SQL["free_key"], {"task": task, "key": key, "now": now}
    return None
