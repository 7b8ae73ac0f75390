"""Which job holds an idempotency key: one for all versions of a task, and for the names that it had before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.stored_names import task_of
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litequeue.sqlite.drivers.connection import Row, Steps


def holder_of(task: str, key: str, now: float, former_names: Sequence[str] = ()) -> Steps[Row | None]:
    """Return its id, state, whether it has begun, its task, whether for a time; one that holds it no more loses it."""
    for name in (task_of(task), *former_names):
        stored: str | None = name
        while stored is not None:
            rows = yield SQL["key_holder"], {"task": stored, "key": key, "now": now}
            if rows:
                *holder, in_scope, in_time, set_back = rows[0]
                if set_back:
                    yield SQL["hold_key_again"], {"job": int(holder[0]), "now": now}
                if in_scope if in_time is None else in_time:
                    return (*holder, stored, in_time is not None)
                yield SQL["free_key"], {"task": stored, "key": key}
            [(stored,)] = yield SQL["next_version"], {"after": max(stored, f"{name}@"), "end": f"{name}A"}
    return None


def has_held_it_long_enough(job_id: str, now: float) -> Steps[bool]:
    """Whether the job's key was to be held for a time, which is over: the key is any job's then."""
    return bool((yield SQL["time_of_key_is_over"], {"job": int(job_id), "now": now}))
