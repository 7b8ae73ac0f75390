"""Calls that are stored after the commit of the application's own transaction: `on_commit`, whoever tells of it."""

import asyncio
import threading

import pytest

from litequeue import KeyConflict, Queue, Unsupported, chain, group
from litequeue.core import after_commit
from litequeue.core.around_jobs import Around, around
from litequeue.core.clock import SystemClock
from litequeue.errors import JobNotFound


class Transaction:
    """An application's transaction that is open until `commit()`."""

    def __init__(self):
        self.waiting = []

    def __call__(self, run):
        self.waiting.append(run)

    def commit(self):
        waiting, self.waiting = self.waiting, []
        for run in waiting:
            run()


@pytest.fixture
def transaction():
    return Transaction()


@pytest.fixture
def installed(transaction, monkeypatch):
    monkeypatch.setattr(after_commit, "_installed", [transaction])
    return transaction


def declared(queue, **options):
    @queue.task(name="work", **options)
    def work(a=0):
        return a

    return work


def where(open_queue, place, hook):
    """Return a task that is asked on `place` to be stored by that hook."""
    if place == "queue":
        return declared(open_queue(on_commit=hook))
    task = declared(open_queue(), **({"on_commit": hook} if place == "task" else {}))
    return task.using(on_commit=hook) if place == "using" else task


@pytest.mark.parametrize("place", ["queue", "task", "using"])
@pytest.mark.parametrize("by", ["name", "function"])
def test_a_call_is_stored_after_the_commit(open_queue, installed, place, by):
    task = where(open_queue, place, True if by == "name" else installed)
    job, many = task.enqueue(1), task.enqueue_many([(2,), (3,)])
    queue = task._owner
    assert queue.jobs() == []
    installed.commit()
    assert [each.id for each in queue.jobs()] == [many[1].id, many[0].id, job.id]
    assert (job.status, job.refresh().task, queue.job(job.id)) == ("queued", "work", job)


def test_a_coroutines_call_is_stored_after_the_commit(open_queue, transaction):
    task = declared(open_queue(on_commit=transaction))

    async def main():
        return [await task.aenqueue(1), *await task.aenqueue_many([(2,), (3,)])]

    jobs = asyncio.run(main())
    assert task._owner.jobs() == []
    transaction.commit()
    assert [each.id for each in reversed(task._owner.jobs())] == [job.id for job in jobs]


def test_a_coroutines_call_uses_the_hooks_own_async_method(open_queue, transaction):
    class Hook:
        __call__ = None

        async def acall(self, run):
            transaction(run)

    Hook.__call__ = lambda _self, _run: pytest.fail("it would block the loop")
    task = declared(open_queue(on_commit=Hook()))
    job = asyncio.run(task.aenqueue(1))
    transaction.commit()
    assert task._owner.jobs() == [job]


def test_a_job_that_is_not_stored_yet_has_no_id_and_says_why(open_queue, transaction):
    job = declared(open_queue(on_commit=transaction)).enqueue(1)
    for look in (lambda: job.id, lambda: job.status, job.refresh, job.cancel, lambda: job.result(timeout=1)):
        with pytest.raises(JobNotFound, match=r"not stored yet.*committed.*rolled back"):
            look()
    assert repr(job) == "<Job of work, not stored yet>"
    transaction.commit()
    assert repr(job) == f"<Job {job.id} work queued attempt=0>"


def test_a_job_that_is_not_stored_yet_can_be_kept_and_found(open_queue, transaction):
    task = declared(open_queue())
    one, other = (task.using(on_commit=transaction).enqueue(n) for n in (1, 2))
    kept = {one}
    assert (one in kept, one == other, one.task) == (True, False, "work")
    transaction.commit()
    assert (one in kept, one == other, one.task) == (True, False, "work")


def test_a_hook_that_calls_twice_stores_once(open_queue, transaction):
    queue = open_queue()
    declared(queue).using(on_commit=transaction).enqueue(1)
    transaction.waiting *= 2
    transaction.commit()
    assert len(queue.jobs()) == 1


def test_arguments_are_checked_at_the_call(open_queue, transaction):
    task = declared(open_queue(on_commit=transaction))
    with pytest.raises(TypeError):
        task.enqueue(1, 2)
    assert transaction.waiting == []


def test_what_the_store_refuses_is_raised_by_the_commit(open_queue, transaction):
    task = declared(open_queue(on_commit=transaction), unique="{a}").using(on_conflict="raise")
    task.using(on_commit=False).enqueue(1)
    job = task.enqueue(1)
    with pytest.raises(KeyConflict):
        transaction.commit()
    with pytest.raises(JobNotFound):
        job.refresh()


@pytest.mark.parametrize("options", [{"on_commit": False}, {"within": None, "on_commit": False}])
def test_a_call_may_be_stored_at_once_all_the_same(open_queue, transaction, options):
    task = declared(open_queue(on_commit=transaction))
    assert [task.using(**options).enqueue(1)] == task._owner.jobs()
    assert [declared(task._owner, on_commit=False).enqueue(1), *task._owner.jobs()[1:]] == task._owner.jobs()


