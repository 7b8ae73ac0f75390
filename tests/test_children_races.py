"""What may meet in a worker with children: a kill and the end of a run, a stop and a start, one death and another."""

import os
import random
import signal
import sys
import threading

import pytest

import child_jobs
from child_processes import children_of, descriptors, is_gone, needs_proc, number_in
from crash.watching import ended, until
from litequeue import Queue
from litequeue.children import child_process

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="signals, /proc"), needs_proc]


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


@pytest.fixture
def task(queue):
    def declared(name, **options):
        return queue.task(process=True, **options)(getattr(child_jobs, name))

    return declared


def pool_of(worker):
    return worker._loop._executor._children


def test_a_kill_that_meets_the_end_of_a_run_hurts_no_other_job(queue, task):
    naps, pid = task("naps", timeout="0.1s"), task("pid")
    chance = random.Random(3)
    with queue.worker(children=2):
        jobs = [naps.enqueue(chance.uniform(0.095, 0.105)) for _ in range(16)]
        others = [pid.enqueue() for _ in range(40)]
        assert {ended(job).status for job in jobs} <= {"succeeded", "failed"}
        assert all(other.result(timeout=60) for other in others)
    errors = [error.type for job in jobs for error in job.refresh().errors]
    assert {*errors} <= {"litequeue.JobTimeout"}
    assert not [other for other in others if other.refresh().errors]


def test_a_child_that_stands_still_is_killed_at_its_limit(queue, task, tmp_path):
    hangs, pid = task("hangs", timeout="0.5s"), task("pid")
    with queue.worker(children=1):
        job = hangs.enqueue(str(tmp_path / "begun"))
        child = number_in(tmp_path / "begun")
        os.kill(child, signal.SIGSTOP)
        assert ended(job).status == "failed"
        assert job.refresh().errors[0].type == "litequeue.JobTimeout"
        assert pid.enqueue().result(timeout=30) != child


def test_an_idle_child_that_stands_still_holds_up_a_job_no_longer_than_its_limit(queue, task):
    pid, quick = task("pid"), task("add", timeout="0.5s", retries=1, backoff=0)
    with queue.worker(children=1):
        child = pid.enqueue().result(timeout=30)
        os.kill(child, signal.SIGSTOP)
        assert quick.enqueue(1).result(timeout=30) == 2
        assert is_gone(child)


def test_a_process_that_cannot_be_killed_is_left_behind_and_another_takes_its_place(
    queue, task, tmp_path, monkeypatch, caplog
):
    """As one in an uninterruptible sleep, on a disk that does not answer."""
    monkeypatch.setattr("litequeue.worker.running_jobs.LATE_GRACE", 0.2)
    killed, kill = [], child_process.ChildProcess.kill
    monkeypatch.setattr(child_process.ChildProcess, "kill", lambda child: killed.append(child))
    hangs, pid = task("hangs_in_c", timeout="0.3s"), task("pid")
    with queue.worker(children=1) as worker:
        job = hangs.enqueue(str(tmp_path / "begun"))
        assert ended(job).status == "failed"
        stuck = number_in(tmp_path / "begun")
        assert "does not stop when told; it is left running and counted as ended" in caplog.text
        assert pid.enqueue().result(timeout=30) != stuck
        assert not is_gone(stuck)
        assert worker.left_running == 1
        assert pool_of(worker).size == 1
        kill(killed[0])
        until(lambda: is_gone(stuck))
        until(lambda: not worker._loop.mailbox.left_behind, "the worker sees that it is gone")
        monkeypatch.undo()
        until(lambda: pool_of(worker).free == 1)
        assert pid.enqueue().result(timeout=30)
    assert [error.type for error in job.refresh().errors] == ["litequeue.JobTimeout"]


def test_a_job_that_is_cancelled_while_its_child_dies_before_it_begins_is_cancelled(queue, task, tmp_path):
    """The child's import of its module ends the process; the cancel is not forgotten with it."""
    pid, add = task("pid"), task("add")
    with queue.worker(children=1) as worker:
        child = pid.enqueue().result(timeout=30)
        os.kill(child, signal.SIGSTOP)
        job = add.enqueue(1)
        until(lambda: worker._loop.mailbox.running)
        job.cancel()
        until(lambda: [run for run in worker._loop.mailbox.running.values() if run.cancel_requested])
        os.kill(child, signal.SIGKILL)
        assert ended(job).status == "cancelled"


def test_a_job_on_its_way_to_a_child_that_dies_begins_in_another(queue, task):
    pid, add = task("pid"), task("add", delivery="at_most_once")
    with queue.worker(children=1) as worker:
        child = pid.enqueue().result(timeout=30)
        os.kill(child, signal.SIGSTOP)
        job = add.enqueue(1)
        until(lambda: worker._loop.mailbox.running)
        os.kill(child, signal.SIGKILL)
        assert job.result(timeout=30) == 2
    assert not job.refresh().errors


def test_after_a_stop_in_its_first_moment_a_job_that_may_run_once_is_still_to_run(queue, task):
    """It was on its way: the child, which stands still, never began it."""
    pid, add = task("pid"), task("add", delivery="at_most_once")
    with queue.worker(children=1, grace=0) as worker:
        os.kill(pid.enqueue().result(timeout=30), signal.SIGSTOP)
        job = add.enqueue(1)
        until(lambda: worker._loop.mailbox.running)
    assert (job.refresh().status, job.errors) == ("queued", ())


@pytest.mark.slow
def test_after_many_deaths_a_worker_counts_as_before(queue, task, tmp_path):
    """Its room, its threads, its descriptors, its processes, and what its lock file says of what runs."""
    pid = task("pid")
    tasks = {name: task(name) for name in ("exits", "segfault", "raises", "forks", "leaves_a_thread_for_a_moment")}
    hangs = task("hangs_in_c", timeout="0.2s")
    chance = random.Random(5)
    with queue.worker(children=3, max_jobs_per_child=20) as worker:
        pool = pool_of(worker)

        def figures():
            return {
                "descriptors": descriptors(),
                "threads": sum(thread.name.startswith("litequeue-") for thread in threading.enumerate()),
            }

        def settle():
            for job in pid.enqueue_many([()] * 60):
                job.result(timeout=60)
            until(lambda: pool.free == 3 and not worker._loop.mailbox.running)

        settle()
        before, children = figures(), children_of()
        jobs = []
        for number in range(60):
            name = chance.choice([*tasks, "hangs", "pid", "pid", "pid"])
            given = {"exits": (3,), "raises": ("no",)}.get(name, ())
            if name == "hangs":
                jobs.append(hangs.enqueue(str(tmp_path / str(number))))
            else:
                jobs.append((tasks | {"pid": pid})[name].enqueue(*given))
        for job in jobs:
            ended(job, 120)
        settle()
        # at most three more children are there now than were then, each with four descriptors and three threads
        after = figures()
        assert after["descriptors"] <= before["descriptors"] + 3 * 4
        assert after["threads"] <= before["threads"] + 3 * 3
        assert len(children_of()) <= len(children - children_of()) + 3
        assert (pool.busy, len(pool.backlog), pool.free) == (0, 0, 3)
        assert sorted([*pool._slots, *pool._handlers]) == sorted({*pool._slots, *pool._handlers})
        assert len(pool._slots) + len(pool._handlers) == 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("litequeue-child")]
