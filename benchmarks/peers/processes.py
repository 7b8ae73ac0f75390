"""The table of queues that run functions in processes of their own. Knows no queue by name but litequeue."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks.peers.table import laid_out, number, ratio, summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.peers.peer import Setting
    from benchmarks.peers.trial import Measured

AGAINST = ("litequeue", "processes")
HEAD = (
    *("queue", "setting", "how", "at once", "durability", "jobs", "drain/s", "lq x"),
    *("pickup p50", "p99", "round trip p50", "p99"),
)
TEXTS = 5


def table(settings: Mapping[tuple[str, str], Setting], measured: Mapping[tuple[str, str], Measured]) -> str:
    """Lay them out; `lq x`: how many times as many jobs a second litequeue ran, the median of the rounds."""
    ours = measured[AGAINST].drain
    lines: list[tuple[str, ...]] = [HEAD]
    for key, each in measured.items():
        setting, value = settings[key], summary(each).get
        times = statistics.median(a / b for a, b in zip(ours, each.drain, strict=True))
        told = setting.how, setting.concurrency, setting.durability.words, f"{setting.worked_off:,}"
        rates = number(value("drain")), ratio(times)
        spans = (number(value(f"{name}_p{percent}")) for name in ("pickup", "round_trip") for percent in (50, 99))
        lines.append((*key, *told, *rates, *spans))
    return laid_out(lines, TEXTS)
