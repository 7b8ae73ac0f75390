"""How fast a worker drains 10,000 jobs beside much else, and how soon an urgent one begins among many due at once."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figure, Plan, ratio, take_turns
from benchmarks.sides import THREADS
from benchmarks.throughput import limit
from litequeue import Queue, Status

if TYPE_CHECKING:
    from collections.abc import Callable

JOBS = 10_000
WARMING = 1_000  # until the worker has seen how long a job takes
A_CALL = 10_000
URGENT = 20_000  # jobs that are due at the same moment as an urgent one
FEW_DUE = 200
LONGEST = 120.0  # seconds for one drain


@dataclass(frozen=True)
class Case:
    """What the file holds when the drain begins."""

    name: str
    ready: int
    finished: int = 0
    scheduled: int = 0
    tasks: int = 1  # of every queue
    queues: int = 1
    expired: int = 0  # before those that are ready
    keys: bool = False  # each ready job has one of its own


CASES = (
    Case("10,000 ready", 10_000),
    Case("100,000 ready", 100_000),
    Case("1,000,000 ready", 1_000_000),
    Case("10,000 ready, 1,000,000 finished", 10_000, finished=1_000_000),
    Case("10,000 ready, 200,000 scheduled", 10_000, scheduled=200_000),
    Case("200,000 ready, 200 lanes", 200_000, tasks=4, queues=50),
    Case("1,000,000 ready, 10,000 lanes", 1_000_000, tasks=200, queues=50),
    Case("10,000 ready, 500,000 expired", 10_000, expired=500_000),
    Case("1,000,000 ready, each with a key", 1_000_000, keys=True),
)


def measure(plan: Plan) -> list[Figure]:
    jobs = plan.size(JOBS, least=100)
    with tempfile.TemporaryDirectory(prefix="bench") as folder, contextlib.ExitStack() as stack:
        sides: dict[str, Callable[[], float]] = {"floor": lambda: limit("drain", "normal", jobs)}
        for number, case in enumerate(CASES):
            backlog = Backlog(f"{folder}/{number}.db", case, plan)
            stack.callback(backlog.close)
            sides[case.name] = backlog.drain
        samples = take_turns(plan.rounds, sides)
        urgent = {
            f"{count:,}": partial(until_urgent, f"{folder}/due.db", plan.size(count)) for count in (FEW_DUE, URGENT)
        }
        waits = take_turns(plan.rounds, urgent)
    return [*[_figure(case.name, samples) for case in CASES], _urgent_figure(waits)]


def _figure(name: str, samples: dict[str, list[float]]) -> Figure:
    note = "" if name == CASES[0].name else f"{ratio(samples, name, CASES[0].name):.2f} of {CASES[0].name}"
    value = statistics.median(samples[name])
    return Figure(f"drain, {name}", "normal", value, "jobs/s", ratio(samples, name, "floor"), note=note)


def _urgent_figure(waits: dict[str, list[float]]) -> Figure:
    few, many = waits
    note = f"{ratio(waits, many, few):.2f} of the wait among {few}"
    return Figure(
        f"begin of an urgent job, {many} due at once", "normal", statistics.median(waits[many]), "ms", note=note
    )


def until_urgent(path: str, others: int) -> float:
    """Give after how many milliseconds a job of the highest priority began, due with so many others and stored last."""
    begun: list[float] = []
    over = threading.Event()
    with Queue(path, durability="normal") as queue:
        other = queue.task(name="other")(lambda: None)

        @queue.task(name="urgent")
        def urgent() -> None:
            begun.append(time.perf_counter())
            over.set()

        for first in range(0, others, A_CALL):
            other.using(delay=0.001).enqueue_many([()] * min(A_CALL, others - first))
        urgent.using(delay=0.001, priority=100).enqueue()
        time.sleep(0.01)  # all are due
        with queue.worker(threads=THREADS):
            started = time.perf_counter()
            if not over.wait(LONGEST):
                raise TimeoutError(f"the urgent job had not begun after {LONGEST:g} s")
        queue.worker(threads=THREADS).run(until_idle=True)
    return (begun[0] - started) * 1000


class Backlog:
    """A file that holds what a case asks for, and is brought back to that before each drain."""

    def __init__(self, path: str, case: Case, plan: Plan) -> None:
        self._warming, self._jobs = plan.size(WARMING, least=10), plan.size(JOBS, least=100)
        self._ready = plan.size(case.ready, least=100) + 2 * self._warming
        self._queue = Queue(path, durability="normal")
        self._begun = itertools.count(1)
        self._marks: dict[int, float] = {}
        self._over = threading.Event()
        tasks = [self._queue.task(name=f"add{number}", unique=case.keys)(self._add) for number in range(case.tasks)]
        self._a_call = A_CALL if case.tasks * case.queues == 1 else 1
        self._numbers = itertools.count()
        self._lanes = itertools.cycle(
            [task.using(queue=f"queue{number}") for task in tasks for number in range(case.queues)]
        )
        self._store(plan.size(case.finished) if case.finished else 0)
        self._queue.worker(threads=THREADS).run(until_idle=True)
        self._store(plan.size(case.scheduled) if case.scheduled else 0, delay="7d")
        self._expired = plan.size(case.expired) if case.expired else 0
        self._store(self._expired, expires=0.001)
        self._ready += self._expired

    def _add(self, a: int, b: int) -> int:
        number = next(self._begun)
        if number == self._warming:
            self._marks[0] = time.perf_counter()
        elif number == self._warming + self._jobs:
            self._marks[1] = time.perf_counter()
            self._over.set()
        return a + b

    def _store(self, count: int, **options: Any) -> None:
        for first in range(0, count, A_CALL):
            last = min(count, first + A_CALL)
            with self._queue.transaction():
                for start in range(first, last, self._a_call):
                    lane = next(self._lanes).using(**options)
                    size = min(self._a_call, last - start)
                    lane.enqueue_many([(number, 2) for number in itertools.islice(self._numbers, size)])

    def drain(self) -> float:
        """Give how many functions a second began, of so many after the first thousand."""
        ready = sum(count.jobs for count in self._queue.engine.jobs.counts() if count.status is Status.QUEUED)
        self._store(self._ready - ready)
        self._begun = itertools.count(1)
        self._over.clear()
        with self._queue.worker(threads=THREADS):
            if not self._over.wait(LONGEST):
                raise TimeoutError(f"{next(self._begun) - 1:,} jobs began in {LONGEST:g} s")
        return self._jobs / (self._marks[1] - self._marks[0])

    def close(self) -> None:
        """Close the file."""
        self._queue.close()
