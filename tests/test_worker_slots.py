"""A worker bounds its running jobs of a queue by slots, and of tasks that use resources by what it offers."""

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from command_line import Command, make_folder
from crash.watching import ended, running, status_of, until
from litequeue import JobTimeout, Queue, current_job
from litequeue.worker import running_jobs


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


class Gate:
    """Functions that wait until they are let through; counts how many are inside, and how many were at most."""

    def __init__(self):
        self.open = threading.Event()
        self._lock = threading.Lock()
        self.inside = self.most = self.passed = 0

    def enter(self):
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def leave(self):
        with self._lock:
            self.inside -= 1
            self.passed += 1

    def wait(self):
        self.enter()
        assert self.open.wait(20)
        self.leave()

    async def wait_on_loop(self):
        self.enter()
        while not self.open.is_set():
            await asyncio.sleep(0.005)
        self.leave()


def declare(queue):
    """Declare a task whose jobs wait at a gate, in the queue `reports`, and one whose jobs do not; return all three."""
    gate = Gate()
    return queue.task(name="slow", queue="reports")(gate.wait), queue.task(name="fast")(lambda: None), gate


SLOTS = {"default": None, "reports": 2}


def test_slow_jobs_take_no_more_than_their_slots_and_a_fast_queue_goes_on(queue):
    slow, fast, gate = declare(queue)
    slow.enqueue_many([()] * 6)
    with queue.worker(threads=4, queues=SLOTS):
        until(lambda: gate.inside == 2)
        for _ in range(20):
            fast.enqueue().result(20)
        assert gate.inside == 2
        gate.open.set()
        until(lambda: gate.passed == 6)
    assert gate.most == 2


def test_threads_and_coroutines_share_the_slots_of_a_queue(queue):
    slow, _, gate = declare(queue)
    coroutine = queue.task(name="coroutine", queue="reports")(gate.wait_on_loop)
    jobs = [each.enqueue() for _ in range(3) for each in (slow, coroutine)]
    with queue.worker(threads=4, queues={"reports": 3}):
        until(lambda: gate.inside == 3)
        assert sum(map(running, jobs)) == 3
        gate.open.set()
        until(lambda: gate.passed == 6)
    assert gate.most == 3


def test_jobs_that_are_enqueued_one_by_one_to_an_idle_worker_keep_to_the_slots(queue):
    slow, fast, gate = declare(queue)
    with queue.worker(threads=4, queues=SLOTS):
        for _ in range(5):
            slow.enqueue()
            fast.enqueue().result(20)  # the worker is idle again, but for the slow ones
        assert gate.inside == 2
        gate.open.set()
        until(lambda: gate.passed == 5)
    assert gate.most == 2


@pytest.mark.parametrize("jobs", [1, 40])
def test_until_idle_works_off_what_waits_for_slots(queue, jobs):
    seen = Gate()
    seen.open.set()
    task = queue.task(name="task", queue="reports")(seen.wait)
    task.enqueue_many([()] * jobs)
    assert queue.worker(threads=4, queues={"reports": 1}).run(until_idle=True)
    assert (seen.passed, seen.most) == (jobs, 1)


def test_plain_and_coroutine_tasks_take_turns_where_they_share_slots(queue):
    order = []
    plain = queue.task(name="plain", queue="reports")(lambda: order.append("plain"))

    @queue.task(queue="reports")
    async def coroutine():
        order.append("coroutine")

    for task in (plain, coroutine):
        task.enqueue_many([()] * 6)
    assert queue.worker(queues={"reports": 1}).run(until_idle=True)
    assert sorted(order[:4]) == ["coroutine", "coroutine", "plain", "plain"]


def test_a_cancelled_run_and_a_failed_one_give_their_slots_back(queue):
    begun = threading.Semaphore(0)

    @queue.task(queue="reports", retries=0)
    async def endless():
        begun.release()
        await asyncio.Event().wait()

    @queue.task(queue="reports")
    def broken():
        raise ValueError

    with queue.worker(threads=2, queues={"reports": 1}):
        first, second, third = endless.enqueue(), broken.enqueue(), endless.enqueue()
        assert begun.acquire(timeout=20)
        first.cancel()
        assert ended(second).status == "failed"
        assert begun.acquire(timeout=20)
        third.cancel()
        assert [str(ended(job).status) for job in (first, third)] == ["cancelled", "cancelled"]


@pytest.mark.parametrize("bound", [{"queues": {"default": 1, "other": None}}, {"offers": {"gpu": 1}}])
def test_a_function_that_outlives_its_time_limit_holds_its_place_until_it_returns(queue, monkeypatch, bound):
    monkeypatch.setattr(running_jobs, "LATE_GRACE", 0.05)
    let_go, after = threading.Event(), threading.Event()

    @queue.task(timeout=0.05, uses={"gpu": 1})
    def hangs():
        while not let_go.is_set():
            try:
                let_go.wait(20)
            except JobTimeout:
                continue

    free = queue.task(name="free", queue="other")(lambda: None)
    with queue.worker(**{"threads": 2, "offers": {"gpu": 9}} | bound):
        assert ended(hangs.enqueue()).status == "failed"
        waits = queue.task(name="waits", uses={"gpu": 1})(after.set).enqueue()
        free.enqueue().result(20)  # the worker has looked, and goes on
        assert (status_of(waits), after.is_set()) == ("queued", False)
        let_go.set()
        waits.result(20)


