"""Waits for 10,000 jobs beside waits for one: jobs that have ended, and jobs that another process ends meanwhile.

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

from benchmarks.figures import Figure
from benchmarks.waits_child import WAITS, WAYS

if TYPE_CHECKING:
    from benchmarks.figures import Plan

CHILD = Path(__file__).with_name("waits_child.py")
NAMES = {
    "gather": "asyncio.gather",
    "results": "result() one after the other",
    "wait_all": "wait_all",
    "as_completed": "as_completed",
}

Found = dict[str, list[dict[str, float]]]


def measure(plan: Plan) -> list[Figure]:
    """Wait in each way once a round, in a process of its own."""
    count = plan.size(WAITS)
    before = os.environ.get("LITEQUEUE_BEFORE")
    sides = {"now": sys.executable, **({"before": before} if before else {})}
    figures: list[Figure] = []
    for what in ("ended", "ending"):
        for way in WAYS:
            found: Found = {side: [] for side in sides}
            for turn in range(plan.rounds):
                for side in sorted(sides, reverse=bool(turn % 2)):
                    found[side].append(_ask(sides[side], what, way, count))
            figures += _figures(what, way, count, found)
    return figures


def _ask(python: str, what: str, way: str, count: int) -> dict[str, float]:
    asked = subprocess.run(
        [python, CHILD, what, way, str(count)], capture_output=True, text=True, check=True, timeout=600
    )
    found: dict[str, float] = json.loads(asked.stdout)
    return found


def _figures(what: str, way: str, count: int, found: Found) -> list[Figure]:
    jobs = "that have ended" if what == "ended" else "that another process runs"
    return [
        _figure(f"{NAMES[way]}, {count:,} {jobs}", "ms", "all", found, "last"),
        _figure(f"{NAMES[way]}, one such job", "ms", "one", found),
    ]


def _figure(name: str, unit: str, key: str, found: Found, beside: str = "") -> Figure:
    medians = {
        side: {each: statistics.median(values[each] for values in rounds) for each in rounds[0]}
        for side, rounds in found.items()
    }
    now, before = medians["now"], medians.get("before", {})
    notes = [f"before {before[key]:,.3g}"] if key in before else []
    notes += [f"the last of them alone: {now[beside]:,.0f}"] if beside in now else []
    return Figure(name, "normal", now[key], unit, note="; ".join(notes))
