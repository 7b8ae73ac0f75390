"""What a worker costs while it has nothing to do: CPU, memory, statements."""

from __future__ import annotations

import contextlib
import tempfile
import time

from benchmarks.child import Child, child
from benchmarks.figures import Figure, Plan
from benchmarks.sides import has_huey

SECONDS = 15.0
SETTLING = 3.0  # what a worker does once, after its start


def measure(plan: Plan) -> list[Figure]:
    """Watch the workers side by side, each in a process of its own: they sleep nearly all the time."""
    sides = ["litequeue", "floor", *["huey"] * has_huey()]
    with contextlib.ExitStack() as stack:
        workers = {side: _worker(stack, side) for side in sides}
        time.sleep(SETTLING * plan.scale)
        before = {side: worker.ask("usage") for side, worker in workers.items()}
        span = max(0.5, SECONDS * plan.scale)
        time.sleep(span)
        after = {side: worker.ask("usage") for side, worker in workers.items()}
    used = {side: _used(before[side], after[side], span) for side in sides}
    return [_figure(name, unit, used) for name, unit in UNITS.items()]


UNITS = {"idle worker, CPU of one core": "%", "idle worker, memory resident": "MiB", "idle worker, statements": "/s"}


def _worker(stack: contextlib.ExitStack, side: str) -> Child:
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench"))
    return stack.enter_context(child("worker", side, folder, "full", counting=True))


def _used(before: dict[str, float], after: dict[str, float], span: float) -> dict[str, float]:
    statements = (after["statements"] - before["statements"]) / span
    values = ((after["cpu"] - before["cpu"]) / span * 100, after["memory"] / 1024, statements)
    return dict(zip(UNITS, values, strict=True))


def _figure(name: str, unit: str, used: dict[str, dict[str, float]]) -> Figure:
    value, least, huey = (used.get(side, {}).get(name) for side in ("litequeue", "floor", "huey"))
    assert value is not None
    return Figure(name, "full", value, unit, value / least if least else None, value / huey if huey else None)
