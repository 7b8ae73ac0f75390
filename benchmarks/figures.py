"""A measured figure, the table of them, and rounds that take turns. Knows no queue."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Samples = dict[str, list[float]]


@dataclass(frozen=True)
class Plan:
    """How much to measure: `scale` multiplies every size, 1 is the full measurement."""

    rounds: int = 5
    scale: float = 1.0

    def size(self, count: int, *, least: int = 1) -> int:
        """Scale a number of jobs, processes or samples."""
        return max(least, math.ceil(count * self.scale))


@dataclass(frozen=True)
class Figure:
    """One line of the table. The ratios are litequeue's value divided by the other's, from the same rounds."""

    name: str
    durability: str
    value: float
    unit: str
    to_floor: float | None = None
    to_huey: float | None = None
    to_huey_unsynced: float | None = None
    note: str = ""

    def row(self) -> tuple[str, ...]:
        """The figure as text."""
        ratios = (self.to_floor, self.to_huey, self.to_huey_unsynced)
        return (self.name, self.durability, _number(self.value), self.unit, *map(_ratio, ratios), self.note)

    def plain(self) -> dict[str, Any]:
        """The figure as JSON holds it."""
        return asdict(self)


HEAD = ("figure", "durability", "value", "unit", "x floor", "x huey", "x huey unsynced", "")


def table(figures: Iterable[Figure]) -> str:
    """Lay figures out as a Markdown table."""
    rows = [HEAD, *(figure.row() for figure in figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(_aligned, row, widths, range(len(row)))) + " |" for row in rows]
    rule = "|" + "|".join("-" * (width + 1) + (":" if 2 <= place <= 6 else "-") for place, width in enumerate(widths))
    return "\n".join([lines[0], rule + "|", *lines[1:]])


def _aligned(text: str, width: int, place: int) -> str:
    return text.rjust(width) if place in {2, 4, 5, 6} else text.ljust(width)


def _number(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value < 20 else f"{value:,.0f}"


def take_turns(rounds: int, sides: Mapping[str, Callable[[], float]]) -> Samples:
    """Measure each side once a round, in an order that moves on: a slow moment of the machine hits all alike."""
    names = list(sides)
    samples: Samples = {name: [] for name in names}
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            samples[name].append(sides[name]())
    return samples


def ratio(samples: Samples, one: str, other: str) -> float | None:
    """Give the median over the rounds of one side's value divided by the other's."""
    pairs = list(zip(samples.get(one, ()), samples.get(other, ()), strict=False))
    return statistics.median(a / b for a, b in pairs) if pairs else None


def rate_figure(name: str, durability: str, samples: Samples, side: str, floor: str, note: str = "") -> Figure:
    """Make the figure of a rate from rounds with the sides `side`, `floor`, "huey" and "huey unsynced"."""
    return Figure(
        name,
        durability,
        statistics.median(samples[side]),
        "jobs/s",
        ratio(samples, side, floor),
        ratio(samples, side, "huey"),
        ratio(samples, side, "huey unsynced"),
        note,
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Give the value below which so many percent lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
