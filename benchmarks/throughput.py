"""How many jobs a second: enqueued one at a time, enqueued 100 a call, and worked off."""

from __future__ import annotations

import tempfile
import time
from typing import TYPE_CHECKING, Any

from benchmarks import floor
from benchmarks.figures import Figure, Plan, rate_figure, take_turns
from benchmarks.sides import has_huey, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.sides import Huey, LiteQueue

    Work = Callable[[Any, int], float]

# Jobs a round. A commit that is synced takes several times as long; huey takes one job a transaction.
COUNTS = {
    "enqueue": {"normal": 3_000, "full": 600, "off": 1_500},
    "enqueue_many": {"normal": 10_000, "full": 10_000, "off": 1_500},
    "drain": {"normal": 10_000, "full": 10_000, "off": 1_000},
}
HUEY_SYNCED = {"enqueue": 400, "enqueue_many": 400, "drain": 200}


def measure(plan: Plan) -> list[Figure]:
    return [figure for durability in ("full", "normal") for figure in _measure(plan, durability)]


def _measure(plan: Plan, durability: str) -> list[Figure]:
    one = _turns(plan, durability, "enqueue", "enqueue_one", {"litequeue": enqueue})
    many = _turns(plan, durability, "enqueue_many", "enqueue_many", {"litequeue": enqueue_many})
    drained = _turns(plan, durability, "drain", "drain", {"litequeue": drain, "coroutines": drain_coroutines})
    return [
        rate_figure("enqueue", durability, one, "litequeue", "floor"),
        rate_figure("enqueue_many, 100 a call", durability, many, "litequeue", "floor"),
        rate_figure("drain, 4 threads", durability, drained, "litequeue", "floor"),
        rate_figure("drain, coroutines", durability, drained, "coroutines", "floor"),
    ]


def _turns(plan: Plan, durability: str, what: str, floor_name: str, works: dict[str, Work]) -> dict[str, list[float]]:
    count = plan.size(COUNTS[what][durability], least=100)
    sides = {"floor": lambda: limit(floor_name, durability, count)}
    for name, work in works.items():
        sides[name] = _side("litequeue", durability, work, count)
    if has_huey():
        work = next(iter(works.values()))
        sides["huey"] = _side("huey", "full", work, plan.size(HUEY_SYNCED[what], least=10))
        sides["huey unsynced"] = _side("huey", "off", work, plan.size(COUNTS[what]["off"], least=10))
    return take_turns(plan.rounds, sides)


def _side(name: str, durability: str, work: Work, count: int) -> Callable[[], float]:
    def run() -> float:
        with tempfile.TemporaryDirectory(prefix="bench") as folder:
            side = opened(name, folder, durability)
            try:
                return work(side, count)
            finally:
                side.close()

    return run


def limit(name: str, durability: str, count: int) -> float:
    """Measure the floor on a file of its own."""
    count = -(-count // 100) * 100  # it enqueues by the hundred
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        connection = floor.connect("apsw", f"{folder}/floor.db", durability)
        try:
            if name == "drain":
                floor.enqueue_many(connection, count)
            return float(getattr(floor, name)(connection, count))
        finally:
            connection.close()


def enqueue(side: LiteQueue | Huey, count: int) -> float:
    side.enqueue(0, 0)  # opens the file
    start = time.perf_counter()
    for number in range(count):
        side.enqueue(number, 2)
    return count / (time.perf_counter() - start)


def enqueue_many(side: LiteQueue | Huey, count: int) -> float:
    side.enqueue(0, 0)
    start = time.perf_counter()
    for first in range(0, count, 100):
        side.enqueue_many([(number, 2) for number in range(first, first + 100)])
    return -(-count // 100) * 100 / (time.perf_counter() - start)


def drain(side: LiteQueue | Huey, count: int) -> float:
    side.enqueue_many([(number, 2) for number in range(count)])
    return _drained(side, count)


def drain_coroutines(side: LiteQueue, count: int) -> float:
    side.aenqueue_many([(number, 2) for number in range(count)])
    return _drained(side, count)


def _drained(side: LiteQueue | Huey, count: int) -> float:
    start = time.perf_counter()
    side.drain(count)
    return count / (time.perf_counter() - start)
