"""A word of another queue is met with what to write here; every other wrong name stays the error that it was."""

import copy
import inspect
import pickle
import re
from unittest import mock

import pytest

import litequeue
from litequeue import Queue, cron, every
from litequeue.cli import main
from litequeue.core import other_queues
from litequeue.options import TaskOptions, Using


@pytest.fixture
def queue(database):
    with Queue(database) as queue:
        yield queue


@pytest.fixture
def add(queue):
    @queue.task(name="add")
    def add(a: int, b: int = 0) -> int:
        return a + b

    return add


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("delay", "use add.enqueue"),
        ("get", "use job.result(timeout=5), where job = add.enqueue"),
        ("apply_async", "add.using"),
        ("send", "use add.enqueue"),
        ("schedule", "add.using(delay="),
        ("link", "use add.s(...) | other.s(...)"),
        ("starmap", "add.s(*each)"),
        ("call_local", "call it: add("),
        ("retry", "raise Retry"),
    ],
)
def test_a_method_of_another_queues_task_is_answered_by_ours(add, word, advice):
    with pytest.raises(AttributeError, match=re.escape(advice)):
        getattr(add, word)
    with pytest.raises(AttributeError, match=re.escape(advice)):
        getattr(add.using(priority=1), word)


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("delay", "@queue.task"),
        ("run", "queue.worker()"),
        ("send_task", "queue.enqueue"),
        ("job_id", "queue.job(id)"),
        ("conf", "Queue("),
    ],
)
def test_so_is_a_method_of_another_queue(queue, word, advice):
    with pytest.raises(AttributeError, match=re.escape(advice)):
        getattr(queue, word)


@pytest.mark.parametrize(
    ("word", "advice"),
    [("get", "job.result("), ("get_id", "job.id"), ("ready", "finished"), ("requeue", "job.retry()")],
)
def test_so_is_a_method_of_another_queues_job(add, word, advice):
    with pytest.raises(AttributeError, match=re.escape(advice)):
        getattr(add.enqueue(1), word)


def test_so_are_a_group_a_worker_and_the_package(add, queue):
    with pytest.raises(AttributeError, match=r"use group\.results"):
        add.map([1]).join  # noqa: B018
    with pytest.raises(AttributeError, match=r"use worker\.run"):
        queue.worker().work  # noqa: B018
    with pytest.raises(AttributeError, match=r"use cron"):
        litequeue.crontab  # noqa: B018


def test_any_other_name_is_a_plain_attribute_error(add, queue):
    for owner in (add, queue, add.enqueue(1), queue.worker()):
        with pytest.raises(AttributeError, match=r"has no attribute 'colour'$"):
            owner.colour  # noqa: B018
        assert not hasattr(owner, "delay")
        assert getattr(owner, "colour", 3) == 3


def test_what_looks_at_objects_is_not_misled(add, queue):
    assert copy.copy(add) is add
    assert inspect.signature(add) == inspect.signature(add.function)
    assert inspect.unwrap(add) is add.function
    assert next(iter(inspect.signature(Queue).parameters)) == "path"
    with pytest.raises(AttributeError):
        mock.Mock(spec=add).delay  # noqa: B018
    with pytest.raises((pickle.PicklingError, TypeError, AttributeError)):
        pickle.dumps(queue)


def test_a_subclass_may_have_a_method_of_that_name(database):
    class Mine(Queue):
        def send_task(self) -> str:
            return "mine"

    with Mine(database) as queue:
        assert queue.send_task() == "mine"
        assert "send_task" in dir(queue)


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({"max_retries": 3}, "retries= of the task"),
        ({"autoretry_for": ()}, "retry_on= of the task"),
        ({"bind": True}, "current_job()"),
        ({"rate_limit": "10/m"}, 'rate="10/m"'),
        ({"acks_late": True}, "acks_late= is not needed"),
        ({"key": "k"}, "it goes to task.using(key=...)"),
        ({"queue_name": "q"}, "queue="),
        ({"threads": 4}, "threads= of the worker: queue.worker(threads=4)"),
        ({"children": 2}, "children= of the worker: queue.worker(children=2)"),
        ({"time_limit": 9}, "timeout= of the task: with process=True its process is killed"),
        ({"soft_time_limit": 9}, "soft_timeout= of a task with process=True"),
        ({"executor": "processpool"}, "process=True of the task"),
    ],
)
def test_an_option_of_another_queues_task_is_answered_by_ours(queue, given, advice):
    with pytest.raises(TypeError, match=re.escape(advice)):
        queue.task(**given)


