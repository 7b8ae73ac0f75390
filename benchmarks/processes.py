"""Tasks in child processes: how many a second, how long a child takes to start, how late a time limit kills."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.child import ROOT
from benchmarks.figures import Figure, take_turns

if TYPE_CHECKING:
    from benchmarks.figures import Plan

JOBS = 5_000
STARTS = 15
KILLS = 40  # half of them of a function that keeps the interpreter's lock
CHILDREN = 2


def measure(plan: Plan) -> list[Figure]:
    """Measure each in a process of its own."""
    return [*rates(plan), *starts(plan), *kills(plan)]


def rates(plan: Plan) -> list[Figure]:
    """No-ops a second, by two children, and by one that shares a core with its worker and the caller."""
    jobs = plan.size(JOBS, least=50)
    sides = {"two": lambda: float(_ask("rate", jobs, CHILDREN, 0))}
    if hasattr(os, "sched_setaffinity"):
        sides["one"] = lambda: float(_ask("rate", jobs, 1, 1))
    found = {side: statistics.median(values) for side, values in take_turns(plan.rounds, sides).items()}
    figures = [Figure(f"no-ops in {CHILDREN} children", "normal", found["two"], "jobs/s")]
    if "one" in found:
        note = "worker, child and caller on it; target 1,000"
        figures.append(Figure("no-ops in one child, all on one core", "normal", found["one"], "jobs/s", note=note))
    return figures


def starts(plan: Plan) -> list[Figure]:
    """The start of a child beside that of Python, in turns."""
    found = [_ask("start") for _ in range(plan.size(STARTS, least=3))]
    child, imported = (statistics.median(each[side] for each in found) for side in ("child", "import"))
    ratio = statistics.median(each["child"] / each["import"] for each in found)
    note = f'{child:,.0f} ms, `python -c "import litequeue"` {imported:,.0f} ms; target 2.5'
    return [Figure("from enqueue() to a function, its child started for it", "", ratio, "x import", note=note)]


def kills(plan: Plan) -> list[Figure]:
    """How long after the time limit of a function in C code its process is gone, and its caller knows."""
    if not hasattr(os, "mkfifo"):
        return []
    found = _ask("kills", plan.size(KILLS, least=4))
    figures = []
    for what, keeps in (("in C code", slice(0, None, 2)), ("in C code that keeps the lock", slice(1, None, 2))):
        process, job = found["process"][keeps], found["job"][keeps]
        note = f"worst {max(process):,.0f} of {len(process)}; until its caller knows: {_most(job)}; target 500"
        name = f"function {what}, killed after its limit"
        figures.append(Figure(name, "normal", statistics.median(process), "ms", note=note))
    return figures


def _most(late: list[float]) -> str:
    return f"{statistics.median(late):,.0f}, worst {max(late):,.0f}"


def _ask(what: str, *numbers: int) -> Any:
    command = [sys.executable, "-m", "benchmarks.processes_child", what, *map(str, numbers)]
    asked = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=True)
    return json.loads(asked.stdout)
