"""An idle worker begins what its own process enqueues without a claim of its own, and settles a lone run at once."""

import asyncio
import threading
from contextlib import closing
from types import SimpleNamespace

import pytest

from crash.watching import ended, until
from idle_workers import IdleWorkers
from litequeue import Queue, current_job
from litequeue.core.outcome import Succeeded
from litequeue.core.records import Claimed
from litequeue.errors import StoreError
from litequeue.ipc.notifier import DONE, JOBS, WORK, Listener
from litequeue.worker.reconcile import Reconciliation
from litequeue.worker.running_jobs import RunningJobs

NAMES = {"litequeue-0", "litequeue-1"}  # of the threads of a worker that has two


@pytest.fixture(params=["apsw", "sqlite3"])
def queue(request, database):
    with Queue(database, driver=request.param, durability="normal") as queue:
        yield queue


@pytest.fixture
def work(queue):
    """A task that tells the thread that ran it."""
    return queue.task(name="work")(lambda: [current_job().attempt, threading.current_thread().name])


@pytest.fixture(autouse=True)
def idle_workers(queue, monkeypatch):
    return IdleWorkers(queue, monkeypatch)


@pytest.fixture
def at_rest(idle_workers):
    """Wait until a worker is idle and stays so."""
    return idle_workers.at_rest


@pytest.fixture
def calls(queue, monkeypatch):
    """The jobs that were claimed with a cycle, by which threads, and the threads that have settled some."""
    seen = SimpleNamespace(claimed=[], claimers=[], settled=[])
    claim, settle = queue.engine.runs.claim, queue.engine.runs.settle

    def watched_claim(*arguments):
        turn = claim(*arguments)
        seen.claimed += turn.claimed
        seen.claimers += [threading.current_thread().name] * len(turn.claimed)
        return turn

    def watched_settle(ended_runs):
        seen.settled.append(threading.current_thread().name)
        return settle(ended_runs)

    monkeypatch.setattr(queue.engine.runs, "claim", watched_claim)
    monkeypatch.setattr(queue.engine.runs, "settle", watched_settle)
    return seen


@pytest.fixture
def dispatched(calls, at_rest, monkeypatch):
    """Enqueue beside an idle worker: no cycle claims the job. The loop looks at the file by itself no more."""
    monkeypatch.setattr("litequeue.worker.loop.POLL", 3600.0)

    def enqueue(task):
        at_rest()
        del calls.claimed[:], calls.settled[:]
        result = task.enqueue().result(20)
        assert calls.claimed == []
        return result

    return enqueue


def test_an_idle_worker_runs_what_is_enqueued_beside_it_without_a_claim_of_its_own(queue, work, calls, dispatched):
    with queue.worker(threads=2) as worker:
        attempt, thread = dispatched(work)
        assert attempt == 1
        assert calls.settled == [thread]
    assert (worker.claimed, worker.settled, worker.lost, worker.released) == (1, 1, 0, 0)


def test_it_rests_again_after_that(queue, work, dispatched):
    with queue.worker(threads=2) as worker:
        for _ in range(5):
            dispatched(work)
    assert worker.claimed == 5


def test_a_coroutine_is_dispatched_as_well(queue, dispatched):
    @queue.task(name="work")
    async def work() -> int:
        await asyncio.sleep(0)
        return current_job().attempt

    with queue.worker(threads=1):
        assert dispatched(work) == 1


@pytest.fixture
def afar(queue):
    """Another object on the file, as in another process: what it enqueues is not dispatched, but notified."""
    with Queue(queue.path, driver=queue.engine.driver_name) as other:
        yield other


def enqueued_by_a_coroutine(task):
    async def main():
        job = await task.aenqueue()
        return await job.aresult(20)

    return asyncio.run(main())


