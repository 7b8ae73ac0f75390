"""Which jobs a worker gets: queues in turn, within one by priority and age, of tasks that it has."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING

from litequeue.core.records import Claimed
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.core.store import Demand
    from litequeue.sqlite.drivers.connection import Connection, Row

_TAKE = SQL["take"]


def in_turn(lanes: list[Row], queues: tuple[str, ...] | None, first: int) -> list[tuple[str, list[str]]]:
    """The queues with ready jobs and their tasks, beginning with another queue each time."""
    tasks: dict[str, list[str]] = {}
    for queue, task, _ in lanes:
        if queues is None or queue in queues:
            tasks.setdefault(queue, []).append(task)
    names = sorted(tasks) if queues is None else [queue for queue in queues if queue in tasks]
    start = first % len(names) if names else 0
    return [(queue, tasks[queue]) for queue in names[start:] + names[:start]]


def claim(
    db: Connection, worker: int, demand: Demand, queues: list[tuple[str, list[str]]], now: float
) -> list[Claimed]:
    """Give the worker jobs of these queues, which are asked in this order, as far as the demand goes."""
    wanted = [(queue, mine) for queue, tasks in queues if (mine := [task for task in tasks if task in demand.tasks])]
    if [len(mine) for _, mine in wanted] == [1] and demand.most_deaths is None:
        [(queue, [task])] = wanted
        rows = db.rows(SQL["front"], {"queue": queue, "task": task, "limit": demand.limit})
        claimed = [Claimed(*row) for row in rows]
        _take(db, worker, now, [int(job.id) for job in claimed])
        return claimed
    lines = [_line(db, queue, mine, demand) for queue, mine in wanted]
    ids = _shares(lines, demand.limit)
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


def _line(db: Connection, queue: str, tasks: list[str], demand: Demand) -> list[int]:
    """The ids at the head of one queue, in the order in which they are to start."""
    heads: list[Row] = []
    for task in tasks:
        line = {"queue": queue, "task": task, "limit": demand.limit}
        if demand.most_deaths is None:
            heads += db.rows(SQL["heads"], line)
        else:
            heads += db.rows(SQL["unsuspected_heads"], line | {"most_deaths": demand.most_deaths})
    if len(tasks) > 1:
        heads.sort()
    return [job_id for _, job_id in heads[: demand.limit]]


def _shares(lines: list[list[int]], limit: int) -> list[int]:
    """Take an equal share from each queue that has something, so that a flood in one does not starve another."""
    taken: list[int] = []
    while limit > len(taken) and (waiting := [line for line in lines if line]):
        for place, line in enumerate(waiting):
            share = -(-(limit - len(taken)) // (len(waiting) - place))
            taken += line[:share]
            del line[:share]
    return taken
