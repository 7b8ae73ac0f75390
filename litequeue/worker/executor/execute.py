"""Run one claimed job and return its outcome. Knows no store and no worker."""

from __future__ import annotations

import math
import os
import sys
from contextvars import ContextVar
from types import NoneType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from litequeue.core.asyncio_context import require_asyncio
from litequeue.core.interruptible import calls_the_task, catches_interrupts, interruptible
from litequeue.core.outcome import Cancelled, Failed, Outcome, Released, Settled, Snoozed, Succeeded
from litequeue.core.owner_process import getpid
from litequeue.core.records import Claimed, Progress
from litequeue.core.retry import after_error, describe
from litequeue.errors import JobCancelled, JobTimeout

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from litequeue.core.clock import Clock
    from litequeue.task import Task

# A job that reports its progress more often than this is written down only so often, in seconds.
PROGRESS_EVERY = 0.2
COMES_BACK = 1.0  # seconds until a coroutine is run again whose loop has ended


class Recorder(Protocol):
    """The part of a store that a run uses for the job's own writes."""

    def note_progress(self, job: Claimed, progress: str) -> bool:
        """Record progress; return whether a cancel was requested."""

    async def anote_progress(self, job: Claimed, progress: str) -> bool:
        """Async twin of `note_progress`."""

    def completing(
        self, job: Claimed, result: bytes, keep_for: float, then: Callable[[], None]
    ) -> AbstractContextManager[Any]:
        """A write transaction whose commit holds the caller's rows and the job's success; `then` is called after it."""

    def acompleting(
        self, job: Claimed, result: bytes, keep_for: float, then: Callable[[], None]
    ) -> AbstractAsyncContextManager[Any]:
        """Async twin of `completing`."""


class Run(msgspec.Struct, eq=False):
    """One running job: what `current_job()` returns."""

    job: Claimed
    task: Task[..., Any]
    clock: Clock
    recorder: Recorder
    keep_for: float
    started: float  # by the monotonic clock, as all moments here
    deadline: float
    cancel_requested: bool = False
    timed_out: bool = False
    release: bool = False
    loop_ends: bool = False
    settled: bool = False
    interrupted: float = math.inf  # when it was told to stop
    written_off: bool = False
    returned: bool = False  # its function; what it returned is being encoded
    _noted: float = -math.inf

    @property
    @interruptible
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    @interruptible
    def attempt(self) -> int:
        """How many times the job has been claimed; together with the id it identifies this run."""
        return self.job.attempt

    @property
    @interruptible
    def key(self) -> str | None:
        """The key it was enqueued with."""
        return self.job.key

    @property
    @interruptible
    def idempotency_key(self) -> str:
        """Text that is the same in every attempt of this job and in no other job, for services that accept one."""
        return f"{self.job.task}-{self.job.id}-{self.job.created_at:.6f}"

    @property
    @interruptible
    def cancelled(self) -> bool:
        """Whether the job should end soon: its cancel was requested, or its worker is releasing it."""
        return self.cancel_requested or self.release

    def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Report progress, for `job.progress` in any process. It is stored at most five times a second.

        Raises `Fenced` if another worker has the job by now, `ValueError` for a value that is not a number.
        """
        progress = _progress(done, total, note)
        if self._worth_noting(done, total):
            asked = self.recorder.note_progress(self.job, msgspec.json.encode(progress).decode())
            self.cancel_requested = self.cancel_requested or asked

    async def aprogress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Async twin of `progress`."""
        require_asyncio()
        progress = _progress(done, total, note)
        if self._worth_noting(done, total):
            asked = await self.recorder.anote_progress(self.job, msgspec.json.encode(progress).decode())
            self.cancel_requested = self.cancel_requested or asked

    def _worth_noting(self, done: float, total: float | None) -> bool:
        now = self.clock.monotonic()
        if now - self._noted < PROGRESS_EVERY and not (total is not None and done >= total):
            return False
        self._noted = now
        return True

    def completing(self, result: object = None) -> Completing:
        """Open a write transaction on the queue's file whose commit holds your rows *and* the job's success.

        `result` becomes the result of the job. Effects in the block happen exactly once. After the block the job has
        ended; what the function returns is not stored. `with current_job().completing(result) as db:` yields the
        driver's connection. Raises `Fenced` if another worker has the job by now; then nothing is kept.
        """
        return Completing(self, result)

    def acompleting(self, result: object = None) -> Completing:
        """Async twin of `completing`: `async with current_job().acompleting(result) as db:`."""
        return Completing(self, result)

    def __repr__(self) -> str:
        return f"<Run of job {self.id} {self.job.task} attempt={self.attempt}>"


