"""Tasks behind decorators, run by a worker; and what a task, a queue and a job become in another process."""

import asyncio
import copy
import functools
import pickle

import pytest

from litequeue import JobFailed, Queue
from unit import picklable


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


def passing(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def test_a_decorator_that_makes_a_coroutine_function_plain_runs_in_a_thread(queue):
    def run_sync(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return asyncio.run(function(*args, **kwargs))

        return wrapper

    @queue.task
    @run_sync
    async def fetch(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    with queue.worker(threads=1):
        assert fetch.enqueue(1).result(10) == 2


def test_a_coroutine_that_a_plain_decorator_returns_is_awaited(queue):
    @queue.task
    @passing
    async def fetch(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    with queue.worker(threads=1):
        assert fetch.enqueue(1).result(10) == 2


def test_a_call_that_a_decorator_cannot_pass_on_fails_without_another_try(queue):
    @queue.task(retries=3, backoff=0)
    @passing
    def add(a, b): ...

    @queue.task(retries=1, backoff=0)
    @passing
    def broken(a):
        return a + "x"

    with queue.worker(threads=1):
        job, other = add.enqueue(1), broken.enqueue(1)
        with pytest.raises(JobFailed, match=r"add\(\) missing 1 required positional argument: 'b'"):
            job.result(10)
        with pytest.raises(JobFailed, match="unsupported operand"):
            other.result(10)
    assert [len(each.errors) for each in (job, other)] == [1, 2]


def test_any_name_is_a_keyword_of_the_users(queue):
    names = dict.fromkeys(["self", "function", "args", "kwargs", "options", "task", "name", "queue", "value"], "x")

    @queue.task
    def hook(**payload: str) -> str:
        return payload["self"]

    @queue.task
    async def ahook(**payload: str) -> str:
        return payload["self"]

    hook.s(**names)
    with queue.worker(threads=1):
        jobs = [hook.enqueue(**names), asyncio.run(ahook.aenqueue(**names)), *hook.enqueue_many([names])]
        assert [job.result(10) for job in jobs] == ["x"] * 3
    assert (hook(**names), asyncio.run(ahook(**names))) == ("x", "x")


def test_a_key_names_arguments_of_the_wrapper_and_of_what_it_wraps(queue):
    def with_dry_run(function):
        @functools.wraps(function)
        def wrapper(*args, dry_run=False, **kwargs): ...

        return wrapper

    @queue.task(unique="{days}/{self}/{dry_run}")
    @with_dry_run
    def purge(days, self=0): ...

    assert purge.enqueue(3).key == "3/0/False"
    assert purge.enqueue(3, dry_run=True, self=1).key == "3/1/True"


# ---- delay= of a task


def test_each_job_of_a_task_with_a_delay_waits(queue):
    task = queue.task(name="t", delay="1h")(lambda: None)
    job = task.enqueue()
    assert (job.run_at - job.created_at).total_seconds() == pytest.approx(3600, abs=0.001)
    assert task.using(delay=None).enqueue().status == "queued"
    assert task.using(delay=60).enqueue().run_at < job.run_at
    assert task.using(at="2100-01-01T00:00:00Z").enqueue().run_at.year == 2100
    assert task.using(priority=5).enqueue().status == "scheduled"
    assert [each.status for each in task.enqueue_many([(), ()])] == ["scheduled"] * 2
    assert task.s().enqueue().status == "scheduled"


def test_a_delay_that_makes_no_sense_is_refused_where_the_task_is_declared(queue):
    with pytest.raises(ValueError, match="expires='1h' is not after delay='2h'"):
        queue.task(name="t", delay="2h", expires="1h")
    with pytest.raises(ValueError, match="delay"):
        queue.task(name="t", delay="soon")


# ---- in another process


def test_a_task_a_changed_task_and_a_queue_are_pickled_by_name():
    assert pickle.loads(pickle.dumps(picklable.double)) is picklable.double
    assert pickle.loads(pickle.dumps(picklable.queue)) is picklable.queue
    assert pickle.loads(pickle.dumps(picklable.renamed)) is picklable.renamed
    urgent = picklable.double.using(priority=5).using(tags=["a"])
    back = pickle.loads(pickle.dumps(urgent))
    assert (back.function, back._fields) == (urgent.function, urgent._fields)


def test_what_has_no_name_in_a_module_says_what_to_pass_instead(queue, database):
    task = queue.task(name="t")(lambda: None)
    for thing, says in [
        (task, "the task 't' cannot be pickled.*pass its name"),
        (task.using(priority=5), "the task 't' cannot be pickled"),
        (queue, "this queue cannot be pickled.*pass its path"),
        (task.enqueue(), r"job 1 cannot be pickled.*queue.job\('1'\)"),
        (picklable.double.using(within=object()), "a task with within= cannot be pickled"),
    ]:
        with pytest.raises(TypeError, match=says):
            pickle.dumps(thing)


def test_a_copy_of_a_task_or_queue_is_the_same_one_and_of_a_job_an_equal_one(queue):
    task = queue.task(name="t")(lambda: None)
    job = task.enqueue()
    for thing in (task, task.using(priority=5), queue):
        assert copy.copy(thing) is thing
        assert copy.deepcopy([thing])[0] is thing
    for twin in (copy.copy(job), copy.deepcopy(job)):
        assert twin == job
        assert twin is not job
        assert twin.task == "t"


# ---- paths


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("redis://localhost:6379/0", "litequeue has no server"),
        ("postgresql+asyncpg://u@h/db", "litequeue has no server"),
        ("sqlite:///app.db", "pass the path alone, such as 'app.db'"),
        ("sqlite+aiosqlite:////var/app.db", "pass the path alone, such as '/var/app.db'"),
        ("file:app.db?mode=ro", "pass the path alone, such as 'app.db'"),
        ("file:///var/app.db", "pass the path alone, such as '/var/app.db'"),
        (":memory:", "temporary folder"),
        ("file::memory:?cache=shared", "temporary folder"),
        ("app.db-wal", "pass 'app.db'"),
        ("app.db-shm", "pass 'app.db'"),
        ("app.db-journal", "pass 'app.db'"),
        ("", "the path of a queue must be text"),
    ],
)
def test_a_path_that_is_no_file_of_a_queue_is_refused_with_what_to_pass(path, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=says):
        Queue(path)
    assert list(tmp_path.iterdir()) == []
