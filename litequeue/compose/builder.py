"""Make of a composition what is stored of it. Knows no store."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import msgspec

from litequeue.compose.call import Call
from litequeue.compose.composition import Chain, Composition, Group
from litequeue.core.plan import MOST_MEMBERS, TAKES_NOTHING, Callbacks, Dependent, Edge, Plan, RunsOn
from litequeue.core.records import NewJob

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from litequeue.core.attached import Attached, CallValue
    from litequeue.core.plan import WholeKey
    from litequeue.task_owner import ComposedTask

Steps = Generator[None, None, int]  # yields after each call, so that a loop can go on; returns a node


class Builder:
    """Builds the plan of one enqueue."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._owner: Any = None
        self.tasks: list[ComposedTask] = []  # by job
        self._jobs: list[NewJob] = []
        self._groups: list[int] = []
        self.members: dict[int, list[int]] = {}  # nodes, by group
        self._edges: list[Edge] = []
        self._dependents: dict[int, Dependent] = {}
        self._after: list[tuple[str, float | None, int]] = []
        self._callbacks: list[Callbacks] = []

    def plan(self, last: int, whole: WholeKey | None = None) -> Plan:
        """Return what was added. `last`: the node that is returned to the caller."""
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

    def add(self, part: Composition, before: int | None = None) -> Steps:
        """Add what runs after the node `before`, and is given its result."""
        if isinstance(part, Group):
            return (yield from self._add_group(part, before))
        if isinstance(part, Chain):
            for each in part.parts():
                before = yield from self.add(each, before)
            assert before is not None  # noqa: S101 - a chain has parts
            return before
        assert isinstance(part, Call)  # noqa: S101
        return (yield from self._add_call(part, before))

    def _add_group(self, part: Group, before: int | None) -> Steps:
        if len(part.members) > MOST_MEMBERS:
            raise ValueError(
                f"a group has at most {MOST_MEMBERS:,} members, this one {len(part.members):,}; make several of them"
            )
        node = ~len(self._groups)
        self._groups.append(len(part.members))
        members = self.members[node] = []
        for member in part.members:
            members.append((yield from self.add(member, before)))  # noqa: PERF401 - a comprehension cannot yield
        self._edges += [Edge(member, node, place) for place, member in enumerate(members)]
        if before is not None and not members:  # it has ended when that has
            self._edges.append(Edge(before, node))
        return node

    def _add_call(self, call: Call[Any], before: int | None) -> Steps:
        if before is None:
            call.attached.check()
        link = before is not None and not call.form.takes_nothing
        new = call.new_job(self._now, link=link, waits=before is not None or bool(call.attached.after))
        node = self._add_job(call.task, new)
        if before is not None:
            self._edges.append(Edge(before, node, 0 if link else TAKES_NOTHING))
        if new.waiting:
            self._wait(node, call, call.attached.runs_on)
        yield
        yield from self._attach(node, call.attached)
        return node

    def _add_job(self, task: ComposedTask, new: NewJob) -> int:
        if new.waiting and new.on_conflict == "replace":
            raise ValueError(
                f"{task.name}: on_conflict='replace' gives a job that has not begun other arguments, and this call "
                f"waits for another one: leave it out, or give it to a call that waits for none"
            )
        if self._owner is None:
            self._owner = task.owner
        elif task.owner is not self._owner:
            raise ValueError(
                f"{task.name} is a task of another queue than {self.tasks[0].name}; all calls of a composition are "
                f"stored in one file: {self._owner!r} and {task.owner!r}"
            )
        self._jobs.append(new)
        self.tasks.append(task)
        return len(self._jobs) - 1

    def _wait(self, node: int, call: CallValue, runs_on: RunsOn) -> None:
        has_time = call.template.run_at is not None
        delay = None if has_time else call.task.call_delay or 0.0
        self._dependents[node] = Dependent(runs_on, delay, _span(call.task.call_expires))

    def add_jobs(self, task: ComposedTask, jobs: Iterable[NewJob]) -> list[int]:
        """Add jobs of one task that are made already, with what hangs on each; return their nodes."""
        nodes: list[int] = []
        attached, span = task.attached, _span(task.call_expires)
        for new in jobs:
            node = len(self._jobs)
            if attached.after:
                delay = None if task.call_delay is None and new.run_at is not None else task.call_delay or 0.0
                self._dependents[node] = Dependent(attached.runs_on, delay, span)
                expires_at = new.expires_at if span is None else None
                new = msgspec.structs.replace(new, waiting=True, max_pending=None, expires_at=expires_at)  # noqa: PLW2901
            self._add_job(task, new)
            nodes.append(node)
            for _ in self._attach(node, attached):
                pass
        return nodes

    def _attach(self, node: int, attached: Attached) -> Generator[None, None, None]:
        for job in attached.after:
            if job.source is not None and job.source is not self._owner.source:
                raise ValueError(
                    f"{self.tasks[node].name}: after= names job {job.id} of another queue than {self._owner!r}; what "
                    f"runs after it is to be enqueued on that one"
                )
            self._after.append((job.id, job.born, node))
        for call, runs_on in ((attached.on_success, RunsOn.SUCCESS), (attached.on_failure, RunsOn.FAILURE)):
            if call is None:
                continue
            first = len(self._jobs)
            new = call.new_job(self._now, link=not call.form.takes_nothing, waits=True)
            callback = self._add_job(call.task, new)
            self._edges.append(Edge(node, callback, TAKES_NOTHING if call.form.takes_nothing else 0, own=False))
            self._wait(callback, call, runs_on)
            yield
            yield from self._attach(callback, call.attached)
            self._callbacks.append(Callbacks(node, first, len(self._jobs)))


def _span(expires: float | datetime | None) -> float | None:
    return expires if isinstance(expires, (int, float)) else None
