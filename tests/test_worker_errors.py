"""What a worker makes of errors: another try, a pause, or the end; never its own."""

import asyncio
import json
import signal
import sys
from typing import Any

import pytest

from crash.watching import ended, until
from litequeue import GiveUp, JobFailed, Queue, Retry, Snooze, current_job


@pytest.fixture(autouse=True)
def claims_are_kept(monkeypatch):
    """A claim that a slow machine has the worker give back would count as an attempt."""
    monkeypatch.setattr("litequeue.worker.executor.claim_size.PATIENCE", 60.0)


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


def run(queue, job, **options):
    queue.worker(**options).run(until_idle=True)
    return job.refresh()


def test_a_job_without_retries_fails_at_its_first_error(queue):
    @queue.task
    def broken():
        raise ValueError("no")

    job = run(queue, broken.enqueue())
    assert (job.status, len(job.errors)) == ("failed", 1)
    with pytest.raises(JobFailed) as caught:
        job.result(1)
    assert (caught.value.error_type, caught.value.message) == ("ValueError", "no")
    assert 'raise ValueError("no")' in caught.value.traceback


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_job_is_tried_again_as_often_as_its_task_says(queue, kind):
    tries: list[int] = []

    def plain():
        tries.append(current_job().attempt)
        raise ValueError(f"try {len(tries)}")

    async def coroutine():
        plain()

    task = queue.task(name="t", retries=3, backoff=0)({"plain": plain, "coroutine": coroutine}[kind])
    job = run(queue, task.enqueue())
    assert (job.status, tries) == ("failed", [1, 2, 3, 4])
    assert [error.message for error in job.errors] == ["try 1", "try 2", "try 3", "try 4"]
    assert [error.attempt for error in job.errors] == [1, 2, 3, 4]


def test_a_job_that_succeeds_in_the_end_keeps_the_history_of_its_errors(queue):
    @queue.task(retries=1, backoff=0)
    def second_time_lucky() -> str:
        if current_job().attempt == 1:
            raise OSError("not yet")
        return "now"

    job = run(queue, second_time_lucky.enqueue())
    assert (job.result(1), [error.type for error in job.errors]) == ("now", ["OSError"])


@pytest.mark.parametrize(
    ("backoff", "low", "high"),
    [("10m", 600, 600), ([5, 7], 5, 5), (lambda failures: failures * 30, 30, 30), ("exponential", 0, 1), (None, 0, 1)],
)
def test_the_next_try_comes_after_the_backoff(queue, backoff, low, high):
    @queue.task(retries=1, backoff=backoff, timeout=None)
    def broken():
        raise ValueError

    before = queue.now()
    with queue.worker():
        job = broken.enqueue()
        until(lambda: job.refresh().errors)
        assert before + low <= job.run_at.timestamp() <= queue.now() + high


