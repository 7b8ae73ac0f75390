"""`$LITEQUEUE_PLAIN_CALLS` finds the calls that were to be `.enqueue()`, while one moves over from Huey."""

import asyncio
import pickle
import warnings

import pytest

from crash.watching import ended
from litequeue import LiteQueueError, PlainCallWarning, Queue


@pytest.fixture
def queue(database):
    with Queue(database) as queue:
        yield queue


@pytest.fixture
def tasks(queue):
    """Declare the tasks, under the variable as it is then."""

    def declare():
        @queue.task(name="add")
        def add(a: int, b: int) -> int:
            return a + b

        @queue.task(name="aadd")
        async def aadd(a: int, b: int) -> int:
            return add(a, b)

        return add, aadd

    return declare


@pytest.mark.parametrize("how", [None, ""])
def test_a_plain_call_is_a_plain_call_where_nothing_else_is_asked_for(tasks, monkeypatch, how):
    if how is not None:
        monkeypatch.setenv("LITEQUEUE_PLAIN_CALLS", how)
    add, aadd = tasks()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert add(1, 2) == 3
        assert asyncio.run(aadd(1, 2)) == 3


def test_a_plain_call_is_warned_of_at_the_callers_line(tasks, monkeypatch):
    monkeypatch.setenv("LITEQUEUE_PLAIN_CALLS", "warn")
    add, aadd = tasks()
    with pytest.warns(PlainCallWarning, match=r"write add\.enqueue\(\.\.\.\)") as told:
        assert [task(1, 2) for task in (add, add.using(priority=1))] == [3, 3]
    assert [warning.filename for warning in told] == [__file__] * 2
    with pytest.warns(PlainCallWarning) as told:
        assert asyncio.run(aadd(1, 2)) == 3
    assert len(told) == 2  # and the call inside of it


def test_or_refused(tasks, monkeypatch):
    monkeypatch.setenv("LITEQUEUE_PLAIN_CALLS", "error")
    add, aadd = tasks()
    for task in (add, aadd):
        with pytest.raises(PlainCallWarning, match="enqueues nothing") as told:
            task(1, 2)
        assert isinstance(told.value, LiteQueueError)
        assert isinstance(told.value, UserWarning)
    assert add.function(1, 2) == 3  # where a plain call is meant


def test_a_worker_calls_the_function_and_a_job_that_calls_a_task_plainly_makes_the_same_mistake(
    queue, tasks, monkeypatch
):
    monkeypatch.setenv("LITEQUEUE_PLAIN_CALLS", "error")
    add, aadd = tasks()
    with queue.worker(threads=1):
        assert add.enqueue(1, 2).result(timeout=20) == 3
        record = ended(aadd.enqueue(1, 2))
    assert record.status == "failed"
    assert "PlainCallWarning" in record.errors[-1].type


def test_any_other_value_is_refused_where_a_task_is_declared(tasks, monkeypatch):
    monkeypatch.setenv("LITEQUEUE_PLAIN_CALLS", "yes")
    with pytest.raises(ValueError, match='must be "warn" or "error"'):
        tasks()


def test_the_error_can_be_pickled():
    assert str(pickle.loads(pickle.dumps(PlainCallWarning("text")))) == "text"
