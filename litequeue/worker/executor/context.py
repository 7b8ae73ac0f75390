"""The job that runs here, as its function sees it: `current_job()`. Knows no pool, no store and no way to run it."""

from __future__ import annotations

import math
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from litequeue.core.asyncio_context import require_asyncio
from litequeue.core.current_run import current_run
from litequeue.core.interruptible import interruptible
from litequeue.core.outcome import Died, Failed, Outcome
from litequeue.core.records import Claimed, Progress
from litequeue.core.store import DEATH_LIMIT
from litequeue.core.streams import MOST_DETAILS, Emitted
from litequeue.core.unset import UNSET, Unset
from litequeue.errors import EncodeError, Fenced, Unsupported
from litequeue.worker.executor.run_log import RunLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from litequeue.core.clock import Clock
    from litequeue.core.compositions import Handed
    from litequeue.core.engine import Defaults
    from litequeue.core.run_logs import KeptLog
    from litequeue.limits.limit import Limit
    from litequeue.task import Task

# A job that reports its progress more often than this is written down only so often, in seconds.
PROGRESS_EVERY = 0.2

_first_emit = threading.RLock()  # two threads of a run may emit first


class Recorder(Protocol):
    """The part of a store that a run uses for the job's own writes."""

    def parameters_of(self, stored_name: str) -> tuple[str, ...] | None:
        """Return how calls that are stored under this name call their arguments by position, if it is on record."""

    async def aparameters_of(self, stored_name: str) -> tuple[str, ...] | None:
        """Async twin of `parameters_of`."""

    def handed_to(self, job_id: str) -> Handed:
        """Return what the job's parents hand on to it; raises `JobNotFound` where one is not on record."""

    async def ahanded_to(self, job_id: str) -> Handed:
        """Async twin of `handed_to`."""

    def note_progress(self, job: Claimed, progress: str) -> bool:
        """Record progress; return whether a cancel was requested."""

    async def anote_progress(self, job: Claimed, progress: str) -> bool:
        """Async twin of `note_progress`."""

    def charge(self, job: Claimed, limit: str, used: int, before: int | None) -> None:
        """Correct what the run takes of a rate, from what it reserved, or `before`, to what it has used."""

    async def acharge(self, job: Claimed, limit: str, used: int, before: int | None) -> None:
        """Async twin of `charge`."""

    def emit(self, job: Claimed, value: bytes, lost: Callable[[], None]) -> None:
        """Take in a value, which is written soon; never blocks. `lost` is called if the run is not the job's any more.

        From any thread. The end of the run is never on record before its values.
        """

    def heartbeat(self, job: Claimed, details: bytes | None, lost: Callable[[], None]) -> None:
        """Take in a sign of life, and what the next attempt is to be told; never blocks. `lost`: see `emit`."""

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
    is_silent: bool = False  # that is why: no heartbeat came in time
    release: bool = False
    loop_ends: bool = False
    settled: bool = False
    interrupted: float = math.inf  # when it was told to stop
    written_off: bool = False
    is_chunk: bool = False  # its function is called several times
    beaten: float = math.inf  # when it has given its last sign of life, of which its start is one
    returned: bool = False  # its function; what it returned is being encoded
    raised: BaseException | None = None  # for the log; None again as soon as it is logged
    log: RunLog | None = None  # of what it logs, if that is kept
    _noted: float = -math.inf
    _uses: dict[str, int] = {}  # of limits, as charged
    _emitted: Emitted | None = None
    _details: bytes | None = None
    _lost: bool = False  # another worker has the job

    @property
    @interruptible
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    @interruptible
    def attempt(self) -> int:
        """The number of this run: how many times the job has been claimed. With the id it identifies this run."""
        return self.job.attempt

    @property
    @interruptible
    def tries(self) -> int:
        """The number of this try: 1 + the failures so far. `retries` bounds it; a run cut short is not counted."""
        return self.job.failures + 1

    @property
    @interruptible
    def key(self) -> str | None:
        """The key it was enqueued with."""
        return self.job.key

    @property
    @interruptible
    def idempotency_key(self) -> str:
        """Text that is the same in every attempt of this job and in no other job, for services that accept one."""
        return f"{self.job.task_name}-{self.job.id}-{self.job.created_at:.6f}"

    @property
    @interruptible
    def cancelled(self) -> bool:
        """Whether the job should end soon: its cancel was requested, or its worker is releasing it."""
        return self.cancel_requested or self.release

    def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Report progress, for `job.progress` in any process. It is stored at most five times a second.

        Raises `Fenced` if another worker has the job by now, `ValueError` for a value that is not a number,
        `Unsupported` after the end of `completing()`.
        """
        self._require_open("call progress()")
        progress = _progress(done, total, note)
        if self._worth_noting(done, total):
            asked = self.recorder.note_progress(self.job, msgspec.json.encode(progress).decode())
            self.cancel_requested = self.cancel_requested or asked

    async def aprogress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Async twin of `progress`."""
        require_asyncio()
        self._require_open("call aprogress()")
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

    def emit(self, value: object) -> None:
        """Emit a value, for `job.stream()` in any process; any that a result may be. It is written within 50 ms.

        Never blocks, and may be called in a coroutine, and in threads to which the context was copied. Not synced: it
        survives a crash of the process, and no power cut before the run has ended. Raises `EmitLimit` beyond 10,000
        values, or 1 MiB of them, in one run; `EncodeError`; `Fenced` once it is known that another worker has the job.
        """
        if self._lost:
            raise Fenced(f"another worker has job {self.job.id} by now; run {self.job.attempt} may not emit any more")
        self._require_open("emit")
        data = self.task.signature.encode_value(value)
        emitted = self._emitted
        if emitted is None:
            with _first_emit:
                emitted = self._emitted = self._emitted or Emitted()
        emitted.add(len(data), self.job)
        self.recorder.emit(self.job, data, self._lose)

    @property
    def due(self) -> float:
        """When it is to be stopped, unless it ends before or gives a sign of life."""
        within = self.task.options.heartbeat_timeout
        return self.deadline if within is None else min(self.deadline, self.beaten + within)

    def heartbeat(self, details: object = UNSET) -> None:
        """Give a sign of life, which `heartbeat_timeout` of the task asks for, and keep `details` for the next attempt.

        `details`: any value that a result may be; the last ones are there as `heartbeat_details` in the attempts that
        follow, and stay as they are in a call without. They are written within 50 ms, not synced. Never blocks, from
        any thread to which the context was copied. Raises `EncodeError`; `Fenced` once it is known that another worker
        has the job; `Unsupported` after the end of `completing()`.
        """
        if self._lost:
            raise Fenced(
                f"another worker has job {self.job.id} by now; run {self.job.attempt} is not the job's any more"
            )
        self._require_open("call heartbeat()")
        data = None if isinstance(details, Unset) else self.task.signature.encode_value(details)
        if data is not None and len(data) > MOST_DETAILS:
            raise EncodeError(f"heartbeat() takes at most 64 KiB of details, got {len(data):,} bytes encoded")
        self.beaten = self.clock.monotonic()
        self.recorder.heartbeat(self.job, data, self._lose)
        if data is not None:
            self._details = data

    @property
    def heartbeat_details(self) -> Any:
        """What was given to `heartbeat()` last, in this attempt or one before; None: nothing was."""
        data = self.job.heartbeat if self._details is None else self._details
        return None if data is None else self.task.signature.decode_value(data)

    def _lose(self) -> None:
        self._lost = True

    def _require_open(self, what: str) -> None:
        if self.settled:
            raise Unsupported(f"job {self.job.id} has ended with completing(); {what} before the end of that block")

    def charge(self, limit: Limit | str, used: int) -> None:
        """Correct what this run takes of a limit's rate: it reserved the `cost` of the limit, and has used so much.

        May be called again: the last one counts. What is over the limit is made up for by later starts. Raises
        `ValueError` where the task does not take of that limit, or it has no rate.
        """
        name, number, before = self._charged(limit, used)
        self.recorder.charge(self.job, name, number, before)
        self._uses[name] = number

    async def acharge(self, limit: Limit | str, used: int) -> None:
        """Async twin of `charge`."""
        name, number, before = self._charged(limit, used)
        await self.recorder.acharge(self.job, name, number, before)
        self._uses[name] = number

    def _charged(self, limit: Limit | str, used: int) -> tuple[str, int, int | None]:
        name = limit if isinstance(limit, str) else limit.name
        if isinstance(used, bool) or not isinstance(used, int) or used < 0:
            raise ValueError(f"charge() takes what was used, a whole number from 0, got {used!r}")
        rates = [start.limit for start in self.job.held.starts] if self.job.held is not None else []
        if name not in rates:
            known = ", ".join(map(repr, rates)) or "none"
            raise ValueError(
                f"{self.job.task_name} takes of no rate of a limit {name!r} in this run; it does of {known}"
            )
        return name, used, self._uses.get(name)

    def completing(self, result: object = None) -> Completing:
        """Open a write transaction on the queue's file whose commit holds your rows *and* the job's success.

        `result` becomes the result of the job. Effects in the block happen exactly once. After the block the job has
        ended; what the function returns is not stored. `with current_job().completing(result) as db:` yields the
        driver's connection. Raises `Fenced` if another worker has the job by now; then nothing is kept. Raises
        `Unsupported` in a chunk, whose other calls would come after the end of the job.
        """
        return Completing(self, result)

    def acompleting(self, result: object = None) -> Completing:
        """Async twin of `completing`: `async with current_job().acompleting(result) as db:`."""
        return Completing(self, result)

    def __repr__(self) -> str:
        return f"<Run {self.attempt} of job {self.id} {self.job.task_name} try={self.tries}>"


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
        if run.is_chunk:
            raise Unsupported(
                f"completing() ends the job, and {run!r} is a chunk, which calls {run.job.task_name} once an item; "
                f"enqueue its items by map()"
            )
        run._require_open("do all that belongs to it")  # noqa: SLF001
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


