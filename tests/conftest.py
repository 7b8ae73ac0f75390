"""Fixtures that every folder of tests shares, and where the files of the tests lie."""

import gc
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from alike import alike, is_alike
from litequeue import Queue
from litequeue.sqlite.store import SqliteStore
from litequeue.testing import ManualClock
from thorough import thorough

DAY = 86_400.0
SHARED_MEMORY = Path("/dev/shm")
ROOM = 4 << 30  # bytes: what all tests of one run leave is about one GiB


def pytest_configure():
    """Put the files of tests into memory, where there is room: on a disk half of the time of most tests is fsync.

    Keep byte code, whatever the environment says: most of the start of a program is else the compiling of litequeue.
    """
    sys.dont_write_bytecode = False  # of tests, by pytest; what this process starts reads the environment
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if SHARED_MEMORY.is_dir():
        there = os.statvfs(SHARED_MEMORY)
        if there.f_bavail * there.f_frsize >= ROOM and not there.f_flag & os.ST_NOEXEC:  # tests start programs there
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(SHARED_MEMORY))


def pytest_ignore_collect(collection_path, config):
    """Do not even read what is not wanted: to collect all takes some ten seconds of each process."""
    unwanted = "not alike" in (config.option.markexpr or "")
    return True if unwanted and collection_path.suffix == ".py" and is_alike(collection_path) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Slow files first: what comes last is quick, and no process of several is left with much to do alone.

    What does the same on any Python, and what `make test` leaves out, is marked here, before pytest looks which tests
    are wanted.
    """
    for item in items:
        if alike(item):
            item.add_marker(pytest.mark.alike)
        if thorough(item):
            item.add_marker(pytest.mark.thorough)
            item.add_marker(pytest.mark.slow)
    total = Counter(item.path for item in items)
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path] / total[item.path])


def pytest_collection_finish():
    """Leave six thousand collected tests out of each collection of garbage, and of each search of what there is."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish():
    """Let hypothesis, which looks for what refers to what as it is imported for its report, see all of it."""
    gc.unfreeze()


@pytest.fixture
def tmp_path(request, tmp_path):
    """A folder for the test alone: in memory, or on the disk for what is marked so."""
    if not request.node.get_closest_marker("disk"):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="litequeue-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where a queue's file goes: a fresh path for each test, not yet created."""
    return tmp_path / "app.db"


@pytest.fixture
def clock() -> ManualClock:
    """The time of `store` and `queue`; a test moves it."""
    return ManualClock()


@pytest.fixture
def soon(monkeypatch):
    """A worker's looks at the file, and its second tries, come quickly."""
    monkeypatch.setattr("litequeue.worker.loop.BACK_OFF", 0.02)
    monkeypatch.setattr("litequeue.worker.loop.POLL", 0.05)


@pytest.fixture
def while_it_ends(queue, monkeypatch):
    """Stop a worker, and call something at each heartbeat that it sends while it waits for what still runs."""
    monkeypatch.setattr("litequeue.worker.maintenance.BEAT_EVERY", 0.0)
    monkeypatch.setattr("litequeue.worker.loop.DRAIN_LOOK", 0.02)
    beat, beats = queue.engine.workers.beat, []

    def stop(worker, call):
        def beating(number):
            known = beat(number)
            beats.append(number)
            if len(beats) > 1:  # the first may be of the cycle in which it finds the stop
                call()
            return known

        worker.stop()
        monkeypatch.setattr(queue.engine.workers, "beat", beating)

    return stop


@pytest.fixture(params=["apsw", "sqlite3"])
def driver(request):
    """Both drivers: whoever asks for this, or for what is made with it, runs twice."""
    return request.param


@pytest.fixture
def open_store(database, driver, clock):
    """Open one more store on the test's file, as another process would; closed after the test."""
    opened = []

    def opening(**options):
        given = {"durability": "full", "clock": clock, "result_ttl": DAY, "failed_ttl": 30 * DAY, "create": True}
        opened.append(SqliteStore.open(options.pop("path", database), driver=driver, **given | options))
        return opened[-1]

    yield opening
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store):
    """A store on a fresh file, with a clock that stands still."""
    return open_store()


@pytest.fixture
def open_queue(database, driver, clock):
    """Open one more queue on the test's file; closed after the test."""
    opened = []

    def opening(path=database, **options):
        queue = Queue(path, driver=driver, **options)
        queue.clock = queue.engine.clock = clock
        opened.append(queue)
        return queue

    yield opening
    for queue in opened:
        queue.close()


@pytest.fixture
def queue(open_queue):
    """A queue on a fresh file, with a clock that stands still."""
    return open_queue()


@pytest.fixture
def connect(database, driver):
    """Open a connection of the application's own, of the same driver, in autocommit; closed after the test."""
    opened = []

    def opening(path=database, **options):
        if driver == "apsw":
            import apsw

            opened.append(apsw.Connection(str(path), **options))
        else:
            import sqlite3

            opened.append(sqlite3.connect(path, **{"isolation_level": None, "check_same_thread": False} | options))
        return opened[-1]

    yield opening
    for connection in opened:
        connection.close()
