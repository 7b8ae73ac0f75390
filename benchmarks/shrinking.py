"""How fast an idle worker deletes old jobs and gives pages back, what that costs others, and what it costs a drain."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figure, Plan, percentile, ratio, take_turns
from benchmarks.sides import THREADS
from litequeue import Queue

if TYPE_CHECKING:
    from collections.abc import Callable

FEW, MANY = 100_000, 1_000_000  # old jobs
LARGE = 50_000  # old jobs with a result of 1 kB
JOBS = 100_000  # drained
PAUSE = 0.002  # seconds between the enqueues beside
LONGEST = 300.0  # seconds
OLD = """
INSERT INTO litequeue_jobs
    (task, queue, payload, state, priority, run_at, created_at, attempt, begun, started_at, finished_at, delete_at,
     result)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
SELECT 'work', 'default', CAST('[[1, 2], {}]' AS BLOB), 4, 0, 1.5, 1.5, 1, 1, 2.5, 3.5, 4.5 + i / 1e4,
       CAST(printf('"%.*c"', ?, 'r') AS BLOB) FROM n
"""


def measure(plan: Plan) -> list[Figure]:
    few, many, large = plan.size(FEW, least=1000), plan.size(MANY, least=1000), plan.size(LARGE, least=1000)
    beside = _Beside()
    sides: dict[str, Callable[[], float]] = {
        "few": lambda: _shrunk(few, 1, _Beside()),
        "many": lambda: _shrunk(many, 1, beside),
        "large": lambda: _shrunk(large, 1000, _Beside()),
        "alone": lambda: _alone(beside),
    }
    jobs = plan.size(JOBS, least=1000)
    drains: dict[str, Callable[[], float]] = {
        "nothing old": lambda: _drained(jobs, 0),
        "old": lambda: _drained(jobs, jobs),
    }
    samples = {**take_turns(min(plan.rounds, 3), sides), **take_turns(plan.rounds, drains)}
    alone = statistics.median(samples["alone"])
    p99 = percentile(beside.spans, 99) * 1000
    return [
        _rate(f"idle worker, {few:,} old jobs gone and pages back", samples, "few", "few"),
        _rate(f"idle worker, {many:,} old jobs gone and pages back", samples, "many", "few"),
        _rate(f"the same, {large:,} with a result of 1 kB", samples, "large", "few"),
        Figure("enqueue beside that, p99", "normal", p99, "ms", note=f"{p99 / alone:.1f} of alone"),
        _rate("drain beside as many old jobs", samples, "old", "nothing old"),
    ]


def _rate(name: str, samples: dict[str, list[float]], side: str, other: str) -> Figure:
    note = "" if side == other else f"{ratio(samples, side, other):.2f} of {other}"
    return Figure(name, "normal", statistics.median(samples[side]), "jobs/s", note=note)


class _Beside:
    """Seconds that each enqueue of one caller took."""

    def __init__(self) -> None:
        self.spans: list[float] = []

    def enqueue(self, task: Any) -> None:
        time.sleep(PAUSE)
        began = time.perf_counter()
        task.using(delay="7d").enqueue(1, 2)
        self.spans.append(time.perf_counter() - began)


def _queue(folder: str) -> tuple[Queue, Any]:
    queue = Queue(Path(folder) / "queue.db", durability="normal")
    return queue, queue.task(name="work")(lambda a, b: a + b)


def _shrunk(count: int, result: int, beside: _Beside) -> float:
    """Give how many old jobs a second, until they are gone and their pages have been given back."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        queue, task = _queue(folder)
        with queue:
            with queue.transaction() as db:
                db.execute(OLD, (count, result))
            full = _pages(queue)
            began = time.perf_counter()
            with queue.worker(threads=1):
                while not _is_small(queue, full):
                    if time.perf_counter() - began > LONGEST:
                        raise TimeoutError(f"{_pages(queue):,} of {full:,} pages are left after {LONGEST:g} s")
                    beside.enqueue(task)
            return count / (time.perf_counter() - began)


def _is_small(queue: Queue, full: int) -> bool:
    return queue.engine.maintenance.next_prune() is None and _pages(queue) < full / 3 + 300  # type: ignore[attr-defined]


def _pages(queue: Queue) -> int:
    [(pages,)] = queue.engine.kernel.read(lambda db: db.rows("PRAGMA page_count"))  # type: ignore[attr-defined]
    return int(pages)


def _alone(beside: _Beside) -> float:
    """Give the p99 in milliseconds of as many enqueues beside an idle worker with nothing to do."""
    alone = _Beside()
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        queue, task = _queue(folder)
        with queue, queue.worker(threads=1):
            for _ in range(max(100, min(2000, len(beside.spans)))):
                alone.enqueue(task)
    return percentile(alone.spans, 99) * 1000


def _drained(count: int, old: int) -> float:
    """Give the rate of a drain, in a file that holds so many old jobs besides."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        queue, task = _queue(folder)
        with queue:
            if old:
                with queue.transaction() as db:
                    db.execute(OLD, (old, 1))
            for _ in range(0, count, 10_000):
                task.enqueue_many([(1, 2)] * min(count, 10_000))
            began = time.perf_counter()
            queue.worker(threads=THREADS).run(until_idle=True)
            return count / (time.perf_counter() - began)