def test_a_slot_is_free_only_when_the_function_has_returned_whatever_it_stored_itself(queue):
    inside, go_on = threading.Event(), threading.Event()

    @queue.task(uses={"gpu": 1})
    def stores_its_success():
        with current_job().completing(1):
            pass
        inside.set()
        assert go_on.wait(20)

    other = queue.task(name="other")(lambda: None)
    with queue.worker(threads=3, offers={"gpu": 1}):
        stores_its_success.enqueue()
        assert inside.wait(20)
        second = stores_its_success.enqueue()
        other.enqueue().result(20)
        assert status_of(second) == "queued"
        go_on.set()
        assert second.result(20) == 1


def test_jobs_run_at_once_as_far_as_the_worker_has_what_they_use(queue):
    gate = Gate()
    render = queue.task(name="render", uses={"gpu": 1, "ram_mb": 4000})(gate.wait)
    render.enqueue_many([()] * 6)
    with queue.worker(threads=8, offers={"gpu": 4, "ram_mb": 9000}):
        until(lambda: gate.inside == 2)
        gate.open.set()
        until(lambda: gate.passed == 6)
    assert gate.most == 2


def test_a_wait_for_a_job_says_what_no_running_worker_offers(queue):
    render = queue.task(name="render", uses={"gpu": 4})(lambda: None)
    with queue.worker(offers={"gpu": 2}):
        job = render.enqueue()
        with pytest.raises(TimeoutError, match="its task asks for gpu: 4; no running worker offers more than 2"):
            job.result(0.05)


def test_jobs_that_use_what_no_worker_offers_are_logged_once_and_not_waited_for(queue, caplog):
    render = queue.task(name="render", uses={"gpu": 1})(lambda: None)
    render.enqueue_many([()] * 3)
    assert queue.worker().run(until_idle=True)
    [record] = [record for record in caplog.records if "render" in record.getMessage()]
    assert record.getMessage() == (
        "3 jobs are waiting for the task `render` (queue default), which asks for gpu: 1; no running worker offers any "
        "of it. If this machine has it, start a worker with --offer gpu=1"
    )


def test_another_worker_that_offers_it_runs_the_job_and_nothing_is_logged(queue, database, caplog):
    render = queue.task(name="render", uses={"gpu": 1})(lambda: os.getpid())
    with queue.worker(name="plain"), queue.worker(name="with-gpu", offers={"gpu": 1}):
        assert render.enqueue().result(20) == os.getpid()
    assert "asks for" not in caplog.text


@pytest.mark.slow
def test_a_killed_worker_leaves_no_slot_taken(tmp_path):
    make_folder(tmp_path)
    app = tmp_path / "app.py"
    app.write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from litequeue import Queue\n"
        'queue = Queue("app.db", durability="normal")\n'
        '@queue.task(queue="reports", uses={"gpu": 1})\n'
        "def gated() -> int:\n"
        '    while not Path("gate").exists():\n'
        "        time.sleep(0.01)\n"
        "    return os.getpid()\n"
    )
    arguments = ("run", "app:queue", "--threads", "4", "--queues", "reports:2", "--offer", "gpu=3")
    code = "from app import gated; print(len(gated.enqueue_many([()] * 5)))"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    started = []
    try:
        with Queue(tmp_path / "app.db") as queue:
            for _ in range(2):  # the first one is killed
                for command in started:
                    command.process.kill()
                started.append(Command(tmp_path, *arguments))
                until(lambda: [worker.running for worker in queue.engine.workers.list()] == [2])
                until(lambda: queue.engine.workers.list()[0].id == len(started))
            (tmp_path / "gate").touch()
            until(lambda: len(queue.jobs(status="succeeded")) == 5)
        started[-1].signal(signal.SIGTERM)
        assert started[-1].ends() == 0
    finally:
        for command in started:
            command.clean_up()


def test_why_names_slots_that_are_taken_and_resources_that_nobody_offers(queue):
    gate = Gate()
    slow = queue.task(name="slow", queue="reports")(gate.wait)
    render = queue.task(name="render", uses={"gpu": 4})(lambda: None)
    with queue.worker(threads=4, queues={"reports": 1, "default": None}, offers={"gpu": 2}):
        first, second = slow.enqueue(), slow.enqueue()
        until(lambda: gate.inside == 1)
        waiting = second if queue.job(first.id).status == "running" else first
        assert waiting.why() == "its queue 'reports' has all of its slots taken in each worker that serves it"
        asked = render.enqueue().why()
        assert asked == "its task asks for gpu: 4; no running worker offers more than 2"
        gate.open.set()
        assert [job.result(10) for job in (first, second)] == [None, None]
