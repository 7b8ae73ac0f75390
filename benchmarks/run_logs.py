"""What it costs that the lines of a run are kept: runs that log ten, of tasks that keep them and that do not."""

from __future__ import annotations

import logging
import statistics
import tempfile
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.figures import Figure
from litequeue import Queue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures import Plan

RUNS = 4_000
LINES = 10
LOG = logging.getLogger("benchmarks.run_logs")


def measure(plan: Plan) -> list[Figure]:
    """Work off as many runs of each kind, in turns."""
    runs = plan.size(RUNS)
    plain: list[float] = []
    kept: list[float] = []
    with _logging():
        for _ in range(plan.rounds):
            plain.append(_drained(runs, None))
            kept.append(_drained(runs, "64KiB"))
    more = statistics.median(kept) - statistics.median(plain)
    return [
        Figure(f"a run that logs {LINES} lines", "normal", statistics.median(plain), "us"),
        Figure("the same, and the lines are kept", "normal", statistics.median(kept), "us"),
        Figure("to keep a line", "normal", more / LINES, "us", note="all of it, a line"),
    ]


@contextmanager
def _logging() -> Iterator[None]:
    """Let the lines be made, and written nowhere."""
    nowhere, level = logging.NullHandler(), LOG.level
    LOG.addHandler(nowhere)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    try:
        yield
    finally:
        LOG.removeHandler(nowhere)
        LOG.setLevel(level)
        LOG.propagate = True


def _drained(runs: int, job_logs: str | None) -> float:
    """Microseconds a run."""
    with (
        tempfile.TemporaryDirectory(prefix="bench") as folder,
        Queue(f"{folder}/app.db", durability="normal", job_logs=job_logs) as queue,
    ):

        @queue.task(name="logs")
        def logs(number: int) -> None:
            for line in range(LINES):
                LOG.info("line %d of order %d, which is as long as such lines are", line, number)

        logs.enqueue_many([(number,) for number in range(runs)])
        began = perf_counter()
        queue.worker(threads=1).run(until_idle=True)
        return (perf_counter() - began) / runs * 1e6
