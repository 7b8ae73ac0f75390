"""What litequeue weighs: to import, to install, and after a million jobs."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from benchmarks.child import Child, child
from benchmarks.figures import Figure, Plan
from benchmarks.sides import LiteQueue

STARTS = 15
JOBS = 1_000_000
A_CALL = 500
LOOKS = 10  # at the worker's memory, and at the WAL
LONGEST = 600.0  # seconds for a tenth of the jobs


def measure(plan: Plan) -> list[Figure]:
    return [import_time(plan), packages(), *long_run(plan)]


def import_time(plan: Plan) -> Figure:
    """Milliseconds that `import litequeue` adds to the start of Python, with its bytecode there."""
    starts = plan.size(STARTS, least=5)
    _start("import litequeue")
    pairs = [(_start("import litequeue"), _start("import asyncio"), _start("pass")) for _ in range(starts)]
    ours, asyncios = (statistics.median(pair[place] - pair[2] for pair in pairs) for place in (0, 1))
    note = f"`import asyncio` takes {asyncios:.0f}; target 50"
    return Figure("import, over bare Python", "", ours, "ms", note=note)


def _start(code: str) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    return (time.perf_counter() - began) * 1e3


def packages() -> Figure:
    """How many packages `pip install litequeue` brings, itself among them."""
    found: set[str] = set()
    _require("litequeue", found)
    names = ", ".join(sorted(found))
    return Figure("packages installed", "", len(found), "", note=f"{names}; target 8")


def _require(name: str, found: set[str]) -> None:
    name = name.lower().replace("_", "-")
    if name in found:
        return
    try:
        wanted = metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # for another platform or Python
        return
    found.add(name)
    for requirement in wanted:
        if "extra ==" not in requirement:
            _require(re.split(r"[^\w.-]", requirement, maxsplit=1)[0], found)


def long_run(plan: Plan) -> list[Figure]:
    """A million no-ops through one worker process, enqueued beside it, all results kept."""
    tenth = plan.size(JOBS // LOOKS, least=A_CALL)
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        side = LiteQueue(folder, "normal")
        with child("worker", "litequeue", folder, "normal") as worker:
            memory, wals = [], []
            for _ in range(LOOKS):
                wals.append(_feed(side, tenth))
                memory.append(_memory(worker))
        side.close()
    name = f"{tenth * LOOKS:,} jobs through one worker"
    grown = f"after each tenth: {', '.join(f'{mib:.1f}' for mib in memory)}"
    return [
        Figure(f"{name}, memory grown after the first tenth", "normal", memory[-1] - memory[0], "MiB", note=grown),
        Figure(f"{name}, largest WAL", "normal", max(wals), "MiB"),
    ]


def _feed(side: LiteQueue, jobs: int) -> float:
    """Enqueue so many and wait for the last; the largest WAL on the way, in MiB."""
    largest, last = 0, None
    for first in range(0, jobs, A_CALL):
        last = side.add.enqueue_many([(number, 2) for number in range(first, min(jobs, first + A_CALL))])[-1]
        largest = max(largest, Path(f"{side.queue.path}-wal").stat().st_size)
    assert last is not None
    last.result(timeout=LONGEST)
    return largest / 2**20


def _memory(worker: Child) -> float:
    return float(worker.ask("usage")["memory"]) / 1024
