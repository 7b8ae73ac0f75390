"""How long others wait for the file while a worker with 10,000 schedules starts, starts again, and fires them all."""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks.child import Child, say
from benchmarks.figures import Figure, Plan, ratio
from litequeue import Queue, every

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.figures import Samples

FEW, MANY = 100, 10_000
REST = 0.001  # seconds between two enqueues of the other process
LONGEST = 120.0  # seconds for one step
STEPS = ("a worker's first start", "its next start", "all fire at once")
DUE = "UPDATE litequeue_schedules SET next_at = next_at - 3600"
UNFIRED = "SELECT count(*) FROM litequeue_schedules WHERE last_at IS NULL"


def measure(plan: Plan) -> list[Figure]:
    many = plan.size(MANY, least=FEW)
    waits: Samples = {}
    spans: Samples = {}
    for turn in range(plan.rounds):
        for count in (FEW, many) if turn % 2 else (many, FEW):
            for step, (wait, span) in zip(STEPS, _steps(count), strict=True):
                waits.setdefault(f"{step}, {count:,}", []).append(wait * 1000)
                spans.setdefault(f"{step}, {count:,}", []).append(span)
    return [_figure(step, count, waits, spans) for step in STEPS for count in dict.fromkeys((FEW, many))]


def _figure(step: str, count: int, waits: Samples, spans: Samples) -> Figure:
    name = f"{step}, {count:,}"
    note = f"in {statistics.median(spans[name]):.2f} s"
    if count != FEW:
        note += f"; {ratio(waits, name, f'{step}, {FEW:,}'):.1f} of {FEW} schedules"
    return Figure(
        f"schedules: {name}: longest enqueue beside", "normal", statistics.median(waits[name]), "ms", note=note
    )


def _steps(count: int) -> list[tuple[float, float]]:
    """Each step's longest enqueue of another process, and how long it took, in seconds."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        path = f"{folder}/schedules.db"
        first = _beside(path, lambda: _start(path, count))
        again = _beside(path, lambda: _start(path, count))
        with contextlib.closing(_declared(path, count)) as queue:
            with queue.transaction() as db:
                db.execute(DUE)
            return [first, again, _beside(path, lambda: _fire(queue))]


def _beside(path: str, step: Callable[[], float]) -> tuple[float, float]:
    other = Child(path, module="benchmarks.many_schedules")
    try:
        span = step()
        return other.ask("over"), span
    finally:
        other.end()


def _declared(path: str, count: int) -> Queue:
    queue, hourly = Queue(path, durability="normal"), every("1h")
    for number in range(count):
        queue.task(name=f"task{number}", schedule=hourly)(lambda: None)
    return queue


def _start(path: str, count: int) -> float:
    with contextlib.closing(_declared(path, count)) as queue:
        worker, began = queue.worker(threads=2), time.perf_counter()
        with worker:
            return time.perf_counter() - began


def _fire(queue: Queue) -> float:
    store: Any = queue.engine
    began = time.perf_counter()
    with queue.worker(threads=2):
        while store.kernel.read(lambda db: db.rows(UNFIRED)) != [(0,)]:
            time.sleep(0.02)
            if time.perf_counter() - began > LONGEST:
                raise TimeoutError(f"10,000 schedules did not fire in {LONGEST:g} s")
        return time.perf_counter() - began


# ---- in the other process


def main(path: str) -> None:
    with contextlib.closing(Queue(path, durability="normal")) as queue:
        other = queue.task(name="other")(lambda: None)
        other.enqueue()
        over, longest = threading.Event(), 0.0
        threading.Thread(target=_wait_for_a_line, args=[over], daemon=True).start()
        say("ready")
        while not over.wait(REST):
            began = time.perf_counter()
            other.enqueue()
            longest = max(longest, time.perf_counter() - began)
        say(longest)


def _wait_for_a_line(over: threading.Event) -> None:
    sys.stdin.readline()
    over.set()


if __name__ == "__main__":
    main(*sys.argv[1:])
