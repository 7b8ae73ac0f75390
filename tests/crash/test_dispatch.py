"""A job that is handed over is lost by no death, whoever dies when."""

import os
import signal
import subprocess
import sys
import time

import pytest

from crash.program import ROOT
from crash.watching import ended, freeze, status_of, until
from litequeue.ipc.dispatch import SLOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and SIGSTOP"),
]

ENQUEUE = """
import os, signal, sys
from tests.crash.program import declare
queue = declare(sys.argv[1])
store = queue.store
if sys.argv[2] == "dies":
    store._handover._send = lambda *word: os.kill(os.getpid(), signal.SIGKILL)
print(queue.tasks["nap"].enqueue(0).id, flush=True)
"""


def enqueue_elsewhere(queue, how):
    """Enqueue in a process of its own; return how that ended."""
    command = [sys.executable, "-c", ENQUEUE, os.fspath(queue.path), how]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def rests(queue):
    """How long a worker in another process may yet be handed a job."""
    slots = SLOT.iter_unpack(bytes(queue.store._dispatch._memory()))
    return max(until for _, until, _ in slots) - time.monotonic()


def at_rest(queue):
    until(lambda: rests(queue) > 0.5, "a worker rests")


def freeze_at_rest(queue, process):
    while True:
        at_rest(queue)
        freeze(queue, process)
        if rests(queue) > 0.3:
            return
        process.send_signal(signal.SIGCONT)


def test_one_that_dies_between_its_commit_and_its_word_leaves_a_job_that_runs(queue, launch):
    launch()
    at_rest(queue)
    dead = enqueue_elsewhere(queue, "dies")
    assert (dead.returncode, dead.stdout) == (-signal.SIGKILL, "")
    [job] = queue.jobs()
    assert ended(job).status == "succeeded"
    assert (job.refresh().attempt, job.errors) == (2, ())


def test_another_process_hands_over_and_lives(queue, launch):
    launch()
    at_rest(queue)
    done = enqueue_elsewhere(queue, "lives")
    job = queue.job(done.stdout.strip())
    assert ended(job).status == "succeeded"
    assert job.refresh().attempt == 1


def test_a_worker_killed_at_rest_is_given_nothing_that_others_do_not_get(queue, launch):
    process = launch()
    at_rest(queue)
    process.kill()
    process.wait()
    job = queue.tasks["nap"].enqueue(0)
    assert status_of(job) == "queued"
    launch()
    assert ended(job).status == "succeeded"


def test_a_worker_that_stands_still_is_given_nothing_once_its_rest_is_over(queue, launch):
    frozen = launch()
    freeze_at_rest(queue, frozen)
    until(lambda: rests(queue) < 0, "its rest is over")
    job = queue.tasks["nap"].enqueue(0)
    assert status_of(job) == "queued"
    launch()
    assert ended(job).status == "succeeded"


def test_what_was_handed_to_a_worker_that_stands_still_is_rescued_from_it(queue, launch):
    frozen = launch()
    freeze_at_rest(queue, frozen)
    job = queue.tasks["nap"].enqueue(0)
    assert status_of(job) == "running"
    launch("FROZEN_AFTER=0.5", "DEATHS_EVERY=0.05", "BEAT_EVERY=0.1")
    assert ended(job).status == "succeeded"
    assert job.refresh().attempt == 2
    frozen.send_signal(signal.SIGCONT)
    until(lambda: len(queue.store.living_workers()) == 2, "it signs on anew")
    assert (status_of(job), job.refresh().attempt) == ("succeeded", 2)
