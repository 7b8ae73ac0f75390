"""Groups and chords of many no-ops: the time until all results are in, and the memory. Knows no queue by name."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.child import Child
from benchmarks.peers.table import laid_out, number, ratio
from benchmarks.peers.trial import emptied, python_of, worker
from benchmarks.peers.usage import peak

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.figures import Plan
    from benchmarks.peers.peer import Broker, Setting
    from benchmarks.peers.redis_server import RedisServer

KINDS = ("group", "chord")
MANY, FEW = 10_000, 1_000


@dataclass
class Composed:
    """What the rounds gave for one kind at one size. Seconds from the call on; peaks are MiB resident."""

    stored: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    caller: list[float] = field(default_factory=list)
    worker: list[float] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        """Sum the rounds up."""
        return {name: statistics.median(values) for name, values in vars(self).items()}


Compositions = dict[str, Composed]
"""What was measured of one queue, by kind and size: "group 10000"."""


def sizes(plan: Plan) -> tuple[int, int]:
    """Give the number of members, few and many."""
    return plan.size(FEW, least=10), plan.size(MANY, least=100)


def trial(
    peer: str, setting: Setting, servers: Mapping[Broker, RedisServer], plan: Plan, measured: Compositions
) -> str:
    """Measure each kind, tell the times: each with new processes, on an empty file or server. Few members do once."""
    few, many = sizes(plan)
    for kind in KINDS:
        for count in (many,) if f"{kind} {few}" in measured else (few, many):
            _once(peer, setting, servers, (kind, count), measured.setdefault(f"{kind} {count}", Composed()))
    return ", ".join(f"{kind} {measured[f'{kind} {many}'].ended[-1]:.3g} s" for kind in KINDS)


def _once(
    peer: str, setting: Setting, servers: Mapping[Broker, RedisServer], what: tuple[str, int], measured: Composed
) -> None:
    redis = emptied(setting, servers)
    kind, count = what
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        where = (peer, setting.name, folder, redis)
        caller = Child("caller", *where, python=python_of(peer), module="benchmarks.peers.child")
        try:
            with worker(*where) as session:
                told = caller.ask(f"{kind} {count}")
                measured.worker.append(peak(session))
        except BaseException:
            caller.kill()
            raise
        caller.end()
    measured.stored.append(told["stored"])
    measured.ended.append(told["ended"])
    measured.caller.append(told["memory"])


# ---- the table


@dataclass(frozen=True, kw_only=True)
class ComposedRow:
    """The figures of one queue at one setting, by kind: seconds, MiB, ratios to litequeue's that promises the same."""

    peer: str
    setting: str
    durability: str
    members: tuple[int, int]
    few: dict[str, dict[str, float]]
    many: dict[str, dict[str, float]]
    to_litequeue: dict[str, float]


def row(peer: str, setting: Setting, measured: Compositions, litequeue: Compositions, plan: Plan) -> ComposedRow:
    """Sum the rounds up; a ratio is the median of the rounds' ratios."""
    few, many = sizes(plan)
    ratios = {}
    for kind in KINDS:
        pairs = zip(measured[f"{kind} {many}"].ended, litequeue[f"{kind} {many}"].ended, strict=False)
        ratios[kind] = statistics.median(ours / its for ours, its in pairs)
    return ComposedRow(
        peer=peer,
        setting=setting.name,
        durability=setting.durability.words,
        members=(few, many),
        few={kind: measured[f"{kind} {few}"].medians() for kind in KINDS},
        many={kind: measured[f"{kind} {many}"].medians() for kind in KINDS},
        to_litequeue=ratios,
    )


def table(rows: list[ComposedRow]) -> str:
    """Lay the rows out as a Markdown table."""
    few, many = rows[0].members
    columns = ("stored s", "ended s", "x lq", f"x {few:,}", "caller MiB", "worker MiB")
    head = ("queue", "setting", "durability", *(f"{kind} {column}" for kind in KINDS for column in columns))
    title = f"A group of {many:,}, and a chord of {many:,}; memory at {few:,} and at {many:,}."
    return f"{title}\n\n{laid_out([head, *map(_cells, rows)], texts=3)}"


def _cells(row: ComposedRow) -> tuple[str, ...]:
    cells: list[str] = []
    for kind in KINDS:
        few, many = row.few[kind], row.many[kind]
        cells += (number(many["stored"]), number(many["ended"]), ratio(row.to_litequeue[kind]))
        cells.append(ratio(many["ended"] / few["ended"]))
        cells += (f"{few[side]:.0f}, {many[side]:.0f}" for side in ("caller", "worker"))
    return (row.peer, row.setting, row.durability, *cells)


# ---- in the caller's process


def composed(peer: Any, kind: str, count: int) -> dict[str, float]:
    """Enqueue a group or chord of so many and wait for its results, beside a worker that has run a job before."""
    peer.result(peer.stamp())
    began = time.perf_counter()
    if kind == "group":
        handle = peer.group(count)
        stored = time.perf_counter()
        found = sum(peer.results(handle))
    else:
        handle = peer.chord(count)
        stored = time.perf_counter()
        found = peer.body(handle)
    ended = time.perf_counter()
    expected = sum(range(2, count + 2))
    if found not in (None, expected):
        raise RuntimeError(f"a {kind} of {count:,} gave {found}, not {expected}")
    return {"stored": stored - began, "ended": ended - began}
