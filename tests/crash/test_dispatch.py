"""A job that another process enqueues for an idle worker is lost by no death, and waits for none that stands still."""

import os
import signal
import subprocess
import sys

import pytest

from crash.program import ROOT
from crash.watching import ended, freeze, status_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.disk,
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and SIGSTOP"),
]

ENQUEUE = """
import os, signal, sys
from tests.crash.program import declare
queue = declare(sys.argv[1])
if sys.argv[2] == "dies":
    queue.engine.kernel.notifier.notify = lambda *word: os.kill(os.getpid(), signal.SIGKILL)
print(queue.tasks["nap"].enqueue(0).id, flush=True)
"""
SOON = 10.0  # seconds; a worker that stands still is taken for dead after a minute


def enqueue_elsewhere(queue, how):
    """Enqueue in a process of its own; return how that ended."""
    command = [sys.executable, "-c", ENQUEUE, os.fspath(queue.path), how]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def idle(queue):
    """Have a job run, so that the workers are idle after it."""
    ended(queue.tasks["nap"].enqueue(0))


def test_one_that_dies_between_its_commit_and_its_ring_leaves_a_job_that_runs(queue, launch):
    launch()
    idle(queue)
    dead = enqueue_elsewhere(queue, "dies")
    assert (dead.returncode, dead.stdout) == (-signal.SIGKILL, "")
    job = queue.jobs()[0]
    assert ended(job, SOON).status == "succeeded"
    assert job.errors == ()


def test_what_another_process_enqueues_runs(queue, launch):
    launch()
    idle(queue)
    done = enqueue_elsewhere(queue, "lives")
    job = queue.job(done.stdout.strip())
    assert ended(job, SOON).status == "succeeded"


def test_a_job_enqueued_after_an_idle_worker_was_killed_waits_for_the_next_worker(queue, launch):
    process = launch()
    idle(queue)
    process.kill()
    process.wait()
    job = queue.tasks["nap"].enqueue(0)
    assert status_of(job) == "queued"
    launch()
    assert ended(job, SOON).status == "succeeded"


def test_a_job_does_not_wait_for_an_idle_worker_that_was_just_stopped(queue, launch):
    """It waited a minute, until that worker was taken for dead, though another was idle."""
    stopped = launch()
    launch()
    for _ in range(5):
        idle(queue)
        freeze(queue, stopped)
        jobs = [queue.tasks["nap"].enqueue(0) for _ in range(3)]
        assert [ended(job, SOON).status for job in jobs] == ["succeeded"] * 3
        stopped.send_signal(signal.SIGCONT)
