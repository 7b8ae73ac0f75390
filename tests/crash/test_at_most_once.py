"""Workers that are killed again and again: no function of `delivery="at_most_once"` is called twice for a job."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from crash.watching import until
from litequeue import Queue

KILLS, AT_ONCE, JOBS = 4, 4 + 4, 1_500

PROGRAM = """
import asyncio, os, sys
from litequeue import Queue, current_job

queue = Queue(sys.argv[1], durability="normal")
record = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)

@queue.task(name="pay", delivery="at_most_once")
def pay():
    os.write(record, f"{current_job().id}\\n".encode())

@queue.task(name="apay", delivery="at_most_once")
async def apay():
    os.write(record, f"{current_job().id}\\n".encode())
    await asyncio.sleep(0)

queue.worker(threads=4, coroutines=4).run(until_idle="idle" in sys.argv)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills by SIGKILL")
def test_no_function_is_called_twice_however_often_its_worker_is_killed(database, tmp_path):
    record = tmp_path / "record"
    record.touch()
    program = [sys.executable, "-c", PROGRAM, str(database), str(record)]
    with Queue(database, durability="normal") as queue:
        tasks = [queue.task(name=name)(function) for name, function in (("pay", lambda: None), ("apay", _nothing))]
        for task in tasks:
            task.enqueue_many([()] * JOBS)
        for _ in range(KILLS):
            before = os.path.getsize(record)
            process = subprocess.Popen(program)
            until(lambda: os.path.getsize(record) > before + 500 or not queue.jobs(status="queued", limit=1))  # noqa: B023
            process.kill()
            process.wait(20)
        assert subprocess.run([*program, "idle"], timeout=120, check=False).returncode == 0
        called = Counter(record.read_text().split())
        jobs = [*queue.jobs(limit=10_000)]
    assert [job_id for job_id, times in called.items() if times > 1] == []
    succeeded = {job.id for job in jobs if job.status == "succeeded"}
    interrupted = {job.id for job in jobs if job.status == "failed"}
    assert len(succeeded) + len(interrupted) == 2 * JOBS
    assert succeeded <= called.keys() <= succeeded | interrupted
    # noted as begun, and killed before the call: one in each thread, and the coroutines of one step of the loop
    assert len(interrupted - called.keys()) <= KILLS * AT_ONCE


async def _nothing() -> None: ...
