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

import litequeue
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
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        python = _plain_environment(Path(folder))
        _start(python, "import litequeue")
        codes = ("import litequeue", "import asyncio", "pass")
        pairs = [[_start(python, code) for code in codes] for _ in range(starts)]
    ours, asyncios = (statistics.median(pair[place] - pair[2] for pair in pairs) for place in (0, 1))
    note = f"`import asyncio` takes {asyncios:.0f}; target 50"
    return Figure("import, over bare Python", "", ours, "ms", note=note)


def _plain_environment(folder: Path) -> Path:
    """Make what an install without extras makes of a new environment; return its Python.

    What else is installed beside us here, such as typing_extensions, would be imported too where it is found.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    for name in _with_requirements("litequeue"):
        for path in _top_level(name):
            (site / path.name).symlink_to(path)
    return folder / "bin" / "python"


def _top_level(package: str) -> set[Path]:
    """The modules of an installed package."""
    if package == "litequeue":
        return {Path(litequeue.__file__).parent}
    distribution = metadata.distribution(package)
    heads = {path.parts[0] for path in distribution.files or () if path.suffix in {".py", ".so"}}
    return {Path(str(distribution.locate_file(head))) for head in heads if head != ".."}


def _start(python: Path, code: str) -> float:
    unwanted = {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH"}
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    began = time.perf_counter()
    subprocess.run([python, "-c", code], check=True, env=environment)
    return (time.perf_counter() - began) * 1e3


def packages() -> Figure:
    """How many packages an install without extras brings, itself among them."""
    found = _with_requirements("litequeue")
    return Figure("packages installed", "", len(found), "", note=f"{', '.join(sorted(found))}; target 8")


def _with_requirements(name: str) -> set[str]:
    found: set[str] = set()
    _require(name, found)
    return found


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
