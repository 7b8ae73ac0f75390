"""What jobs hold that run already: worked out again for a worker that was not told of its claim."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from msgspec.structs import replace

from litequeue.limits.held import Held
from litequeue.limits.task_rules import takes_of
from litequeue.sqlite.limits.rules import read
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.core.records import Claimed
    from litequeue.sqlite.drivers.connection import Connection


def with_held(db: Connection, jobs: list[Claimed]) -> list[Claimed]:
    """Return these claims with what they hold of limits; not with their starts, which stay counted. Only reads."""
    if not jobs or not db.rows(SQL["rules_word"]):
        return jobs
    rules = read(db)
    stored: dict[int, str] = dict(db.rows(SQL["takes_of"], {"ids": json.dumps([int(job.id) for job in jobs])}))
    found: list[Claimed] = []
    for job in jobs:
        of_task = rules.of(job.task)
        if of_task is not None and of_task.limits:
            takes = takes_of(of_task, stored.get(int(job.id))).takes
            frees = tuple((take.limit, take.key, max(1, take.cost)) for take in takes if take.keyed)
            found.append(replace(job, held=Held(takes, (), math.inf, frees, of_task.ordered)))
        else:
            found.append(job)
    return found