@pytest.mark.parametrize(
    "run", [lambda task: task.enqueue().result(20), enqueued_by_a_coroutine], ids=["sync", "async"]
)
def test_an_idle_thread_claims_what_another_process_enqueues_and_runs_it(queue, work, calls, afar, run, at_rest):
    far = afar.task(name="work")(lambda: None)
    with queue.worker(threads=3):

        def claimed_and_ran():  # but for the moment in which the loop looks at the file, once a second
            at_rest()
            _, thread = run(far)
            return calls.claimers[-1] == thread

        until(claimed_and_ran)


@pytest.mark.parametrize("threads", [1, 3])
def test_it_does_so_time_and_again(queue, work, afar, threads, at_rest):
    far = afar.task(name="work")(lambda: None)
    with queue.worker(threads=threads) as worker:
        for _ in range(20):
            at_rest()
            assert far.enqueue().result(20)
    assert (worker.claimed, worker.settled - worker.released, worker.lost) == (20 + worker.released, 20, 0)


def test_a_coroutine_that_an_idle_thread_claims_runs_on_the_loop(queue, afar, at_rest):
    @queue.task(name="work")
    async def work() -> int:
        await asyncio.sleep(0)
        return current_job().attempt

    far = afar.task(name="work")(work.function)
    with queue.worker(threads=1):
        for _ in range(3):
            at_rest()
            assert far.enqueue().result(20)


def test_many_jobs_that_an_idle_thread_claims_run_in_all_threads(queue, afar, at_rest):
    barrier = threading.Barrier(3, timeout=20)
    queue.task(name="meet")(lambda: barrier.wait() >= 0)
    far = afar.task(name="meet")(lambda: None)
    with queue.worker(threads=3):
        for _ in range(3):
            at_rest()
            assert [ended(job).status for job in far.enqueue_many([()] * 3)] == ["succeeded"] * 3


def test_a_suspect_that_an_idle_thread_claims_is_left_to_the_loop(queue, work, afar, at_rest):
    far = afar.task(name="work")(lambda: None)
    suspect = far.using(delay="1h").enqueue()
    with queue.worker(threads=2) as worker:
        at_rest()
        with queue.transaction() as db:
            db.execute("UPDATE litequeue_jobs SET deaths = 2, state = 1 WHERE id = ?", (int(suspect.id),))
        assert far.enqueue().result(20)
        assert suspect.result(20)
    assert worker.lost == 0


def test_a_claim_that_is_refused_in_an_idle_thread_is_made_again_by_the_loop(queue, work, afar, monkeypatch, at_rest):
    far, claim, refused = afar.task(name="work")(lambda: None), queue.engine.runs.claim, []

    def refuse(*arguments):
        if threading.current_thread().name.startswith("litequeue-worker") or refused:
            return claim(*arguments)
        refused.append(threading.current_thread().name)
        raise StoreError("the disk is full")

    with queue.worker(threads=2):
        at_rest()
        monkeypatch.setattr(queue.engine.runs, "claim", refuse)

        def refused_and_run():
            at_rest()
            return far.enqueue().result(20) and refused

        until(refused_and_run)


def test_what_is_scheduled_sooner_than_the_loop_knew_is_begun_in_time(queue, work, afar, at_rest, monkeypatch):
    """The thread that claims hears of it as well: the loop does not look by itself before the test is over."""
    monkeypatch.setattr("litequeue.worker.loop.POLL", 3600.0)
    far = afar.task(name="work")(lambda: None)
    with queue.worker(threads=2):
        for _ in range(3):
            at_rest()
            soon = far.using(delay=0.3).enqueue()
            assert far.enqueue().result(20)
            assert soon.result(20)


def test_the_thread_that_listens_ends_with_its_worker(queue, work, at_rest):
    before = set(threading.enumerate())
    with queue.worker(threads=2):
        at_rest()
    until(lambda: not [thread for thread in set(threading.enumerate()) - before if thread.name in NAMES])


def test_a_worker_on_the_loop_of_the_application_takes_what_a_coroutine_enqueues(queue, work, at_rest):
    @queue.task
    async def tell() -> int:
        return current_job().attempt

    async def main():
        async with queue.worker():
            for task in (work, tell, work, tell):
                await asyncio.to_thread(at_rest)
                await (await task.aenqueue())

    asyncio.run(main())


