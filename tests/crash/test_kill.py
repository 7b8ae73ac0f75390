"""Real worker processes, killed with SIGKILL: jobs go on elsewhere, poison is stopped, nothing is lost or doubled."""

import shutil
import signal
import sys
import time

import pytest

from crash.program import start
from crash.torture import torture
from crash.watching import ended, freeze, running, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.disk,
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and SIGSTOP"),
]


def test_a_killed_workers_job_begins_on_another_within_two_seconds(queue, launch):
    first = launch()
    job = queue.tasks["hold"].enqueue()
    until(lambda: running(job))
    second = launch()
    killed = time.monotonic()
    first.kill()
    pid, began = job.result(20)
    print(f"rescued after {began - killed:.2f} s")
    assert pid == second.pid
    assert began - killed < 2.0


def test_many_workers_do_not_quarrel_over_a_dead_ones_job(queue, launch):
    first = launch()
    jobs = [queue.tasks["hold"].enqueue() for _ in range(4)]
    until(lambda: all(running(job) for job in jobs))
    for _ in range(3):
        launch()
    first.kill()
    assert {ended(job).attempt for job in jobs} == {2}


def test_a_living_workers_long_job_is_never_run_twice(queue, launch):
    launch("DEATHS_EVERY=0.01", "BEAT_EVERY=0.05")
    job = queue.tasks["nap"].enqueue(3.0)
    until(lambda: running(job))
    for _ in range(3):
        launch("DEATHS_EVERY=0.01", "BEAT_EVERY=0.05")
    assert job.result(20) == 1


@pytest.mark.parametrize("task", ["exits", "suicide", "segfaults", "closes_all"])
def test_a_job_that_kills_its_worker_fails_at_the_third_death_and_harms_no_other(queue, launch, task):
    poison = queue.tasks[task].enqueue()
    others = queue.tasks["nap"].enqueue_many([(0.2,)] * 6)
    deaths = 0
    while not poison.refresh().status.finished:
        worker = start(queue.path)
        until(lambda worker=worker: worker.poll() is not None or poison.refresh().status.finished)
        deaths += worker.poll() is not None
        worker.kill()
        worker.communicate()
    launch()
    record = ended(poison)
    assert (record.status, record.deaths, deaths) == ("failed", 3, 3)
    assert (record.errors[-1].type, record.failures) == ("WorkerDied", 0)
    assert {ended(job).status for job in others} == {"succeeded"}


def test_a_child_that_outlives_its_worker_does_not_hide_the_death(queue, launch):
    first, second = launch(), launch()
    job = queue.tasks["leaves_a_child"].enqueue()
    assert job.result(5) in {first.pid, second.pid}
    assert ended(job).attempt == 2


def test_a_worker_whose_lock_directory_was_deleted_keeps_its_job_while_it_lives(queue, launch):
    first = launch()
    job = queue.tasks["nap"].enqueue(2.0)
    until(lambda: running(job))
    shutil.rmtree(queue.engine.directory)
    reset_after_fork = start(queue.path, "BEAT_EVERY=0.1", "DEATHS_EVERY=0.1")
    try:
        assert job.result(20) == 1
        assert first.poll() is None
    finally:
        reset_after_fork.kill()
        reset_after_fork.communicate()


def test_a_death_is_seen_though_the_lock_directory_was_deleted(queue, launch):
    first = launch()
    job = queue.tasks["hold"].enqueue()
    until(lambda: running(job))
    shutil.rmtree(queue.engine.directory)
    second = start(queue.path, "BEAT_EVERY=0.1", "DEATHS_EVERY=0.1")
    try:
        first.kill()
        first.wait()
        assert job.result(20)[0] == second.pid
    finally:
        second.kill()
        second.communicate()


def test_a_frozen_workers_job_is_taken_over_and_its_late_answer_is_dropped(queue, launch):
    fast = ("FROZEN_AFTER=0.8", "BEAT_EVERY=0.2", "DEATHS_EVERY=0.2")
    frozen = launch(*fast)
    job = queue.tasks["thawed"].enqueue()
    until(lambda: job.refresh().progress)
    freeze(queue, frozen)
    launch(*fast)
    assert job.result(20) == "in time"
    before = {worker.id for worker in queue.engine.workers.list()}
    frozen.send_signal(signal.SIGCONT)
    until(lambda: {worker.id for worker in queue.engine.workers.list()} - before, "it registers again")
    assert len(queue.engine.workers.living()) == 2
    frozen.send_signal(signal.SIGTERM)
    log = frozen.communicate(timeout=20)[1]
    assert "was declared dead while it was frozen" in log
    assert "run 1 ended too late and was dropped" in log
    assert job.refresh().result(0) == "in time"


def test_a_frozen_worker_that_nobody_takes_for_dead_goes_on_as_if_nothing_had_been(queue, launch):
    first = launch()
    job = queue.tasks["nap"].enqueue(0.5)
    until(lambda: running(job))
    freeze(queue, first)
    launch()
    first.send_signal(signal.SIGCONT)
    assert job.result(20) == 1


def test_no_kill_loses_a_job_or_doubles_an_effect(database):
    figures = torture(database, kills=15, jobs=1500, seed=1)
    assert figures.sound, figures
    assert figures.run_again > 0
