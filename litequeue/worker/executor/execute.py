"""Call one function with the arguments of its job, and return the outcome. Knows no store, pool or worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import CoroutineType, NoneType
from typing import Any

from litequeue.core.around_jobs import around, asurrounded, surrounded
from litequeue.core.duration import text
from litequeue.core.interruptible import calls_the_task, catches_interrupts, interruptible
from litequeue.core.outcome import (
    Cancelled,
    Failed,
    Outcome,
    Released,
    Retried,
    Settled,
    Snoozed,
    Succeeded,
    interrupted,
    is_interrupted,
)
from litequeue.core.owner_process import getpid
from litequeue.core.retry import after_error, describe, real_error
from litequeue.errors import JobCancelled, JobTimeout
from litequeue.serialization.forms import FormedCall
from litequeue.worker.executor.arguments import Unread, acompleted, aother_call, awaited, completed, other_call
from litequeue.worker.executor.context import Run, current

COMES_BACK = 1.0  # seconds until a job is run again that did nothing wrong: its loop has ended, the file was locked


@calls_the_task
@catches_interrupts
def execute(run: Run) -> Outcome:
    """Run a plain function in this thread."""
    token, forks = current.set(run), _forks
    try:
        job, task = run.job, run.task
        signature = task.signature
        call = signature.decode_call(job.payload) if job.task == task.stored_name else other_call(run)
        function = task.function
        if type(call) is FormedCall:
            function, call = completed(run, call)
        args, kwargs = call
        value = surrounded(_called, function, *args, **kwargs) if around else function(*args, **kwargs)
        if type(value) is CoroutineType:
            value = awaited(value)
        if forks != _forks:
            _end_forked_child()
        run.returned = True
        return Settled() if run.settled else Succeeded(signature.encode_result(value))
    except BaseException as error:
        if forks != _forks or getpid() != _process:
            _end_forked_child(error)
        return _raised(run, error)
    finally:
        current.reset(token)


@calls_the_task
async def aexecute(run: Run) -> Outcome:
    """Run a coroutine function on this loop."""
    current.set(run)
    forks = _forks
    try:
        job, task = run.job, run.task
        signature = task.signature
        call = signature.decode_call(job.payload) if job.task == task.stored_name else await aother_call(run)
        function = task.function
        if type(call) is FormedCall:
            function, call = await acompleted(run, call)
        args, kwargs = call
        value = await (asurrounded(function, *args, **kwargs) if around else function(*args, **kwargs))
        if forks != _forks:
            _end_forked_child()
        run.returned = True
        return Settled() if run.settled else Succeeded(signature.encode_result(value))
    except BaseException as error:
        if forks != _forks or getpid() != _process:
            _end_forked_child(error)
        run.loop_ends = _loop_ends(error)
        return _raised(run, error)


@calls_the_task
@interruptible
def _called(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    value = function(*args, **kwargs)
    return awaited(value) if type(value) is CoroutineType else value


_forks = 0  # how many that Python was told of lie between this process and the one that began
_process = getpid()  # the one whose jobs run here


def end_copy() -> None:
    """End this process if the function that has just returned forked it without Python's hooks."""
    if getpid() != _process:
        _end_forked_child()


def work_here() -> None:
    """Note that this process runs jobs, whether or not Python was told of the fork that made it."""
    global _process  # noqa: PLW0603
    _process = getpid()


def _count_fork() -> None:
    global _forks  # noqa: PLW0603
    _forks += 1
    work_here()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


def _end_forked_child(error: BaseException | None = None) -> None:
    """End this process, which the function forked and in which it returned: the jobs are its parent's."""
    code = int(error is not None)
    try:
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
            if not isinstance(error.code, (int, NoneType)):
                sys.stderr.write(f"{error.code}\n")
        elif error is not None:
            sys.excepthook(type(error), error, error.__traceback__)
    finally:  # the hook may be anybody's
        os._exit(code)


def _loop_ends(error: BaseException) -> bool:
    """Return whether the task itself was cancelled from outside, not something that it awaited."""
    import asyncio

    if not issubclass(type(error), asyncio.CancelledError):
        return False
    task: Any = asyncio.current_task()
    count = getattr(task, "cancelling", None)  # since Python 3.11
    return bool(getattr(task, "told", False) and (count is None or count()))


def _raised(run: Run, error: BaseException) -> Outcome:
    """Return the outcome of an error that the function raised; keep the error for the log."""
    outcome, told = _outcome_of(run, error)
    if type(outcome) in (Failed, Retried) and not is_interrupted(outcome):
        run.raised = told
    return outcome


def _outcome_of(run: Run, error: BaseException) -> tuple[Outcome, BaseException]:
    """Return the outcome of an error, and which error it tells of.

    An error in the application's code around it fails the job, even a sys.exit(): that of the error's own class, that
    of `retry_on`, and a backoff function.
    """
    try:
        if run.timed_out and issubclass(type(error), _stops()):
            error = timeout_error(run).with_traceback(error.__traceback__)
        return _judged(run, error), real_error(error)
    except BaseException as wrong:
        return Failed(describe(wrong)), wrong


def _judged(run: Run, error: BaseException) -> Outcome:
    """Return the outcome of an error: ours (a limit, a cancel, a shutdown), or the function's own."""
    kind = type(error)  # never isinstance(), which asks the error for its class: a property, perhaps, that raises
    stops = _stops()
    if run.settled:
        return Settled()
    if run.release and not run.cancel_requested and issubclass(kind, (*stops, JobCancelled)):
        return cut_short(run)
    if issubclass(kind, stops) and not run.timed_out:
        if run.cancel_requested:
            return Cancelled()
        if run.loop_ends:  # the application's loop cancels all that runs on it: the job did nothing wrong
            again = Snoozed(run.clock.now() + COMES_BACK)
            return cut_short(run, "The event loop that ran it ended") if run.task.options.policy.at_most_once else again
    if kind is Unread:
        return Snoozed(run.clock.now() + COMES_BACK)
    # A codec is the user's code; no other try, because the function's effects have happened. Nor for a call that a
    # decorator passes on and the function does not take.
    if run.returned or run.task.signature.calling.is_misbound(error):
        return Failed(describe(error))
    return after_error(run.job, error, run.task.options.policy, run.clock.now())


def cut_short(run: Run, why: str = "Its worker was stopped while it ran") -> Outcome:
    """Return the outcome of a run that had begun and is stopped for no fault of its own."""
    if run.task.options.policy.at_most_once:
        return Failed(interrupted(why))
    return Released(begun=True)


def _stops() -> tuple[type[BaseException], ...]:
    """Return what the worker raises in a function to stop it."""
    import asyncio  # here and not above: a process that only enqueues need not wait for it

    return asyncio.CancelledError, JobTimeout


def timeout_error(run: Run) -> JobTimeout:
    """Return the error of a run that exceeded its limit."""
    if run.is_silent:
        within = text(run.task.options.heartbeat_timeout or 0.0)
        return JobTimeout(f"{run.job.task_name} called heartbeat() no more for {within}, its heartbeat_timeout")
    return JobTimeout(f"{run.job.task_name} ran longer than its limit of {round(run.deadline - run.started, 6):g} s")


def written_off(run: Run) -> Outcome:
    """Return the outcome of a run that was told to stop and did not."""
    return _outcome_of(run, timeout_error(run))[0]