def _progress(done: float, total: float | None, note: str | None) -> Progress:
    if not (note is None or isinstance(note, str)):
        raise TypeError(f"the note of progress() must be text, got {note!r}")
    if note is not None:  # lone surrogates cannot be stored
        note = note.encode("utf-8", "backslashreplace").decode("utf-8")
    return Progress(_number(done, "done"), None if total is None else _number(total, "total"), note)


def _number(value: Any, name: str) -> float:
    """Check that it can be read again; what is a number in Python, such as a Decimal, will do."""
    try:
        number = math.nan if isinstance(value, (str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} of progress() must be a finite number, got {value!r}")
    return value if type(value) is int and value == number else number


class Completing:
    """The block of `completing()`."""

    def __init__(self, run: Run, result: object) -> None:
        self._run = run
        self._arguments = (run.job, run.task.signature.encode_result(result), run.keep_for, self._note_commit)
        self._scope: Any = None

    def __enter__(self) -> Any:
        self._scope = self._run.recorder.completing(*self._arguments)
        return self._scope.__enter__()

    def __exit__(self, *raised: object) -> bool:
        return bool(self._scope.__exit__(*raised))

    async def __aenter__(self) -> Any:
        self._scope = self._run.recorder.acompleting(*self._arguments)
        return await self._scope.__aenter__()

    async def __aexit__(self, *raised: object) -> bool:
        return bool(await self._scope.__aexit__(*raised))

    def _note_commit(self) -> None:
        """Note the commit at once: an error of a log handler or a signal after it must not undo the job's end."""
        self._run.settled = True


_current: ContextVar[Run] = ContextVar("litequeue_current_job")


@interruptible
def current_job() -> Run:
    """Return the job that runs here; raises `LookupError` outside of a task's run."""
    try:
        return _current.get()
    except LookupError:
        raise LookupError("no job is running here; call current_job() inside a task that a worker runs") from None


@calls_the_task
@catches_interrupts
def execute(run: Run) -> Outcome:
    """Run a plain function in this thread."""
    token, forks = _current.set(run), _forks
    try:
        signature = run.task.signature
        args, kwargs = signature.decode_call(run.job.payload)
        value = run.task.function(*args, **kwargs)
        if forks != _forks:
            _end_forked_child()
        run.returned = True
        return Settled() if run.settled else Succeeded(signature.encode_result(value))
    except BaseException as error:
        if forks != _forks or getpid() != _process:
            _end_forked_child(error)
        return _raised(run, error)
    finally:
        _current.reset(token)


@calls_the_task
async def aexecute(run: Run) -> Outcome:
    """Run a coroutine function on this loop."""
    _current.set(run)
    forks = _forks
    try:
        signature = run.task.signature
        args, kwargs = signature.decode_call(run.job.payload)
        value = await run.task.function(*args, **kwargs)
        if forks != _forks:
            _end_forked_child()
        run.returned = True
        return Settled() if run.settled else Succeeded(signature.encode_result(value))
    except BaseException as error:
        if forks != _forks or getpid() != _process:
            _end_forked_child(error)
        run.loop_ends = _loop_ends(error)
        return _raised(run, error)


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
    """Return the outcome of an error. An error in the error's own code, or in that of `retry_on`, fails the job."""
    try:
        return _judged(run, error)
    except BaseException as wrong:
        return Failed(describe(wrong))


def _judged(run: Run, error: BaseException) -> Outcome:
    """Return the outcome of an error: ours (a limit, a cancel, a shutdown), or the function's own."""
    import asyncio  # here and not above: a process that only enqueues need not wait for it

    kind = type(error)  # never isinstance(), which asks the error for its class: a property, perhaps, that raises
    stops = (asyncio.CancelledError, JobTimeout)  # what the worker raises in a function to stop it
    if run.settled:
        return Settled()
    if run.release and not run.cancel_requested and issubclass(kind, (*stops, JobCancelled)):
        return Released(begun=True)
    if issubclass(kind, stops):
        if run.timed_out:
            error = timeout_error(run).with_traceback(error.__traceback__)
        elif run.cancel_requested:
            return Cancelled()
        elif run.loop_ends:  # the application's loop cancels all that runs on it: the job did nothing wrong
            return Snoozed(run.clock.now() + COMES_BACK)
    if run.returned:  # a codec is the user's code; no other try, because the function's effects have happened
        return Failed(describe(error))
    return after_error(run.job, error, run.task.options.policy, run.clock.now())


def timeout_error(run: Run) -> JobTimeout:
    """Return the error of a run that exceeded its limit."""
    return JobTimeout(f"{run.job.task} ran longer than its limit of {run.deadline - run.started:g} s")


def written_off(run: Run) -> Outcome:
    """Return the outcome of a run that was told to stop and did not."""
    return _raised(run, timeout_error(run))
