"""Deaths and near-deaths by what a job does, or by a process that stands still; real processes.

Deaths by SIGKILL, `os._exit` and a segmentation fault are in test_kill.py, and those of a supervisor's workers in
test_supervisor.py. The kernel's answer to want of memory is a SIGKILL, too.
"""

import signal
import sys
import threading

import pytest

from crash.program import TABLE
from crash.watching import ended, freeze, stopped, until
from litequeue import every

pytestmark = [
    pytest.mark.slow,
    pytest.mark.disk,
    pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP and fork"),
]

FAST = ("FROZEN_AFTER=0.8", "BEAT_EVERY=0.2", "DEATHS_EVERY=0.2")


@pytest.fixture
def effects(queue):
    """Those there are, at each look."""
    with queue.transaction() as db:
        db.execute(TABLE)
    return lambda: [n for (n,) in queue.engine.kernel.read(lambda db: db.rows("SELECT n FROM effects"))]


# Stopped


def test_a_frozen_workers_effect_happens_once_though_it_comes_back_to_it(queue, launch, effects):
    frozen = launch(*FAST)
    job = queue.tasks["thawed_effect"].enqueue(1)
    until(lambda: job.refresh().progress)
    freeze(queue, frozen)
    launch(*FAST)
    assert ended(job).attempt == 2
    frozen.send_signal(signal.SIGCONT)
    frozen.send_signal(signal.SIGTERM)
    log = frozen.communicate(timeout=20)[1]
    assert "by now; run 1 may not write any more" in log
    assert effects() == [1]
    assert job.refresh().status == "succeeded"


def test_a_worker_that_stands_still_amid_an_effect_completes_it_as_if_nothing_had_been(queue, launch, effects):
    workers = launch(*FAST), launch(*FAST)
    job = queue.tasks["stands_still_amid_its_effect"].enqueue(1)
    frozen = stopped(*workers)
    attempt = job.refresh().attempt  # a claim may have come to nothing before, where a busy machine seemed dead
    threading.Event().wait(2.0)  # longer than it takes to be declared dead
    frozen.send_signal(signal.SIGCONT)
    record = ended(job)
    assert (record.status, record.attempt, effects()) == ("succeeded", attempt, [1])
    assert {worker.poll() for worker in workers} == {None}


@pytest.fixture
def schedule(queue):
    """Let one fire each 0.2 s, and tell which ticks of it have become jobs, as far as it has come."""

    def adding(catch_up):
        queue.schedules.add("tick", queue.tasks["pid"].s(), every(0.2), catch_up=catch_up, overlap="allow")

        def counts():
            schedule = queue.engine.schedules.get("tick")
            ticks = round((schedule.next_at - schedule.created_at) / 0.2) - 1
            return ticks, len(queue.jobs(limit=10_000))

        return counts

    return adding


def test_of_ticks_in_which_the_only_worker_stood_still_the_latest_fires(queue, launch, schedule):
    worker = launch()
    counts = schedule("one")
    until(lambda: counts()[1] > 2)
    freeze(queue, worker)
    at_first = counts()
    threading.Event().wait(2.0)
    assert counts() == at_first
    worker.send_signal(signal.SIGCONT)
    until(lambda: counts()[0] > at_first[0] + 12)
    queue.schedules.pause("tick")
    ticks, jobs = counts()
    assert ticks - at_first[0] - (jobs - at_first[1]) >= 8  # 2 s are ten ticks, for which there is one job


def test_with_catch_up_all_each_tick_fires_once_though_the_only_worker_stood_still(queue, launch, schedule):
    worker = launch()
    counts = schedule("all")
    until(lambda: counts()[1] > 2)
    freeze(queue, worker)
    threading.Event().wait(2.0)
    worker.send_signal(signal.SIGCONT)
    until(lambda: counts()[1] > 15)
    queue.schedules.pause("tick")
    ticks, jobs = counts()
    assert ticks == jobs


def test_a_worker_that_comes_back_fires_no_tick_that_another_has_fired(queue, launch, schedule):
    frozen, _ = launch(*FAST), launch(*FAST)
    counts = schedule("all")
    until(lambda: counts()[1] > 2)
    freeze(queue, frozen)
    until(lambda: len(queue.engine.workers.list()) == 1, "it is declared dead")
    frozen.send_signal(signal.SIGCONT)
    until(lambda: len(queue.engine.workers.list()) == 2, "it registers again")
    sought = counts()[1] + 5
    until(lambda: counts()[1] > sought)
    queue.schedules.pause("tick")
    ticks, jobs = counts()
    assert ticks == jobs


# What a job does to its process


def test_want_of_memory_is_an_error_like_any_other(queue, launch):
    worker = launch()
    beside = queue.tasks["nap"].enqueue_many([(0.1,)] * 4)
    record = ended(queue.tasks["hoards"].enqueue())
    assert (record.status, record.errors[-1].type, record.deaths) == ("failed", "MemoryError", 0)
    assert [job.result(20) for job in beside] == [1] * 4
    assert queue.tasks["pid"].enqueue().result(20) == worker.pid


def test_a_worker_whose_job_closes_all_descriptors_ends_and_harms_neither_the_file_nor_other_jobs(queue, launch):
    first = launch("worker.executor.event_loop.JOIN=0.5")  # its loop may be beyond hearing of the end
    job, beside = queue.tasks["closes_all_once"].enqueue(), queue.tasks["nap"].enqueue(0.5)
    assert first.wait(20) == 1
    second = launch()
    assert job.result(20) == second.pid
    assert beside.result(20) in (1, 2)
    assert (ended(job).deaths, queue.engine.admin.integrity()) == (1, [])


@pytest.mark.parametrize("task", ["forks", "aforks"])
@pytest.mark.parametrize(("how", "code"), [("returns", 0), ("exits", 7), ("raises", 1)])
def test_a_child_that_comes_back_from_the_function_that_forked_it_ends_there(queue, launch, task, how, code):
    worker = launch()
    assert queue.tasks[task].enqueue(how).result(20) == code
    assert queue.tasks["pid"].enqueue().result(20) == worker.pid


def test_an_effect_happens_once_though_the_job_has_forked(queue, launch, effects):
    worker = launch()
    job = queue.tasks["forks_and_both_go_on"].enqueue(1)
    assert ended(job).status == "succeeded"
    assert queue.tasks["pid"].enqueue().result(20) == worker.pid
    assert effects() == [1]


def test_a_job_that_catches_whatever_is_raised_in_it_stops_neither_others_nor_the_end(queue, launch):
    worker = launch("worker.running_jobs.LATE_GRACE=0.3")
    jobs = queue.tasks["swallows"].enqueue_many([()] * 6)  # more than there are threads
    assert {ended(job).errors[-1].type for job in jobs} == {"litequeue.JobTimeout"}
    assert queue.tasks["pid"].enqueue().result(20) == worker.pid
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert queue.engine.workers.list() == []
