"""Which job holds an idempotency key: one for all versions of a task, and for the names that it had before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.stored_names import task_of
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litequeue.sqlite.drivers.connection import Row, Steps


def holder_of(task: str, key: str, now: float, former_names: Sequence[str] = ()) -> Steps[Row | None]:
    """Return its id, state, whether it has begun, and its task; a job that holds it no more loses it here."""
    for name in (task_of(task), *former_names):
        stored: str | None = name
        while stored is not None:
            rows = yield SQL["key_holder"], {"task": stored, "key": key, "now": now}
            if rows and rows[0][-1]:
                return (*rows[0][:-1], stored)
            if rows:
                yield SQL["free_key"], {"task": stored, "key": key}
            [(stored,)] = yield SQL["next_version"], {"after": max(stored, f"{name}@"), "end": f"{name}A"}
    return None
