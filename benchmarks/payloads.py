"""What large payloads and results cost beside small ones: others that wait for the lock, memory, and the drain."""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, Plan, ratio, take_turns
from benchmarks.sides import THREADS
from litequeue import Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

SMALL = 100  # bytes
KIB, MIB = 1024, 1024 * 1024
EVERY = 0.002  # seconds between the enqueues beside it
PAGE = os.sysconf("SC_PAGE_SIZE")


def measure(plan: Plan) -> list[Figure]:
    warnings.filterwarnings("ignore", message="the arguments of task take")
    few, many = plan.size(100, least=10), plan.size(2_000, least=100)
    return [
        *_waits(plan, f"{few} cancelled", 4 * MIB, lambda queue, size: _cancel(queue, size, few)),
        *_waits(plan, f"{few} run", MIB, lambda queue, size: _run(queue, size, 0, few)),
        *_waits(plan, f"{few} results", MIB, lambda queue, size: _run(queue, 0, size, few)),
        *_rates(plan, many),
    ]


class Beside:
    """Enqueues of a small job, one after another, while something else happens; and the memory meanwhile."""

    def __init__(self, queue: Queue) -> None:
        self._beside = queue.task(name="beside", queue="beside")(_nothing)
        self.longest = 0.0
        self._begun, self._over = threading.Event(), threading.Event()
        self._before = self._most = _memory()

    @contextmanager
    def running(self) -> Generator[None, None, None]:
        """Enqueue during the block."""
        thread = threading.Thread(target=self._enqueue)
        thread.start()
        self._begun.wait()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _enqueue(self) -> None:
        self._beside.enqueue()
        self._begun.set()
        while True:
            began = time.perf_counter()
            self._beside.enqueue()
            self.longest = max(self.longest, time.perf_counter() - began)
            self._most = max(self._most, _memory())
            if self._over.wait(EVERY):
                return

    @property
    def grown(self) -> float:
        """How much memory came in the block, in bytes."""
        return self._most - self._before


def _nothing() -> None:
    return None


def _memory() -> int:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE
    except OSError:
        return 0


def _cancel(queue: Queue, size: int, jobs: int) -> Beside:
    """Cancel all in one transaction, as `litequeue cancel --all` does."""
    task = queue.task(name="task")(_echo)
    stored = [task.enqueue("7" * size, 0) for _ in range(jobs)]
    beside = Beside(queue)
    with beside.running(), queue.transaction():
        for job in stored:
            job.cancel()
    return beside


def _run(queue: Queue, size: int, result: int, jobs: int) -> Beside:
    task = queue.task(name="task")(_echo)
    for _ in range(jobs):
        task.enqueue("7" * size, result)
    beside = Beside(queue)
    with beside.running():
        queue.worker(threads=THREADS, queues=["default"]).run(until_idle=True)
    return beside


def _echo(_payload: str, result: int) -> str:
    return "7" * result


def _waits(plan: Plan, what: str, size: int, work: Callable[[Queue, int], Beside]) -> list[Figure]:
    """The longest enqueue beside it, and how much memory it took, for small jobs and for large ones."""
    grown: dict[str, list[float]] = {}

    def side(name: str, each: int) -> float:
        with _queue() as queue:
            beside = work(queue, each)
        grown.setdefault(name, []).append(beside.grown / MIB)
        return beside.longest * 1000

    sides = {"small": lambda: side("small", SMALL), "large": lambda: side("large", size)}
    samples = take_turns(plan.rounds, sides)
    name = f"longest enqueue beside: {what}, {size // MIB} MiB each"
    memory = statistics.median(grown["large"])
    note = f"{ratio(samples, 'large', 'small'):.1f} of {SMALL} B each; memory {memory:+.0f} MiB"
    return [Figure(name, "normal", statistics.median(samples["large"]), "ms", note=note)]


def _rates(plan: Plan, jobs: int) -> list[Figure]:
    """How fast jobs of a size are drained, beside small ones."""
    sizes = {"100 B": SMALL, "1 KiB": 1000, "4 KiB": 4 * KIB, "64 KiB": 64 * KIB}
    sides: dict[str, Callable[[], float]] = {}
    for name, size in sizes.items():
        few = jobs if size < MIB // 64 else max(10, jobs // 4)
        sides[f"payloads of {name}"] = lambda size=size, few=few: _drain(size, 0, few)  # type: ignore[misc]
        sides[f"results of {name}"] = lambda size=size, few=few: _drain(0, size, few)  # type: ignore[misc]
    samples = take_turns(plan.rounds, sides)
    return [_rate(name, samples) for name in sides]


def _rate(name: str, samples: dict[str, list[float]]) -> Figure:
    small = f"{name.partition(' of ')[0]} of 100 B"
    note = "" if name == small else f"{ratio(samples, name, small):.2f} of 100 B"
    return Figure(f"drain, {name}", "normal", statistics.median(samples[name]), "jobs/s", note=note)


def _drain(size: int, result: int, jobs: int) -> float:
    with _queue() as queue:
        task = queue.task(name="task")(_echo)
        for first in range(0, jobs, 100):
            task.enqueue_many([("7" * size, result)] * min(100, jobs - first))
        began = time.perf_counter()
        queue.worker(threads=THREADS).run(until_idle=True)
        return jobs / (time.perf_counter() - began)


@contextmanager
def _queue() -> Generator[Queue, None, None]:
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        queue = Queue(f"{folder}/app.db", durability="normal", max_payload=8 * MIB)
        try:
            yield queue
        finally:
            queue.close()
