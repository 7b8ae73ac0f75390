"""Which jobs a worker gets: queues in turn, within one by priority and age, of tasks that it has. The one claim."""

from __future__ import annotations

import json
from itertools import accumulate, pairwise, takewhile
from operator import itemgetter
from typing import TYPE_CHECKING

from msgspec.structs import replace

from litequeue.core.budget import BUDGET
from litequeue.core.records import Claimed
from litequeue.sqlite.jobs.expiry import LiveSearch
from litequeue.sqlite.jobs.lanes import FEW
from litequeue.sqlite.limits.parking import CHUNK as PARKED
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.core.store import Demand
    from litequeue.limits.held import Held
    from litequeue.sqlite.drivers.connection import Connection, Row
    from litequeue.sqlite.jobs.lanes import Lanes, Line, Turns
    from litequeue.sqlite.limits.gate import Gate

_TAKE = SQL["take"]
_payload = itemgetter(4)

FIRST_ROUND = 16  # jobs at which a claim looks first where there are rules: of a limited lane it may take only few
OF_MANY = 500  # jobs at most that one claim takes from many lanes, whose rows lie apart: each a page to read and write


def claim(
    db: Connection, worker: int, demand: Demand, lanes: Lanes, turns: Turns, now: float
) -> tuple[list[Claimed], bool]:
    """Give the worker jobs of the queues whose turn it is, as far as the demand goes.

    True with it: there may be more, though these are fewer than were asked for.
    """
    limit = demand.limit if lanes.are_few else min(demand.limit, OF_MANY)
    if lanes.gate is not None:
        claimed, cut = _admitted(db, worker, demand._replace(limit=limit), lanes, lanes.gate, turns, now)
        return claimed, cut or len(claimed) == limit < demand.limit
    single = lanes.single(demand)
    if single is not None:
        rows, cut = db.rows(SQL["front"], {"queue": single[0], "task": single[1], "limit": limit}), False
    else:
        rows, cut = _picked(db, demand._replace(limit=limit), lanes, turns)
    cut = cut or len(rows) == limit < demand.limit
    if None in map(_payload, rows):
        fit = _bounded(db, rows)
        rows, cut = fit, cut or len(fit) < len(rows)
    _take(db, worker, now, [int(row[0]) for row in rows])
    return [Claimed(*row) for row in rows], cut


def _admitted(
    db: Connection, worker: int, demand: Demand, lanes: Lanes, gate: Gate, turns: Turns, now: float
) -> tuple[list[Claimed], bool]:
    """The same where there are rules on what may start: in rounds, while a full limit lets others come to the head."""
    claimed: list[Claimed] = []
    window = min(FIRST_ROUND, demand.limit)  # not more: the shares of the queues are worked out for it
    while True:
        left = demand.limit - len(claimed)
        ids, cut = _ids(db, demand._replace(limit=window), lanes, turns)
        found = db.rows(SQL["before_gate"], {"ids": json.dumps(ids)}) if ids else []
        held = dict(gate.admit(found, left, demand.at_once - len(claimed)))
        rows = db.rows(SQL["picked"], {"ids": json.dumps(list(held))}) if held else []
        fit = _bounded(db, rows) if None in map(_payload, rows) else rows
        _take(db, worker, now, [int(row[0]) for row in fit])
        claimed += [_holding(row, held[int(row[0])]) for row in fit]
        if len(fit) < len(rows):
            gate.take_off(held[int(row[0])] for row in rows[len(fit) :])
            return claimed, True
        if len(claimed) >= demand.limit or not (gate.moved or (held and len(ids) >= window)):
            return claimed, cut
        if gate.parking.count >= PARKED:
            return claimed, True
        window = min(PARKED, max(FIRST_ROUND, window * 8))
        lanes.read_anew()


def _holding(row: Row, held: Held | None) -> Claimed:
    return Claimed(*row) if held is None else Claimed(*(*row, held))


def _picked(db: Connection, demand: Demand, lanes: Lanes, turns: Turns) -> tuple[list[Row], bool]:
    """The rows of the jobs whose turn it is, in several lanes; True with it: not all have been looked at."""
    ids, cut = _ids(db, demand, lanes, turns)
    return (db.rows(SQL["picked"], {"ids": json.dumps(ids)}) if ids else []), cut


def _ids(db: Connection, demand: Demand, lanes: Lanes, turns: Turns) -> tuple[list[int], bool]:
    ids: list[int] = []
    search = None if lanes.past is None else LiveSearch(db, demand, lanes.past)
    for lines in lanes.windows(demand, turns):
        ids += _shares(db, lines, demand, search, demand.limit - len(ids))
        if len(ids) >= demand.limit or (search is not None and search.left <= 0):
            break
    return ids, search is not None and (search.cut or search.left <= 0) and len(ids) < demand.limit


def _bounded(db: Connection, rows: list[Row]) -> list[Row]:
    """As many of these as the bytes of their large payloads allow, and with those."""
    ids = [row[0] for row in rows if _payload(row) is None]
    sizes: dict[str, int] = dict(db.rows(SQL["sizes"], {"ids": f"[{','.join(ids)}]"}))
    sums = accumulate(sizes.get(row[0], 0) for row in rows[1:])
    fit = rows[: 1 + sum(1 for _ in takewhile(lambda size: size <= BUDGET, sums))]
    ids = [row[0] for row in fit if _payload(row) is None]
    large: dict[str, bytes] = dict(db.rows(SQL["payloads"], {"ids": f"[{','.join(ids)}]"}))
    return [row if _payload(row) is not None else (*row[:4], large.get(row[0], b""), *row[5:]) for row in fit]


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


def with_beats(db: Connection, jobs: list[Claimed]) -> list[Claimed]:
    """Return the jobs with what an attempt before has told by `heartbeat()`."""
    again = [int(job.id) for job in jobs if job.attempt > 1]
    if not again:
        return jobs
    details: dict[int, bytes] = dict(db.rows(SQL["last_beats"], {"ids": json.dumps(again)}))
    if not details:
        return jobs
    return [replace(job, heartbeat=details.get(int(job.id))) if job.attempt > 1 else job for job in jobs]


def _shares(db: Connection, lines: list[Line], demand: Demand, search: LiveSearch | None, limit: int) -> list[int]:
    """Take an equal share from each queue that has something, so that a flood in one does not starve another."""
    taken: list[int] = []
    live = None if search is None else search.first_of(lines)
    waiting = [(line, 0) for line in lines]  # with how many of it are taken
    while waiting and limit > len(taken):
        more: list[tuple[Line, int]] = []
        for place, (line, had) in enumerate(waiting):
            share = -(-(limit - len(taken)) // (len(waiting) - place))
            ids = (_first(db, line, demand, had + share) if live is None else live[line.queue][: had + share])[had:]
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