def test_a_job_that_enqueues_another_has_it_run(queue, work, at_rest):
    @queue.task
    def parent() -> str:
        return work.enqueue().id

    with queue.worker(threads=2):
        at_rest()
        child = queue.job(parent.enqueue().result(20))
        assert ended(child).status == "succeeded"


def test_a_flood_to_an_idle_worker_runs_once_each(queue):
    ran = []
    work = queue.task(name="work")(lambda n: ran.append(n))
    with queue.worker(threads=4), Queue(queue.path, driver=queue.engine.driver_name) as other:
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


def test_with_one_thread_the_order_is_kept(queue, at_rest):
    ran = []
    work = queue.task(name="work")(lambda n: ran.append(n))
    with queue.worker(threads=1):
        at_rest()
        jobs = [work.enqueue(n) for n in range(200)]
        for job in jobs:
            ended(job)
    assert ran == list(range(200))


# ---- what is not told


class Interrupted(BaseException):
    """As a Ctrl-C between a commit and what is told of it."""


@pytest.fixture
def word(queue, idle_workers):
    """While `word.kept`, the worker is not told what was claimed for it: `word.said` holds it instead."""
    word = SimpleNamespace(said=[], kept=True)

    def accept(own, number, jobs):
        if not word.kept:
            return own(number, jobs)
        word.said.append(lambda: own(number, jobs))
        raise Interrupted

    def interrupted():
        with pytest.raises(Interrupted):
            queue.tasks["work"].enqueue()
        return queue.jobs(limit=1)[0]

    idle_workers.accept = accept
    word.interrupted = interrupted
    return word


def test_what_was_claimed_for_it_and_never_told_is_released_and_run(queue, work, word, at_rest):
    with queue.worker(threads=2) as worker:
        at_rest()
        job = word.interrupted()
        assert job.status == "running"
        assert job.result(20)[0] == 2
        assert job.refresh().errors == ()
    assert worker.released == 1


def test_what_is_told_when_the_job_has_been_released_is_not_begun(queue, work, word, at_rest):
    with queue.worker(threads=2) as worker:
        at_rest()
        assert word.interrupted().result(20)[0] == 2
        [say] = word.said
        say()
        word.kept = False
        at_rest()
        assert work.enqueue().result(20)[0] == 1
    assert worker.claimed == 2
    assert (worker.lost, worker.settled) == (0, 3)  # one of them is the one that was put back


def test_what_is_told_while_the_job_is_being_released_is_begun_once(queue, work, word, monkeypatch, at_rest):
    plain = RunningJobs.release_unheard

    def as_it_comes(runs, jobs):
        jobs = list(jobs)
        for say in word.said if jobs else ():
            say()
        plain(runs, jobs)

    monkeypatch.setattr(RunningJobs, "release_unheard", as_it_comes)
    with queue.worker(threads=2) as worker:
        at_rest()
        assert word.interrupted().result(20)[0] == 1
    assert (worker.lost, worker.released) == (0, 0)


def test_what_was_released_and_is_dispatched_once_more_runs(queue, work, word, at_rest):
    with queue.worker(threads=2):
        at_rest()
        job = word.interrupted()
        word.kept = False
        assert job.result(20)[0] == 2
        for _ in range(3):
            at_rest()
            assert work.enqueue().result(20)[0] == 1


def test_what_is_dispatched_to_a_worker_that_has_stopped_is_there_for_the_next(queue, work, word, at_rest):
    with queue.worker(threads=2):
        at_rest()
        job = word.interrupted()
    assert job.refresh().status == "queued"
    queue.worker().run(until_idle=True)
    assert job.result(0)[0] == 2


def test_a_worker_that_ends_accepts_no_more(queue, work, at_rest):
    with queue.worker(threads=2) as worker:
        [idle] = at_rest()
    idle.accept(worker.id, [SimpleNamespace(id="1", attempt=1, task="work", deaths=0)])
    assert worker.claimed == 0


