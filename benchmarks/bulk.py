"""How much many jobs at once cost beside few: enqueue_many() by its size, its chunks, and cancel --all."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import threading
import time
import tracemalloc
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figure, Plan, percentile, ratio, take_turns
from litequeue import Queue
from litequeue.ipc.notifier import WORK, Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.figures import Samples

MANY = 1_000_000
SIZES = {1: 1_000, 10: 5_000, 100: 50_000, 1_000: 100_000, 10_000: 100_000}  # calls at once: jobs in all
FEW = 10_000
CHUNK = 1_000
CANCELLED, WORKERS = 4_000, 400  # two sockets each; most systems let a process open 1,024 files


def measure(plan: Plan) -> list[Figure]:
    many, few = plan.size(MANY, least=2_000), plan.size(FEW, least=1_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of 10,000 calls and more
        return [
            *_rates(plan, "full"),
            *_rates(plan, "normal"),
            *_of_many(plan, many, few),
            _stops(plan, many, few),
            _waits(plan, many, few),
            _cancels(plan),
        ]


class _Side:
    """A fresh file with one task."""

    def __init__(self, folder: str, durability: Any = "normal") -> None:
        self.queue = Queue(f"{folder}/litequeue.db", durability=durability)

        @self.queue.task(name="add")
        def add(a: int, b: int) -> int:
            return a + b

        self.add = add
        add.enqueue(0, 0)


@contextlib.contextmanager
def _side(durability: str = "normal") -> Iterator[_Side]:
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        side = _Side(folder, durability)
        try:
            yield side
        finally:
            side.queue.close()


def _calls(count: int) -> Iterator[tuple[int, int]]:
    return ((number, 2) for number in range(count))


def _compared(name: str, samples: Samples, one: str, other: str, unit: str, durability: str = "normal") -> Figure:
    note = "" if one == other else f"{ratio(samples, one, other):.2f} of {other}"
    return Figure(f"{name}, {one}" if one else name, durability, statistics.median(samples[one]), unit, note=note)


# ---- rates


def _rates(plan: Plan, durability: str) -> list[Figure]:
    sides: dict[str, Callable[[], float]] = {}
    for size, jobs in SIZES.items():
        count = max(size, plan.size(jobs))
        sides[f"{size:,} a call"] = partial(_rate, durability, size, count)
    samples = take_turns(plan.rounds, sides)
    return [_compared("enqueue_many", samples, name, f"{CHUNK:,} a call", "jobs/s", durability) for name in sides]


def _rate(durability: str, size: int, count: int) -> float:
    calls = [list(_calls(size))] * (count // size)
    with _side(durability) as side:
        began = time.perf_counter()
        for each in calls:
            side.add.enqueue_many(each)
        return len(calls) * size / (time.perf_counter() - began)


# ---- one transaction of many, and chunks


def _of_many(plan: Plan, many: int, few: int) -> list[Figure]:
    base = f"{few:,} in one transaction"
    cases: dict[str, tuple[int, dict[str, Any]]] = {
        base: (few, {}),
        f"{many:,} in one transaction": (many, {}),
        f"{many:,} with chunk={CHUNK:,}": (many, {"chunk": CHUNK}),
    }
    rounds = min(2, plan.rounds)
    rates = take_turns(rounds, {name: partial(_stored, *case) for name, case in cases.items()})
    memory = take_turns(1, {name: partial(_memory, *case) for name, case in cases.items()})
    return [
        *(_compared("enqueue_many", rates, name, base, "jobs/s") for name in cases),
        *(_compared("peak of Python's memory", memory, name, base, "KiB") for name in cases),
    ]


def _stored(count: int, options: dict[str, Any]) -> float:
    with _side() as side:
        began = time.perf_counter()
        side.add.enqueue_many(_calls(count), **options)
        return count / (time.perf_counter() - began)


def _memory(count: int, options: dict[str, Any]) -> float:
    with _side() as side:
        tracemalloc.start()
        try:
            side.add.enqueue_many(_calls(count), **options)
            return tracemalloc.get_traced_memory()[1] / 1024
        finally:
            tracemalloc.stop()


# ---- what others notice


def _stops(plan: Plan, many: int, few: int) -> Figure:
    base, name = f"aenqueue_many of {few:,}", f"aenqueue_many of {many:,}"
    samples = take_turns(plan.rounds, {base: lambda: _stop(few), name: lambda: _stop(many)})
    return _compared("longest stop of the loop", samples, name, base, "ms")


def _stop(count: int) -> float:
    async def main(side: _Side) -> float:
        gaps: list[float] = []

        async def tick() -> None:
            last = time.perf_counter()
            while True:
                await asyncio.sleep(0.001)
                now = time.perf_counter()
                gaps.append(now - last)
                last = now

        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0.01)
        await side.add.aenqueue_many(_calls(count))
        await asyncio.sleep(0.01)
        ticking.cancel()
        return max(gaps) * 1e3

    with _side() as side:
        return asyncio.run(main(side))


def _waits(plan: Plan, many: int, few: int) -> Figure:
    base, name = f"beside {few:,} with chunk={CHUNK:,}", f"beside {many:,} with chunk={CHUNK:,}"
    samples = take_turns(plan.rounds, {base: lambda: _wait(few), name: lambda: _wait(many)})
    return _compared("an enqueue, p99", samples, name, base, "ms")


def _wait(count: int) -> float:
    over = threading.Event()
    with _side() as side:

        def store() -> None:
            side.add.enqueue_many(_calls(count), chunk=CHUNK)
            over.set()

        storing = threading.Thread(target=store)
        storing.start()
        waits: list[float] = []
        while not (over.is_set() and waits):
            began = time.perf_counter()
            side.add.enqueue(1, 2)
            waits.append(time.perf_counter() - began)
            time.sleep(0.002)
        storing.join()
    return percentile(waits, 99) * 1e3


def _cancels(plan: Plan) -> Figure:
    jobs, workers = plan.size(CANCELLED, least=100), plan.size(WORKERS, least=2)
    base, name = "no worker", f"{workers} workers"
    samples = take_turns(plan.rounds, {base: lambda: _cancel(jobs, 0), name: lambda: _cancel(jobs, workers)})
    return _compared(f"{jobs:,} jobs cancelled in chunks", samples, name, base, "ms")


def _cancel(jobs: int, workers: int) -> float:
    with _side() as side, contextlib.ExitStack() as stack:
        store: Any = side.queue.engine
        for _ in range(workers):
            stack.callback(Listener(store.directory, WORK).close)
        side.add.enqueue_many(_calls(jobs), chunk=CHUNK)
        began = time.perf_counter()
        for _ in store.bulk.cancel(store.bulk.unfinished()):
            pass
        return (time.perf_counter() - began) * 1e3
