"""200 ticks of each overlap policy under three workers that are killed: what may not run at once does not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crash import overlapping
from crash.watching import until
from litequeue import Queue, every

OVERLAPS = ("skip", "queue", "allow", "replace")


@pytest.fixture
def launch(tmp_path):
    """Start a worker process; each is killed at the end."""
    started = []

    def launching():
        path = os.pathsep.join([str(Path(overlapping.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            [sys.executable, overlapping.__file__],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started.append(process)
        return process

    yield launching
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_ticks_of_each_overlap_under_workers_that_are_killed(tmp_path, launch):
    with Queue(tmp_path / "app.db", durability="normal") as queue:
        work = queue.task(name="work")(lambda name: None)
        for overlap in OVERLAPS:
            all_of_them = {"catch_up": "all", "max_runs": overlapping.TICKS} if overlap in ("queue", "allow") else {}
            queue.schedules.add(overlap, work.s(overlap), every(overlapping.EVERY), overlap=overlap, **all_of_them)
        workers = [launch() for _ in range(3)]
        for count in (30, 70, 110):
            until(lambda count=count: settled(queue, "queue") >= count, deadline=90)
            workers[0].send_signal(signal.SIGKILL)
            workers[0].wait()
            workers = [*workers[1:], launch()]
        for overlap in OVERLAPS:
            until(lambda overlap=overlap: ticks(queue, overlap) >= overlapping.TICKS, deadline=90)
            queue.schedules.pause(overlap)
        until(lambda: all(settled(queue, overlap) == len(rows(queue, overlap)) for overlap in OVERLAPS), deadline=90)
        for overlap in OVERLAPS:
            check(queue, overlap, tmp_path)


def ticks(queue, name):
    schedule = queue.schedules[name]
    return schedule.runs + schedule.skipped


def rows(queue, name):
    """The jobs of a schedule, oldest first."""
    return list(reversed(queue.jobs(schedule=name, limit=10_000)))


def settled(queue, name):
    return sum(job.status.finished for job in rows(queue, name))


def check(queue, overlap, folder):
    schedule, jobs = queue.schedules[overlap], rows(queue, overlap)
    assert schedule.runs == len(jobs)
    if schedule.catch_up == "all":
        assert (schedule.runs, schedule.skipped) == (overlapping.TICKS, 0)
    if overlap != "allow":
        runs = [line.split() for line in (folder / f"{overlap}.log").read_text().splitlines()]
        cancelled = {job.id for job in jobs if job.status == "cancelled"}
        assert at_once(runs, cancelled) == set()
        assert [job for what, job, _ in runs if what == "begin"] == sorted_by_first(runs)


def at_once(runs, cancelled):
    """Jobs that began while another one, which had not ended, did.

    A run that was killed has no end, and begins again, unless it was cancelled before that.
    """
    ends = {job for what, job, _ in runs if what == "end"}
    wrong, running = set(), None
    for what, job, _ in runs:
        if what == "begin":
            if running not in (None, job) and not (running in cancelled and running not in ends):
                wrong.add((running, job))
            running = job
        elif running == job:
            running = None
    return wrong


def sorted_by_first(runs):
    return sorted((job for what, job, _ in runs if what == "begin"), key=int)
