"""How fast a worker drains 10,000 jobs beside much else: ready, of many lanes, finished, or scheduled for later."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, Plan, ratio, take_turns
from benchmarks.sides import THREADS
from benchmarks.throughput import limit
from litequeue import Queue, Status

if TYPE_CHECKING:
    from collections.abc import Callable

JOBS = 10_000
WARMING = 1_000  # until the worker has seen how long a job takes
A_CALL = 10_000
A_LANE = 20  # jobs of one lane that are enqueued together
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


CASES = (
    Case("10,000 ready", 10_000),
    Case("100,000 ready", 100_000),
    Case("1,000,000 ready", 1_000_000),
    Case("10,000 ready, 1,000,000 finished", 10_000, finished=1_000_000),
    Case("10,000 ready, 200,000 scheduled", 10_000, scheduled=200_000),
    Case("200,000 ready, 200 lanes", 200_000, tasks=4, queues=50),
    Case("200,000 ready, 10,000 lanes", 200_000, tasks=200, queues=50),
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
    return [_figure(case.name, samples) for case in CASES]


def _figure(name: str, samples: dict[str, list[float]]) -> Figure:
    note = "" if name == CASES[0].name else f"{ratio(samples, name, CASES[0].name):.2f} of {CASES[0].name}"
    value = statistics.median(samples[name])
    return Figure(f"drain, {name}", "normal", value, "jobs/s", ratio(samples, name, "floor"), note=note)


class Backlog:
    """A file that holds what a case asks for, and is brought back to that before each drain."""

    def __init__(self, path: str, case: Case, plan: Plan) -> None:
        self._warming, self._jobs = plan.size(WARMING, least=10), plan.size(JOBS, least=100)
        self._ready = plan.size(case.ready, least=100) + 2 * self._warming
        self._queue = Queue(path, durability="normal")
        self._begun = itertools.count(1)
        self._marks: dict[int, float] = {}
        self._over = threading.Event()
        tasks = [self._queue.task(name=f"add{number}")(self._add) for number in range(case.tasks)]
        self._a_call = A_CALL if case.tasks * case.queues == 1 else A_LANE
        self._lanes = itertools.cycle(
            [task.using(queue=f"queue{number}") for task in tasks for number in range(case.queues)]
        )
        self._store(plan.size(case.finished) if case.finished else 0)
        self._queue.worker(threads=THREADS).run(until_idle=True)
        self._store(plan.size(case.scheduled) if case.scheduled else 0, delay="7d")

    def _add(self, a: int, b: int) -> int:
        number = next(self._begun)
        if number == self._warming:
            self._marks[0] = time.perf_counter()
        elif number == self._warming + self._jobs:
            self._marks[1] = time.perf_counter()
            self._over.set()
        return a + b

    def _store(self, count: int, delay: str | None = None) -> None:
        for first in range(0, count, self._a_call):
            lane = next(self._lanes) if delay is None else next(self._lanes).using(delay=delay)
            lane.enqueue_many([(number, 2) for number in range(first, min(count, first + self._a_call))])

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
