"""What is done at once: callers that share commits, jobs that wait or compute side by side."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks.child import child
from benchmarks.figures import Figure, Plan
from benchmarks.sides import LiteQueue, count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from litequeue import Job, Task

CALLS = 640  # jobs enqueued in a round, by one caller or by many
COROUTINES, CALLERS = 64, 16
SLEEPS, SLEEP = 200, 0.020
SLEEPERS = 50
BURNS, BURN = 2_000, 0.001
SHORT, LONG = 60, 0.5  # short jobs among which a long one comes, and its seconds


def measure(plan: Plan) -> list[Figure]:
    measures: dict[str, Callable[[Plan], Figure]] = {
        "coroutines": many_coroutines,
        "callers": many_threads,
        "sleeping threads": sleeping_threads,
        "sleeping coroutines": sleeping_coroutines,
        "processes": two_processes,
        "mixed": short_behind_long,
    }
    rounds: dict[str, list[Figure]] = {name: [] for name in measures}
    for _ in range(plan.rounds):
        for name, take in measures.items():
            rounds[name].append(take(plan))
    return [sorted(found, key=lambda figure: figure.value)[len(found) // 2] for found in rounds.values()]


# ---- callers that share commits


def many_coroutines(plan: Plan) -> Figure:
    """64 coroutines of one loop enqueue at once, beside one that does it alone."""
    calls = plan.size(CALLS, least=COROUTINES)

    async def caller(side: LiteQueue, share: int) -> None:
        for number in range(share):
            await side.add.aenqueue(number, 2)

    async def callers(side: LiteQueue, many: int) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(caller(side, calls // many) for _ in range(many)))
        return calls / (time.perf_counter() - began)

    with _opened() as side:
        alone = asyncio.run(callers(side, 1))
        together = asyncio.run(callers(side, COROUTINES))
    note = f"a lone coroutine: {alone:,.0f} jobs/s; target 10"
    return Figure(f"{COROUTINES} coroutines that enqueue", "full", together / alone, "x one", note=note)


def many_threads(plan: Plan) -> Figure:
    """16 threads enqueue at once, beside one that does it alone."""
    calls = plan.size(CALLS, least=CALLERS)

    def caller(side: LiteQueue, share: int) -> None:
        for number in range(share):
            side.enqueue(number, 2)

    def callers(side: LiteQueue, many: int) -> float:
        threads = [threading.Thread(target=caller, args=(side, calls // many)) for _ in range(many)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return calls / (time.perf_counter() - began)

    with _opened() as side:
        alone, together = callers(side, 1), callers(side, CALLERS)
    note = f"a lone thread: {alone:,.0f} jobs/s; target 3"
    return Figure(f"{CALLERS} threads that enqueue", "full", together / alone, "x one", note=note)


# ---- jobs that wait


def sleeping_threads(_plan: Plan) -> Figure:
    """200 jobs that sleep 20 ms, on 50 threads: four after another, 80 ms."""
    with _opened("normal") as side:
        took = _span(side, side.nap, SLEEPS, threads=SLEEPERS)
    ideal = SLEEP * SLEEPS / SLEEPERS
    return Figure("200 sleeps of 20 ms on 50 threads", "normal", took / ideal, "x ideal", note="target 1.15")


def sleeping_coroutines(_plan: Plan) -> Figure:
    """200 coroutines that sleep 20 ms, all at once."""
    with _opened("normal") as side:
        took = _span(side, side.anap, SLEEPS, coroutines=SLEEPS)
    return Figure("200 coroutines of 20 ms at once", "normal", took / SLEEP, "x ideal", note="target 1.15")


def _span(side: LiteQueue, task: Task[..., Any], jobs: int, **sizes: Any) -> float:
    """Seconds from the first beginning to the last end, of jobs that a running worker is given in one transaction."""
    with side.queue.worker(**sizes):
        _spans(task.enqueue_many([(SLEEP,)] * SLEEPERS))  # so that the threads are there
        time.sleep(SLEEP * 5)
        spans = _spans(task.enqueue_many([(SLEEP,)] * jobs))
    return (max(end for _, end in spans) - min(begin for begin, _ in spans)) / 1e9


# ---- jobs that compute


def two_processes(plan: Plan) -> Figure:
    """2,000 jobs of 1 ms of pure Python: two worker processes beside one."""
    jobs, steps = plan.size(BURNS, least=50), _steps()
    one, two = (_burn(steps, jobs, processes) for processes in (1, 2))
    note = f"one process: {one:.2f} s for {jobs:,} jobs; target 1.25"
    return Figure("1 ms of Python, 2 processes", "normal", two / (one / 2), "x half of one", note=note)


def _steps() -> int:
    """How many steps take a millisecond here, when nothing else runs."""
    spans = []
    for _ in range(50):
        began = time.perf_counter()
        count(20_000)
        spans.append(time.perf_counter() - began)
    return int(20_000 * BURN / min(spans))


def _burn(steps: int, jobs: int, processes: int) -> float:
    with _opened("normal") as side, contextlib.ExitStack() as stack:
        for _ in range(processes):
            stack.enter_context(child("worker", "litequeue", side.folder, "normal"))
        _spans(side.burn.enqueue_many([(steps,)] * 40))
        spans = _spans(side.burn.enqueue_many([(steps,)] * jobs))
    return (max(end for _, end in spans) - min(begin for begin, _ in spans)) / 1e9


def short_behind_long(_plan: Plan) -> Figure:
    """Two workers of one thread; tiny jobs, so that they are claimed ahead, then a long one among them."""
    with _opened("normal") as side, contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(child("worker", "litequeue", side.folder, "normal", alone=True))
        for job in side.nap.enqueue_many([(0.0,)] * 200):
            job.result(timeout=60)
        calls = [(LONG,) if number == SHORT // 4 else (0.0,) for number in range(SHORT)]
        committed = time.monotonic_ns()
        jobs = side.nap.enqueue_many(calls)
        begins = [job.result(timeout=60)[0] for job, (span,) in zip(jobs, calls, strict=True) if not span]
    waits = [(begin - committed) / 1e6 for begin in begins]
    note = f"p50 {statistics.median(waits):.1f} ms; the long one takes {LONG * 1000:.0f}"
    return Figure("short jobs around a long one, longest wait", "normal", max(waits), "ms", note=note)


def _spans(jobs: list[Job[Any]]) -> list[tuple[int, int]]:
    """Wait for the jobs; when each began and ended, in ns of the machine's monotonic clock."""
    return [job.result(timeout=120) for job in jobs]


@contextlib.contextmanager
def _opened(durability: str = "full") -> Iterator[LiteQueue]:
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        side = LiteQueue(folder, durability)
        try:
            yield side
        finally:
            side.close()
