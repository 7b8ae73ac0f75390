"""One run of one job, without a worker or a store."""

import asyncio
import math
import os
import sys

import msgspec
import pytest

from litequeue import Queue, current_job
from litequeue.core.outcome import Cancelled, Failed, Released, Retried, Succeeded
from litequeue.core.records import Claimed
from litequeue.core.retry import policy
from litequeue.errors import Fenced, JobCancelled, JobTimeout
from litequeue.testing import ManualClock
from litequeue.worker.executor.context import Run
from litequeue.worker.executor.execute import aexecute, execute, written_off


@pytest.fixture
def begin(database):
    with Queue(database) as queue:

        def begin(function, payload=b"[[],{}]", name="t", **options):
            task = queue.task(name=name, **options)(function)
            claimed = Claimed("7", 2, name, "default", payload, 0, 0, 0, None, None, "key", 1_000.0)
            return Run(claimed, task, ManualClock(), queue.engine, 60.0, 1_000.0, 1_030.0)

        yield begin


def raising(error):
    def function():
        raise error

    return function


def test_what_a_function_returns_is_encoded(begin):
    assert execute(begin(lambda a, b: [a, b], b'[[1],{"b":2}]')) == Succeeded(b"[1,2]")


def test_what_a_coroutine_returns_is_encoded(begin):
    async def function():
        return current_job().id

    assert asyncio.run(aexecute(begin(function))) == Succeeded(b'"7"')


def test_a_run_knows_its_job_only_while_it_runs(begin):
    run = begin(lambda: current_job().attempt)
    assert execute(run) == Succeeded(b"2")
    with pytest.raises(LookupError):
        current_job()


def test_the_idempotency_key_is_the_same_at_every_attempt(begin):
    run = begin(lambda: None)
    again = Run(msgspec.structs.replace(run.job, attempt=3), run.task, run.clock, run.recorder, 60.0, 1_000.0, 1_030.0)
    assert run.idempotency_key == again.idempotency_key


def test_an_error_is_an_outcome(begin):
    outcome = execute(begin(raising(ValueError("no")), retries=1))
    assert isinstance(outcome, Retried)
    assert outcome.error.type == "ValueError"


def test_arguments_that_do_not_fit_fail_the_run(begin):
    outcome = execute(begin(lambda a: a, retries=5))
    assert isinstance(outcome, Failed)
    assert "DecodeError" in outcome.error.type


def test_a_limit_passed_is_said_as_such(begin):
    run = begin(raising(JobTimeout()))
    run.timed_out = True
    assert "t ran longer than its limit of 30 s" in execute(run).error.message


def test_a_limit_passed_before_the_shutdown_counts_less_than_the_shutdown(begin):
    run = begin(raising(JobTimeout()))
    run.timed_out = run.release = True
    assert execute(run) == Released(begun=True)


@pytest.mark.parametrize("error", [JobTimeout(), JobCancelled()])
def test_what_ends_because_it_is_released_is_released(begin, error):
    run = begin(raising(error))
    run.release = True
    assert execute(run) == Released(begun=True)


def test_what_is_both_cancelled_and_released_is_cancelled(begin):
    run = begin(raising(JobCancelled()))
    run.release = run.cancel_requested = True
    assert execute(run) == Cancelled()


def test_an_error_of_its_own_at_shutdown_is_an_error(begin):
    run = begin(raising(ValueError()))
    run.release = True
    assert isinstance(execute(run), Failed)


def test_what_was_given_to_another_worker_is_not_tried_again(begin):
    # the store drops the end of a run that is fenced; one that is not must not come back for ever
    assert type(execute(begin(raising(Fenced("to another worker")), retries=5))) is Failed


@pytest.mark.parametrize("leave", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_a_users_code_around_the_function_raises_fails_the_job_alone(begin, leave):
    class Unreadable(Exception):
        def __str__(self):
            raise leave

    def backoff(_failures):
        raise leave

    assert type(execute(begin(raising(Unreadable())))) is Failed
    run = begin(raising(ValueError()), name="other", retries=1)
    run.task.options = msgspec.structs.replace(run.task.options, policy=policy(1, backoff, None, None))
    assert execute(run).error.type == leave.__name__


def test_a_run_that_was_released_and_does_not_stop_is_released(begin):
    run = begin(lambda: None)
    run.release = True
    assert written_off(run) == Released(begun=True)


@pytest.mark.parametrize(
    "arguments",
    [(math.nan,), (math.inf,), (None,), ("1",), (10**400,), (1, "10"), (1, math.nan), (object(),)],
    ids=["nan", "inf", "None", "text", "10**400", "total text", "total nan", "object"],
)
def test_progress_that_is_no_number_is_refused(begin, arguments):
    run = begin(lambda: None)
    with pytest.raises(ValueError, match="finite number"):
        run.progress(*arguments)


def test_a_note_that_is_no_text_is_refused(begin):
    with pytest.raises(TypeError, match="must be text, got 3"):
        begin(lambda: None).progress(1, note=3)


def test_progress_is_written_down_now_and_then_and_at_the_end(begin):
    noted = []

    class Recorder:
        def note_progress(self, job, progress):
            noted.append(progress)
            return False

    run = begin(lambda: None)
    run.recorder = Recorder()
    for done in range(5):
        run.progress(done, 5)
    run.progress(5, 5)
    assert noted == ['{"done":0,"total":5,"note":null}', '{"done":5,"total":5,"note":null}']


def test_a_run_shows_what_it_runs(begin):
    run = begin(lambda: None)
    assert repr(run) == f"<Run 2 of job {run.id} {run.job.task} try=1>"


def test_a_note_that_utf8_cannot_hold_is_escaped(begin):
    noted = []

    class Recorder:
        def note_progress(self, job, progress):
            noted.append(progress)

    run = begin(lambda: None)
    run.recorder = Recorder()
    run.progress(1, note="a\ud800")
    assert noted == ['{"done":1,"total":null,"note":"a\\\\ud800"}']


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("ends", "code", "said"),
    [(ZeroDivisionError("no"), 1, ""), (SystemExit("no more"), 1, "no more\n"), (SystemExit(3), 3, "")],
)
def test_a_forked_child_ends_whatever_is_wrong_with_the_hook_for_errors(begin, monkeypatch, tmp_path, ends, code, said):
    def hook(*_error):
        raise RuntimeError("the hook has failed")

    monkeypatch.setattr(sys, "excepthook", hook)
    parent, children = os.getpid(), []

    def forks():
        children.append(os.fork())
        if children == [0]:
            sys.stderr = (tmp_path / "said").open("w", buffering=1)
            raise ends

    try:
        execute(begin(forks))
    finally:
        if os.getpid() != parent:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == code
    assert (tmp_path / "said").read_text() == said
