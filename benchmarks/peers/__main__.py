"""Measure other task queues beside litequeue and the speed limit of SQLite. `python -m benchmarks.peers --help`."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from benchmarks import report
from benchmarks.__main__ import machine
from benchmarks.figures import Plan
from benchmarks.latency import floor_times
from benchmarks.peers import compositions, processes
from benchmarks.peers.compositions import Compositions
from benchmarks.peers.peer import APART, CHECKPOINTED, COMPOSED, PEERS, SYNCED, Setting, module
from benchmarks.peers.redis_server import has_redis, redis_server, version
from benchmarks.peers.table import Against, Row, row, settings_of, table, writes
from benchmarks.peers.trial import SAMPLES, Measured, idle, trial, versions
from benchmarks.throughput import limit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.peers.compositions import ComposedRow
    from benchmarks.peers.peer import Broker
    from benchmarks.peers.redis_server import RedisServer

T = TypeVar("T")
Key = tuple[str, str]
FILES = ("litequeue", "huey")  # whose writes are told
FLOOR = "floor"
PARTS = ("jobs", "compositions", "processes")


@dataclass
class About:
    """What was measured, on what."""

    machine: str
    redis: str
    packages: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def main(arguments: list[str] | None = None) -> None:
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what was started, as Ctrl-C does
    plan = Plan(rounds=options.rounds, scale=options.scale if not options.quick else 0.1)
    tempfile.tempdir = options.folder
    about = About(machine(), version())
    names = options.names or PEERS
    settings = _settings(names, about) if options.only != "processes" else {}
    apart = _settings([name for name in names if name in APART], about, "PROCESSES") if _wants(options, 2) else {}
    print(head := f"{about.machine}\nredis-server {about.redis}; {'; '.join(about.packages.values())}")
    rows: list[Row] = []
    composed: list[ComposedRow] = []
    with contextlib.ExitStack() as stack:
        brokers = {each.durability.broker for each in (*settings.values(), *apart.values())} - {"none"}
        servers = {broker: stack.enter_context(redis_server(broker)) for broker in sorted(brokers)}
        if _wants(options, 0):
            began = time.monotonic()
            rows = _rows(settings, _measure(settings, servers, plan, about))
            text = [f"peers ({time.monotonic() - began:.0f} s)", *_text_of_jobs(rows, about)]
            _tell("peers", head, text, options.readme)
        if _wants(options, 1):
            began = time.monotonic()
            composed = _compose(settings, servers, plan, about)
            text = [f"compositions of peers ({time.monotonic() - began:.0f} s)", compositions.table(composed)]
            text += ["\n".join(left_out)] if (left_out := _left_out(about)) else []
            _tell("compositions of peers", head, text, options.readme)
        if _wants(options, 2):
            began = time.monotonic()
            found = {key: Measured() for key in apart}
            _take_turns(found, plan, about, lambda key, each: _turn(key, apart, servers, plan, each))
            text = [f"processes of peers ({time.monotonic() - began:.0f} s)", processes.table(apart, found)]
            _tell("processes of peers", head, text, options.readme)
    _keep(rows, composed, about, options)


def _wants(options: argparse.Namespace, part: int) -> bool:
    return options.only in {None, PARTS[part]}


def _text_of_jobs(rows: list[Row], about: About) -> list[str]:
    of_files = {f"{each.peer}, {each.setting}": each for each in rows if each.peer in FILES}
    return [
        table(rows),
        "\n".join([settings_of(rows), *_left_out(about)]),
        f"writes of a worker that drains\n\n{writes(of_files)}",
    ]


def _left_out(about: About) -> list[str]:
    return [f"- left out: {name}: {why}" for name, why in about.left_out.items()]


def _tell(part: str, head: str, text: list[str], readme: str | None) -> None:
    print("", *text, sep="\n\n", flush=True)
    if readme:
        report.replace(readme, part, "\n\n".join([head, *text]))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to measure, of {', '.join(PEERS)}; all")
    parser.add_argument("--only", choices=PARTS, help="leave out the other parts")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; figures are medians over them (3)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply every size by this (1)")
    parser.add_argument("--folder", help="where the files go; its disk is measured too (a temporary folder)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file as well")
    parser.add_argument("--readme", metavar="FILE", help="put the tables into this file as well, between its markers")
    parser.add_argument(
        "--plots", metavar="FOLDER", help="draw the figures into this folder as well (needs matplotlib)"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(PEERS)
    if unknown:
        parser.error(f"no queue {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    if options.names and "litequeue" not in options.names:
        options.names.insert(0, "litequeue")
    return options


def _settings(names: list[str] | tuple[str, ...], about: About, of: str = "SETTINGS") -> dict[Key, Setting]:
    """Find what can be measured here; note the versions, and why something cannot."""
    settings: dict[Key, Setting] = {}
    for name in names:
        found = versions(name)
        if found is None:
            about.left_out[name] = "not installed: `make bench-peers` installs it"
            continue
        about.packages[name] = ", ".join(f"{package} {number}" for package, number in found.items())
        for each in getattr(module(name), of):
            if each.durability.broker == "none" or has_redis():
                settings[name, each.name] = each
            else:
                about.left_out[f"{name}, {each.name}"] = "there is no redis-server"
    return settings


def _measure(
    settings: dict[Key, Setting], servers: Mapping[Broker, RedisServer], plan: Plan, about: About
) -> dict[Key, Measured]:
    """Let all take turns; then watch them idle."""
    measured = {key: Measured() for key in [(FLOOR, "full"), (FLOOR, "normal"), *settings]}
    _take_turns(measured, plan, about, lambda key, each: _turn(key, settings, servers, plan, each))
    running = {key: setting for key, setting in settings.items() if key in measured}
    for key, (cpu, memory) in idle(running, servers, plan).items():
        measured[key].idle_cpu, measured[key].idle_memory = cpu, memory
    return measured


def _take_turns(measured: dict[Key, T], plan: Plan, about: About, turn: Callable[[Key, T], str]) -> None:
    """Measure each once a round, in an order that moves on. What fails once is out."""
    for number in range(plan.rounds):
        keys = list(measured)
        start = number * len(keys) // plan.rounds
        for key in keys[start:] + keys[:start]:
            began = time.monotonic()
            try:
                told = turn(key, measured[key])
            except RuntimeError as error:
                if key[0] in {FLOOR, "litequeue"}:
                    raise
                about.left_out[", ".join(key)] = f"failed: {error}"
                del measured[key]
            else:
                print(f"  {', '.join(key)}: {told} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)


def _compose(
    settings: dict[Key, Setting], servers: Mapping[Broker, RedisServer], plan: Plan, about: About
) -> list[ComposedRow]:
    """Let those that know groups take turns; compare each with the litequeue that promises the same."""
    measured: dict[Key, Compositions] = {key: {} for key in settings if key[0] in COMPOSED}
    _take_turns(measured, plan, about, lambda key, each: compositions.trial(key[0], settings[key], servers, plan, each))
    against = {True: measured["litequeue", "default"], False: measured["litequeue", "fast"]}
    return [
        compositions.row(key[0], settings[key], each, against[settings[key].durability.synced], plan)
        for key, each in measured.items()
    ]


def _turn(
    key: Key, settings: dict[Key, Setting], servers: Mapping[Broker, RedisServer], plan: Plan, measured: Measured
) -> str:
    name, setting = key
    if name == FLOOR:
        _floor(setting, plan, measured)
    else:
        trial(name, settings[key], servers, plan, measured)
    return f"{measured.enqueue[-1]:,.0f} enqueued/s, {measured.drain[-1]:,.0f} drained/s"


def _floor(durability: str, plan: Plan, measured: Measured) -> None:
    measured.enqueue.append(limit("enqueue_one", durability, plan.size(2_000, least=100)))
    measured.drain.append(limit("drain", durability, plan.size(10_000, least=100)))
    times = floor_times(durability, plan.size(SAMPLES))
    measured.pickup.extend(each / 1e3 for each in times.pickup)
    measured.round_trip.extend(each / 1e3 for each in times.round_trip)


FLOORS = {
    name: Setting(name=name, concurrency="", durability=durability, jobs=2_000, drained=10_000)
    for name, durability in (("full", SYNCED), ("normal", CHECKPOINTED))
}


def _rows(settings: dict[Key, Setting], measured: dict[Key, Measured]) -> list[Row]:
    """Compare each with what promises the same: the floor and litequeue, synced or not."""
    against = {
        True: Against(measured[FLOOR, "full"], measured["litequeue", "default"]),
        False: Against(measured[FLOOR, "normal"], measured["litequeue", "fast"]),
    }
    sides = {**{(FLOOR, name): setting for name, setting in FLOORS.items()}, **settings}
    return [
        row(key[0], setting, measured[key], against[setting.durability.synced])
        for key, setting in sides.items()
        if key in measured
    ]


def _keep(rows: list[Row], composed: list[ComposedRow], about: About, options: argparse.Namespace) -> None:
    if options.json:
        text = json.dumps(
            {**asdict(about), "rows": [each.plain() for each in rows], "compositions": list(map(asdict, composed))},
            indent=1,
        )
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    if options.plots and rows:
        from benchmarks import plots

        plots.peers([each.plain() for each in rows], Path(options.plots))


if __name__ == "__main__":
    main(sys.argv[1:])
