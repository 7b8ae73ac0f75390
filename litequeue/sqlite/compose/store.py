"""Store a composition: jobs, groups, and what waits for what, as statements inside one write transaction."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from litequeue.core.plan import RunsOn, StoredPlan, group_id
from litequeue.core.records import Status
from litequeue.errors import JobNotFound
from litequeue.sqlite.compose.consequences import Consequences
from litequeue.sqlite.compose.ended import Over, Spread
from litequeue.sqlite.compose.groups import members_of, number_of
from litequeue.sqlite.compose.keys import hold, holder
from litequeue.sqlite.jobs.enqueue import is_one_insert, submit, submit_run
from litequeue.sqlite.jobs.ids import is_id
from litequeue.sqlite.jobs.room import Room
from litequeue.sqlite.jobs.states import NUMBER
from litequeue.sqlite.jobs.user_answers import at_once
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from litequeue.core.plan import Edge, Plan
    from litequeue.sqlite.drivers.connection import Steps
    from litequeue.sqlite.jobs.user_answers import Ask

_TOGETHER = 100  # rows of one statement
_SUCCEEDED, _WAITING = NUMBER[Status.SUCCEEDED], NUMBER[Status.WAITING]


def store(plan: Plan, ask: Ask = at_once) -> Steps[StoredPlan]:
    """Store the plan, all or none of it; or find the composition that has its key. Raises `JobNotFound`."""
    if plan.whole is not None:
        held = yield from holder(plan.whole, plan.created_at)
        if held is not None:
            members = () if is_id(held) else (yield from members_of(number_of(held)))
            return StoredPlan(last=held, jobs=[], groups=[], found=members)
    earlier = (yield from _standing_after(plan)) if plan.after else {}
    jobs, found = yield from _store_jobs(plan, ask)
    keyed = sorted({int(jobs[place]) for place in found})
    groups = []
    for count in plan.groups:
        [(number,)] = yield SQL["number_group"], {"now": plan.created_at, "members": count}
        groups.append(int(number))
    stored = _Stored(plan, jobs, groups, earlier | (yield from _standing(keyed, plan.created_at)), found)
    yield from _many("add_edges", stored.edges)
    yield from _many("add_dependents", stored.dependents())
    moved: dict[int, bool] = {}
    if stored.earlier or 0 in plan.groups:
        yield from stored.settle(Spread(plan.created_at, Consequences()))
        moved = yield from stored.moved()
    last = jobs[plan.last] if plan.last >= 0 else group_id(groups[~plan.last])
    if plan.whole is not None:
        yield from hold(plan.whole, stored.node(plan.last), plan.created_at)
    ids = list(map(group_id, groups))
    return StoredPlan(last=last, jobs=jobs, groups=ids, held=frozenset(found), moved=moved)


def _standing_after(plan: Plan) -> Steps[dict[int, tuple[int, int | None]]]:
    ids = [int(job) for job, *_ in plan.after if is_id(job)]
    earlier = yield from _standing(ids, plan.created_at)
    born: dict[int, float] = {}
    if any(moment is not None for _, moment, _ in plan.after):
        born = dict((yield SQL["created_among"], {"ids": json.dumps(ids)}))
    for job, moment, _ in plan.after:
        if not (job.isdecimal() and int(job) in earlier) or (moment is not None and born.get(int(job)) != moment):
            raise JobNotFound(
                f"after= names job {job}, which is not in this file: it never existed, was rolled back, or is pruned"
            )
    return earlier


def _standing(ids: Sequence[int], now: float) -> Steps[dict[int, tuple[int, int | None]]]:
    """The state of each job on record, and where its consequences are put off, behind which child."""
    if not ids:
        return {}
    rows = yield SQL["standing_of"], {"ids": json.dumps(ids), "now": now}
    return {job: (state, after) for job, state, after in rows}


def _store_jobs(plan: Plan, ask: Ask) -> Steps[tuple[list[str], set[int]]]:
    """Store its jobs; return the id of each, "" for one that is not stored, and the places whose keys others hold."""
    ids: list[str] = []
    found: set[int] = set()  # perhaps jobs of other places: a key may be given twice in one plan
    run: list[Any] = []  # those that differ in no more than a row can hold, stored together
    room = Room()
    ends = {each.first: each for each in plan.callbacks}
    place = 0
    while place < len(plan.jobs):
        new, callbacks = plan.jobs[place], ends.get(place)
        if callbacks is not None:
            if run:
                ids += yield from submit_run(run)
                run = []
            if not ids[callbacks.owner] or callbacks.owner in found:
                ids += [""] * (callbacks.end - place)
                place = callbacks.end
                continue
        if is_one_insert(new):
            run.append(new)
        else:
            if run:
                ids += yield from submit_run(run)
                run = []
            submitted = yield from submit(new, ask, room)
            ids.append(submitted.id)
            if not submitted.fresh:
                found.add(place)
        place += 1
    if run:
        ids += yield from submit_run(run)
    return ids, found


class _Stored:
    """The nodes and edges of a plan whose jobs and groups are stored.

    `earlier`: jobs of before, as they stand. `found`: the places of calls whose keys other jobs hold.
    """

    def __init__(
        self,
        plan: Plan,
        jobs: list[str],
        groups: list[int],
        earlier: dict[int, tuple[int, int | None]],
        found: set[int],
    ) -> None:
        self._plan, self._groups, self.earlier, self._found = plan, groups, earlier, found
        # by place in the plan; 0: it is not stored. Groups stand at the end, as their places are negative
        self._nodes = nodes = [int(job or 0) for job in jobs] + [-number for number in reversed(groups)]
        self._unended: Counter[int] = Counter()
        self._ends: dict[int, Over] = {}  # by node: a parent of before that ends it
        self.edges: list[tuple[int, int, int, int]] = []
        if not (earlier or found or 0 in nodes):
            self.edges = [(nodes[edge[0]], nodes[edge[1]], edge[2], int(edge[3])) for edge in plan.edges]
            self._unended.update([child for _, child, *_ in self.edges])
            return
        self._own = {int(job) for place, job in enumerate(jobs) if job and place not in found}
        self._linked: set[tuple[int, int, int]] = set()
        for edge in plan.edges:
            self._add(edge)
        for job, _, place in plan.after:
            if place not in found and nodes[place]:
                self._add_from(int(job), nodes[place], -1, own=False)

    def node(self, place: int) -> int:
        """The node at that place of the plan."""
        return self._nodes[place]

    def _add(self, edge: Edge) -> None:
        parent, child = self._nodes[edge.parent], self._nodes[edge.child]
        # a job that was there before waits for no one: its key says that it is that call, and has been enqueued
        if parent and child and edge.child not in self._found:
            self._add_from(parent, child, edge.place, own=edge.own and (parent < 0 or parent in self._own))

    def _add_from(self, parent: int, child: int, place: int, *, own: bool) -> None:
        if (parent, child, place) in self._linked:  # one job may be meant twice: by its key, and by `after=`
            return
        self._linked.add((parent, child, place))
        self.edges.append((parent, child, place, int(own)))
        state, put_off = self.earlier.get(parent, (0, None))
        if state < _SUCCEEDED or (put_off is not None and child > put_off):
            self._unended[child] += 1
        elif state > _SUCCEEDED:
            self._ends.setdefault(child, Over(parent, parent, state))

    def dependents(self) -> Iterable[tuple[Any, ...]]:
        """The rows of those that wait, and of groups: where nothing is to come, for one end, which `settle` tells."""
        nodes, unended = self._nodes, self._unended
        for place, (runs_on, delay, expires) in self._plan.dependents.items():
            node = nodes[place]
            if node and place not in self._found:
                yield node, unended[node] or 1, int(runs_on), 1, delay, expires
        for number in self._groups:
            yield -number, unended[-number] or 1, int(RunsOn.GROUP), 0, None, None

    def settle(self, spread: Spread) -> Steps[None]:
        """Let begin, or end, what waits for nothing that is to come."""
        stored = [
            (self._nodes[place], each) for place, each in self._plan.dependents.items() if place not in self._found
        ]
        waits = {node: each.runs_on for node, each in stored if node}
        groups = {-number for number in self._groups}
        over = [node for node in (*waits, *groups) if not self._unended[node]]
        ends = {
            node: end
            for node, end in self._ends.items()
            if node in groups or waits.get(node) in (RunsOn.SUCCESS, RunsOn.FAILURE)
        }
        if over or ends:
            yield from spread.follow_from(Counter(dict.fromkeys(over, 1)), ends, groups & set(ends))

    def moved(self) -> Steps[dict[int, bool]]:
        """The places of dependents that wait no more, with whether they may begin."""
        places = {self._nodes[place]: place for place in self._plan.dependents if place not in self._found}
        states = yield SQL["states_among"], {"ids": json.dumps([node for node in places if node])}
        return {places[node]: state < _WAITING for node, state in states if state != _WAITING}


def _many(statement: str, rows: Iterable[tuple[Any, ...]]) -> Steps[None]:
    """Run an INSERT of one row for many, a hundred at a time."""
    sql = SQL[statement]
    head, row = sql.split(" VALUES ")
    chunk: list[Any] = []
    count = 0
    for values in rows:
        chunk += values
        count += 1
        if count == _TOGETHER:
            yield f"{head} VALUES {', '.join([row] * count)}", tuple(chunk)
            chunk, count = [], 0
    if count:
        yield f"{head} VALUES {', '.join([row] * count)}", tuple(chunk)
