"""A worker ends by itself after `max_jobs` jobs, or above `max_memory`, and interrupts none for it."""

import threading

import pytest
from click.testing import CliRunner

from command_line import DEADLINE
from litequeue import Queue, Unsupported
from litequeue.cli import main
from litequeue.core.store import Demand
from litequeue.worker.claiming import at_most


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


@pytest.fixture
def ran():
    return []


@pytest.fixture
def tasks(queue, ran):
    """A plain task and a coroutine, each of which notes that it ran."""

    @queue.task
    def plain(n: int) -> None:
        ran.append(n)

    @queue.task
    async def coroutine(n: int) -> None:
        ran.append(n)

    return plain, coroutine


def test_a_claim_asks_for_no_more_than_is_left():
    plain, coroutines = frozenset({"a"}), frozenset({"b"})
    demands = [Demand(plain, 8), Demand(coroutines, 100)]
    assert at_most(1000, demands) == demands
    assert at_most(10, demands) == [Demand(plain, 8), Demand(coroutines, 2)]
    assert at_most(8, demands) == [Demand(plain, 8)]
    assert at_most(0, demands) == []


@pytest.mark.parametrize("most", [1, 7, 50])
def test_exactly_so_many_jobs_run_of_both_kinds(queue, tasks, ran, most):
    for task in tasks:
        task.enqueue_many([(n,) for n in range(40)])
    worker = queue.worker(max_jobs=most)
    assert worker.run()
    assert worker.recycled
    assert len(ran) == most
    assert len(queue.jobs(status="queued")) == 80 - most
    assert len(queue.jobs(status="running")) == 0


def test_jobs_enqueued_in_the_same_process_count_too(queue, tasks, ran):
    """An idle worker of the same process gets jobs where they are stored."""
    with queue.worker(max_jobs=3) as worker:
        jobs = [tasks[0].enqueue(n) for n in range(3)]
        for job in jobs:
            job.result(timeout=DEADLINE)
        assert worker.stop_request.wait(DEADLINE)
        tasks[0].enqueue(3)
    assert ran == [0, 1, 2]
    assert len(queue.jobs(status="queued")) == 1


def test_what_runs_ends_whatever_the_grace(queue):
    gate, begun = threading.Event(), threading.Semaphore(0)

    @queue.task
    def gated() -> bool:
        begun.release()
        return gate.wait(DEADLINE)

    long, short = gated.enqueue(), queue.task(name="short")(lambda: None).enqueue()
    with queue.worker(max_jobs=2, grace=0) as worker:
        short.result(timeout=DEADLINE)
        assert begun.acquire(timeout=DEADLINE)
        assert not worker.stop_request.drained
        gate.set()
        assert long.result(timeout=DEADLINE)
        assert worker.stop_request.wait(DEADLINE)
    assert worker.released == 0


def test_a_job_cancelled_before_it_began_does_not_count(queue, tasks, ran):
    jobs = tasks[0].enqueue_many([(n,) for n in range(3)])
    jobs[0].cancel()
    assert queue.worker(max_jobs=2).run()
    assert ran == [1, 2]


def test_until_idle_ends_at_whichever_comes_first(queue, tasks, ran):
    tasks[0].enqueue_many([(n,) for n in range(3)])
    first = queue.worker(max_jobs=2)
    assert first.run(until_idle=True)
    second = queue.worker(max_jobs=2)
    assert second.run(until_idle=True)
    assert (first.recycled, second.recycled, sorted(ran[:2]), ran[2]) == (True, False, [0, 1], 2)


def test_a_worker_over_its_memory_claims_no_more_and_lets_what_runs_end(queue, tasks, ran, monkeypatch, caplog):
    worker = queue.worker(max_memory="100GB")
    gate = threading.Event()

    @queue.task
    def grows() -> bool:
        monkeypatch.setattr("litequeue.worker.recycling.resident_memory", lambda: 2 * 10**11)
        return gate.wait(DEADLINE)

    job = grows.enqueue()
    with caplog.at_level("WARNING", "litequeue"), worker:
        while not worker.stop_request.drains:
            assert not worker.stop_request.wait(0.01)
        tasks[0].enqueue(1)
        gate.set()
        assert job.result(timeout=DEADLINE)
        assert worker.stop_request.wait(DEADLINE)
    assert "this process holds 200000 MB, more than max_memory (100000 MB)" in caplog.text
    assert worker.recycled
    assert ran == []


def test_a_stop_while_it_drains_is_a_stop(queue):
    gate, begun = threading.Event(), threading.Event()

    @queue.task
    def gated() -> None:
        begun.set()
        gate.wait(DEADLINE)

    job = gated.enqueue()
    with queue.worker(max_jobs=1) as worker:
        assert begun.wait(DEADLINE)
        worker.stop(now=True)
        gate.set()
    assert not worker.recycled
    assert job.refresh().status in ("queued", "succeeded")


@pytest.mark.parametrize("options", [{"max_jobs": 0}, {"max_jobs": 1.5}, {"max_jobs": True}, {"max_memory": "many"}])
def test_what_makes_no_sense_is_refused(queue, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        queue.worker(**options)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--max-memory", "500M"], "write 500MB (thousands) or 500MiB (1024s)"),
        (["--max-jobs", "0"], "--max-jobs"),
        (["--threads", "many"], "nor auto"),
    ],
)
def test_so_it_is_on_the_command_line(option, words):
    refused = CliRunner().invoke(main, ["run", "app:queue", *option])
    assert refused.exit_code == 2
    assert words in refused.output


def test_an_engine_without_it_refuses_it(monkeypatch, queue):
    monkeypatch.setattr(type(queue.engine), "features", frozenset())
    with pytest.raises(Unsupported, match="max_jobs"):
        queue.worker(max_jobs=3)
