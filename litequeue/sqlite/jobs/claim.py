"""Which jobs a worker gets: queues in turn, within one by priority and age, of tasks that it has. The one claim."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING

from litequeue.core.records import Claimed
from litequeue.sqlite.jobs.lanes import FEW
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.core.store import Demand
    from litequeue.sqlite.drivers.connection import Connection, Row
    from litequeue.sqlite.jobs.lanes import Lanes, Line, Turns

_TAKE = SQL["take"]


def claim(db: Connection, worker: int, demand: Demand, lanes: Lanes, turns: Turns, now: float) -> list[Claimed]:
    """Give the worker jobs of the queues whose turn it is, as far as the demand goes."""
    ids: list[int] = []
    for lines in lanes.windows(demand, turns):
        if lanes.are_few and len(lines) == 1 and len(lines[0].tasks) == 1 and demand.most_deaths is None:
            [line] = lines
            rows = db.rows(SQL["front"], {"queue": line.queue, "task": line.tasks[0], "limit": demand.limit})
            claimed = [Claimed(*row) for row in rows]
            _take(db, worker, now, [int(job.id) for job in claimed])
            return claimed
        ids += _shares(db, lines, demand, demand.limit - len(ids))
        if len(ids) >= demand.limit:
            break
    _take(db, worker, now, ids)
    return claims(db, ids)


def _take(db: Connection, worker: int, now: float, ids: list[int]) -> None:
    """Mark these ready jobs as the worker's: a backlog of one task, whose ids follow one another, by one statement."""
    db.many(_TAKE, [(worker, now, first, last) for first, last in _runs(ids)])


def _runs(ids: list[int]) -> list[tuple[int, int]]:
    """The ids as runs without a gap, each by its first and its last."""
    ids = sorted(ids)
    if ids and ids[-1] - ids[0] == len(ids) - 1:
        return [(ids[0], ids[-1])]
    gaps = [(one, other) for one, other in pairwise(ids) if other != one + 1]
    firsts, lasts = [*ids[:1], *(other for _, other in gaps)], [*(one for one, _ in gaps), *ids[-1:]]
    return list(zip(firsts, lasts, strict=True))


def claims(db: Connection, ids: list[int]) -> list[Claimed]:
    """Read what a worker needs of the jobs it has claimed."""
    if not ids:
        return []
    return [Claimed(*row) for row in db.rows(SQL["taken"], {"ids": json.dumps(ids)})]


def _shares(db: Connection, lines: list[Line], demand: Demand, limit: int) -> list[int]:
    """Take an equal share from each queue that has something, so that a flood in one does not starve another."""
    taken: list[int] = []
    waiting = [(line, 0) for line in lines]  # with how many of it are taken
    while waiting and limit > len(taken):
        more: list[tuple[Line, int]] = []
        for place, (line, had) in enumerate(waiting):
            share = -(-(limit - len(taken)) // (len(waiting) - place))
            ids = _first(db, line, demand, had + share)[had:]
            taken += ids
            if len(ids) == share:
                more.append((line, had + share))
        waiting = more
    return taken


def _first(db: Connection, line: Line, demand: Demand, limit: int) -> list[int]:
    """The ids at the head of one queue, in the order in which they are to start."""
    if len(line.tasks) > FEW:
        return _merged(db, line, demand, limit)
    heads: list[Row] = []
    for task in line.tasks:
        lane = {"queue": line.queue, "task": task, "limit": limit}
        if demand.most_deaths is None:
            heads += db.rows(SQL["heads"], lane)
        else:
            heads += db.rows(SQL["unsuspected_heads"], lane | {"most_deaths": demand.most_deaths})
    if len(line.tasks) > 1:
        heads.sort()
    return [job_id for _, job_id in heads[:limit]]


def _merged(db: Connection, line: Line, demand: Demand, limit: int) -> list[int]:
    heads = sorted(line.heads)
    if demand.most_deaths is None:  # then no lane can be needed behind so many
        heads = heads[:limit]
    merged = {"queue": line.queue, "heads": json.dumps([job_id for _, job_id, _ in heads]), "limit": limit}
    return [job_id for (job_id,) in db.rows(SQL["merged"], merged | {"most_deaths": demand.most_deaths})]