def test_so_is_an_option_of_a_call(add):
    with pytest.raises(TypeError, match=re.escape("instead of countdown= use")):
        add.using(countdown=3)
    with pytest.raises(TypeError, match=re.escape("it goes to @queue.task(retry_on=...)")):
        add.using(retry_on=ValueError)
    with pytest.raises(
        TypeError, match=re.escape("unexpected keyword argument 'countdown'; instead of countdown= use")
    ):
        add.enqueue(1, countdown=3)
    with pytest.raises(TypeError, match=re.escape("options of a call go to using(): add.using(priority=...)")):
        add.enqueue(1, priority=3)
    with pytest.raises(TypeError, match=re.escape("the arguments themselves")):
        add.enqueue(args=(1,), kwargs={})


def test_an_argument_of_that_name_is_an_argument(queue):
    task = queue.task(name="any")(lambda countdown, **others: (countdown, others))
    job = task.enqueue(countdown=3, eta=4)
    queue.worker().run(until_idle=True)
    assert job.result(timeout=0) == [3, {"eta": 4}]
    with pytest.raises(TypeError, match=r"missing a required argument: 'countdown'$"):
        task.enqueue(priority=4)


def test_so_are_the_options_of_a_queue_a_worker_and_a_trigger(queue, tmp_path):
    with pytest.raises(TypeError, match="threads="):
        queue.worker(num_workers=4)
    with pytest.raises(TypeError, match="prefetch= is not needed"):
        queue.worker(prefetch=1)
    with pytest.raises(TypeError, match="max_jobs_per_child= of the worker"):
        queue.worker(max_tasks_per_child=100)
    with pytest.raises(TypeError, match="children= for tasks with process=True"):
        queue.worker(pool="processes")
    with pytest.raises(TypeError, match='max_memory_per_child="500MB" of the worker'):
        queue.worker(worker_max_memory_per_child=100_000)
    with pytest.raises(TypeError, match=r"Queue.*app\.db"):
        Queue(broker="redis://localhost")
    with pytest.raises(TypeError, match=re.escape('write every("1h30m")')):
        every(minutes=30, hours=1)
    with pytest.raises(TypeError, match=re.escape('write cron("*/5 * * * *")')):
        cron(minute="*/5")
    with pytest.raises(TypeError, match=re.escape('write cron("0 6,18 * * 1")')):
        cron(minute=0, hour={18, 6}, day_of_week=1)


def test_an_option_that_nobody_has_is_the_error_that_it_was(queue):
    with pytest.raises(TypeError, match="it takes aliases, backoff"):
        queue.task(colour=1)
    with pytest.raises(TypeError, match="it takes children"):
        queue.worker(colour=1)
    for call in (Queue, every, cron):
        with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
            call(colour=1)


def test_no_hint_is_about_a_name_that_is_there(add, queue):
    there = {"Task": add, "Queue": queue, "Job": add.enqueue(1), "Worker": queue.worker(), "JobGroup": add.map([1])}
    for kind, words in other_queues.ATTRIBUTES.items():
        assert not set(words) & set(dir(there.get(kind, litequeue)))
    assert "enqueue" in dir(add)
    assert not set(other_queues.OPTIONS) & (set(Using.__annotations__) | set(TaskOptions.__annotations__))
    assert not set(other_queues.COMMANDS) & set(main.commands)
    options = {word for option in main.commands["run"].params for word in option.opts}
    assert not set(other_queues.COMMAND_OPTIONS) & options


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["worker", "app:queue"], "use litequeue run app:queue"),
        (["run", "-c", "4", "app:queue"], "instead of -c use --threads"),
        (["run", "--concurrency=4", "app:queue"], "instead of --concurrency use --threads"),
        (["-A", "app", "worker"], "instead of -A use litequeue run app:queue"),
        (["run", "-B"], "-B is not needed"),
        (["run", "--max-tasks-per-child=9"], "use --max-jobs-per-child, for tasks with process=True"),
        (["run", "-P", "prefork", "app:queue"], "--children for tasks with process=True"),
        (["run", "--soft-time-limit=9"], "use soft_timeout= of the task"),
        (["run", "--colour"], "No such option '--colour'."),
        (["colour"], "No such command 'colour'."),
        (["status", "--burst"], "No such option '--burst'."),
    ],
)
def test_the_command_line_knows_the_words_too(words, advice):
    from click.testing import CliRunner

    ran = CliRunner().invoke(main, words)
    assert ran.exit_code == 2
    assert advice in ran.output.replace("option: --", "option '--")
