"""Measure litequeue beside the speed limit of SQLite and beside SqliteHuey. `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import apsw

from benchmarks import (
    backlog,
    bulk,
    compositions,
    contention,
    footprint,
    idle,
    latency,
    limits,
    listings,
    many_schedules,
    operating,
    overlap,
    payloads,
    processes,
    report,
    run_logs,
    shrinking,
    streams,
    throughput,
    waits,
)
from benchmarks.figures import Figure, Plan, table
from benchmarks.sides import has_huey
from litequeue.sqlite.file.guards import filesystem_of

BENCHMARKS = {
    "throughput": throughput,
    "latency": latency,
    "overlap": overlap,
    "idle": idle,
    "contention": contention,
    "footprint": footprint,
    "backlog": backlog,
    "operating": operating,
    "many_schedules": many_schedules,
    "listings": listings,
    "bulk": bulk,
    "payloads": payloads,
    "shrinking": shrinking,
    "limits": limits,
    "compositions": compositions,
    "waits": waits,
    "streams": streams,
    "run_logs": run_logs,
    "processes": processes,
}


def main(arguments: list[str] | None = None) -> None:
    options = _options(arguments)
    plan = Plan(rounds=options.rounds, scale=options.scale if not options.quick else 0.1)
    tempfile.tempdir = options.folder
    about, sections = machine(), []
    print(about)
    figures: list[Figure] = []
    for name in options.names or list(BENCHMARKS):
        began = time.monotonic()
        found = BENCHMARKS[name].measure(plan)
        sections.append(f"{name} ({time.monotonic() - began:.0f} s)\n\n{table(found)}")
        print("", sections[-1], sep="\n", flush=True)
        figures += found
    if options.json:
        text = json.dumps({"machine": about, "figures": [figure.plain() for figure in figures]}, indent=1)
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    if options.plots:
        from benchmarks import plots

        plots.backlog(figures, Path(options.plots))
    if options.readme:
        report.replace(options.readme, "figures", "\n\n".join([about, *sections]))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run, of {', '.join(BENCHMARKS)}; all")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; figures are medians over them (5)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply every size by this (1)")
    parser.add_argument("--folder", help="where the files go; its disk is measured too (a temporary folder)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file as well")
    parser.add_argument("--readme", metavar="FILE", help="put the tables into this file as well, between its markers")
    parser.add_argument("--plots", metavar="FOLDER", help="draw `backlog` into this folder as well (needs matplotlib)")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    return options


def machine() -> str:
    """Say what the figures were taken on: they mean nothing beside another machine's."""
    folder = Path(tempfile.gettempdir())
    load = f"load {os.getloadavg()[0]:.1f}, " if hasattr(os, "getloadavg") else ""
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {load}"
        f"Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()} (apsw), "
        f"{filesystem_of(folder) or 'unknown file system'}, huey {_huey_version()}"
    )


def _huey_version() -> str:
    if not has_huey():
        return "not installed: no ratios to it"
    import huey

    return str(huey.__version__)


if __name__ == "__main__":
    main(sys.argv[1:])
