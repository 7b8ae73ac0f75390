"""A run's own writes in a child process: the worker performs them. Knows no store.

`completing()` alone opens the queue's file here: its block holds the caller's rows.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from litequeue.children.messages import Answer, Called
from litequeue.errors import Fenced, StoreError, Unsupported

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from litequeue.children.channel import ChildsChannel
    from litequeue.core.compositions import Handed
    from litequeue.core.records import Claimed
    from litequeue.task import Task


class RemoteRecorder:
    """Calls the worker's recorder. `place`: the file in which the worker's jobs are."""

    def __init__(self, channel: ChildsChannel, place: str) -> None:
        self._channel, self._place = channel, place
        self._numbers = itertools.count(1)
        self._open: dict[int, Future[Any]] = {}
        self._lost: Callable[[], None] | None = None
        self._job: Claimed | None = None  # of the run
        self._own: Any = None  # this process's own store, in the block of `completing()`
        self.task: Task[..., Any] | None = None

    def answered(self, answer: Answer) -> None:
        """Hand an answer to the one who waits for it."""
        waiting = self._open.pop(answer.number, None)
        # a coroutine that awaits it may have been cancelled; from here on it cannot be
        if waiting is None or not waiting.set_running_or_notify_cancel():
            return
        if answer.error is not None:
            waiting.set_exception(answer.error)
        else:
            waiting.set_result(answer.value)

    def lost(self, run: tuple[str, int]) -> None:
        """Note that another worker has the job of this run."""
        job = self._job
        if self._lost is not None and job is not None and (job.id, job.attempt) == run:
            self._lost()

    def begin(self, task: Task[..., Any], job: Claimed) -> None:
        """Another run begins."""
        self._lost, self._own, self.task, self._job = None, None, task, job

    def end(self) -> None:
        """The run has ended: a thread that it has left behind may ask for nothing any more."""
        self._job = None

    def _running(self, job: Claimed | None) -> tuple[str, int]:
        running = self._job
        if running is None or (job is not None and job is not running):
            raise Fenced("the job that asks for this has ended; a thread of it goes on")
        return running.id, running.attempt

    def _call(self, job: Claimed | None, method: str, *arguments: object) -> Future[Any]:
        waiting: Future[Any] = Future()
        number = next(self._numbers)
        run = self._running(job)
        self._open[number] = waiting
        try:
            self._channel.send(Called(number, run, method, arguments), wait=False)
        except OSError as error:
            del self._open[number]
            raise StoreError(f"the worker of this child process is gone: {error}") from error
        return waiting

    def parameters_of(self, stored_name: str) -> tuple[str, ...] | None:
        """See `Recorder`."""
        found: tuple[str, ...] | None = self._call(None, "parameters_of", stored_name).result()
        return found

    async def aparameters_of(self, stored_name: str) -> tuple[str, ...] | None:
        """See `Recorder`."""
        found: tuple[str, ...] | None = await asyncio.wrap_future(self._call(None, "parameters_of", stored_name))
        return found

    def handed_to(self, job_id: str) -> Handed:
        """See `Recorder`."""
        found: Handed = self._call(None, "handed_to", job_id).result()
        return found

    async def ahanded_to(self, job_id: str) -> Handed:
        """See `Recorder`."""
        found: Handed = await asyncio.wrap_future(self._call(None, "handed_to", job_id))
        return found

    def note_progress(self, job: Claimed, progress: str) -> bool:
        """See `Recorder`."""
        if self._own is not None:  # the worker would wait for the block's end, as this waited for the worker
            return bool(self._own.note_progress(job, progress))
        return bool(self._call(job, "note_progress", progress).result())

    async def anote_progress(self, job: Claimed, progress: str) -> bool:
        """See `Recorder`."""
        if self._own is not None:
            return bool(await self._own.anote_progress(job, progress))
        return bool(await asyncio.wrap_future(self._call(job, "note_progress", progress)))

    def charge(self, job: Claimed, limit: str, used: int, before: int | None) -> None:
        """See `Recorder`."""
        if self._own is not None:
            self._own.charge(job, limit, used, before)
        else:
            self._call(job, "charge", limit, used, before).result()

    async def acharge(self, job: Claimed, limit: str, used: int, before: int | None) -> None:
        """See `Recorder`."""
        if self._own is not None:
            await self._own.acharge(job, limit, used, before)
        else:
            await asyncio.wrap_future(self._call(job, "charge", limit, used, before))

    def emit(self, job: Claimed, value: bytes, lost: Callable[[], None]) -> None:
        """See `Recorder`."""
        run = self._running(job)
        self._lost = lost
        if self._own is not None:
            self._own.emit(job, value, lost)
        else:
            self._channel.send(Called(None, run, "emit", (value,)))

    def heartbeat(self, job: Claimed, details: bytes | None, lost: Callable[[], None]) -> None:
        """See `Recorder`. The worker hears it also in the block of `completing()`: it has the time limit."""
        run = self._running(job)
        self._lost = lost
        self._channel.send(Called(None, run, "heartbeat", (details,)))

    @contextmanager
    def completing(
        self, job: Claimed, result: bytes, keep_for: float, then: Callable[[], None]
    ) -> Generator[Any, None, None]:
        """See `Recorder`. What was emitted before goes into the file before the block has it, the rest with its end."""
        runs = self._runs()
        self._call(job, "write_emitted").result()
        self._own = runs
        try:
            with runs.completing(job, result, keep_for, partial(self._tell_success, then)) as db:
                yield db
        finally:
            self._leave(runs)

    @asynccontextmanager
    async def acompleting(
        self, job: Claimed, result: bytes, keep_for: float, then: Callable[[], None]
    ) -> AsyncGenerator[Any, None]:
        """See `Recorder`."""
        runs = self._runs()
        await asyncio.wrap_future(self._call(job, "write_emitted"))
        self._own = runs
        try:
            async with runs.acompleting(job, result, keep_for, partial(self._tell_success, then)) as db:
                yield db
        finally:
            self._leave(runs)

    def _tell_success(self, then: Callable[[], None]) -> None:
        """Note the commit here, and tell the worker: however this process ends, the job has succeeded."""
        then()
        with suppress(OSError, Fenced):
            self._channel.send(Called(None, self._running(None), "note_success", ()))

    def _leave(self, runs: Any) -> None:
        """Write what was emitted in a block that was rolled back: what is emitted from now on goes by the worker."""
        self._own = None
        with suppress(StoreError):
            runs.write_emitted()

    def _runs(self) -> Any:
        """Return the part of this process's own store; refuse one of another file than the worker's."""
        queue: Any = None if self.task is None else self.task.owner
        if queue is None or os.path.realpath(queue.path) != os.path.realpath(self._place):
            there = "no file" if queue is None else str(queue.path)
            raise Unsupported(
                f"completing(): in this child process the task's queue is on {there}, and its worker's is on "
                f"{self._place}; a path must be the same wherever the module is imported"
            )
        return queue.engine.runs
