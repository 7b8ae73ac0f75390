"""Run one claimed job here with all of litequeue's rules, however it was delivered. Knows no store, pool or worker.

An engine whose jobs are delivered by another system calls `run_one` or `arun_one` for each, and records the `Ended`.
"""

from __future__ import annotations

import asyncio
import math
import threading
from typing import TYPE_CHECKING, NoReturn

from litequeue.core.background import in_thread
from litequeue.core.engine import Feature, Home, unsupported
from litequeue.core.logger import about, log
from litequeue.core.outcome import Ended, Outcome
from litequeue.errors import Unsupported
from litequeue.worker.executor.context import Recorder, Run, begun, kept_for, with_limits
from litequeue.worker.executor.execute import aexecute, end_copy, work_here, written_off
from litequeue.worker.executor.report import report
from litequeue.worker.executor.stoppable import TELL_AGAIN, StoppableTask, StoppableThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.core.records import Claimed

WATCH_EVERY = 0.5  # seconds between two questions whether the job's cancel was requested


def never() -> bool:
    """No cancel is ever requested."""
    return False


def run_one(home: Home, job: Claimed, recorder: Recorder, cancelled: Callable[[], bool] = never) -> Ended:
    """Run the job in this thread, and return how it ended; never raises for what the function did.

    `cancelled`: asked every 0.5 s, in another thread, whether the job's cancel was requested; a plain function sees
    it in `current_job().cancelled`. A coroutine function is run on a loop of its own. A function that does not stop
    when told keeps this thread. Raises `UnknownTask`, before anything has begun.
    """
    limited = with_limits(home.tasks[job.task_name], home.defaults)
    if limited.task.is_coroutine:
        return asyncio.run(arun_one(home, job, recorder, cancelled))
    work_here()
    run = begun(job, limited, home.clock, recorder, home.clock.monotonic())
    thread, over = StoppableThread(threading.get_ident()), threading.Event()
    # not before it has begun: an interrupt would hit this function
    watch = _Watch(run, cancelled, lambda run: thread.run is run and thread.stop(run), on_cancel=False)
    if watch.pause() is not None:
        threading.Thread(target=watch.until, args=(over,), name="litequeue-limit", daemon=True).start()
    try:
        outcome = thread.execute(run)
    finally:
        over.set()
    end_copy()
    return _ended(home, run, outcome)


async def arun_one(home: Home, job: Claimed, recorder: Recorder, cancelled: Callable[[], bool] = never) -> Ended:
    """Async twin of `run_one`: a coroutine function is run on this loop, and cancelled when its cancel was requested.

    `cancelled` is then asked on the loop, and must not block. A plain function is run in a thread of its own. When the
    one who awaits this is cancelled, the coroutine is too, and the run has no end that counts.
    """
    limited = with_limits(home.tasks[job.task_name], home.defaults)
    if not limited.task.is_coroutine:
        return await in_thread(lambda: run_one(home, job, recorder, cancelled))
    work_here()
    run = begun(job, limited, home.clock, recorder, home.clock.monotonic())
    task = StoppableTask(aexecute(run), loop=asyncio.get_running_loop(), name=job.task_name)
    watch = _Watch(run, cancelled, lambda _: task.cancel() or True, on_cancel=True)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=watch.pause())
            watch.look()
    except asyncio.CancelledError:
        run.release = True
        task.cancel()
        await asyncio.wait({task})
        raise
    return _ended(home, run, written_off(run) if task.cancelled() else task.result())


def _ended(home: Home, run: Run, outcome: Outcome) -> Ended:
    report(run, outcome, home.clock.monotonic() - run.started)
    return Ended(run.job, outcome, home.clock.now(), kept_for(run, outcome, home.defaults))


class _Watch:
    """Looks at one run now and then, and tells it to stop: at its limit, or when its cancel is requested."""

    def __init__(
        self, run: Run, cancelled: Callable[[], bool], stop: Callable[[Run], bool], *, on_cancel: bool
    ) -> None:
        self._run, self._cancelled, self._stop, self._on_cancel = run, cancelled, stop, on_cancel
        self._look_at = run.due
        self._ask_at = math.inf if cancelled is never else run.started + WATCH_EVERY

    def pause(self) -> float | None:
        """Return the seconds until the next look; None: none is needed."""
        at = min(self._look_at, self._ask_at)
        return None if at == math.inf else max(0.0, min(at - self._run.clock.monotonic(), threading.TIMEOUT_MAX))

    def until(self, over: threading.Event) -> None:
        """Look until the run is over."""
        while not over.wait(self.pause()):
            self.look()

    def look(self) -> None:
        """Ask, and tell the run, if it is time."""
        run, now = self._run, self._run.clock.monotonic()
        if now >= self._look_at and run.interrupted == math.inf and now < (due := run.due):
            self._look_at = due  # it has given a sign of life
        if now >= self._look_at:
            run.is_silent = run.is_silent or (not run.timed_out and now < run.deadline)
            run.timed_out, run.interrupted = True, min(run.interrupted, now)
            self._look_at = math.inf if self._stop(run) else now + TELL_AGAIN
        if now >= self._ask_at:
            self._ask_at = now + WATCH_EVERY
            if self._is_cancelled():
                run.cancel_requested, self._ask_at = True, math.inf
                if self._on_cancel:
                    self._stop(run)

    def _is_cancelled(self) -> bool:
        try:
            return self._cancelled()
        except Exception as error:  # the limit must be watched all the same
            job = self._run.job
            log.warning("%s[%s]: no answer whether it is cancelled: %s", job.task_name, job.id, error, extra=about(job))
            return False


class NoRecords:
    """A `Recorder` for an engine that keeps no progress and shares no transaction: `completing()` is refused."""

    def __init__(self, engine: str) -> None:
        self._engine = engine

    def parameters_of(self, stored_name: str) -> None:
        """None is on record."""

    async def aparameters_of(self, stored_name: str) -> None:
        """Async twin of `parameters_of`."""

    def handed_to(self, job_id: str) -> NoReturn:
        """Raise `Unsupported`."""
        raise Unsupported(f"job {job_id} takes the result of another one, which engine {self._engine!r} does not keep")

    async def ahanded_to(self, job_id: str) -> NoReturn:
        """Async twin of `handed_to`."""
        self.handed_to(job_id)

    def note_progress(self, job: Claimed, progress: str) -> bool:  # noqa: ARG002  nothing keeps it
        """Drop it."""
        return False

    async def anote_progress(self, job: Claimed, progress: str) -> bool:  # noqa: ARG002
        """Async twin of `note_progress`."""
        return False

    def heartbeat(self, *_arguments: object) -> None:
        """Nothing keeps its details."""

    def charge(self, *_arguments: object) -> NoReturn:
        """Raise `Unsupported`."""
        raise unsupported(self._engine, Feature.LIMITS)

    async def acharge(self, *_arguments: object) -> NoReturn:
        """Raise `Unsupported`."""
        raise unsupported(self._engine, Feature.LIMITS)

    def emit(self, *_arguments: object) -> NoReturn:
        """Raise `Unsupported`."""
        raise unsupported(self._engine, Feature.STREAMS)

    def completing(self, *_arguments: object) -> NoReturn:
        """Raise `Unsupported`."""
        raise unsupported(self._engine, Feature.COMPLETING)

    def acompleting(self, *_arguments: object) -> NoReturn:
        """Raise `Unsupported`."""
        raise unsupported(self._engine, Feature.COMPLETING)
