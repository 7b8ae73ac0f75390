"""A worker at rest begins what is handed to it without a claim, and settles a lone run without its loop."""

import asyncio
import threading
from contextlib import closing
from types import SimpleNamespace

import pytest

from crash.watching import ended, until
from litequeue import Queue, current_job
from litequeue.core.outcome import Succeeded
from litequeue.errors import StoreError
from litequeue.ipc.dispatch import handed
from litequeue.ipc.notifier import WORK, Listener
from litequeue.job import Claimed
from litequeue.worker.executor.thread_pool import _Thread
from litequeue.worker.running_jobs import RunningJobs


@pytest.fixture(params=["apsw", "sqlite3"])
def queue(request, database):
    with Queue(database, driver=request.param, durability="normal") as queue:
        yield queue


@pytest.fixture
def work(queue):
    """A task that tells the thread that ran it."""
    return queue.task(name="work")(lambda: [current_job().attempt, threading.current_thread().name])


def at_rest(queue):
    return until(lambda: queue.store._dispatch._near, "a worker rests")


@pytest.fixture
def calls(queue, monkeypatch):
    """The jobs that the loop has claimed, and the threads that have settled some."""
    seen = SimpleNamespace(claimed=[], settled=[])
    claim, settle = queue.store.claim, queue.store.settle

    def watched_claim(*arguments):
        turn = claim(*arguments)
        seen.claimed += turn.claimed
        return turn

    def watched_settle(ended_runs):
        seen.settled.append(threading.current_thread().name)
        return settle(ended_runs)

    monkeypatch.setattr(queue.store, "claim", watched_claim)
    monkeypatch.setattr(queue.store, "settle", watched_settle)
    return seen


def test_a_worker_at_rest_runs_what_is_enqueued_beside_it_without_a_claim(queue, work, calls):
    with queue.worker(threads=2) as worker:
        at_rest(queue)
        attempt, thread = work.enqueue().result(20)
        assert attempt == 1
        assert calls.claimed == []
        assert calls.settled == [thread]
    assert (worker.claimed, worker.settled, worker.lost, worker.released) == (1, 1, 0, 0)


def test_it_rests_again_after_that(queue, work, calls):
    with queue.worker(threads=2) as worker:
        for _ in range(5):
            at_rest(queue)
            work.enqueue().result(20)
    assert calls.claimed == []
    assert worker.claimed == 5


def test_what_another_queue_object_enqueues_reaches_it_by_its_sentry(queue, work, calls):
    with Queue(queue.path, driver=queue.store.driver_name) as other, queue.worker(threads=3):
        other.task(name="work")(lambda: None)
        at_rest(queue)
        attempt, _ = other.tasks["work"].enqueue().result(20)
        assert attempt == 1
        assert calls.claimed == []


@pytest.mark.parametrize("afar", [False, True])
def test_a_coroutine_is_handed_over_as_well(queue, calls, afar):
    @queue.task(name="work")
    async def work() -> int:
        await asyncio.sleep(0)
        return current_job().attempt

    with Queue(queue.path, driver=queue.store.driver_name) as other, queue.worker(threads=1):
        given = other.task(name="work")(work.function) if afar else work
        at_rest(queue)
        assert given.enqueue().result(20) == 1
        assert calls.claimed == []


def test_a_worker_on_the_loop_of_the_application_takes_what_a_coroutine_enqueues(queue, work):
    @queue.task
    async def tell() -> int:
        return current_job().attempt

    async def main():
        async with queue.worker():
            for task in (work, tell, work, tell):
                await asyncio.to_thread(at_rest, queue)
                await (await task.aenqueue())

    asyncio.run(main())


def test_a_job_that_enqueues_another_does_not_hand_it_to_its_own_worker(queue, work):
    @queue.task
    def parent() -> str:
        return work.enqueue().id

    with queue.worker(threads=2):
        at_rest(queue)
        child = queue.job(parent.enqueue().result(20))
        assert ended(child).status == "succeeded"


