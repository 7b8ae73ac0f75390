"""What limits cost: a full key at the head, many keys, and limits that no job takes of. Costs are CPU time."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import tempfile
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figure, Plan, Samples, ratio, take_turns
from benchmarks.sides import THREADS
from litequeue import Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FULL = 100_000  # jobs of one full key
BEHIND = 10_000  # jobs of other keys, after them
KEYS, OF_A_KEY = 10_000, 10
PLAIN = 20_000
UNUSED = 100  # limits
A_CALL = 10_000
LONGEST = 120.0  # seconds


def measure(plan: Plan) -> list[Figure]:
    """Each against the same jobs without what it is about, in turns."""
    return [*_full_key(plan), *_many_keys(plan), *_unused(plan)]


@contextlib.contextmanager
def _queue() -> Iterator[Queue]:
    with (
        tempfile.TemporaryDirectory(prefix="bench") as folder,
        Queue(f"{folder}/limits.db", durability="normal") as queue,
    ):
        yield queue


def _store(task: Any, keys: list[int]) -> None:
    for first in range(0, len(keys), A_CALL):
        task.enqueue_many([(key,) for key in keys[first : first + A_CALL]])


# ---- a full key at the head


def _full_key(plan: Plan) -> list[Figure]:
    full, behind = plan.size(FULL, least=100), plan.size(BEHIND, least=100)
    waits: list[float] = []
    cpu: Samples = {"behind": [], "alone": []}
    for turn in range(plan.rounds):
        for side in sorted(cpu, reverse=bool(turn % 2)):
            wait, cost = _beside(full if side == "behind" else 1, behind)
            cpu[side].append(cost)
            waits += [wait * 1000] if side == "behind" else []
    note = f"{ratio(cpu, 'behind', 'alone'):.2f} of the same where one job is of the full key"
    first, after = f"first start behind {full:,} jobs of a full key", f"CPU of a job after {full:,} of a full key"
    return [
        Figure(first, "normal", statistics.median(waits), "ms"),
        Figure(after, "normal", statistics.median(cpu["behind"]), "us", note=note),
    ]


def _beside(full: int, behind: int) -> tuple[float, float]:
    """Give how soon a job of another key begins, and the CPU of jobs that are stored and run afterwards."""
    release, other, over = threading.Event(), threading.Event(), threading.Event()
    numbers = itertools.count(1)
    with _queue() as queue:

        @queue.task(name="work", limit_key="{key}", concurrency=1)
        def work(key: int) -> None:
            if key == 0:
                release.wait(LONGEST)
            elif key == 1:
                other.set()
            elif next(numbers) == behind:
                over.set()

        _store(work, [0] * full)
        work.enqueue(1)
        began = time.perf_counter()
        with queue.worker(threads=THREADS) as worker:
            _await(other)
            wait, cpu = time.perf_counter() - began, time.process_time()
            _store(work, list(range(2, 2 + behind)))
            _await(over)
            cost = (time.process_time() - cpu) / behind * 1e6
            worker.stop()
            release.set()
    return wait, cost


def _await(event: threading.Event) -> None:
    if not event.wait(LONGEST):
        raise TimeoutError(f"a job had not begun after {LONGEST:g} s")


# ---- many keys, and limits without jobs


def _many_keys(plan: Plan) -> list[Figure]:
    keys = plan.size(KEYS, least=10)
    spread = list(range(keys)) * OF_A_KEY
    sides: dict[str, Callable[[], float]] = {
        "plain": partial(_cost, spread),
        "spread": partial(_cost, spread, limit_key="{key}", concurrency=1),
        "in a row": partial(_cost, sorted(spread), limit_key="{key}", concurrency=1),
    }
    cpu = take_turns(plan.rounds, sides)
    return [
        Figure(
            f"CPU of a job, {keys:,} keys of {OF_A_KEY} jobs, {side}",
            "normal",
            statistics.median(cpu[side]),
            "us",
            note=f"{ratio(cpu, side, 'plain'):.2f} of the same without keys",
        )
        for side in ("spread", "in a row")
    ]


def _unused(plan: Plan) -> list[Figure]:
    jobs = [0] * plan.size(PLAIN, least=100)
    cpu = take_turns(plan.rounds, {"with": partial(_cost, jobs, limits=UNUSED), "without": partial(_cost, jobs)})
    note = f"{ratio(cpu, 'without', 'with'):.2f} of the speed without them"
    return [
        Figure(f"CPU of a plain job, {UNUSED} limits unused", "normal", statistics.median(cpu["with"]), "us", note=note)
    ]


def _cost(keys: list[int], *, limits: int = 0, **options: Any) -> float:
    """Give the CPU of a job that is enqueued with others and drained, in microseconds."""
    with _queue() as queue:
        for number in range(limits):
            queue.task(name=f"limited{number}", concurrency=1, rate="10/s")(lambda: None)
        work = queue.task(name="work", **options)(lambda key: key)
        worker = queue.worker(threads=THREADS)
        cpu = time.process_time()
        _store(work, keys)
        worker.run(until_idle=True)
        return (time.process_time() - cpu) / len(keys) * 1e6
