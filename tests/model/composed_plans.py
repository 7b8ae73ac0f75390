"""Plans of compositions, drawn by lot: chains and groups inside each other, callbacks, `after=`. Knows no store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litequeue.core.plan import TAKES_NOTHING, Callbacks, Dependent, Edge, Plan, RunsOn, WholeKey
from litequeue.core.records import NewJob

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

TASKS = ("add", "send")
KEYS = ("a", "b")
WHOLES = ("w1", "w2")
DEEPEST = 3


class Lot:
    """Draws one plan."""

    def __init__(self, chance: random.Random, now: float, there: Sequence[str]) -> None:
        self._chance, self._now, self._there = chance, now, there
        self._jobs: list[NewJob] = []
        self._groups: list[int] = []
        self._edges: list[Edge] = []
        self._dependents: dict[int, Dependent] = {}
        self._after: list[tuple[str, float | None, int]] = []
        self._callbacks: list[Callbacks] = []
        self._keys = chance.random() < 0.5

    def plan(self) -> Plan:
        chance, whole = self._chance, None
        if chance.random() < 0.15:
            self._keys = False  # the whole has one
            key, scope = chance.choice(WHOLES), chance.choice(("kept", "unfinished"))
            whole = WholeKey(key, b"same", scope, 30.0 if chance.random() < 0.3 else None, "return")
            whole = whole if whole.held_for is None else whole._replace(scope="kept")
        last = self._add(0, None)
        if not self._jobs:  # of empty groups alone nothing is stored
            last = self._add_call(last)
        return Plan(
            jobs=self._jobs,
            groups=self._groups,
            edges=self._edges,
            dependents=self._dependents,
            after=self._after,
            callbacks=self._callbacks,
            last=last,
            created_at=self._now,
            whole=whole,
        )

    def _add(self, depth: int, before: int | None) -> int:
        kind = self._chance.random() + 0.2 * depth
        if depth < DEEPEST and kind < 0.35:
            for _ in range(self._chance.randint(2, 4)):
                before = self._add(depth + 1, before)
            assert before is not None
            return before
        if depth < DEEPEST and kind < 0.7:
            return self._add_group(depth, before)
        return self._add_call(before)

    def _add_group(self, depth: int, before: int | None) -> int:
        node, count = ~len(self._groups), self._chance.choice((0, 1, 2, 3, 5))
        count = max(1, count) if self._keys else count  # a key may be of another job, and
        self._groups.append(count)
        members = [self._add(depth + 1, before) for _ in range(count)]
        self._edges += [Edge(member, node, place) for place, member in enumerate(members)]
        if before is not None and not members:
            self._edges.append(Edge(before, node))
        return node

    def _add_call(self, before: int | None) -> int:
        chance, node = self._chance, len(self._jobs)
        after = [self._some_job() for _ in range(chance.choice((1, 1, 2)))] if chance.random() < 0.2 else []
        waits = before is not None or bool(after)
        runs_on = RunsOn.END if waits and chance.random() < 0.2 else RunsOn.SUCCESS
        self._jobs.append(self._new(node, waits=waits, runs_on=runs_on))
        if before is not None:
            self._edges.append(Edge(before, node, chance.choice((0, TAKES_NOTHING))))
        self._after += [(job, None, node) for job in dict.fromkeys(after)]
        if chance.random() < 0.25:
            self._add_callbacks(node)
        return node

    def _some_job(self) -> str:
        return self._chance.choice(self._there) if self._there and self._chance.random() < 0.98 else "999999"

    def _add_callbacks(self, node: int) -> None:
        for runs_on in (RunsOn.SUCCESS, RunsOn.FAILURE):
            if self._chance.random() < 0.7:
                first = len(self._jobs)
                self._jobs.append(self._new(first, waits=True, runs_on=runs_on))
                self._edges.append(Edge(node, first, self._chance.choice((0, TAKES_NOTHING)), own=False))
                if self._chance.random() < 0.2:
                    self._add_callbacks(first)
                self._callbacks.append(Callbacks(node, first, len(self._jobs)))

    def _new(self, node: int, *, waits: bool, runs_on: RunsOn) -> NewJob:
        chance, call = self._chance, dict[str, Any](queue="default", payload=b"[]", created_at=self._now, waiting=waits)
        span = chance.choice((0.5, 3.0, 20.0)) if chance.random() < 0.1 else None
        absolute = span is not None and chance.random() < 0.5
        if span is not None and (absolute or not waits):
            call["expires_at"] = self._now + span
        delay: float | None = chance.choice((0.0, 0.0, 0.0, 2.0))
        if chance.random() < 0.1:
            call["run_at"], delay = self._now + chance.choice((1.0, 8.0)), None
        if self._keys and chance.random() < 0.12:
            call |= {"key": chance.choice(KEYS), "key_scope": chance.choice(("unfinished", "kept"))}
        if waits:
            self._dependents[node] = Dependent(runs_on, delay, None if absolute else span)
        return NewJob(task=chance.choice(TASKS), **call)
