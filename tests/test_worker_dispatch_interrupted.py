"""A Ctrl-C before any line of a dispatch or of a wait costs the worker no thread and no job."""

import linecache
import threading

import pytest

from contract import test_store_interrupted as interrupting
from crash.watching import ended, until
from idle_workers import IdleWorkers
from litequeue import Queue
from litequeue.core import dispatch
from litequeue.ipc import notifier, result_waiter
from litequeue.ipc import result_waiters as waiters
from litequeue.sqlite import kernel
from litequeue.sqlite.parts import jobs
from litequeue.sqlite.parts import runs as stored_runs
from litequeue.worker import running_jobs as runs
from litequeue.worker.executor import pool, shared_listener
from litequeue.worker.executor import thread_pool as threads

MOST = 400


@pytest.fixture(autouse=True)
def look_often(monkeypatch):
    """What was not said is found out at the next look."""
    monkeypatch.setattr("litequeue.worker.loop.POLL", 0.02)
    monkeypatch.setattr("litequeue.worker.reconcile.EVERY", 0.01)


class Interrupter(interrupting.Interrupter):
    """Comes before no `try:`, where Python looks for no signal: see SETUP_FINALLY in ceval.c, and NOP in later ones."""

    def __call__(self, frame, event, argument):
        if event == "line" and linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() == "try:":
            return self
        return super().__call__(frame, event, argument) and self


@pytest.fixture
def traced(monkeypatch):
    def choose(*modules):
        monkeypatch.setattr(interrupting, "TRACED", {module.__file__ for module in modules})
        monkeypatch.setattr(interrupting, "Interrupter", Interrupter)

    return choose


@pytest.fixture(params=["apsw", "sqlite3"])
def queue(request, database):
    with Queue(database, driver=request.param, durability="normal") as queue:
        queue.task(name="work")(lambda n: n)
        yield queue


def all_threads_work(queue, meet, size):
    """Whether as many jobs run at once as the worker has threads."""
    jobs = meet.enqueue_many([(size,)] * size)
    return {str(ended(job).status) for job in jobs} == {"succeeded"}


def test_a_dispatch_that_is_interrupted_anywhere(queue, traced, monkeypatch):
    idle = IdleWorkers(queue, monkeypatch)
    traced(dispatch, runs, threads, pool, jobs, stored_runs, kernel, notifier, shared_listener)
    work, size = queue.tasks["work"], 3
    barrier = threading.Barrier(size, timeout=10)
    meet = queue.task(name="meet")(lambda _size: barrier.wait() >= 0)
    with queue.worker(threads=size):
        for n in range(1, MOST):
            until(idle.now)
            if not interrupting.interrupted(n, lambda: work.enqueue(1)):
                break
            for job in queue.jobs(task="work", limit=3):
                assert ended(job).status == "succeeded"
            assert all_threads_work(queue, meet, size)
        assert 20 < n < MOST - 1


def test_a_wait_that_is_interrupted_anywhere_leaves_its_listener_to_another(queue, traced, monkeypatch):
    monkeypatch.setattr("litequeue.ipc.result_waiters.SAFETY_POLL", 3600.0)
    traced(waiters, result_waiter)
    work = queue.tasks["work"]
    with Queue(queue.path, driver=queue.engine.driver_name) as other, queue.worker(threads=2):
        far = other.task(name="work")(lambda n: n)
        for n in range(1, MOST):
            job = far.using(delay=0.003).enqueue(1)
            if not interrupting.interrupted(n, lambda job=job: job.result(20)):
                break
            assert far.enqueue(2).result(20) == 2
            assert work.enqueue(3).result(20) == 3
        assert 10 < n < MOST - 1