def test_a_suspect_that_is_dispatched_is_released_and_runs_alone(queue, work, at_rest):
    """What workers died under is older than the job that is enqueued, so the dispatch claims it."""
    suspect = work.using(delay="1h").enqueue()
    with queue.worker(threads=2) as worker:
        at_rest()
        with queue.transaction() as db:
            db.execute("UPDATE litequeue_jobs SET deaths = 2, state = 1 WHERE id = ?", (int(suspect.id),))
        job = work.enqueue()
        assert suspect.result(20)[0] == 2
        assert job.result(20)[0] == 1
    assert (worker.released, worker.lost) == (1, 0)


def test_what_is_dispatched_while_a_suspect_runs_is_released(queue, work, at_rest):
    go, begun = threading.Event(), threading.Event()

    @queue.task
    def suspected():
        begun.set()
        go.wait(20)

    suspect = suspected.using(delay="1h").enqueue()
    with queue.worker(threads=2) as worker:
        [idle] = at_rest()
        with queue.transaction() as db:
            db.execute("UPDATE litequeue_jobs SET deaths = 2, state = 1 WHERE id = ?", (int(suspect.id),))
        queue.engine.kernel.notifier.notify(JOBS)
        assert begun.wait(20)
        idle.idle = True  # it woke up just after the commit of whoever dispatched the next job
        queue.engine.dispatch.offer(idle)
        job = work.enqueue()
        until(lambda: job.refresh().status == "queued")
        assert not job.refresh().finished_at
        go.set()
        assert ended(suspect).status == "succeeded"
        assert job.result(20)[0] == 2
    assert worker.released == 1


def test_a_lone_end_that_cannot_be_stored_at_once_is_stored_by_the_loop(queue, work, monkeypatch, at_rest):
    refusals = []
    plain = queue.engine.runs.settle

    def refuse(ended_runs):
        if not refusals:
            refusals.append(ended_runs)
            raise StoreError("the disk is full")
        return plain(ended_runs)

    monkeypatch.setattr(queue.engine.runs, "settle", refuse)
    with queue.worker(threads=2) as worker:
        at_rest()
        assert work.enqueue().result(20)[0] == 1
    assert len(refusals) == 1
    assert isinstance(refusals[0][0].outcome, Succeeded)
    assert worker.settled == 1


def test_a_long_job_keeps_none_that_comes_after_it_waiting(queue, work, at_rest):
    go = threading.Event()

    @queue.task
    def long():
        go.wait(20)

    with queue.worker(threads=2):
        at_rest()
        slow = long.enqueue()
        assert [work.enqueue().result(20)[0] for _ in range(5)] == [1] * 5
        go.set()
        assert ended(slow).status == "succeeded"


def test_a_long_job_keeps_none_waiting_that_another_process_enqueues_after_it(queue, work, at_rest):
    go = threading.Event()

    @queue.task
    def long():
        go.wait(20)

    with Queue(queue.path, driver=queue.engine.driver_name) as other, queue.worker(threads=2):
        far_work, far_long = other.task(name="work")(lambda: None), other.task(name=long.name)(lambda: None)
        at_rest()
        slow = far_long.enqueue()
        until(lambda: slow.refresh().started_at)
        assert far_work.enqueue().result(20)
        go.set()
        assert ended(slow).status == "succeeded"
        for _ in range(3):
            at_rest()
            assert far_work.enqueue().result(20)


@pytest.mark.parametrize("afar", [False, True])
def test_when_every_thread_is_written_off_others_run_what_comes(queue, work, monkeypatch, afar, at_rest):
    monkeypatch.setattr("litequeue.worker.running_jobs.LATE_GRACE", 0.05)
    go = threading.Event()

    @queue.task(timeout=0.05)
    def stubborn():
        while not go.is_set():
            try:
                go.wait(0.01)
            except BaseException:
                continue

    with Queue(queue.path, driver=queue.engine.driver_name) as other, queue.worker(threads=2):
        given = other.task(name="work")(lambda: None) if afar else work
        jobs = [stubborn.enqueue() for _ in range(2)]
        for job in jobs:
            assert ended(job).status == "failed"
        at_rest()
        assert given.enqueue().result(20)
        go.set()


