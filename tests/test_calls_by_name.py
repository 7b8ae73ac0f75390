"""Calls by the name of a task, whether or not it is declared in this process."""

import asyncio
import json
import warnings
from datetime import date, datetime, timezone

import pytest

from litequeue import EncodeError, JobFailed, KeyConflict, PartlyEnqueued, PayloadTooLarge, Queue

MANY = [(1,), {"a": 2}]


def stored(queue, job):
    return json.loads(queue.engine.jobs.look_up(job.id).payload)


@pytest.fixture
def served(open_queue, database, clock):
    """A second queue on the file, which alone declares the tasks."""
    other = open_queue()

    @other.task(name="add", queue="sums")
    def add(a: int, b: int = 0) -> int:
        return a + b

    @other.task(name="on")
    async def on(day: date) -> date:
        return day

    return other


def every_way(queue):
    """Enqueue calls of `add` in each way there is, and return the jobs; each gives 1 or 2."""

    async def asynchronous():
        using = queue.using(priority=1)
        return [
            await queue.aenqueue("add", 1),
            await using.aenqueue("add", 1, b=0),
            *await queue.aenqueue_many("add", MANY),
            *await using.aenqueue_many("add", MANY, chunk=1),
        ]

    with queue.transaction() as db:
        jobs = [queue.enqueue("add", 1), queue.using(within=db).enqueue("add", a=1)]
    using = queue.using(priority=1)
    jobs += [using.enqueue("add", 1), *queue.enqueue_many("add", MANY), *using.enqueue_many("add", MANY, chunk=1)]
    return jobs + asyncio.run(asynchronous())


def test_each_way_of_enqueueing_takes_the_name_of_a_task_that_another_process_has(queue, served):
    jobs = every_way(queue)
    assert {(job.refresh().task, job.queue, job.version) for job in jobs} == {("add", "default", 1)}
    with served.worker():
        assert {job.result(20) for job in jobs} == {1, 2}


def test_each_way_by_name_is_that_of_a_task_that_is_declared_here(served):
    jobs = every_way(served)
    assert {job.refresh().queue for job in jobs} == {"sums"}
    with served.worker():
        assert {job.result(20) for job in jobs} == {1, 2}
    with pytest.raises(TypeError, match="add\\(\\) missing a required argument"):
        served.enqueue("add")


def test_what_is_stored_is_what_a_declared_task_stores(queue, served):
    given = (datetime(2026, 1, 2, tzinfo=timezone.utc), [1, {"a": None}], (2, 3), date(2026, 1, 2))
    assert stored(queue, queue.enqueue("any", *given, b=1, a="x")) == [
        ["2026-01-02T00:00:00Z", [1, {"a": None}], [2, 3], "2026-01-02"],
        {"a": "x", "b": 1},
    ]
    job = queue.enqueue("on", date(2026, 1, 2))
    with served.worker():
        assert job.result(20) == "2026-01-02"  # plain: the annotation is not known here
        assert served.job(job.id).result() == date(2026, 1, 2)


def test_arguments_that_do_not_fit_fail_in_the_worker_without_a_retry(queue, served):
    job = queue.using(retries=3).enqueue("add", "one")
    with served.worker(), pytest.raises(JobFailed, match="DecodeError"):
        job.result(20)
    assert job.refresh().tries == 1


def test_options_of_a_call_by_name_are_those_of_using(queue):
    job = queue.using(queue="q", priority=7, tags=["t"], delay="1h", key="k", expires="2h").enqueue("add", 1)
    found = job.refresh()
    assert (found.queue, found.priority, found.tags, found.status, found.key) == ("q", 7, ("t",), "scheduled", "k")
    assert queue.using(key="k").enqueue("add", 1) == job
    with pytest.raises(KeyConflict):
        queue.using(key="k").enqueue("add", 2)


def test_a_call_by_name_can_be_stored_after_a_commit(open_queue):
    later = []
    queue = open_queue(on_commit=later.append)
    job = queue.enqueue("add", 1)
    assert repr(job) == "<Job of add, not stored yet>"
    later[0]()
    assert queue.job(job.id).task == "add"


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda queue: queue.using(color=1), TypeError, "using\\(\\) has no option color"),
        (lambda queue: queue.using(priority=101), ValueError, "priority must be"),
        (lambda queue: queue.using(delay="1h", at="2026-01-01T00:00Z"), ValueError, "delay= or at="),
        (lambda queue: queue.using(retries=-1), ValueError, "retries must be"),
        (lambda queue: queue.using(key="k").enqueue(""), ValueError, "a task's name must be"),
        (lambda queue: queue.enqueue("a,b"), ValueError, "a task's name must be"),
        (lambda queue: queue.enqueue("add@x"), ValueError, "must be without @"),
        (lambda queue: queue.enqueue("add@1001"), ValueError, "version must be"),
        (lambda queue: queue.enqueue(json.dumps), TypeError, "declare dumps with @queue.task"),
        (lambda queue: queue.enqueue(None), TypeError, "the name of a task as text"),
        (lambda queue: queue.enqueue("add", object()), EncodeError, "object is not a JSON type"),
        (lambda queue: queue.enqueue("add", "x" * 2000), PayloadTooLarge, "the arguments of add take"),
        (lambda queue: queue.enqueue_many("add", [1]), TypeError, "takes tuples of positional"),
        (lambda queue: queue.enqueue_many("add", [(1,)], chunk=0), ValueError, "chunk must be"),
        (lambda queue: queue.enqueue_many("add", [(1,), 2], chunk=1), PartlyEnqueued, "the first 1 calls"),
    ],
)
def test_what_cannot_be_called_by_name_is_refused(open_queue, call, error, words):
    queue = open_queue(max_payload=1000)
    with pytest.raises(error, match=words):
        call(queue)


def test_a_task_itself_is_told_to_enqueue(served):
    with pytest.raises(TypeError, match=r"write add\.enqueue"):
        served.enqueue(served.tasks["add"], 1)


def test_a_name_that_is_near_a_declared_one_is_stored_and_warned_of_once(served):
    with pytest.warns(UserWarning, match="no task 'addd' is declared in this process, did you mean 'add'"):
        job = served.enqueue("addd", 1)
    assert job.refresh().task == "addd"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        served.enqueue("addd", 1)
        served.enqueue("quite_another", 1)
        served.enqueue("add@2", 1)  # a version that another process has


def test_a_task_that_is_declared_later_is_called_as_declared(queue):
    queue.enqueue("late", 1)
    queue.task(name="late", queue="own")(lambda number: number)
    assert queue.enqueue("late", 1).queue == "own"


def test_the_codec_of_the_queue_writes_calls_by_name(database):
    class Reversing:
        name = "reversing"

        def encode(self, value):
            return json.dumps(value).encode()[::-1]

        def decode(self, data):
            return json.loads(data[::-1])

    with Queue(database, codec=Reversing()) as queue:
        job = queue.enqueue("add", 1)
        assert queue.engine.jobs.look_up(job.id).payload == b"[[1], {}]"[::-1]
