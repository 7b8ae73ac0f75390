"""The cancel of a whole composition, from its last node, as statements inside one write transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from litequeue.core.records import Status
from litequeue.sqlite.compose.ended import MOST, follow
from litequeue.sqlite.jobs.states import NUMBER
from litequeue.sqlite.limits.bring_back import leave
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.compose.consequences import Consequences
    from litequeue.sqlite.drivers.connection import Steps

_RUNNING = NUMBER[Status.RUNNING]


def is_last(node: int) -> Steps[bool]:
    """Whether it is the last node of a composition: of a chain its last job."""
    return (yield SQL["has_edges"], ()) == [(1,)] and (yield SQL["is_last"], {"node": node}) == [(1,)]


def cancel_whole(
    node: int, now: float, delete_at: float | None, then: Consequences
) -> Steps[tuple[dict[str, Status], bool]]:
    """Cancel what has not ended of the composition that ends in this node, and ask what runs to end.

    Return what became of each job: `RUNNING`, it was asked, or what it was. True with it: there are more of them.
    """
    parts = yield SQL["unended_parts"], {"node": node, "limit": MOST + 1}
    more = len(parts) > MOST
    running = [job for job, state in parts[:MOST] if state == _RUNNING]
    others = [job for job, state in parts[:MOST] if state != _RUNNING]
    if running:
        yield SQL["ask_parts"], {"ids": json.dumps(running)}
    if others:
        ids = {"ids": json.dumps(others)}
        ends = json.dumps([(job, None, None) for job in others])
        yield SQL["cancel_together"], {"ends": ends, "now": now, "delete_at": delete_at}
        yield SQL["forget_parked"], ids
        yield SQL["hold_no_more"], {"nodes": ids["ids"]}
        yield from leave(others)
        yield from follow([(job, NUMBER[Status.CANCELLED]) for job in others], now, then)
    was = dict.fromkeys(map(str, running), Status.RUNNING) | dict.fromkeys(map(str, others), Status.QUEUED)
    return was, more
