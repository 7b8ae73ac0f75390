"""Death: a worker's process is killed, or told to stop, amid its jobs. On engines that other processes can reach."""

import signal
import sys

import pytest

from crash.watching import until
from litequeue import JobFailed

OTHER_PROCESSES = True
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL, SIGTERM")


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "gate"


def running(job):
    """Wait until it runs; return it."""
    until(lambda: job.refresh().status == "running")
    return job


def test_what_a_killed_worker_ran_runs_again_soon_and_nothing_else(rig, start_worker, gate):
    killed = start_worker(threads=2)
    ended = rig.tasks.add.enqueue(1)
    assert ended.result(10) == 2
    jobs = [running(rig.tasks.through.enqueue(str(gate))) for _ in range(2)]
    start_worker(threads=4)
    beside = running(rig.tasks.through.enqueue(str(gate)))  # by the other worker, which is up then
    killed.kill()
    until(lambda: all(running(job).attempt > 1 for job in jobs))
    gate.touch()
    assert all(job.result(10) > 1 for job in jobs)
    # deaths are counted, not claims: one that is released before its function is called is claimed once more
    deaths = [rig.engine.jobs.look_up(job.id).deaths for job in (*jobs, beside, ended)]
    assert deaths == [1, 1, 0, 0]


@pytest.mark.slow
def test_a_job_that_kills_its_worker_is_stopped_after_three_deaths_and_the_next_worker_lives(rig, start_worker):
    workers = [start_worker(threads=1) for _ in range(4)]
    poison = rig.tasks.die.enqueue()
    with pytest.raises(JobFailed):
        poison.result(30)
    record = rig.engine.jobs.look_up(poison.id)
    assert (record.status, record.deaths) == ("failed", 3)  # it may have been claimed more often, and released unbegun
    assert rig.tasks.add.enqueue(1).result(10) == 2
    # the kernel frees a dead process's lock a moment before its parent can see the death
    until(lambda: [worker.poll() for worker in workers].count(None) == 1)


def test_a_worker_that_is_told_to_stop_finishes_what_it_runs(rig, start_worker, gate):
    worker = start_worker(threads=1, grace="30s")
    job = running(rig.tasks.through.enqueue(str(gate)))
    behind = rig.tasks.add.enqueue(1)
    worker.send_signal(signal.SIGTERM)
    gate.touch()
    assert worker.wait(20) == 0
    assert (job.refresh().status, job.attempt) == ("succeeded", 1)
    assert behind.refresh().status == "queued"


def test_what_is_not_done_within_the_grace_is_released_without_a_try_or_a_death(rig, start_worker, gate):
    worker = start_worker(threads=1, grace="0.1s")
    job = running(rig.tasks.through.enqueue(str(gate)))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 75
    record = rig.engine.jobs.look_up(job.id)
    assert (record.status, record.failures, record.deaths) == ("queued", 0, 0)
    gate.touch()
    rig.work()
    assert job.result(5) == 2


def test_a_job_whose_end_is_on_record_does_not_run_again_when_its_worker_dies(rig, start_worker):
    worker = start_worker(threads=1)
    job = rig.tasks.identity.enqueue()
    first = job.result(10)
    worker.kill()
    worker.wait(20)
    rig.work()
    assert (job.refresh().attempt, job.result(5)) == (1, first)
