"""Each benchmark runs, at a hundredth of its size. What it measures is not asserted: the machine may be busy."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.figures import Figure

ROOT = Path(__file__).parent.parent
SLOW = pytest.mark.slow


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)


@pytest.mark.parametrize(
    "name",
    [
        *("throughput", "idle"),
        *(
            pytest.param(name, marks=SLOW)
            for name in (
                *("latency", "overlap", "contention", "footprint", "backlog", "operating"),
                *("many_schedules", "listings", "bulk", "payloads", "shrinking", "limits", "compositions", "waits"),
                "streams",
                "run_logs",
                "processes",
            )
        ),
    ],
)
def test_a_benchmark_prints_its_table_and_writes_its_figures(name, tmp_path):
    readme, kept = tmp_path / "README.md", tmp_path / "figures.json"
    readme.write_text("# Before\n<!-- figures: written by make -->\nstale\n<!-- end of figures -->\nafter\n")
    sizes = ("--rounds", 1, "--scale", 0.01, "--folder", tmp_path)
    ended = run(name, *sizes, "--json", kept, "--readme", readme)
    assert (ended.returncode, ended.stderr) == (0, "")
    figures = json.loads(kept.read_text())["figures"]
    assert figures
    assert all(figure["durability"] in {"full", "normal", ""} for figure in figures)
    written = readme.read_text()
    assert all(f"| {figure['name']} " in ended.stdout and f"| {figure['name']} " in written for figure in figures)
    assert ("stale" in written, written.startswith("# Before\n"), written.endswith("\nafter\n")) == (False, True, True)


def test_an_unknown_benchmark_is_refused():
    ended = run("speed")
    assert ended.returncode == 2
    assert "no benchmark speed; there are throughput, latency, overlap, idle, contention" in ended.stderr


def run_peers(*arguments):
    command = [sys.executable, "-m", "benchmarks.peers", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)


@SLOW
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peers_benchmark_measures_litequeue_and_says_what_it_left_out(tmp_path):
    ended = run_peers("litequeue", "rq", "--rounds", 1, "--scale", 0.02, "--json", tmp_path / "figures.json")
    assert ended.returncode == 0, ended.stderr
    kept = json.loads((tmp_path / "figures.json").read_text())
    rows = {(row["peer"], row["setting"]): row["values"] for row in kept["rows"]}
    assert {"enqueue", "drain", "pickup_p50", "round_trip_p99", "idle_cpu", "written"} <= set(
        rows["litequeue", "default"]
    )
    assert ("rq", "default") in rows or {"rq", "rq, default"} & kept["left_out"].keys()
    composed = {(row["peer"], row["setting"]): row for row in kept["compositions"]}
    assert composed.keys() == {("litequeue", "default"), ("litequeue", "fast")}
    assert all(row["members"] == [20, 200] for row in composed.values())
    assert all(set(row["many"]) == {"group", "chord"} for row in composed.values())


def test_an_unknown_peer_is_refused():
    ended = run_peers("speed")
    assert ended.returncode == 2
    assert "no queue speed; there are litequeue, huey, rq" in ended.stderr


def test_a_plot_has_the_same_bytes_each_time(tmp_path):
    pytest.importorskip("matplotlib", reason="of the extra bench")
    plots = importlib.import_module("benchmarks.plots")
    figures = [Figure("drain, 10,000 ready", "normal", 40_000, "jobs/s")]
    for name in ("one", "two"):
        plots.backlog(figures, tmp_path / name)
    one, two = ((tmp_path / name / "backlog.svg").read_bytes() for name in ("one", "two"))
    assert one == two
    assert b"<dc:date>" not in one
