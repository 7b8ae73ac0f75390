"""`litequeue run a:queue b:queue`: a worker for each app in one process, which start and end together."""

import json
import signal
import threading

import pytest
from click.testing import CliRunner

from command_line import DEADLINE, Command, ended
from litequeue import Queue
from litequeue.cli import main
from litequeue.worker.counts import Counts
from litequeue.worker.idleness import Idleness
from litequeue.worker.stop_request import StopRequest
from litequeue.worker.together import Together

APP = """
import logging, os, sys, time
from pathlib import Path
from litequeue import Queue

queue = Queue("{name}.db", durability="normal")

@queue.task
def passes_on(n: int) -> None:
    import {other}
    logging.getLogger("shop").warning("passing on %d", n)
    if n:
        {other}.passes_on.enqueue(n - 1)

@queue.task
def waits_for_the_other() -> str:
    import {other}
    return {other}.answers.enqueue().result(timeout=20)

@queue.task
def answers() -> str:
    time.sleep(0.01)
    return "from {name}"

@queue.task
def gated() -> None:
    sys.stdout.write("{name} begins\\n")
    sys.stdout.flush()
    while not Path("gate").exists():
        time.sleep(0.01)

@queue.task
def replaces_its_file() -> None:
    os.rename("{name}.db", "{name}.gone")
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.py").write_text(APP.format(name="a", other="b"))
    (tmp_path / "b.py").write_text(APP.format(name="b", other="a"))
    return tmp_path


@pytest.fixture
def queues(folder):
    """Both queues, seen from here: their tasks are known by name."""
    queues = {name: Queue(folder / f"{name}.db", durability="normal") for name in "ab"}
    for queue in queues.values():
        for name in ("passes_on", "waits_for_the_other", "gated", "replaces_its_file", "unknown"):
            queue.task(name=name)(lambda *_args: None)
    yield queues
    for queue in queues.values():
        queue.close()


@pytest.fixture
def start(folder):
    started = []

    def starting(*arguments):
        started.append(Command(folder, "run", "a:queue", "b:queue", *arguments))
        return started[-1]

    yield starting
    (folder / "gate").touch()
    for command in started:
        command.clean_up()


def test_until_idle_waits_until_all_are_idle_and_each_record_has_its_app(folder, queues):
    queues["a"].tasks["passes_on"].enqueue(9)
    queues["b"].tasks["waits_for_the_other"].enqueue()
    queues["b"].tasks["gated"].using(delay="1h").enqueue_many([()] * 3)
    queues["b"].tasks["unknown"].enqueue()
    done = ended(folder, "run", "a:queue", "b:queue", "--until-idle", "--log-format", "json")
    assert done.returncode == 0
    for queue in queues.values():
        assert len(queue.jobs(status="succeeded", task="passes_on")) == 5
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert {record["app"] for record in records} == {"a:queue", "b:queue"}
    assert [record["app"] for record in records if record.get("event") == "serving"] == ["a:queue", "b:queue"]
    left = {record["app"]: (record["left"], record["message"]) for record in records if "left" in record}
    assert left["a:queue"][1].endswith("has stopped: 6 runs ended, 0 released; left: nothing")
    assert left["b:queue"][1].endswith("; left: 3 scheduled, 1 of tasks that are not declared here")
    assert left["b:queue"][0] == {"scheduled": 3, "unserved": 1}
    shop = [(record["app"], record["message"]) for record in records if record["logger"] == "shop"]
    assert shop == [("ab"[n % 2 == 0] + ":queue", f"passing on {n}") for n in range(9, -1, -1)]


def test_one_signal_stops_all(start, queues, folder):
    jobs = [queue.tasks["gated"].enqueue() for queue in queues.values()]
    command = start()
    command.wait_for("[ab] begins", 2)
    command.signal(signal.SIGTERM)
    command.wait_for(r"[ab]:queue: SIGTERM: finishing running jobs", 2)
    (folder / "gate").touch()
    assert command.ends() == 0
    assert [job.refresh().status for job in jobs] == ["succeeded", "succeeded"]
    assert [queue.engine.workers.list() for queue in queues.values()] == [[], []]


@pytest.mark.slow
def test_a_worker_that_fails_ends_the_others(start, queues, folder):
    job = queues["b"].tasks["gated"].enqueue()
    command = start()
    command.wait_for("b begins")
    queues["a"].tasks["replaces_its_file"].enqueue()
    command.wait_for("the worker of a:queue has failed: finishing running jobs")
    (folder / "gate").touch()
    assert command.ends() == 1
    assert job.refresh().status == "succeeded"


@pytest.mark.slow
def test_a_supervisor_starts_others_after_max_jobs_and_stops_all(start, queues):
    jobs = queues["a"].tasks["passes_on"].enqueue_many([(0,)] * 5)
    command = start("--processes", "1", "--max-jobs", "2")
    for job in jobs:
        job.result(timeout=DEADLINE)
    command.wait_for("to make room for a new one", 2)
    command.wait_for("has started", 6)
    command.signal(signal.SIGTERM)
    command.wait_for("asks for a stop", 2)
    assert command.ends() == 0
    assert "has run 2 jobs (max_jobs), and ends" in command.output


@pytest.mark.slow
def test_two_of_one_file_are_refused(folder):
    refused = ended(folder, "run", "a:queue", "a")
    assert refused.returncode == 2
    assert "a:queue and a use the same file" in refused.stderr


@pytest.mark.parametrize("apps", [["a:queue", "b:queue", "a:queue"]])
def test_one_named_twice_is_refused(apps):
    refused = CliRunner().invoke(main, ["run", *apps])
    assert refused.exit_code == 2
    assert "named twice" in refused.output


# ---- without processes


class Watcher:
    """Notes what it is told."""

    every = 1.0

    def __init__(self):
        self.heard = []

    def claims(self, status):
        self.heard.append(("claims", status))

    def goes_on(self, status):
        self.heard.append(("goes on", status))

    def stops(self, status):
        self.heard.append(("stops", status))


def test_a_watcher_hears_what_holds_for_all(tmp_path):
    with Queue(tmp_path / "a.db") as one, Queue(tmp_path / "b.db") as two:
        workers, watcher = {"a": one.worker(), "b": two.worker()}, Watcher()
        Together(workers).watch(watcher)
        first, second = (worker.watcher for worker in workers.values())
        first.claims("1 of 9")
        assert watcher.heard == []
        second.claims("2 of 9")
        first.goes_on("1 of 9")
        first.goes_on("1 of 9")
        assert watcher.heard == [("claims", "1 of 9; 2 of 9")]
        second.goes_on("3 of 9")
        assert watcher.heard[1:] == [("goes on", "1 of 9; 3 of 9")]
        first.stops("stopping")
        assert watcher.heard[2:] == [("stops", "stopping; 3 of 9")]


def test_idle_is_what_all_have_found_without_progress_since():
    idleness, stops, counts = Idleness(), [StopRequest(1.0), StopRequest(1.0)], [Counts(), Counts()]
    for stop, count in zip(stops, counts, strict=True):
        idleness.join(stop, count)
    before = idleness.progress
    counts[1].claimed += 1  # it runs a job, which may enqueue one for the first
    assert not idleness.all_idle(stops[0], before)
    counts[1].settled += 1
    assert not idleness.all_idle(stops[1], idleness.progress)
    assert idleness.all_idle(stops[0], idleness.progress)
    counts[1].claimed += 1  # too late for the first, which has ended
    assert idleness.all_idle(stops[1], idleness.progress)


@pytest.fixture
def pair(tmp_path):
    """Two queues, each with a task that waits at a gate of its own."""
    gates, queues = [threading.Event(), threading.Event()], []
    for number, gate in enumerate(gates):
        queue = Queue(tmp_path / f"{number}.db", durability="normal")
        queue.task(name="gated")(lambda gate=gate: gate.wait(DEADLINE))
        queue.task(name="quick")(lambda: None)
        queues.append(queue)
    yield queues, gates
    for gate, queue in zip(gates, queues, strict=True):
        gate.set()
        queue.close()


def run_together(*workers):
    together, results = Together(dict(zip("ab", workers, strict=True))), []
    thread = threading.Thread(target=lambda: results.append(together.run()))
    thread.start()
    assert together.wait_until_started()
    return together, thread, results


def test_what_one_of_them_releases_is_told(pair):
    (one, two), _ = pair
    job = two.tasks["gated"].enqueue()
    together, thread, results = run_together(one.worker(), two.worker(grace=0))
    while job.refresh().status != "running":
        assert thread.is_alive()
    together.stop()
    thread.join(DEADLINE)
    assert results == [False]
    assert (together.drained, together.recycled, job.refresh().status) == (True, False, "queued")


def test_the_first_that_has_run_max_jobs_lets_the_others_finish(pair):
    (one, two), gates = pair
    job = two.tasks["gated"].enqueue()
    together, thread, results = run_together(one.worker(max_jobs=2), two.worker(max_jobs=2, grace=0))
    while job.refresh().status != "running":
        assert thread.is_alive()
    one.tasks["quick"].enqueue_many([()] * 3)
    stop = together.workers["b"].stop_request
    while not stop.drains:
        assert not stop.wait(0.01)
    two.tasks["quick"].enqueue()
    gates[1].set()
    thread.join(DEADLINE)
    assert results == [True]
    assert together.recycled
    assert [len(queue.jobs(status="queued")) for queue in (one, two)] == [1, 1]
