"""gevent in the place of threads: what works, works without spinning, and what cannot is refused at the start."""

import subprocess
import sys
import types

import pytest

from litequeue import Queue, Unsupported

# What a greenlet has in common with no thread: a number that Python knows no thread by.
NUMBERED = """
import threading
real = threading.get_ident
threading.get_ident = lambda: real() + 1
"""
PATCHED = "from gevent import monkey; monkey.patch_all()"
LIMIT = """
import os, sys, threading, time
import litequeue.worker.running_jobs
from litequeue import Queue

litequeue.worker.running_jobs.LATE_GRACE = 60.0
queue = Queue(sys.argv[1])

@queue.task(timeout="50ms")
def late():
    over = time.monotonic() + 0.3
    while time.monotonic() < over:
        time.sleep(0.01)
    return "late"

@queue.task
def add(a: int, b: int) -> int:
    return a + b

with queue.worker(threads=1):
    # it cannot be interrupted, so it ends by itself; what it returned counts
    print(late.enqueue().result(timeout=20), add.enqueue(1, 2).result(timeout=20), flush=True)
os._exit(0)
"""
EVERYTHING = """
import asyncio, os, resource, signal, sys, threading, time
import gevent
from litequeue import Queue, as_completed, wait_all

queue = Queue(sys.argv[1], driver=sys.argv[2])

@queue.task
def add(a: int, b: int) -> int:
    return a + b

@queue.task
def nap() -> None:
    time.sleep(0.2)

def together(call, count):
    return [one.get() for one in [gevent.spawn(call, n) for n in range(count)]]

def inside(_n):
    return add.enqueue(1, 1).result(timeout=20)

async def main():
    job = await add.aenqueue(1, 2)
    return await job.aresult(timeout=20)

try:
    add.enqueue(0, 0).result(timeout=0.1)
except TimeoutError as error:
    assert "no worker is running" in str(error), error
with queue.worker(threads=3):
    assert add.enqueue(1, 2).result(timeout=20) == 3
    assert together(lambda n: add.enqueue(n, n).result(timeout=20), 20) == [2 * n for n in range(20)]
    [job.result(timeout=20) for job in nap.enqueue_many([() for _ in range(6)])]
    for each in as_completed(wait_all(nap.enqueue_many([() for _ in range(6)]), timeout=20), timeout=20):
        each.result()
    assert asyncio.run(main()) == 3
    with queue.transaction():
        others = gevent.spawn(inside, 0)
        gevent.sleep(0.1)
    assert others.get(timeout=20) == 2
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    time.sleep(1.0)
    after, span = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - began
    idle = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / span
    assert idle < 0.1, idle
worker = queue.worker(threads=2)

def stop():
    while not queue.engine.workers.list():
        gevent.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)

gevent.spawn(stop)
assert worker.run()
queue.close()
print("works")
"""


def run(program, *arguments):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_time_limit_does_not_spin_where_the_thread_is_none_that_python_knows(database):
    ran = run(NUMBERED + LIMIT, database)
    assert ran.stdout == "late 3\n", ran.stderr


def test_a_time_limit_does_not_spin_in_a_greenlet(database):
    pytest.importorskip("gevent")
    ran = run(PATCHED + LIMIT, database)
    assert ran.stdout == "late 3\n", ran.stderr


@pytest.mark.parametrize("driver", ["apsw", "sqlite3"])
def test_jobs_are_stored_run_and_waited_for_in_greenlets(database, driver):
    pytest.importorskip("gevent")
    ran = run(PATCHED + EVERYTHING, database, driver)
    assert ran.stdout == "works\n", ran.stderr


@pytest.mark.parametrize(
    ("module", "library"),
    [
        ("gevent.monkey", types.SimpleNamespace(is_module_patched=lambda _name: True)),
        ("eventlet.patcher", types.SimpleNamespace(is_monkey_patched=lambda name: name == "thread")),
    ],
)
def test_coroutine_tasks_are_refused_where_greenlets_are_the_threads(database, monkeypatch, module, library):
    with Queue(database) as queue:

        @queue.task
        async def coroutine(): ...

        monkeypatch.setitem(sys.modules, module, library)
        with pytest.raises(Unsupported, match=f"{module.partition('.')[0]}.*litequeue run"), queue.worker():
            pass
        job = coroutine.enqueue()  # for a worker elsewhere
        with pytest.raises(TimeoutError):
            job.result(timeout=0.01)


def test_plain_tasks_run_where_greenlets_are_the_threads(database, monkeypatch):
    library = types.SimpleNamespace(is_module_patched=lambda _name: True)
    monkeypatch.setitem(sys.modules, "gevent.monkey", library)
    with Queue(database) as queue:
        job = queue.task(name="t")(lambda: "plain").enqueue()
        with queue.worker(threads=1):
            assert job.result(timeout=20) == "plain"


@pytest.mark.parametrize("patched", ["threading", "select"])
def test_a_worker_is_refused_where_gevent_has_replaced_half_of_what_it_needs(database, monkeypatch, patched):
    library = types.SimpleNamespace(is_module_patched=lambda name: name == patched)
    monkeypatch.setitem(sys.modules, "gevent.monkey", library)
    with Queue(database) as queue, pytest.raises(Unsupported, match="patch_all"), queue.worker():
        pass
    assert list(database.with_name("app.db-litequeue").glob("*.lock")) == []
