"""Limits and cancels of what runs in a child process: it is told, and killed where it does not hear."""

import os
import sys

import pytest

import child_jobs
from child_processes import is_gone, needs_proc, number_in
from crash.watching import ended, until
from litequeue import JobFailed, Queue

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


@pytest.fixture
def begun(tmp_path):
    return tmp_path / "begun"


@pytest.mark.parametrize(
    "name", ["hangs", "hangs_in_c", "hangs_in_c_with_the_interpreter", "hangs_deaf", "swallows_all"]
)
def test_whatever_a_function_does_its_process_is_gone_at_its_limit(queue, task, begun, name):
    hangs, pid = task(name, timeout="0.5s"), task("pid")
    with queue.worker(children=1):
        job = hangs.enqueue(str(begun))
        assert ended(job).status == "failed"
        (error,) = job.refresh().errors
        assert (error.type, error.message) == ("litequeue.JobTimeout", f"{name} ran longer than its limit of 0.5 s")
        assert is_gone(number_in(begun))
        assert pid.enqueue().result(timeout=30)


def test_a_kill_at_the_limit_is_a_try_and_no_death(queue, task, begun):
    hangs = task("second_time", timeout="0.5s", retries=1, backoff=0)
    with queue.worker(children=1):
        job = hangs.enqueue(str(begun))
        assert job.result(timeout=30) == 2
    assert [error.type for error in job.refresh().errors] == ["litequeue.JobTimeout"]


def test_a_job_that_may_run_once_is_not_repeated_after_its_limit(queue, task, begun):
    hangs = task("hangs_in_c", timeout="0.5s", delivery="at_most_once")
    with queue.worker(children=1):
        job = hangs.enqueue(str(begun))
        assert ended(job).status == "failed"
    assert [error.type for error in job.refresh().errors] == ["litequeue.JobTimeout"]
    assert job.attempt == 1


def test_the_limit_counts_from_when_the_child_is_there(queue, task):
    """The start of a child takes longer than this limit."""
    quick = task("pid", timeout="0.2s")
    with queue.worker(children=1):
        assert quick.enqueue().result(timeout=30)


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("catches_timeout", "JobTimeout: catches_timeout ran longer than its limit of 0.2 s"),
        ("catches_timeout_async", "cancelled"),
    ],
)
def test_a_function_may_catch_its_soft_limit(queue, task, begun, name, result):
    catches = task(name, soft_timeout="0.2s", timeout="60s")
    with queue.worker(children=1):
        job = catches.enqueue(str(begun))
        if name == "catches_timeout":
            assert job.result(timeout=30).startswith("JobTimeout")
        else:
            assert job.result(timeout=30) == result
    assert job.refresh().attempt == 1


@pytest.mark.parametrize(("name", "is_function"), [("cleans_up", True), ("cancelled_coroutine", False)])
def test_at_its_soft_limit_a_function_cleans_up_and_the_job_fails(queue, task, begun, tmp_path, name, is_function):
    noted = tmp_path / "noted"
    cleans, pid = task(name, soft_timeout="0.3s", retries=0), task("pid")
    with queue.worker(children=1):
        job = cleans.enqueue(str(begun), str(noted))
        with pytest.raises(JobFailed, match="ran longer than its limit of"):
            job.result(timeout=30)
        child = number_in(begun)
        assert noted.read_text() == "cleaned up"
        assert pid.enqueue().result(timeout=30) == child  # nothing was killed
    assert job.refresh().errors[0].type == "litequeue.JobTimeout"


def test_a_soft_limit_is_a_try(queue, task, begun, tmp_path):
    cleans = task("cleans_up", soft_timeout="0.1s", retries=2, backoff=0)
    with queue.worker(children=1):
        job = cleans.enqueue(str(begun), str(tmp_path / "noted"))
        assert ended(job).status == "failed"
    assert len(job.refresh().errors) == 3


def test_who_does_not_hear_the_soft_limit_is_killed_at_the_hard_one(queue, task, begun):
    deaf = task("swallows_all", soft_timeout="0.1s", timeout="0.6s")
    with queue.worker(children=1):
        job = deaf.enqueue(str(begun))
        assert ended(job).status == "failed"
        assert is_gone(number_in(begun))
    assert "its limit of 0.6 s" in job.refresh().errors[0].message


