"""Draw figures as SVG: the same bytes for the same figures, readable on light and dark pages. Measures nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.figures import Figure

INK = "#7d8590"  # grey that can be read on white and on black
ENQUEUE, DRAIN, LITE = "#3b8eea", "#e08a1e", "#2da44e"
RATES = (("enqueue", ENQUEUE, "enqueue, one at a time"), ("drain", DRAIN, "drain, no-op jobs"))
TIMES = (("pickup", ENQUEUE, "until the job begins"), ("round_trip", DRAIN, "until its result is back"))

STYLE: dict[str, Any] = {
    "svg.hashsalt": "litequeue",
    "font.size": 9.0,
    "font.family": "DejaVu Sans",
    **{f"{what}.color": INK for what in ("text", "xtick", "ytick", "grid")},
    **{f"axes.{what}color": INK for what in ("edge", "label", "title")},
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.titlepad": 22.0,
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
}


def peers(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """Draw rates and times of all queues."""
    _save(folder / "throughput.svg", 0.42 * len(rows) + 1.4, lambda axes: _throughput(axes, rows))
    timed = [row for row in rows if row["latencies"]["pickup"]]
    _save(folder / "latency.svg", 0.36 * len(timed) + 1.4, lambda axes: _latency(axes, timed))


def backlog(figures: Sequence[Figure], folder: Path) -> None:
    """Draw the rate of a drain against what else is in the file."""
    drains = [figure for figure in figures if figure.name.startswith("drain, 1")]
    if drains:
        _save(folder / "backlog.svg", 0.45 * len(drains) + 1.0, lambda axes: _backlog(axes, drains))


def _save(path: Path, height: float, draw: Callable[[Any], None]) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.5, height), layout="constrained")
        draw(axes)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, transparent=True, metadata={"Date": None})
        plt.close(figure)


def _throughput(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    thick = 0.38
    for shift, (name, colour, label) in zip((-thick / 2, thick / 2), RATES, strict=True):
        values = [row["values"][name] for row in rows]
        places = [place + shift for place in range(len(rows))]
        axes.barh(places, values, thick, color=colour, label=label)
        for place, value in zip(places, values, strict=True):
            axes.text(value * 1.06, place, f"{value:,.0f}", va="center", fontsize=7)
    axes.set_xscale("log")
    axes.set_xlim(10, max(row["values"]["drain"] for row in rows) * 2.2)
    axes.set_title("Jobs a second (log scale, more is better)")
    _name_rows(axes, rows)
    _legend(axes)


def _latency(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    for shift, (name, colour, label) in zip((-0.16, 0.16), TIMES, strict=True):
        for place, row in enumerate(rows):
            low, high = row["values"][f"{name}_p50"], row["values"][f"{name}_p99"]
            axes.plot([low, high], [place + shift] * 2, color=colour, linewidth=2.5, alpha=0.55, solid_capstyle="round")
            axes.plot(
                [low], [place + shift], "o", color=colour, markersize=6, label=None if place else f"{label}: p50 to p99"
            )
            axes.plot([high], [place + shift], "|", color=colour, markersize=9, markeredgewidth=2.0)
    axes.set_xscale("log")
    axes.set_title("One job on an idle worker in another process, ms (log scale, less is better)")
    _name_rows(axes, rows)
    _legend(axes)


def _backlog(axes: Any, drains: Sequence[Figure]) -> None:
    names = [figure.name.removeprefix("drain, ") for figure in drains]
    values = [figure.value for figure in drains]
    axes.barh(range(len(drains)), values, 0.6, color=LITE)
    for place, value in enumerate(values):
        axes.text(value * 1.01, place, f"{value:,.0f}", va="center")
    axes.set_xlim(0, max(values) * 1.12)
    axes.set_yticks(range(len(drains)), names)
    axes.invert_yaxis()
    axes.grid(visible=True, axis="x")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_title("Jobs a second while 10,000 are drained beside the rest of the file")


def _name_rows(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Name the rows from the top down: queue, setting, and whether each enqueue is on the disk."""
    names = [f"{row['peer']}, {row['setting']}{'  ●' if row['synced'] else '  ○'}" for row in rows]
    axes.set_yticks(range(len(rows)), names)
    for row, tick in zip(rows, axes.get_yticklabels(), strict=True):
        if row["peer"] == "litequeue":
            tick.set_color(LITE)
            tick.set_fontweight("bold")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=True, axis="x")
    axes.set_xlabel("●  on the disk when enqueue returns      ○  may be lost at power loss")


def _legend(axes: Any) -> None:
    axes.legend(
        frameon=False, loc="lower left", labelcolor=INK, ncols=2, bbox_to_anchor=(-0.01, 0.995), borderaxespad=0.2
    )
    axes.xaxis.set_major_formatter("{x:,g}")