def test_a_backoff_function_that_fails_fails_the_job(queue):
    @queue.task(retries=1, backoff=lambda failures: 1 // 0)
    def broken():
        raise ValueError

    assert [error.type for error in run(queue, broken.enqueue()).errors] == ["ZeroDivisionError"]


def test_only_the_errors_of_retry_on_are_tried_again(queue):
    @queue.task(retries=5, backoff=0, retry_on=(OSError, TimeoutError))
    def raises(name: str):
        raise {"os": ConnectionError, "value": ValueError}[name]

    jobs = [raises.enqueue("os"), raises.enqueue("value")]
    assert [len(run(queue, job).errors) for job in jobs] == [6, 1]


def test_the_errors_of_give_up_on_are_never_tried_again(queue):
    @queue.task(retries=5, backoff=0, give_up_on=LookupError)
    def raises(name: str):
        raise {"key": KeyError, "value": ValueError}[name]

    jobs = [raises.enqueue("key"), raises.enqueue("value")]
    assert [len(run(queue, job).errors) for job in jobs] == [1, 6]


def test_retry_asks_for_another_try_after_a_delay_of_its_own(queue):
    @queue.task(retries=1, backoff=0, retry_on=OSError)
    def later():
        raise Retry("busy", delay="1h")

    job = run(queue, later.enqueue())
    assert (job.status, job.errors[0].message) == ("scheduled", "busy")
    assert job.run_at.timestamp() > queue.now() + 3500


def test_retry_uses_up_the_retries(queue):
    @queue.task(retries=2)
    def again():
        raise Retry(delay=0)

    assert len(run(queue, again.enqueue()).errors) == 3


def test_snooze_comes_back_without_using_up_an_attempt(queue):
    @queue.task
    def patient() -> int:
        if current_job().attempt < 4:
            raise Snooze(0)
        return current_job().attempt

    job = run(queue, patient.enqueue())
    assert (job.result(1), job.errors, ended(job).failures) == (4, (), 0)


def test_give_up_fails_now(queue):
    @queue.task(retries=5, backoff=0)
    def hopeless():
        raise GiveUp("no such user")

    job = run(queue, hopeless.enqueue())
    assert [error.message for error in job.errors] == ["no such user"]


def test_one_call_may_have_other_retries(queue):
    @queue.task(retries=3, backoff=0)
    def broken():
        raise ValueError

    jobs = [broken.using(retries=0).enqueue(), broken.using(retries=1).enqueue(), broken.enqueue()]
    assert [len(run(queue, job).errors) for job in jobs] == [1, 2, 4]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_what_would_end_a_program_fails_the_job_and_not_the_worker(queue, error, kind):
    def plain():
        raise error("stop")

    async def coroutine():
        raise error("stop")

    task = queue.task(name="ends")({"plain": plain, "coroutine": coroutine}[kind])

    @queue.task
    def fine() -> str:
        return "fine"

    @queue.task
    async def fine_too() -> str:
        return "fine"

    with queue.worker(threads=1, coroutines=1):
        job = task.enqueue()
        assert ended(job).status == "failed"
        assert fine.enqueue().result(10) == fine_too.enqueue().result(10) == "fine"


def test_an_interrupt_raised_in_a_job_does_not_reach_a_worker_in_the_main_thread(queue):
    @queue.task
    def exits():
        sys.exit(3)

    before = signal.getsignal(signal.SIGINT)
    assert run(queue, exits.enqueue()).errors[0].type == "SystemExit"
    assert signal.getsignal(signal.SIGINT) is before


def test_an_exception_without_a_readable_message_fails_the_job(queue):
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even that")

    @queue.task
    def mute():
        raise Mute

    [error] = run(queue, mute.enqueue()).errors
    assert error.type.endswith("Mute")
    assert error.message == "<this exception has no readable message>"


def test_a_huge_traceback_and_message_are_cut_to_what_helps(queue):
    @queue.task
    def deep(n: int):
        if n == 0:
            raise ValueError("x" * 1_000_000)
        deep.function(n - 1)

    [error] = run(queue, deep.enqueue(300)).errors
    assert len(error.message) < 5_000
    assert len(error.traceback) < 25_000


def test_a_message_that_is_no_valid_text_is_stored_readably(queue):
    @queue.task
    def odd():
        raise ValueError("a\0b\ud800c")

    assert run(queue, odd.enqueue()).errors[0].message == "a\\0b\\ud800c"


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_result_that_cannot_be_stored_fails_the_job_at_once_and_names_the_path(queue, kind):
    def plain() -> Any:
        return {"users": [1, object()]}

    async def coroutine() -> Any:
        return plain()

    task = queue.task(name="t", retries=5, backoff=0)({"plain": plain, "coroutine": coroutine}[kind])
    [error] = run(queue, task.enqueue()).errors
    assert "EncodeError" in error.type
    assert "result['users'][1]" in error.message


def test_a_job_stored_by_older_code_with_other_arguments_fails_at_once(queue, database):
    with Queue(database) as older:

        @older.task(name="greet")
        def greet_of_old(name: str, loud: bool): ...

        job = greet_of_old.enqueue("Ada", True)

    @queue.task(name="greet", retries=5, backoff=0)
    def greet(name: str): ...

    now = run(queue, queue.job(job.id))
    assert (now.status, [error.type.rpartition(".")[2] for error in now.errors]) == ("failed", ["DecodeError"])


def test_a_job_whose_argument_has_another_type_now_fails_at_once(queue, database):
    with Queue(database) as older:
        job = older.task(name="age")(lambda years: None).enqueue("many")

    @queue.task(name="age", retries=5, backoff=0)
    def age(years: int): ...

    assert [error.type.rpartition(".")[2] for error in run(queue, queue.job(job.id)).errors] == ["DecodeError"]


def test_a_job_may_end_itself_as_cancelled(queue):
    from litequeue import JobCancelled

    @queue.task(retries=5)
    def no_longer_needed():
        raise JobCancelled("no longer needed")

    assert run(queue, no_longer_needed.enqueue()).status == "cancelled"


def test_other_jobs_go_on_beside_one_that_fails(queue):
    @queue.task
    def sometimes(n: int) -> int:
        return 10 // n

    jobs = sometimes.enqueue_many([(n % 3,) for n in range(300)])
    queue.worker(threads=4).run(until_idle=True)
    assert [job.refresh().status for job in jobs] == ["failed", "succeeded", "succeeded"] * 100


# Code of the user's that runs while an error is judged


class Raising(type(Exception)):
    """Of classes that raise when they are asked who belongs to them."""

    def __instancecheck__(cls, instance):
        raise LookupError("asked for an instance")

    def __subclasscheck__(cls, subclass):
        raise LookupError("asked for a subclass")


class Asked(Exception, metaclass=Raising):
    """What `retry_on` may name."""


class Classless(Exception):
    @property
    def __class__(self):
        raise LookupError("asked for its class")


class Leaving(Exception):
    @property
    def __class__(self):
        sys.exit("asked for its class")

    def __str__(self):
        raise SystemExit("asked for its text")


class Endless(Exception):
    def __str__(self):
        return str(self)


class Nameless(type):
    def __getattribute__(cls, name):
        if name in ("__qualname__", "__module__"):
            raise LookupError("asked for its name")
        return super().__getattribute__(name)


class Traceless(Exception):
    @property
    def __traceback__(self):
        raise LookupError("asked for its traceback")


class OddText(str):
    __slots__ = ()

    def __getitem__(self, place):
        raise LookupError("asked for a part")

    encode = __getitem__


class Odd(Exception):
    def __str__(self):
        return OddText("odd")


class Unbuilt(Snooze):
    def __init__(self): ...


class Never(Retry):
    def __init__(self):
        super().__init__()
        self.delay = float("nan")


class Timeless(asyncio.CancelledError):
    @property
    def __class__(self):
        raise LookupError("asked for its class")


ERRORS = {
    "a class that raises when asked": (lambda: ValueError("mine"), Asked, "LookupError"),
    "an error without a class": (Classless, Exception, "Classless"),
    "an error that leaves": (Leaving, Exception, "Leaving"),
    "a text without an end": (Endless, Exception, "Endless"),
    "a class without a name": (Nameless("X", (Exception,), {}), Exception, "<an exception without a readable name>"),
    "no traceback": (Traceless, Exception, "Traceless"),
    "text of an odd class": (Odd, Exception, "Odd"),
    "a pause of no length": (Unbuilt, Exception, "AttributeError"),
    "another try never": (Never, Exception, "ValueError"),
    "a cancel without a class": (Timeless, Exception, "LookupError"),
}


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
@pytest.mark.parametrize("what", ERRORS)
def test_an_error_while_an_error_is_judged_fails_that_job_and_costs_no_place(queue, kind, what):
    make, retry_on, told = ERRORS[what]

    def plain():
        raise make()

    async def coroutine():
        raise make()

    async def other():
        return "other"

    task = queue.task(name="t", retries=1, backoff=0, retry_on=retry_on)
    job = task({"plain": plain, "coroutine": coroutine}[kind]).enqueue()
    beside = queue.task(name="other")({"plain": lambda: "other", "coroutine": other}[kind])
    with queue.worker(threads=1, coroutines=1):
        record = ended(job)
        assert record.status == "failed"
        assert told in record.errors[-1].type
        assert what == "no traceback" or "test_worker_errors.py" in record.errors[-1].traceback
        assert beside.enqueue().result(20) == "other"  # in the one place that there is


class Leaves:
    """A codec that calls sys.exit() for some values."""

    name = "leaves"

    def encode(self, value):
        if value == "leave":
            sys.exit("asked for bytes")
        return json.dumps(value).encode()

    def decode(self, data):
        return json.loads(data)


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_codec_that_leaves_at_a_result_fails_that_job_without_another_try(database, kind):
    async def coroutine(text):
        return text

    with Queue(database, codec=Leaves()) as queue:
        task = queue.task(name="t", retries=3, backoff=0, retry_on=BaseException)(
            {"plain": lambda text: text, "coroutine": coroutine}[kind]
        )
        with queue.worker(threads=1, coroutines=1):
            record = ended(task.enqueue("leave"))
            assert (record.status, record.attempt, record.errors[-1].type) == ("failed", 1, "SystemExit")
            assert task.enqueue("stay").result(20) == "stay"
