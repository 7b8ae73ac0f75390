"""Let parked jobs begin: after ends that made room for their keys, as statements inside any write transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litequeue.limits.held import Held
    from litequeue.sqlite.drivers.connection import Steps


def bring_back(keys: Iterable[tuple[str, str, int]]) -> Steps[None]:
    """Make ready the first so many parked jobs of each key and lane: limit, key, how many."""
    by_count: dict[int, list[tuple[str, str]]] = {}  # most are 1
    for limit, key, count in keys:
        by_count.setdefault(count, []).append((limit, key))
    for count, some in by_count.items():
        first = yield SQL["first_parked"], {"keys": json.dumps(some), "count": count}
        if first:
            yield from bring_these_back(job for (job,) in first)


def bring_these_back(job_ids: Iterable[str | int]) -> Steps[None]:
    """Make these parked jobs ready, whatever room there is: the next claim looks at them."""
    ids = {"ids": f"[{','.join(map(str, job_ids))}]"}
    yield SQL["bring_back"], ids
    yield SQL["forget_parked"], ids


def freed(job_ids: Iterable[str], held: Iterable[Held]) -> Steps[None]:
    """After runs have ended or returned: let those in that waited for their keys."""
    room: dict[tuple[str, str], int] = {}
    ordered = False
    for each in held:
        ordered = ordered or each.ordered
        for limit, key, count in each.frees:
            room[limit, key] = room.get((limit, key), 0) + count
    if ordered:
        yield from leave_order(job_ids)
    if room and (yield SQL["next_key_look"], ()) != [(None,)]:  # else none is parked
        yield from bring_back((limit, key, count) for (limit, key), count in room.items())


def leave_order(job_ids: Iterable[str]) -> Steps[None]:
    """Let the next ones of their keys begin, where jobs have ended for good whose keys keep an order."""
    left = yield SQL["leave_order"], {"ids": f"[{','.join(map(str, job_ids))}]"}
    if left:
        yield from bring_back((limit, key, 1) for limit, key in left)


def leave(job_ids: Iterable[str | int]) -> Steps[None]:
    """After jobs have ended that did not run: they may have kept an order, or been let in before others."""
    ids = f"[{','.join(map(str, job_ids))}]"
    yield SQL["look_at_keys_of"], {"ids": ids}
    left = yield SQL["leave_order"], {"ids": ids}
    yield from bring_back((limit, key, 1) for limit, key in left)