@pytest.mark.parametrize("name", ["spins", "sleeps_briefly"])
def test_very_short_soft_limits_are_met_whenever_they_are_over(queue, task, name):
    """Also before the function is called, and in the first lines of ours around it."""
    short = task(name, soft_timeout="0.001s", timeout=None, retries=0)
    with queue.worker(children=1):
        jobs = [short.enqueue() for _ in range(30)]
        assert [ended(job).status for job in jobs] == ["failed"] * 30


def test_no_thread_of_an_idle_child_looks_again_and_again(queue, task):
    short, pid = task("sleeps_briefly", soft_timeout="0.001s", timeout=None), task("pid")
    with queue.worker(children=1):
        for _ in range(10):
            ended(short.enqueue())
        child = pid.enqueue().result(timeout=30)
        status = f"/proc/{child}/task"

        def switches():
            found = []
            for thread in os.listdir(status):
                with open(f"{status}/{thread}/status") as file:
                    found += [int(line.split()[1]) for line in file if line.startswith("voluntary")]
            return sum(found)

        settled = []

        def is_quiet():
            settled.append(switches())
            return len(settled) > 50 and settled[-1] == settled[-50]

        until(is_quiet, "the threads of an idle child rest")


def test_a_cancel_is_seen_by_the_function(queue, task, begun):
    sees = task("sees_cancel")
    with queue.worker(children=1):
        job = sees.enqueue(str(begun))
        number_in(begun)
        job.cancel()
        assert job.result(timeout=30) == "saw it"


def test_a_cancelled_coroutine_ends_at_its_next_await(queue, task, begun, tmp_path):
    sleeps, pid = task("cancelled_coroutine"), task("pid")
    with queue.worker(children=1):
        job = sleeps.enqueue(str(begun), str(tmp_path / "noted"))
        child = number_in(begun)
        job.cancel()
        assert ended(job).status == "cancelled"
        assert (tmp_path / "noted").read_text() == "cleaned up"
        assert pid.enqueue().result(timeout=30) == child


def test_a_coroutine_is_cancelled_once_however_often_it_is_told(queue, task, begun, tmp_path):
    """What it does at its end is not cut short."""
    sleeps = task("counts_cancels")
    gate = tmp_path / "gate"
    with queue.worker(children=1) as worker:
        job = sleeps.enqueue(str(begun), str(gate), str(tmp_path / "counted"))
        number_in(begun)
        job.cancel()
        (run,) = until(lambda: [each for each in worker._loop.mailbox.running.values() if each.cancel_requested])
        for _ in range(20):
            worker._loop._executor.ask(run)
        gate.touch()
        assert ended(job).status == "cancelled"
    assert (tmp_path / "counted").read_text() == "1"


def test_where_a_function_is_can_be_asked(queue, task, begun, tmp_path, caplog):
    gated, asleep = task("gated"), task("hangs_in_c_with_the_interpreter")
    gate = tmp_path / "gate"
    with queue.worker(children=2, grace=0) as worker:
        job = gated.enqueue(str(begun), str(gate))
        deaf = asleep.enqueue(str(tmp_path / "deaf"))
        child, other = number_in(begun), number_in(tmp_path / "deaf")
        worker.log_stacks()
        assert "in gated\n" in caplog.text
        assert f"in child process {other}, which does not answer: it may be in a call of C code" in caplog.text
        gate.touch()
        assert job.result(timeout=30) == child
    assert deaf.refresh().status == "queued"


def test_a_child_that_does_not_read_holds_up_no_worker(queue, task, begun):
    """More is said to it than the system keeps: the loop goes on, and what runs there is killed at its limit."""
    deaf, add = task("hangs_in_c_with_the_interpreter", timeout="4s"), queue.task(child_jobs.add)
    with queue.worker(children=1) as worker:
        job = deaf.enqueue(str(begun))
        number_in(begun)
        pool = worker._loop._executor._children
        handler = next(iter(pool._handlers.values()))
        assert not all(handler.tell(("no message", number)) for number in range(100_000))
        job.cancel()
        assert add.enqueue(1).result(timeout=30) == 2
        assert ended(job).status in ("failed", "cancelled")


def test_a_task_that_no_worker_has_a_child_for_is_told_of(queue, task, caplog):
    """By the log, and by whoever asks for the job."""
    pid = task("pid")
    with queue.worker(children=0):
        job = pid.enqueue()
        until(lambda: "process=True, and this worker has children=0; start one that has child processes" in caplog.text)
        assert "no running worker has its task" in str(job.why())
        with queue.worker(children=1):
            assert job.result(timeout=30)