current: ContextVar[Run] = current_run


@interruptible
def current_job() -> Run:
    """Return the job that runs here; raises `LookupError` outside of a task's run."""
    try:
        return current.get()
    except LookupError:
        raise LookupError("no job is running here; call current_job() inside a task that a worker runs") from None


# ---- how a run begins, and how long its end is kept


class Limited(NamedTuple):
    """A task, the limit of its runs, and how long a run's end is kept, in seconds."""

    task: Task[..., Any]
    timeout: float
    keep_for: float


def with_limits(task: Task[..., Any], defaults: Defaults) -> Limited:
    """Return the task with its own limits, or the queue's where it has none."""
    timeout, ttl = task.options.timeout, task.options.result_ttl
    return Limited(task, defaults.timeout if timeout is None else timeout, defaults.result_ttl if ttl is None else ttl)


def begun(job: Claimed, limited: Limited, clock: Clock, recorder: Recorder, now: float) -> Run:
    """Return the run that begins now; a limit of the call counts before the task's."""
    task, timeout, keep_for = limited
    run = Run(job, task, clock, recorder, keep_for, now, now + (timeout if job.timeout is None else job.timeout))
    run.beaten = now
    if task.options.job_logs:
        run.log = RunLog(task.options.job_logs)
    return run


def kept_log(run: Run, outcome: Outcome) -> KeptLog | None:
    """Return what is to be stored of the log of a run that has ended so."""
    if run.log is None:
        return None
    run.log.end(outcome, run.clock.now())
    return run.log.kept(run.task.signature.codec)


def kept_for(run: Run, outcome: Outcome, defaults: Defaults) -> float:
    """Return how long to keep the job if it has ended now: one that is released may end as cancelled."""
    fails = isinstance(outcome, Failed) or (isinstance(outcome, Died) and run.job.deaths + 1 >= DEATH_LIMIT)
    return defaults.failed_ttl if fails else run.keep_for
