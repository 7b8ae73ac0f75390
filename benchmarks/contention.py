"""Many processes enqueue into one file: rate, waiting times, errors while a worker drains it; and against one alone."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.child import child
from benchmarks.figures import Figure, Plan, percentile, ratio, take_turns
from benchmarks.sides import LiteQueue, has_huey
from benchmarks.throughput import limit

if TYPE_CHECKING:
    from collections.abc import Callable

PROCESSES = 8
JOBS = {"litequeue": 500, "huey": 60}  # of each process
ROUNDS = 3
SECONDS = 4.0  # for which they enqueue against one alone


@dataclass(frozen=True)
class Crowd:
    """What callers saw that enqueued at once."""

    rate: float
    spans: list[float]
    errors: int


def measure(plan: Plan) -> list[Figure]:
    kinds = ("full", "normal")
    return [
        *(figure for durability in kinds for figure in _measure(plan, durability)),
        *(figure for durability in kinds for figure in _against_one(plan, durability)),
    ]


def _measure(plan: Plan, durability: str) -> list[Figure]:
    crowds: dict[str, list[Crowd]] = {"crowd": [], "alone": [], "huey": []}
    jobs, hueys = plan.size(JOBS["litequeue"], least=5), plan.size(JOBS["huey"], least=2)

    def noted(kind: str, crowd: Crowd) -> float:
        crowds[kind].append(crowd)
        return crowd.rate

    sides = {
        "crowd": lambda: noted("crowd", _crowd("litequeue", durability, PROCESSES, jobs)),
        "alone": lambda: noted("alone", _crowd("litequeue", durability, 1, jobs * 4)),
        "floor": lambda: limit("enqueue_one", durability, jobs),
    }
    if has_huey():
        sides["huey"] = lambda: noted("huey", _crowd("huey", "full", PROCESSES, hueys))
    samples = take_turns(min(plan.rounds, ROUNDS), sides)
    return [_rate(samples, durability), *_waits(crowds, samples, durability), _errors(crowds, durability)]


def _rate(samples: dict[str, list[float]], durability: str) -> Figure:
    return Figure(
        f"enqueue, {PROCESSES} processes and a worker",
        durability,
        statistics.median(samples["crowd"]),
        "jobs/s",
        ratio(samples, "crowd", "floor"),
        ratio(samples, "crowd", "huey"),
        note=f"{ratio(samples, 'crowd', 'alone'):.2f} of one process beside a worker",
    )


def _waits(crowds: dict[str, list[Crowd]], samples: dict[str, list[float]], durability: str) -> list[Figure]:
    spans = {kind: [span for crowd in found for span in crowd.spans] for kind, found in crowds.items()}
    floor = 1e6 / statistics.median(samples["floor"])
    name = f"enqueue, {PROCESSES} processes"
    figures = []
    for percent in (50, 99):
        value = percentile(spans["crowd"], percent)
        to_huey = value / percentile(spans["huey"], percent) if spans["huey"] else None
        figures.append(Figure(f"{name}, p{percent}", durability, value, "us", value / floor, to_huey))
    # no ratios: the longest wait grows with the length of the run, and huey's is shorter
    return [*figures, Figure(f"{name}, longest", durability, max(spans["crowd"]), "us")]


def _errors(crowds: dict[str, list[Crowd]], durability: str) -> Figure:
    ours = sum(crowd.errors for crowd in crowds["crowd"] + crowds["alone"])
    hueys = sum(crowd.errors for crowd in crowds["huey"])
    return Figure(
        f"enqueue, {PROCESSES} processes, errors", durability, ours, "", note=f"huey: {hueys}" if crowds["huey"] else ""
    )


def _crowd(name: str, durability: str, processes: int, jobs: int) -> Crowd:
    with tempfile.TemporaryDirectory(prefix="bench") as folder, contextlib.ExitStack() as stack:
        stack.enter_context(child("worker", name, folder, durability))
        callers = [stack.enter_context(child("caller", name, folder, durability)) for _ in range(processes)]
        for caller in callers:
            caller.ask("enqueue 1")  # opens the file
        for caller in callers:
            caller.tell(f"enqueue {jobs}")
        told = [caller.answer() for caller in callers]
        if name == "litequeue":
            _check_stored(folder, durability, processes * (jobs + 1) - sum(len(each["errors"]) for each in told))
    seconds = (max(each["ended"] for each in told) - min(each["begun"] for each in told)) / 1e9
    spans = [span / 1e3 for each in told for span in each["spans"]]
    return Crowd(processes * jobs / seconds, spans, sum(len(each["errors"]) for each in told))


def _check_stored(folder: str, durability: str, expected: int) -> None:
    side = LiteQueue(folder, durability)
    stored = side.stored()
    side.close()
    if stored != expected:
        raise AssertionError(f"{expected:,} jobs were accepted, but the file holds {stored:,}")


# ---- against one alone, without a worker


@dataclass(frozen=True)
class Share:
    """What callers saw that enqueued for the same time."""

    rate: float
    spans: list[float]  # us
    least: float  # how much the slowest process stored, of what each would have with equal shares


def _against_one(plan: Plan, durability: str) -> list[Figure]:
    found: dict[str, list[Share]] = {"all": [], "one": []}
    seconds = max(0.2, SECONDS * plan.scale)

    def noted(kind: str, processes: int) -> float:
        found[kind].append(_for_a_time(durability, processes, seconds))
        return found[kind][-1].rate

    take_turns(min(plan.rounds, ROUNDS), {"all": lambda: noted("all", PROCESSES), "one": lambda: noted("one", 1)})
    pairs = list(zip(found["all"], found["one"], strict=True))
    name = f"enqueue, {PROCESSES} processes against one"

    def of(what: str, value: Callable[[Share, Share], float], unit: str = "times") -> Figure:
        return Figure(f"{name}, {what}", durability, statistics.median(value(*pair) for pair in pairs), unit)

    return [
        of("p50", lambda all_, one: percentile(all_.spans, 50) / percentile(one.spans, 50)),
        of("p99", lambda all_, one: percentile(all_.spans, 99) / percentile(one.spans, 99)),
        of("longest", lambda all_, _: max(all_.spans) / 1e3, "ms"),
        of("rate", lambda all_, one: all_.rate / one.rate),
        of("least share", lambda all_, _: all_.least),
    ]


def _for_a_time(durability: str, processes: int, seconds: float) -> Share:
    with tempfile.TemporaryDirectory(prefix="bench") as folder, contextlib.ExitStack() as stack:
        callers = [stack.enter_context(child("caller", "litequeue", folder, durability)) for _ in range(processes)]
        for caller in callers:
            caller.ask("enqueue 1")  # opens the file
        for caller in callers:
            caller.tell(f"enqueue-for {seconds}")
        told = [caller.answer() for caller in callers]
        errors = [error for each in told for error in each["errors"]]
        if errors:
            raise AssertionError(f"{len(errors)} jobs were refused: {errors[0]}")
        counts = [len(each["spans"]) for each in told]
        _check_stored(folder, durability, sum(counts) + processes)
    spans = [span / 1e3 for each in told for span in each["spans"]]
    return Share(len(spans) / seconds, spans, min(counts) * processes / len(spans))
