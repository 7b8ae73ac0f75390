"""What emitting a value costs the task that does it, and how long it takes to a reader in another process."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, percentile
from benchmarks.streams_child import latencies, open_queue, tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures import Plan
    from litequeue import Task

VALUES = 10_000  # as many as one run may emit
SAMPLES = 300
CHILD = Path(__file__).with_name("streams_child.py")


def measure(plan: Plan) -> list[Figure]:
    """Emit as many values as a run may, once a round; then let a process follow another that emits now and then."""
    values, samples = plan.size(VALUES), plan.size(SAMPLES, least=20)
    emitted: list[float] = []
    whole: list[float] = []
    spans: dict[str, list[float]] = {"full": [], "normal": []}
    for _ in range(plan.rounds):
        calls, run = _costs(values)
        emitted.append(calls)
        whole.append(run)
        for durability in spans:
            spans[durability] += _latencies(durability, -(-samples // plan.rounds))
    return [
        Figure("emit, a call", "normal", statistics.median(emitted), "us", note=f"{values:,} in one run"),
        Figure("emit, until its job has ended", "normal", statistics.median(whole), "us", note="all of it, a value"),
        *(
            Figure(f"emit to a reader in another process, p{percent}", durability, percentile(found, percent), "ms")
            for durability, found in spans.items()
            for percent in (50, 90, 99)
        ),
    ]


def _costs(values: int) -> tuple[float, float]:
    """Microseconds a value: of the calls alone, and of all that the job takes, what emits nothing taken off."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder, open_queue(f"{folder}/app.db", "normal") as queue:
        emit, _ = tasks(queue)
        with queue.worker(threads=1):
            emit.enqueue(1).result()
            nothing = _took(emit, 0)[1]
            calls, whole = _took(emit, values)
    return calls / values * 1e6, max(0.0, whole - nothing) / values * 1e6


def _took(emit: Task[[int], float], values: int) -> tuple[float, float]:
    job = emit.enqueue(values)
    calls = job.result()
    job.refresh()
    assert job.started_at is not None
    assert job.finished_at is not None
    return calls, (job.finished_at - job.started_at).total_seconds()


def _latencies(durability: str, samples: int) -> list[float]:
    """Milliseconds from the call to the reader."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder, _worker(f"{folder}/app.db", durability) as path:
        return latencies(path, durability, samples)


@contextmanager
def _worker(path: str, durability: str) -> Iterator[str]:
    process = subprocess.Popen([sys.executable, CHILD, path, durability], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()  # it is ready
    try:
        yield path
    finally:
        process.communicate()