@pytest.mark.parametrize("afar", [False, True])
def test_the_order_is_kept_on_an_idle_worker(queue, afar, at_rest):
    order = []
    near = queue.task(name="work")(order.append)
    with Queue(queue.path, driver=queue.engine.driver_name) as other, queue.worker(threads=1):
        far = other.task(name="work")(lambda name: None)
        at_rest()
        jobs = [(far if afar else near).enqueue("first"), far.enqueue("second")]
        for job in jobs:
            ended(job)
    assert order == ["first", "second"]


def test_the_loop_of_an_application_that_has_ended_costs_whoever_enqueues_nothing(queue, at_rest):
    @queue.task
    async def work() -> None: ...

    async def main():
        worker = queue.worker(name="left")
        await worker.__aenter__()
        await asyncio.to_thread(at_rest)
        return worker

    loop = asyncio.new_event_loop()
    worker = loop.run_until_complete(main())
    loop.close()
    job = work.enqueue()
    worker.stop(now=True)
    until(lambda: not any(thread.name == "litequeue-left" for thread in threading.enumerate()))
    assert job.refresh().status == "queued"


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
def test_a_coroutine_that_is_cancelled_amid_its_commit_has_its_job_run(queue, work, afar, at_rest):
    with Queue(queue.path, driver=queue.engine.driver_name) as other, queue.worker(threads=2):
        given = other.task(name="work")(work.function) if afar else work
        writer = (other if afar else queue).engine.kernel.writer
        at_rest()
        given.enqueue().result(20)  # whatever is looked up once
        stored = []
        while not stored:  # a worker that looks for work just then is handed nothing, and the cancelled call goes no on
            at_rest()
            cancelled_amid_its_commit(writer, given.aenqueue)
            with writer.exclusive():
                stored = queue.jobs(limit=2)[:-1]
        assert stored[0].result(20)[0] == 1


def test_a_reconciliation_is_done_in_real_time_where_the_queues_clock_stands_still(open_queue, monkeypatch):
    queue = open_queue()
    queue.task(name="work")(lambda: None)
    job = queue.tasks["work"].enqueue()
    about_to_begin = Claimed("9", 1, "work", "default", b"[[], {}]", 0, 0, 0, None, None, None, 0.0)
    looks, plain = [], queue.engine.runs.claims_of

    def claims_of(worker):
        looks.append(worker)
        return [about_to_begin] if len(looks) == 1 else plain(worker)

    class Open(Reconciliation):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.open = True

    monkeypatch.setattr(queue.engine.runs, "claims_of", claims_of)
    monkeypatch.setattr("litequeue.worker.loop.Reconciliation", Open)
    running = threading.Thread(target=queue.worker(threads=1).run, kwargs={"until_idle": True}, daemon=True)
    running.start()
    running.join(30)
    assert not running.is_alive()
    assert len(looks) > 1
    assert job.refresh().status == "succeeded"


@pytest.mark.parametrize("verb", ["enqueue", "retry", "cancel"])
def test_a_coroutine_that_is_cancelled_amid_its_commit_has_notified(queue, verb):
    work = queue.task(name="work")(lambda: None)
    topic = DONE if verb == "cancel" else WORK
    with closing(Listener(queue.engine.directory, topic)) as listener:
        job = work.using(delay="1d").enqueue()
        until(lambda: topic is DONE or b"jobs" in listener.wait(0.01))
        calls = {"enqueue": lambda: work.using(key="k").aenqueue(), "retry": job.aretry, "cancel": job.acancel}
        cancelled_amid_its_commit(queue.engine.kernel.writer, calls[verb])
        until(lambda: (job.id.encode() if verb == "cancel" else b"jobs") in listener.wait(0.01))
