"""What the rounds gave, as figures and as one table. Knows no queue by name but litequeue."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.figures import percentile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.peers.peer import Setting
    from benchmarks.peers.trial import Measured

RATES = ("enqueue", "drain")
TIMES = ("pickup", "round_trip")


@dataclass(frozen=True)
class Against:
    """The sides that a row is compared with, which promise the same."""

    floor: Measured
    litequeue: Measured


@dataclass(frozen=True, kw_only=True)
class Row:
    """The figures of one queue at one setting. Rates are jobs/s, times ms, writes bytes a job, memory MiB."""

    peer: str
    setting: str
    how: str
    concurrency: str
    durability: str
    synced: bool
    jobs: int
    drained: int
    values: dict[str, float]
    to_floor: dict[str, float]  # of rates more is better, of times less
    to_litequeue: dict[str, float]
    latencies: dict[str, list[float]]  # every sample, sorted

    def plain(self) -> dict[str, Any]:
        """The row as JSON holds it."""
        return asdict(self)


def row(peer: str, setting: Setting, measured: Measured, against: Against) -> Row:
    """Sum the rounds up. Ratios are this queue's value divided by the other's; of rates, the median of the rounds'."""
    values = summary(measured)
    return Row(
        peer=peer,
        setting=setting.name,
        how=setting.how,
        concurrency=setting.concurrency,
        durability=setting.durability.words,
        synced=setting.durability.synced,
        jobs=setting.jobs,
        drained=setting.worked_off,
        values=values,
        to_floor=_ratios(measured, against.floor),
        to_litequeue=_ratios(measured, against.litequeue),
        latencies={name: [round(each, 3) for each in sorted(getattr(measured, name))] for name in TIMES},
    )


def summary(measured: Measured) -> dict[str, float]:
    """Take the medians over the rounds, and percentiles of all samples."""
    values = {name: statistics.median(found) for name in RATES if (found := getattr(measured, name))}
    for name in TIMES:
        if found := getattr(measured, name):
            values |= {f"{name}_p{percent}": percentile(found, percent) for percent in (50, 99)}
    values["samples"] = float(len(measured.pickup))
    for name in ("written", "to_disk", "wal"):
        if found := getattr(measured, name):
            values[name] = statistics.median(found)
    for name in ("idle_cpu", "idle_memory"):
        if (value := getattr(measured, name)) is not None:
            values[name] = value
    return values


def _ratios(measured: Measured, other: Measured) -> dict[str, float]:
    ratios = {}
    for name in RATES:
        pairs = list(zip(getattr(measured, name), getattr(other, name), strict=False))
        if pairs:
            ratios[name] = statistics.median(a / b for a, b in pairs)
    ours, others = summary(measured), summary(other)
    for name in (f"{time}_p{percent}" for time in TIMES for percent in (50, 99)):
        if name in ours and name in others:
            ratios[name] = ours[name] / others[name]
    return ratios


HEAD = (
    *("queue", "setting", "durability", "jobs", "enqueue/s", "x floor", "x lq", "drain/s", "x floor", "x lq"),
    *("pickup p50", "p99", "x lq p50", "round trip p50", "p99", "x lq p50", "samples", "idle CPU %", "MiB"),
)


def table(rows: Iterable[Row]) -> str:
    """Lay the rows out as a Markdown table."""
    return laid_out([HEAD, *map(_cells, rows)], texts=3)


def laid_out(lines: Sequence[Sequence[str]], texts: int) -> str:
    """Lay lines out as a Markdown table: the first `texts` columns are text, the others numbers."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = "|".join("-" * (width + 1) + ("-" if place < texts else ":") for place, width in enumerate(widths))
    laid = [
        " | ".join(
            cell.ljust(width) if place < texts else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join([f"| {laid[0]} |", f"|{rule}|", *(f"| {line} |" for line in laid[1:])])


def _cells(row: Row) -> tuple[str, ...]:
    value, floor, lite = row.values.get, row.to_floor.get, row.to_litequeue.get
    jobs = f"{row.jobs:,}" if row.jobs == row.drained else f"{row.jobs:,} / {row.drained:,}"
    rates = [text for name in RATES for text in (number(value(name)), ratio(floor(name)), ratio(lite(name)))]
    times = [
        text
        for name in TIMES
        for text in (number(value(f"{name}_p50")), number(value(f"{name}_p99")), ratio(lite(f"{name}_p50")))
    ]
    rest = (number(value("samples")), number(value("idle_cpu")), number(value("idle_memory")))
    return (row.peer, row.setting, row.durability, jobs, *rates, *times, *rest)


def number(value: float | None) -> str:
    """Write a value; nothing where there is none."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def ratio(value: float | None) -> str:
    """Write a ratio; nothing where there is none."""
    if value is None:
        return ""
    return f"{value:.2f}" if 0.1 <= value < 20 else f"{value:.2g}" if value < 0.1 else f"{value:,.0f}"


def settings_of(rows: Sequence[Row]) -> str:
    """Say how each row was set up, and what was written to the disk where the worker itself writes."""
    return "\n".join(
        f"- {row.peer}, {row.setting}: {row.concurrency}{f'; {row.how}' if row.how else ''}"
        for row in rows
        if row.concurrency
    )


def writes(rows: Mapping[str, Row]) -> str:
    """Lay out what the worker wrote for each job of a drain."""
    lines = [
        "| queue | bytes a job, write calls | bytes a job, to the disk | WAL at the end, MiB |",
        "|---|--:|--:|--:|",
    ]
    for name, row in rows.items():
        value = row.values
        lines.append(f"| {name} | {value['written']:,.0f} | {value['to_disk']:,.0f} | {value['wal']:.1f} |")
    return "\n".join(lines)
