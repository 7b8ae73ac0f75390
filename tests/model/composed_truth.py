"""What runs after what, in plain Python: a graph of nodes, walked anew after each event until nothing changes.

It knows no SQL, no counters and no order of levels: only what each node waits for, and how that has ended. Which of
several parents is named as the reason, what has expired and what is pruned is taken from the file, and judged.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.plan import RunsOn
from model.row import (
    CANCELLED,
    EXPIRED,
    FAILED,
    QUEUED,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    WAITING,
    must_be,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from litequeue.core.plan import Dependent, Plan, StoredPlan


class Link(NamedTuple):
    """An edge of the file."""

    parent: int
    child: int
    place: int
    own: bool


@dataclass
class Job:
    """One job. `caused`: the end of a parent has cancelled it, as far as the file says which, `ended_by`."""

    id: int
    task: str
    key: tuple[str, str] | None = None
    scope: str = "kept"
    state: int = QUEUED
    waits: Dependent | None = None
    run_at: float = 0.0
    expires_at: float | None = None
    delete_at: float | None = None
    holds: bool = False  # its key, if it is in its scope
    asked: bool = False  # to end
    caused: bool = False
    ended_by: int | None = None
    lost: frozenset[int] = frozenset()  # parents that had not succeeded, and are pruned
    result: bytes = b""


@dataclass
class Group:
    """One group. `lost`: members that had not succeeded, and are pruned."""

    id: int
    lost: frozenset[int] = frozenset()


@dataclass
class Graph:
    """All of it. `lags`: consequences of ends are put off, and some jobs still wait in the file."""

    jobs: dict[int, Job] = field(default_factory=dict)
    groups: dict[int, Group] = field(default_factory=dict)
    links: set[Link] = field(default_factory=set)
    lags: bool = False
    _up: dict[int, list[Link]] = field(default_factory=dict)
    _down: dict[int, list[Link]] = field(default_factory=dict)

    def _index(self) -> None:
        self._up, self._down = defaultdict(list), defaultdict(list)
        for link in self.links:
            self._up[link.child].append(link)
            self._down[link.parent].append(link)

    def up(self, node: int) -> list[Link]:
        return self._up.get(node, [])

    def down(self, node: int) -> list[Link]:
        return self._down.get(node, [])

    # ---- what is stored

    def add(self, plan: Plan, stored: StoredPlan, now: float) -> None:
        """Note what was stored. A call whose key another job holds, also one of the same plan, is that job."""
        nodes = {place: int(job) for place, job in enumerate(stored.jobs) if job}
        nodes |= {~place: -int(group[1:]) for place, group in enumerate(stored.groups)}
        before, found = {*self.jobs}, set[int]()
        for place, new in enumerate(plan.jobs):
            if place in nodes and nodes[place] in self.jobs:
                found.add(place)
            elif place in nodes:
                self.jobs[nodes[place]] = self._made(nodes[place], new, plan.dependents.get(place), now)
        for place in range(len(plan.groups)):
            self.groups[nodes[~place]] = Group(nodes[~place])
        for edge in plan.edges:
            if edge.parent in nodes and edge.child in nodes and edge.child not in found:
                own = edge.own and nodes[edge.parent] not in before
                self._link(nodes[edge.parent], nodes[edge.child], edge.place, own=own)
        for job, _, place in plan.after:
            if place in nodes and place not in found:
                self._link(int(job), nodes[place], -1, own=False)
        self._index()

    def _link(self, parent: int, child: int, place: int, *, own: bool) -> None:
        if not {Link(parent, child, place, own=True), Link(parent, child, place, own=False)} & self.links:
            self.links.add(Link(parent, child, place, own))

    def _made(self, number: int, new: object, waits: Dependent | None, now: float) -> Job:
        job = Job(number, new.task, key=(new.task, new.key) if new.key else None, scope=new.key_scope, waits=waits)
        job.run_at, job.expires_at = new.run_at or now, new.expires_at
        if waits is not None:
            job.state = WAITING
        elif new.run_at is not None and new.run_at > now:
            job.state = SCHEDULED
        return job

    # ---- how nodes stand

    def is_over(self, node: int) -> bool:
        if node > 0:
            return self.jobs[node].state >= SUCCEEDED
        return all(self.is_over(link.parent) for link in self.up(node))

    def is_bad(self, node: int) -> bool:
        if node > 0:
            return self.jobs[node].state > SUCCEEDED
        return bool(self.groups[node].lost) or any(self.is_bad(link.parent) for link in self.up(node))

    def unended(self, node: int) -> int:
        return sum(not self.is_over(link.parent) for link in self.up(node))

    def reasons(self, node: int) -> Iterator[int]:
        """The jobs that may be named as what ended a node: its parents, and those inside groups among them."""
        yield from (self.groups.get(node) or self.jobs[node]).lost
        for link in self.up(node):
            if link.parent > 0:
                yield link.parent
            else:
                yield from self.reasons(link.parent)

    # ---- ends, and what follows from them

    def end(self, job: int, state: int, *, caused: bool = False) -> None:
        one = self.jobs[job]
        one.state, one.caused, one.ended_by, one.lost = state, caused, None, frozenset()

    def propagate(self, now: float) -> None:
        """Let everything that waits begin or end, until nothing changes. `now`: when the first of its parents ended."""
        self._index()
        changed = True
        while changed:
            changed = False
            for job in self.jobs.values():
                if job.state == WAITING and job.waits is not None and self._decide(job, now):
                    changed = True

    def _decide(self, job: Job, now: float) -> bool:
        parents = [link.parent for link in self.up(job.id)]
        over = all(self.is_over(parent) for parent in parents)
        bad = any(self.is_bad(parent) for parent in parents)
        match job.waits.runs_on:
            case RunsOn.SUCCESS if bad:
                self.end(job.id, CANCELLED, caused=True)
            case RunsOn.FAILURE if over and not any(self.jobs[one].state in (FAILED, EXPIRED) for one in parents):
                self.end(job.id, CANCELLED, caused=True)
            case _ if over:
                delay = job.waits.delay
                job.state = SCHEDULED if (delay or 0.0) > 0 or (delay is None and job.run_at > now) else QUEUED
                job.run_at = job.run_at if delay is None else now + delay
                if job.waits.expires is not None:
                    job.expires_at = now + job.waits.expires
            case _:
                return False
        return True

    # ---- what callers do

    def holder(self, job: Job, now: float) -> Job | None:
        """Another job that holds its key."""
        for other in self.jobs.values():
            if other is not job and job.key is not None and other.key == job.key and other.holds:
                is_kept = other.scope == "kept" and (other.delete_at is None or other.delete_at > now)
                if is_kept or (other.scope != "kept" and other.state < SUCCEEDED):
                    return other
        return None

    def retry(self, job: int, left: Iterable[int]) -> set[int]:
        """A retry that was not refused; return what waits again. `left`: what the file says has lost its key."""
        one = self.jobs[job]
        if one.state == SCHEDULED:
            one.state = QUEUED
            return set()
        waits = bool(self.unended(job))
        self.end(job, WAITING if waits else QUEUED)
        one.asked, one.expires_at = False, None
        causes, revived = {job}, set[int]()
        while True:
            again = [each for each in self.jobs.values() if self._is_healed(each, causes) and each.id not in left]
            if not again:
                return revived
            for each in again:
                each.state, each.caused, each.asked, each.expires_at = WAITING, False, False, None
                causes.add(each.id)
                revived.add(each.id)

    def _is_healed(self, job: Job, causes: set[int]) -> bool:
        if job.state != CANCELLED or not job.caused or job.lost or job.ended_by not in causes:
            return False
        if job.waits.runs_on == RunsOn.FAILURE:
            return not any(self.is_over(link.parent) for link in self.up(job.id))
        return not any(self.is_bad(link.parent) for link in self.up(job.id))

    def whole(self, node: int) -> set[int]:
        """The nodes of the composition that ends here, or nothing."""
        if node > 0 and (not any(link.own for link in self.up(node)) or any(link.own for link in self.down(node))):
            return set()
        found, left = {node}, [node]
        while left:
            for link in self.up(left.pop()):
                if link.own and link.parent not in found:
                    found.add(link.parent)
                    left.append(link.parent)
        return found

    def cancel(self, nodes: Iterable[int]) -> bool:
        """Cancel these jobs, or ask them to end; return whether any had not ended."""
        jobs = [self.jobs[node] for node in nodes if node > 0 and self.jobs[node].state < SUCCEEDED]
        counts = [job for job in jobs if not job.asked]
        for job in jobs:
            job.asked = True
            if job.state != RUNNING:
                self.end(job.id, CANCELLED)
        return bool(counts)

    # ---- what is kept

    def may_be_pruned(self, job: int, now: float) -> str | None:
        """Return why not, or None."""
        one = self.jobs[job]
        if one.state < SUCCEEDED or one.delete_at is None or one.delete_at > now:
            return "it has not been kept long enough"
        return self.needed_by(job, now)

    def is_needed(self, job: int) -> bool:
        """Whether it is there beyond its time."""
        return any(self._is_needed_by(link) for link in self.down(job) if link.place >= 0)

    def _is_needed_by(self, link: Link) -> bool:
        if link.child > 0:
            return self.jobs[link.child].state != SUCCEEDED
        takers = [each.child for each in self.down(link.child) if each.place >= 0 and each.child > 0]
        return not self.is_over(link.child) or any(self.jobs[taker].state != SUCCEEDED for taker in takers)

    def needed_by(self, node: int, now: float) -> str | None:
        for link in self.down(node):
            if link.place < 0:
                continue
            if link.child < 0:
                if not self.is_over(link.child):
                    return f"the group {link.child} has not ended"
                if why := self.needed_by(link.child, now):
                    return why
            else:
                taker = self.jobs[link.child]
                if taker.state != SUCCEEDED and (taker.delete_at is None or taker.delete_at > now):
                    return f"job {taker.id} takes its result"
        return None

    def prune(self, jobs: set[int]) -> None:
        for link in self.links:
            if link.parent in jobs and self.jobs[link.parent].state > SUCCEEDED:
                self._lose(link, link.parent)
        for job in jobs:
            del self.jobs[job]
        self.links = {link for link in self.links if not {link.parent, link.child} & jobs}
        self._index()

    def _lose(self, link: Link, *reasons: int) -> None:
        """What a parent has ended that is pruned does not wait again for the sake of others."""
        one = self.groups.get(link.child) or self.jobs[link.child]
        if isinstance(one, Group) or one.caused:
            one.lost |= {*reasons}

    def drop_groups(self, groups: Iterable[int]) -> None:
        """Groups that are gone from the file."""
        gone = set(groups)
        for group in gone:
            members = [link.parent for link in self.up(group) if link.place >= 0 and link.parent not in gone]
            must_be(not members, f"group {-group} is gone before its members {members}")
        for _ in gone:  # from the innermost out
            for link in self.links:
                if link.parent in gone:
                    self._lose(link, *self.groups[link.parent].lost)
        for group in gone:
            del self.groups[group]
        self.links = {link for link in self.links if not {link.parent, link.child} & gone}
        self._index()
