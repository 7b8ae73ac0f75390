"""What runs before and after a node, as a tree of a bounded size. Reads only."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.plan import RunsOn, group_id
from litequeue.core.tree import MOST_BESIDE, MOST_DEEP, MOST_NODES, Branch, GroupSummary, Tree
from litequeue.sqlite.compose.groups import number_of, require
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs.ids import is_id
from litequeue.sqlite.jobs.row_values import snapshot
from litequeue.sqlite.jobs.states import STATES
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.core.tree import Runs
    from litequeue.sqlite.drivers.connection import Connection

_RUNS_ON: dict[int, Runs] = {RunsOn.SUCCESS: "success", RunsOn.END: "end", RunsOn.FAILURE: "failure"}


class _Direction(NamedTuple):
    """The statements that read along the edges, one way."""

    nodes: str
    counted: str


_UP, _DOWN = _Direction("edges_up", "count_edges_up"), _Direction("edges_down", "count_edges_down")


def tree(db: Connection, node_id: str) -> Tree:
    """Return what stands before and after a job or a group."""
    node = int(node_id) if is_id(node_id) else -number_of(node_id)
    with snapshot(db):
        return Tree(before=_grown(db, node, _UP), after=_grown(db, node, _DOWN))


def summary(db: Connection, group: str) -> GroupSummary:
    """Count the jobs of a group by their status. Raises `JobNotFound`."""
    number = number_of(group)
    with snapshot(db):
        created_at, members, _ = perform(db, require(number))
        [found] = db.rows(SQL["node"], {"node": -number})
        rows = db.rows(SQL["group_states"], {"group": -number})
    by_status = {STATES[state]: count for state, count in rows if state is not None}
    failed = None if found[6] is None else str(found[6])
    return GroupSummary(id=group_id(number), created_at=created_at, members=members, failed=failed, by_status=by_status)


def _grown(db: Connection, node: int, way: _Direction) -> Branch:
    """Read level by level, so that what is near comes before what is far, until it is enough."""
    root = _branch(db, node)
    level, seen, left = [(node, root)], {node}, MOST_NODES // 2
    for _ in range(MOST_DEEP):
        coming: list[tuple[int, Branch]] = []
        for parent, branch in level:
            if left <= 0:
                branch.more = _count(db, parent, way)
                continue
            rows = db.rows(SQL[way.nodes], {"node": parent, "limit": min(MOST_BESIDE, left)})
            left -= len(rows)
            for (found,) in rows:
                grown = _branch(db, found)
                branch.branches.append(grown)
                grown.again = found in seen and _count(db, found, way) > 0
                if found not in seen:
                    seen.add(found)
                    coming.append((found, grown))
            if len(rows) == MOST_BESIDE or left <= 0:
                branch.more = _count(db, parent, way) - len(rows)
        level = coming
    for parent, branch in level:
        branch.more = _count(db, parent, way)
    return root


def _branch(db: Connection, node: int) -> Branch:
    rows = db.rows(SQL["node"], {"node": node})
    task, state, reason, members, unended, runs_on, ended_by = rows[0]
    if node < 0:
        failed = None if ended_by is None else str(ended_by)
        return Branch(id=group_id(-node), members=members or 0, unended=unended or 0, failed=failed, branches=[])
    status = None if state is None else STATES[state]
    return Branch(id=str(node), task=task, status=status, reason=reason, runs_on=_RUNS_ON.get(runs_on), branches=[])


def _count(db: Connection, node: int, way: _Direction) -> int:
    [(count,)] = db.rows(SQL[way.counted], {"node": node})
    return int(count)