def test_within_a_connection_it_is_stored_by_that(open_queue, connect, transaction):
    queue = open_queue(on_commit=transaction)
    task, db = declared(queue), connect()
    db.execute("BEGIN IMMEDIATE")
    task.using(within=db).enqueue(1)
    db.execute("COMMIT")
    assert (len(queue.jobs()), transaction.waiting) == (1, [])
    with pytest.raises(ValueError, match="within= or on_commit="):
        task.using(within=db, on_commit=True)


def test_nobody_who_knows_of_a_commit_is_told_with_what_to_do(open_queue, monkeypatch):
    monkeypatch.setattr(after_commit, "_installed", [])
    task = declared(open_queue(on_commit=True))
    for ask in (task.enqueue, lambda: asyncio.run(task.aenqueue()), lambda: task.enqueue_many([()])):
        with pytest.raises(Unsupported, match=r"INSTALLED_APPS.*Queue\(on_commit=\.\.\.\)"):
            ask()
    assert task._owner.jobs() == []


@pytest.mark.parametrize("wrong", ["yes", 1, None])
def test_what_is_no_hook_is_refused(tmp_path, wrong):
    with pytest.raises(TypeError, match="on_commit must be"):
        Queue(tmp_path / "app.db", on_commit=wrong)


def test_what_cannot_wait_for_a_commit_is_refused(open_queue, transaction):
    queue = open_queue()
    task = declared(queue).using(on_commit=transaction)
    with pytest.raises(Unsupported, match="chunk="):
        task.enqueue_many([(1,)], chunk=10)


def test_compositions_are_stored_after_the_commit_too(open_queue, transaction):
    queue = open_queue()
    task = declared(queue).using(on_commit=transaction)
    job, jobs = (task.s(1) | task.s()).enqueue(), group(task.si(1), task.si(2)).enqueue()
    call = task.s(3).enqueue()
    for ask in (lambda: jobs.id, lambda: jobs.results(0), lambda: list(jobs), lambda: task.using(after=jobs)):
        with pytest.raises(JobNotFound, match="not stored"):
            ask()
    assert queue.jobs() == []
    transaction.commit()
    assert [job.id, *(each.id for each in jobs), call.id] == ["2", "3", "4", "5"]
    assert (job.status, len(queue.group(jobs.id))) == ("waiting", 2)


def test_a_coroutines_composition_is_stored_after_the_commit(open_queue, transaction):
    task = declared(open_queue(on_commit=transaction))
    jobs = asyncio.run(chain(task.s(1), group(task.s(), task.s())).aenqueue())
    assert task._owner.jobs() == []
    transaction.commit()
    assert [each.id for each in jobs] == ["2", "3"]


# what an integration has done around each job


@pytest.fixture
def surroundings():
    called = []

    async def acall():
        called.append("coroutine")

    around.append(Around(lambda: called.append("function"), acall))
    yield called
    around.pop()


def test_what_surrounds_jobs_is_called_before_and_after_each(open_queue, surroundings):
    queue = open_queue()

    @queue.task(name="plain")
    def plain():
        surroundings.append("job")

    @queue.task(name="failing")
    def failing():
        surroundings.append("job")
        raise ValueError

    @queue.task(name="coroutine")
    async def coroutine():
        surroundings.append("job")
        return 7

    for task in (plain, failing, coroutine):
        task.enqueue()
        with queue.worker(threads=1, coroutines=1) as worker:
            worker.wait_until_started()
            [job] = queue.jobs(task=task, limit=1)
            job._source.wait(job.id, 60)
    assert surroundings == [*["function", "job", "function"] * 2, "coroutine", "job", "coroutine"]
    assert queue.jobs(task="coroutine")[0].result() == 7
    assert queue.jobs(task="failing")[0].errors[0].type == "ValueError"
    assert "surrounded" not in queue.jobs(task="failing")[0].errors[0].traceback


def test_a_surrounded_function_ends_at_its_time_limit_all_the_same(open_queue, surroundings):
    queue = open_queue()
    queue.clock = queue.engine.clock = SystemClock()

    @queue.task(name="endless", timeout="0.1s")
    def endless():
        while True:
            threading.Event().wait(0.01)

    job = endless.enqueue()
    queue.worker(threads=1, coroutines=1).run(until_idle=True)
    assert job.refresh().errors[0].type.endswith("JobTimeout")
    assert surroundings == ["function", "function"]


def test_an_error_before_the_job_is_the_jobs(open_queue):
    queue = open_queue()
    task = declared(queue)

    def broken():
        raise OSError("no database")

    around.append(Around(broken, broken))
    try:
        job = task.enqueue()
        queue.worker(threads=1, coroutines=1).run(until_idle=True)
    finally:
        around.pop()
    assert job.refresh().errors[0].message == "no database"
