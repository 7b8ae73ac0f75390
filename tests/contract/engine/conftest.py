"""The engines under the contract, and `rig`: a queue on one of them, with the tasks of `app` declared on it.

A test, or a module by its `NEEDS`, names the features that it is about; it runs on the engines that have them. What
an engine without one has to do is in test_unsupported.py. A module with `OTHER_PROCESSES` runs on the engines whose
jobs can be reached by workers in other processes.
"""

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from contract.engine import app
from contract.engine.poor import PoorEngine
from litequeue import Queue
from litequeue.core.engine import Feature
from litequeue.sqlite.store import SqliteStore

ENGINES = {
    "apsw": (SqliteStore.features, lambda path, **options: Queue(path, durability="normal", **options)),
    "sqlite3": (
        SqliteStore.features,
        lambda path, **options: Queue(path, driver="sqlite3", durability="normal", **options),
    ),
    "poor": (PoorEngine.features, lambda _path, **options: Queue(engine=PoorEngine(), **options)),
}
# How another process opens it; an engine in memory cannot be reached.
REACHED_BY = {
    "apsw": lambda path: [str(path), "apsw"],
    "sqlite3": lambda path: [str(path), "sqlite3"],
}
TESTS = Path(__file__).parents[2]


class Rig:
    """A queue on the engine under test, its tasks, and workers for it."""

    def __init__(self, queue):
        self.queue, self.engine = queue, queue.engine
        self.tasks = app.declare(queue)

    def lacks(self, feature):
        return feature not in self.engine.features

    def stored(self):
        """How many jobs the engine has."""
        return sum(count.jobs for count in self.engine.jobs.counts())

    def work(self, **options):
        """Run what is ready, in this thread."""
        assert self.queue.worker(**{"threads": 2} | options).run(until_idle=True)

    @contextlib.contextmanager
    def worker(self, **options):
        """Have a worker run beside the block, as in another process."""
        runner = self.queue.worker(**{"threads": 4, "grace": "2s"} | options)
        thread = threading.Thread(target=runner.run)
        thread.start()
        try:
            yield runner
        finally:
            runner.stop()
            thread.join(20)
            assert not thread.is_alive()


def pytest_generate_tests(metafunc):
    if "open_rig" in metafunc.fixturenames:
        needed = getattr(metafunc.module, "NEEDS", frozenset()) | getattr(metafunc.function, "needs", frozenset())
        assert needed <= set(Feature)
        able = [name for name, (features, _) in ENGINES.items() if needed <= features]
        if getattr(metafunc.module, "OTHER_PROCESSES", False):
            able = [name for name in able if name in REACHED_BY]
        metafunc.parametrize("open_rig", able, indirect=True)


@pytest.fixture
def open_rig(request, database):
    """Make a queue with these options on the engine under test."""
    _, opening = ENGINES[request.param]
    with contextlib.ExitStack() as stack:
        yield lambda **options: Rig(stack.enter_context(opening(database, **options)))
    app.notes.clear()
    app.started.clear()


@pytest.fixture(autouse=True)
def claims_are_kept(monkeypatch):
    """A claim that a slow machine has the worker give back would count as an attempt."""
    monkeypatch.setattr("litequeue.worker.executor.claim_size.PATIENCE", 60.0)


@pytest.fixture
def rig(open_rig):
    return open_rig()


@pytest.fixture
def start_worker(request, rig, database):
    """Start a worker in a process of its own; what still runs at the end of the test is killed."""
    reach, started = REACHED_BY[request.node.callspec.params["open_rig"]], []

    def starting(*, threads, grace="30s"):
        command = [sys.executable, "-m", "contract.engine.serve", *reach(database), str(threads), grace]
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        started.append(subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}))
        return started[-1]

    yield starting
    for process in started:
        process.kill()
        process.wait(20)
