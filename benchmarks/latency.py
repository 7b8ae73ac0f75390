"""How long until a job begins on an idle worker, and until its result is back."""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import floor
from benchmarks.child import child
from benchmarks.figures import Figure, Plan, percentile
from benchmarks.sides import has_huey, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.sides import Huey, LiteQueue

SAMPLES = 300
HUEY_SAMPLES = 30  # it polls: each takes a good part of a second


class Times(NamedTuple):
    """Microseconds from the start of the call that enqueues."""

    pickup: list[float]
    round_trip: list[float]


def measure(plan: Plan) -> list[Figure]:
    samples, huey_samples = plan.size(SAMPLES, least=plan.rounds), plan.size(HUEY_SAMPLES, least=1)
    times: dict[tuple[str, str, bool], Times] = {}
    floors: dict[str, Times] = {"full": Times([], []), "normal": Times([], [])}
    for _ in range(plan.rounds):
        for durability, found in floors.items():
            _add(found, floor_times(durability, -(-samples // plan.rounds)))
        for across in (True, False):
            for durability in floors:
                key = ("litequeue", durability, across)
                _add(times.setdefault(key, Times([], [])), _cycle(*key, -(-samples // plan.rounds)))
            if has_huey():
                key = ("huey", "full", across)
                _add(times.setdefault(key, Times([], [])), _cycle(*key, -(-huey_samples // plan.rounds)))
    return [
        figure
        for durability, found in floors.items()
        for across in (True, False)
        for figure in _figures(times, found, durability, across=across)
    ]


def _add(all_times: Times, more: Times) -> None:
    all_times.pickup.extend(more.pickup)
    all_times.round_trip.extend(more.round_trip)


def floor_times(durability: str, samples: int) -> Times:
    """What the commits alone take, from rest: the job's and its claim's until it begins, its end's until the result."""
    times = Times([], [])
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        connection = floor.connect("apsw", f"{folder}/floor.db", durability)
        floor.enqueue_one(connection, 1)
        floor.drain_single(connection, 1)
        for _ in range(samples):
            rest()
            enqueued = 1e6 / floor.enqueue_one(connection, 1)
            with_claim_and_end = enqueued + 1e6 / floor.drain_single(connection, 1)
            times.pickup.append((enqueued + with_claim_and_end) / 2)
            times.round_trip.append(with_claim_and_end)
        connection.close()
    return times


def rest(longest: float = 0.030) -> None:
    time.sleep(random.uniform(0.005, longest))


def _cycle(name: str, durability: str, across: bool, samples: int) -> Times:  # noqa: FBT001 - part of a key
    with tempfile.TemporaryDirectory(prefix="bench") as folder, _pair(name, folder, durability, across) as side:
        side.began()  # whatever starts at first use
        return _sample(side, samples)


@contextlib.contextmanager
def _pair(name: str, folder: str, durability: str, across: bool) -> Iterator[LiteQueue | Huey]:  # noqa: FBT001
    """Open a queue here, with a worker in another process or in this one."""
    side = opened(name, folder, durability)
    worker = child("worker", name, folder, durability) if across else side.worker()
    try:
        with worker:
            yield side
    finally:
        side.close()


def _sample(side: LiteQueue | Huey, samples: int) -> Times:
    times = Times([], [])
    for _ in range(samples):
        rest()
        called = time.monotonic_ns()
        began = side.began()
        times.round_trip.append((time.monotonic_ns() - called) / 1e3)
        times.pickup.append((began - called) / 1e3)
    return times


def _figures(
    times: dict[tuple[str, str, bool], Times], floors: Times, durability: str, *, across: bool
) -> Iterator[Figure]:
    ours, hueys = times["litequeue", durability, across], times.get(("huey", "full", across))
    where = "another process" if across else "same process"
    for what in ("pickup", "round_trip"):
        spans = getattr(ours, what)
        for percent in (50, 90, 99):
            value = percentile(spans, percent)
            limit_us = percentile(getattr(floors, what), percent)
            huey_us = None if hueys is None else percentile(getattr(hueys, what), percent)
            name = f"{what.replace('_', ' ')}, {where}, p{percent}"
            yield Figure(name, durability, value, "us", value / limit_us, None if huey_us is None else value / huey_us)
