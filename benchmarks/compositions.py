"""What edges cost: compositions beside the same jobs without edges. Costs are CPU time of the enqueue and the drain."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import floor
from benchmarks.figures import Figure, Plan, Samples, ratio, take_turns
from benchmarks.sides import LiteQueue
from litequeue import Job, Status, chain, chord, group

if TYPE_CHECKING:
    from collections.abc import Callable

PARENTS = 3  # of a job of the random graph, at most
SEED = 19
TARGET = 2.5  # of the same jobs without edges


# A call behind another lacks its first argument, which types do not know.


def store_chain(side: Any, count: int) -> None:
    chain(side.add.s(0, 2), *(side.add.s(2) for _ in range(count - 1))).enqueue()


def store_chain_by_hand(side: LiteQueue, count: int) -> None:
    @side.queue.task(name="follow")
    def follow(left: int) -> int:
        if left:
            follow.enqueue(left - 1)
        return left

    follow.enqueue(count - 1)


def store_group(side: Any, count: int) -> None:
    group(side.add.s(number, 2) for number in range(count)).enqueue()


def store_chord(side: Any, count: int) -> None:
    chord((side.add.s(number, 2) for number in range(count - 1)), side.total.s()).enqueue()


def store_fan_out(side: Any, count: int) -> None:
    (side.add.s(0, 2) | group(side.add.s(2) for _ in range(count - 1))).enqueue()


def store_graph(side: LiteQueue, count: int) -> None:
    chosen = random.Random(SEED)  # the same graph each time
    jobs: list[Job[int]] = []
    with side.queue.transaction():
        for number in range(count):
            parents = chosen.sample(jobs, min(len(jobs), chosen.randint(0, PARENTS)))
            jobs.append((side.add.using(after=parents) if parents else side.add).enqueue(number, 2))


def store_at_once(side: LiteQueue, count: int) -> None:
    side.enqueue_many([(number, 2) for number in range(count)])


def store_one_by_one(side: LiteQueue, count: int) -> None:
    with side.queue.transaction():
        for number in range(count):
            side.enqueue(number, 2)


@dataclass(frozen=True)
class Shape:
    """A composition of so many jobs, how it is stored, and how the same jobs are without edges."""

    name: str
    jobs: int
    store: Callable[[LiteQueue, int], None]
    without: Callable[[LiteQueue, int], None] = store_at_once
    drain: str = "drain"  # the floor's


SHAPES = (
    Shape("chain", 1_000, store_chain, drain="drain_single"),
    Shape("chain by hand, each enqueues the next", 1_000, store_chain_by_hand, drain="drain_single"),
    Shape("group", 10_000, store_group),
    Shape("chord", 10_000, store_chord),
    Shape("fan-out", 10_000, store_fan_out),
    Shape(f"graph with up to {PARENTS} parents a job", 5_000, store_graph, without=store_one_by_one),
)


def measure(plan: Plan) -> list[Figure]:
    """Each beside the same jobs without edges, the floor, and a quarter of it, in turns."""
    return [_figure(shape, plan) for shape in SHAPES]


def _figure(shape: Shape, plan: Plan) -> Figure:
    count = plan.size(shape.jobs, least=8)
    quarter = count // 4
    clock: Samples = {"with": [], "without": [], "quarter": []}
    cpu = take_turns(
        plan.rounds,
        {
            "with": partial(_cost, shape.store, count, clock["with"]),
            "without": partial(_cost, shape.without, count, clock["without"]),
            "quarter": partial(_cost, shape.store, quarter, clock["quarter"]),
            "floor": partial(_floor, shape.drain, count),
        },
    )
    return Figure(
        f"CPU of a job, {shape.name}, {count:,} jobs",
        "normal",
        statistics.median(cpu["with"]),
        "us",
        to_floor=ratio(cpu, "with", "floor"),
        note=f"{ratio(cpu, 'with', 'without'):.2f} of the same without edges ({ratio(clock, 'with', 'without'):.2f} "
        f"by the clock; target {TARGET:g}), {ratio(cpu, 'with', 'quarter'):.2f} of {quarter:,} jobs",
    )


def _cost(store: Callable[[LiteQueue, int], None], count: int, clock: list[float]) -> float:
    """Give the CPU of a job that is enqueued with others and drained, in microseconds; add what the clock says."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        side = LiteQueue(folder, "normal")
        side.stored()  # opens the file
        began, cpu = time.perf_counter(), time.process_time()
        store(side, count)
        side.drain(count)
        cost, spent = time.process_time() - cpu, time.perf_counter() - began
        _check(side, count)
        side.close()
    clock.append(spent / count * 1e6)
    return cost / count * 1e6


def _check(side: LiteQueue, count: int) -> None:
    succeeded = sum(each.jobs for each in side.queue.engine.jobs.counts() if each.status is Status.SUCCEEDED)
    if succeeded != count:
        raise RuntimeError(f"{succeeded:,} of {count:,} jobs succeeded")


def _floor(drain: str, count: int) -> float:
    count = -(-count // 100) * 100  # it enqueues by the hundred
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        connection = floor.connect("apsw", f"{folder}/floor.db", "normal")
        cpu = time.process_time()
        floor.enqueue_many(connection, count)
        getattr(floor, drain)(connection, count)
        cost = time.process_time() - cpu
        connection.close()
    return cost / count * 1e6