def test_a_flood_to_a_worker_at_rest_runs_once_each(queue):
    ran = []
    work = queue.task(name="work")(lambda n: ran.append(n))
    with queue.worker(threads=4), Queue(queue.path, driver=queue.store.driver_name) as other:
        far = other.task(name="work")(lambda n: None)
        numbers = iter(range(600))
        lock = threading.Lock()

        def enqueue(task):
            while True:
                with lock:
                    n = next(numbers, None)
                if n is None:
                    return
                jobs.append(task.enqueue(n))

        jobs = []
        threads = [threading.Thread(target=enqueue, args=(task,)) for task in (work, work, far, far)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert {str(ended(job).status) for job in jobs} == {"succeeded"}
        assert {job.refresh().attempt for job in jobs} == {1}
    assert sorted(ran) == list(range(600))


def test_with_one_thread_the_order_is_kept(queue):
    ran = []
    work = queue.task(name="work")(lambda n: ran.append(n))
    with queue.worker(threads=1):
        at_rest(queue)
        jobs = [work.enqueue(n) for n in range(200)]
        for job in jobs:
            ended(job)
    assert ran == list(range(200))


# ---- what is not delivered


@pytest.fixture
def word(monkeypatch):
    """What becomes of the word that a job was handed over: `word.said` holds it instead of the worker, while `kept`."""
    plain = RunningJobs.accept
    word = SimpleNamespace(said=[], kept=True)

    def accept(runs, number, job):
        if word.kept:
            word.said.append(lambda: plain(runs, number, job))
            return True
        return plain(runs, number, job)

    monkeypatch.setattr(RunningJobs, "accept", accept)
    return word


def test_what_was_claimed_for_it_and_never_came_is_put_back_and_run(queue, work, word):
    """As when the process that enqueues dies between its commit and its word."""
    with queue.worker(threads=2) as worker:
        at_rest(queue)
        job = work.enqueue()
        assert job.refresh().status == "running"
        assert job.result(20)[0] == 2
        assert job.refresh().errors == ()
    assert worker.released == 1


def test_word_that_comes_when_the_job_has_been_put_back_is_not_taken(queue, work, word):
    with queue.worker(threads=2) as worker:
        at_rest(queue)
        assert work.enqueue().result(20)[0] == 2
        [say] = word.said
        assert say()
        word.kept = False
        at_rest(queue)
        assert work.enqueue().result(20)[0] == 1
    assert worker.claimed == 2
    assert (worker.lost, worker.settled) == (0, 3)  # one of them is the one that was put back


def test_word_that_comes_while_the_job_is_being_put_back_is_taken_once(queue, work, word, monkeypatch):
    plain = RunningJobs.release_unheard

    def as_it_comes(runs, jobs):
        jobs = list(jobs)
        for say in word.said if jobs else ():
            say()
        plain(runs, jobs)

    monkeypatch.setattr(RunningJobs, "put_back_unheard", as_it_comes)
    with queue.worker(threads=2) as worker:
        at_rest(queue)
        assert work.enqueue().result(20)[0] == 1
    assert (worker.lost, worker.released) == (0, 0)


def test_word_that_comes_twice_is_taken_once(queue, word):
    ran = []
    work = queue.task(name="work")(lambda: ran.append(current_job().id))
    with queue.worker(threads=4):
        at_rest(queue)
        job = work.enqueue()
        [say] = word.said
        assert say()
        assert say()
        ended(job)
    assert ran == [job.id]


def test_what_is_handed_to_a_worker_that_has_stopped_is_there_for_the_next(queue, work, word):
    with queue.worker(threads=2):
        at_rest(queue)
        job = work.enqueue()
    assert job.refresh().status == "queued"
    queue.worker().run(until_idle=True)
    assert job.result(0)[0] == 2


def test_a_worker_that_ends_accepts_no_more(queue, work):
    with queue.worker(threads=2) as worker:
        [taker] = at_rest(queue).values()
    claimed = SimpleNamespace(id="1", attempt=1, task="work")
    assert taker.give(claimed)
    assert worker.claimed == 0


def test_a_lone_end_that_cannot_be_stored_at_once_is_stored_by_the_loop(queue, work, monkeypatch):
    refusals = []
    plain = queue.store.settle

    def refuse(ended_runs):
        if not refusals:
            refusals.append(ended_runs)
            raise StoreError("the disk is full")
        return plain(ended_runs)

    monkeypatch.setattr(queue.store, "settle", refuse)
    with queue.worker(threads=2) as worker:
        at_rest(queue)
        assert work.enqueue().result(20)[0] == 1
    assert len(refusals) == 1
    assert isinstance(refusals[0][0].outcome, Succeeded)
    assert worker.settled == 1


def test_a_long_job_keeps_none_that_comes_after_it_waiting(queue, work):
    go = threading.Event()

    @queue.task
    def long():
        go.wait(20)

    with queue.worker(threads=2):
        at_rest(queue)
        slow = long.enqueue()
        assert [work.enqueue().result(20)[0] for _ in range(5)] == [1] * 5
        go.set()
        assert ended(slow).status == "succeeded"


def test_a_sentry_that_is_called_away_leaves_its_post_to_another(queue, work):
    """What is sent while a job of ten minutes runs in its thread is not left lying there."""
    go = threading.Event()

    @queue.task
    def long():
        go.wait(20)

    with Queue(queue.path, driver=queue.store.driver_name) as other, queue.worker(threads=2):
        far_work, far_long = other.task(name="work")(lambda: None), other.task(name=long.name)(lambda: None)
        at_rest(queue)
        slow = far_long.enqueue()
        until(lambda: slow.refresh().started_at)
        assert far_work.enqueue().result(20)[0] == 1
        go.set()
        assert ended(slow).status == "succeeded"
        for _ in range(3):
            at_rest(queue)
            assert far_work.enqueue().result(20)[0] == 1


def test_when_every_thread_is_written_off_others_stand_sentry(queue, work, monkeypatch):
    monkeypatch.setattr("litequeue.worker.running_jobs.LATE_GRACE", 0.05)
    go = threading.Event()

    @queue.task(timeout=0.05)
    def stubborn():
        while not go.is_set():
            try:
                go.wait(0.01)
            except BaseException:
                continue

    with Queue(queue.path, driver=queue.store.driver_name) as other, queue.worker(threads=2):
        far = other.task(name="work")(lambda: None)
        jobs = [stubborn.enqueue() for _ in range(2)]
        for job in jobs:
            assert ended(job).status == "failed"
        at_rest(queue)
        assert far.enqueue().result(20)[0] == 1
        go.set()


def test_what_was_handed_over_comes_before_what_was_claimed_meanwhile(queue, monkeypatch):
    """Even where the loop is at work sooner than the thread that hears of it."""
    order, go = [], threading.Event()
    plain = _Thread.wait

    def slow_to_wake(thread):
        messages = plain(thread)
        if any(map(handed, messages)):
            assert go.wait(20)
        return messages

    monkeypatch.setattr(_Thread, "wait", slow_to_wake)
    queue.task(name="work")(order.append)
    with Queue(queue.path, driver=queue.store.driver_name) as other, queue.worker(threads=1) as worker:
        far = other.task(name="work")(lambda name: None)
        at_rest(queue)
        jobs = [far.enqueue("first"), far.enqueue("second")]
        until(lambda: worker._runs._threads.line, "the loop has claimed the second")
        go.set()
        for job in jobs:
            ended(job)
    assert order == ["first", "second"]


def test_the_loop_of_an_application_that_has_ended_costs_whoever_enqueues_nothing(queue):
    @queue.task
    async def work() -> None: ...

    async def main():
        worker = queue.worker()
        await worker.__aenter__()
        await asyncio.to_thread(at_rest, queue)
        return worker

    loop = asyncio.new_event_loop()
    worker = loop.run_until_complete(main())
    loop.close()
    job = work.enqueue()
    worker.stop(now=True)
    assert worker._over.wait(20)
    assert job.refresh().status == "queued"


def test_coroutines_go_on_while_a_job_that_could_not_be_delivered_is_put_back(queue, work, monkeypatch):
    """The transaction of another coroutine of that loop may stand before it."""
    with Queue(queue.path, driver=queue.store.driver_name) as other, queue.worker(threads=1):
        far = other.task(name="work")(lambda: None)
        at_rest(queue)
        monkeypatch.setattr(other.store._notifier, "ring_one", lambda _name, _message: False)
        began = threading.Event()

        async def hold():
            async with other.atransaction():
                began.set()
                await asyncio.sleep(0.2)

        async def main():
            holder = asyncio.ensure_future(hold())
            ticks = []

            async def tick():
                while not holder.done():
                    ticks.append(None)
                    await asyncio.sleep(0.01)

            ticking = asyncio.ensure_future(tick())
            job = await far.aenqueue()
            await asyncio.gather(holder, ticking)
            assert began.is_set()
            assert len(ticks) > 5
            await job

        asyncio.run(main())


def cancelled_amid_its_commit(writer, call):
    """Call it from a loop, cancel it while it is being committed, and then let that go on."""
    committing, go = threading.Event(), threading.Event()
    plain = writer.arun

    def slowly(work, **options):  # of coroutines alone: the worker's own commits go on
        def working(db):
            committing.set()
            assert go.wait(20)
            return work(db)

        return plain(working, **options)

    async def main():
        writer.arun = slowly
        calling = asyncio.ensure_future(call())
        await asyncio.to_thread(committing.wait, 20)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        writer.arun = plain
        go.set()

    asyncio.run(main())


@pytest.mark.parametrize("afar", [False, True])
def test_a_coroutine_that_is_cancelled_amid_its_commit_has_handed_its_job_over(queue, work, word, afar):
    word.kept = False
    with Queue(queue.path, driver=queue.store.driver_name) as other, queue.worker(threads=2):
        given = other.task(name="work")(work.function) if afar else work
        at_rest(queue)
        given.enqueue().result(20)  # whatever is looked up once
        at_rest(queue)
        cancelled_amid_its_commit(given._owner.store._writer, given.aenqueue)
        job = until(lambda: next(iter(queue.jobs(limit=2)[:-1]), None))
        assert job.result(20)[0] == 1


def test_a_doubt_is_settled_in_real_time_where_the_queues_clock_stands_still(open_queue, monkeypatch):
    queue = open_queue()
    queue.task(name="work")(lambda: None)
    job = queue.tasks["work"].enqueue()
    about_to_begin = Claimed("9", 1, "work", "default", b"[[], {}]", 0, 0, 0, None, None, None, 0.0)
    looks, plain = [], queue.store.claims_of

    def claims_of(worker):
        looks.append(worker)
        return [about_to_begin] if len(looks) == 1 else plain(worker)

    monkeypatch.setattr(queue.store, "claims_of", claims_of)
    running = threading.Thread(target=queue.worker(threads=1).run, kwargs={"until_idle": True}, daemon=True)
    running.start()
    running.join(30)
    assert not running.is_alive()
    assert len(looks) > 1
    assert job.refresh().status == "succeeded"


@pytest.mark.parametrize("verb", ["enqueue", "retry", "cancel"])
def test_a_coroutine_that_is_cancelled_amid_its_commit_has_rung(queue, verb):
    work = queue.task(name="work")(lambda: None)
    with closing(Listener(queue.store.directory, WORK)) as listener:
        job = work.using(delay="1d").enqueue()
        until(lambda: b"jobs" in listener.wait(0.01))
        calls = {"enqueue": lambda: work.using(key="k").aenqueue(), "retry": job.aretry, "cancel": job.acancel}
        cancelled_amid_its_commit(queue.store._writer, calls[verb])
        until(lambda: (b"cancel" if verb == "cancel" else b"jobs") in listener.wait(0.01))
