"""What an operator's looks at a large file cost, and waits in which nothing happens.

With LITEQUEUE_BEFORE=/path/to/python each is measured with the litequeue of that interpreter too, in turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, Plan
from benchmarks.operating_child import WAITS

if TYPE_CHECKING:
    from collections.abc import Mapping

CHILD = Path(__file__).with_name("operating_child.py")
JOBS, TURNOVER = 1_000_000, 20_000

Found = list[dict[str, float]]


def measure(plan: Plan) -> list[Figure]:
    """Ask for each figure once a round, in a process of its own."""
    waits, jobs, turnover = (plan.size(count) for count in (WAITS, JOBS, TURNOVER))
    idle = _rounds("idle_waits", waits, 1)
    ended, queued = _rounds("counts", jobs, min(2, plan.rounds)), _rounds("backlog", jobs, min(2, plan.rounds))
    ordinary = _rounds("turnover", turnover, plan.rounds)
    return [
        _figure(f"{waits:,} coroutines wait, idle: CPU of one core", "%", idle, "cpu"),
        _figure(f"counts, {jobs:,} succeeded", "ms", ended, "counts"),
        _figure("a look-up beside it, p99", "ms", ended, "beside"),
        _figure(f"counts, {jobs:,} queued", "ms", queued, "counts"),
        _figure("a look-up beside that, p99", "ms", queued, "beside"),
        _figure("CPU of one enqueue", "us", ordinary, "enqueue"),
        _figure("CPU of one drained job", "us", ordinary, "drain"),
    ]


def _rounds(what: str, count: int, rounds: int) -> dict[str, Found]:
    before = os.environ.get("LITEQUEUE_BEFORE")
    sides = {"now": sys.executable, **({"before": before} if before else {})}
    found: dict[str, Found] = {side: [] for side in sides}
    for turn in range(rounds):
        for side in sorted(sides, reverse=bool(turn % 2)):
            asked = subprocess.run(
                [sides[side], CHILD, what, str(count)], capture_output=True, text=True, check=True, timeout=600
            )
            found[side].append(json.loads(asked.stdout))
    return found


def _figure(name: str, unit: str, found: Mapping[str, Found], key: str) -> Figure:
    values = {side: statistics.median(each[key] for each in rounds) for side, rounds in found.items()}
    note = f"before {values['before']:,.3g}" if "before" in values else ""
    return Figure(name, "normal", values["now"], unit, note=note)
