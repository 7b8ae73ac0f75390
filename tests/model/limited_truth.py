"""What limits must hold to, in plain Python: what each task takes, and of what runs and has started. Knows no SQL."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from litequeue.limits import rate as rates
from litequeue.limits.limit import Allowed
from litequeue.limits.rate import Rate
from model.row import must_be

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litequeue.core.records import Claimed

WINDOW = 10.0
NEAR = 1e-6  # seconds


class Use(NamedTuple):
    """One limit of a task. `cost` None: the job says it."""

    limit: str
    keyed: bool
    cost: int | None


TASKS: dict[str, tuple[Use, ...]] = {
    "plain": (),
    "one": (Use("pool", False, 1),),
    "two": (Use("pool", False, 2),),
    "keyed": (Use("keyed", True, 1),),
    "ordered": (Use("ordered", True, 1),),
    "rated": (Use("rated", False, 1),),
    "smooth": (Use("smooth", False, 1),),
    "costly": (Use("costly", True, None),),
    "both": (Use("both", True, 1), Use("pool", False, 1)),
    "heavy": (Use("heavy", True, None),),
}
LIMITS: dict[str, Allowed] = {
    "pool": Allowed(concurrency=3),
    "keyed": Allowed(concurrency=1),
    "ordered": Allowed(concurrency=1),
    "rated": Allowed(rate=Rate(5, WINDOW)),
    "smooth": Allowed(rate=Rate(5, WINDOW, smooth=True)),
    "costly": Allowed(rate=Rate(9, WINDOW)),
    "both": Allowed(concurrency=2),
    "heavy": Allowed(concurrency=4),
}
MOST_COST = {"costly": 3, "heavy": 4}
KEYS = ("k1", "k2", "k3")


class Take(NamedTuple):
    """So much of one key of a limit."""

    limit: str
    key: str
    cost: int


class Waiting(NamedTuple):
    """A job that could begin but for rules, as it stands in the file."""

    id: int
    task: str
    queue: str
    rank: int
    takes: str | None
    parked: bool

    @property
    def place(self) -> tuple[int, int]:
        """Its place in its lane."""
        return self.rank, self.id


class Counted(NamedTuple):
    """A start, or a claim that counts as one; `run`: of which job and attempt."""

    at: float
    cost: int
    run: tuple[str, int]


@dataclass
class LimitTruth:
    """What holds and what is taken. `undeclared`: tasks whose rules the code has taken away."""

    operator: dict[str, Allowed] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)  # tasks and queues
    undeclared: set[str] = field(default_factory=set)
    running: dict[tuple[str, int], tuple[str, str | None]] = field(default_factory=dict)  # task, and what it says
    starts: dict[tuple[str, str], list[Counted]] = field(default_factory=dict)
    counted: dict[tuple[str, str], list[Counted]] = field(default_factory=dict)  # claims, whether or not begun
    changes: dict[str, list[tuple[float, Allowed]]] = field(default_factory=dict)  # until when what was allowed
    holders: dict[str, str] = field(default_factory=dict)  # of keys whose jobs keep their order

    def allowed(self, limit: str) -> Allowed:
        return self.operator.get(limit, LIMITS[limit])

    def takes(self, task: str, said: str | None) -> list[Take] | None:
        """What a job takes; None: it does not say."""
        uses = () if task in self.undeclared else TASKS[task]
        says: dict[str, Any] = {} if said is None else json.loads(said)
        found: list[Take] = []
        for use in uses:
            key, cost = says.get(use.limit, (None, None))
            if (use.keyed and key is None) or (use.cost is None and cost is None):
                return None
            found.append(Take(use.limit, key or "", cost if use.cost is None else use.cost))
        return found

    def in_use(self, limit: str, key: str) -> int:
        """How much of a key all runs hold that have not ended, and functions that outlive theirs."""
        held = 0
        for task, said in self.running.values():
            held += sum(take.cost for take in self.takes(task, said) or () if take[:2] == (limit, key))
        return held

    # ---- what is claimed

    def check_claim(
        self, jobs: Iterable[Claimed], said: dict[str, str | None], waiting: list[Waiting], now: float
    ) -> None:
        """What a claim has handed out, given what stood in the file before: no limit is passed, and none overtakes."""
        by_id = {str(job.id): job for job in waiting}
        taken = {job.id for job in jobs}
        for job in jobs:
            takes = self.takes(job.task, said.get(job.id))
            must_be(takes is not None, f"{job} is claimed without saying what it takes")
            must_be(not {job.task, job.queue} & self.paused, f"{job} is claimed though it is paused")
            self.running[job.id, job.attempt] = job.task, said.get(job.id)
            for take in takes or ():
                self.counted.setdefault(take[:2], []).append(Counted(now, take.cost, (job.id, job.attempt)))
                most = self.allowed(take.limit).concurrency or math.inf
                held = self.in_use(take.limit, take.key)
                must_be(held <= most, f"{held} of {most} of {take.limit} {take.key!r} are held: {job}")
            if job.task == "ordered":
                holder = self.holders.setdefault(str(takes and takes[0].key), job.id)
                must_be(holder == job.id, f"{job} begins before {holder} of its key has ended")
            elif takes and TASKS[job.task][0].keyed:
                self._check_place(by_id.get(job.id), takes[0], by_id.values(), taken)

    def _check_place(self, job: Waiting | None, take: Take, waiting: Iterable[Waiting], taken: set[str]) -> None:
        for other in waiting if job is not None else ():
            behind = (other.task, other.queue) != (job.task, job.queue) or other.place >= job.place
            if not behind and str(other.id) not in taken:
                same = (self.takes(other.task, other.takes) or [None])[0]
                must_be(same is None or same[:2] != take[:2], f"{job} overtakes {other} of its key")

    def start(self, job: Claimed, now: float) -> None:
        """A function is called."""
        for start in () if job.held is None else job.held.starts:
            must_be(now <= job.held.start_by, "called too late")
            self._count(start.limit, start.key, now, start.cost, job)

    def _count(self, limit: str, key: str, now: float, cost: int, job: Claimed) -> None:
        line = self.starts.setdefault((limit, key), [])
        line.append(Counted(now, cost, (job.id, job.attempt)))
        used = sum(start.cost for start in line if start.at > now - WINDOW + NEAR)
        most = self._most(limit, now)
        must_be(used <= most, f"{used} starts of {limit} {key!r} in a window, of {most}")

    def _most(self, limit: str, now: float) -> int:
        """The highest rate that held while a function that is called now may have been claimed."""
        held = [allowed.rate for until, allowed in self.changes.get(limit, ()) if until >= now - 2 * rates.LATEST]
        return max(rate.count for rate in (*held, self.allowed(limit).rate) if rate is not None)

    def set_limit(self, limit: str, allowed: Allowed, now: float) -> None:
        """An operator changes what a limit allows."""
        self.changes.setdefault(limit, []).append((now, self.allowed(limit)))
        self.operator[limit] = allowed

    def reboot(self, now: float) -> None:
        """All windows begin full."""
        self.counted = {key: [Counted(now, 10, ("", 0))] for key in self.counted}

    def not_started(self, job: Claimed) -> None:
        """A claim is given back, its function not called."""
        self._correct(self.counted, job, 0)

    def charge(self, job: Claimed, used: int) -> None:
        """A run tells what it has used, less than what it reserved."""
        self._correct(self.starts, job, used)
        self._correct(self.counted, job, used)

    def _correct(self, lines: dict[tuple[str, str], list[Counted]], job: Claimed, used: int) -> None:
        run = job.id, job.attempt
        for key, line in lines.items():
            lines[key] = [each._replace(cost=used) if each.run == run else each for each in line]

    # ---- what is left

    def check_left(self, waiting: list[Waiting], now: float) -> None:
        """After a claim that could have had more: nothing is left that could begin."""
        open_ones = [job for job in waiting if not {job.task, job.queue} & self.paused]
        for job in open_ones:
            must_be(self.takes(job.task, job.takes) != [], f"{job} takes of no limit and is left")
        for limit in LIMITS:
            if limit == "both":  # whose lanes another limit closes
                continue
            keyed = any(use[:2] == (limit, True) for uses in TASKS.values() for use in uses)
            for heads in self._heads(limit, open_ones, keyed=keyed):  # of several lanes any may be the first
                fits = all(self._fits(job, now) for job in heads)
                must_be(not fits, f"{limit} has room at {now} and this is left: {heads}")

    def _heads(self, limit: str, waiting: list[Waiting], *, keyed: bool) -> list[list[Waiting]]:
        """Of each key of a limit, the first that waits in each lane, or in each queue where it has no keys."""
        heads: dict[str, dict[tuple[str, ...], Waiting]] = {}
        for job in sorted(waiting, key=lambda job: job.place):
            take = next((take for take in self.takes(job.task, job.takes) or () if take.limit == limit), None)
            if take is not None and (keyed or not job.parked):
                heads.setdefault(take.key, {}).setdefault((job.queue, job.task) if keyed else (job.queue,), job)
        return [[*lanes.values()] for lanes in heads.values()]

    def _fits(self, job: Waiting, now: float) -> bool:
        return all(self._has_room(take, job, now) for take in self.takes(job.task, job.takes) or [])

    def _has_room(self, take: Take, job: Waiting, now: float) -> bool:
        allowed = self.allowed(take.limit)
        if take.limit == "ordered" and self.holders.get(take.key, str(job.id)) != str(job.id):
            return False
        if self.in_use(take.limit, take.key) + take.cost > (allowed.concurrency or math.inf):
            return False
        if allowed.rate is None:
            return True
        return self._may_start(allowed.rate, take, now)

    def _may_start(self, rate: Rate, take: Take, now: float) -> bool:
        """Whether it may by far: what is kept of starts is later than they, by a slice or so."""
        slack = 2 * rate.window / rates.SLICES + rates.LATEST
        line = self.counted.get((take.limit, take.key), [])
        if rate.smooth:
            return all(each.at + slack + each.cost * rate.window / rate.count <= now for each in line[-1:])
        return sum(each.cost for each in line if each.at > now - rate.window - slack) + take.cost <= rate.count
