"""Runs the jobs of a child process: functions in its main thread, coroutines on a loop there. Knows no store."""

from __future__ import annotations

import asyncio
import math
import os
import queue
import signal
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from litequeue.children.messages import Answer, AskStack, Begun, Ended, Found, Lost, NotLoaded, Stack, Start, Told
from litequeue.core.clock import SystemClock
from litequeue.core.retry import describe
from litequeue.ipc.this_process import resident_memory
from litequeue.worker.child.loading import load
from litequeue.worker.child.one_coroutine import run_on
from litequeue.worker.child.recorder import RemoteRecorder
from litequeue.worker.executor.context import Limited, Run, begun
from litequeue.worker.executor.execute import aexecute, end_copy, work_here, written_off
from litequeue.worker.executor.stacks import of_task, of_thread
from litequeue.worker.executor.stoppable import TELL_AGAIN, StoppableTask, StoppableThread

if TYPE_CHECKING:
    from litequeue.children.channel import ChildsChannel
    from litequeue.children.messages import Setup
    from litequeue.core.outcome import Outcome
    from litequeue.task import Task

LONGEST_STACK = 6000  # bytes


class Runner:
    """The main thread runs jobs; another one, in `listen`, hears what the worker says meanwhile."""

    def __init__(self, channel: ChildsChannel, setup: Setup) -> None:
        self._channel, self._setup = channel, setup
        self._starts: queue.SimpleQueue[Start | None] = queue.SimpleQueue()
        self._recorder = RemoteRecorder(channel, setup.place)
        self._thread = StoppableThread(threading.get_ident())
        self._tasks: dict[Found, Task[..., Any]] = {}
        self._clock = SystemClock()
        self._run: Run | None = None
        self._coroutine: StoppableTask | None = None
        self._stop_at = math.inf  # by the monotonic clock
        self._is_ending = False  # the worker has said that the run is to end now
        self._is_coming = False  # a run was heard of, and has not begun
        self._heeded = 0  # for how many reasons the coroutine was cancelled
        work_here()

    def task_of(self, found: Found) -> Task[..., Any]:
        """Return the task; raises what its module raises when it is imported."""
        task = self._tasks.get(found)
        if task is None:
            task = self._tasks[found] = load(found)
        return task

    # ---- the main thread

    def work(self) -> None:
        """Run jobs until there will be none. Raises `OSError` once the worker is gone."""
        while (start := self._starts.get()) is not None:
            self._one(start)

    def _one(self, start: Start) -> None:
        try:
            task = self.task_of(start.found)
            loop = asyncio.new_event_loop() if task.is_coroutine else None
        except BaseException as error:
            self._is_coming = False
            self._channel.send(NotLoaded(describe(error)))
            return
        limited = Limited(task, start.soft, start.keep_for)
        job = start.job
        run = begun(job, limited, self._clock, self._recorder, self._clock.monotonic())
        run.deadline = run.started + start.soft  # `timeout`, of the call too, is the worker's: it kills
        self._recorder.begin(task, job)
        self._run, self._stop_at, self._is_ending, self._is_coming = run, run.deadline, False, False
        self._heeded = 0
        self._channel.send(Begun())  # and wait: the function may kill this process at once
        outcome = self._thread.execute(run) if loop is None else run_on(loop, self._arun(run))
        self._run, self._coroutine, self._stop_at = None, None, math.inf
        self._recorder.end()
        end_copy()
        _flush()
        self._channel.send(Ended(outcome, resident_memory() if self._setup.tells_memory else None))

    async def _arun(self, run: Run) -> Outcome:
        loop = asyncio.get_running_loop()
        task = StoppableTask(aexecute(run), loop=loop, name=run.job.task_name)
        self._coroutine = task
        self._cancel(task, run)
        await asyncio.wait({task})
        outcome: Outcome = written_off(run) if task.cancelled() else task.result()
        return outcome

    # ---- the thread that listens

    def listen(self) -> None:
        """Hear the worker until it closes its end, or is gone."""
        try:
            while True:
                if self._channel.waits(self._pause()):
                    self._hear(self._channel.receive())
                else:
                    self._stop_if_due()
        except (EOFError, OSError):
            if self._run is not None:
                _end_all()  # the worker is gone, and another one has the job
            self._starts.put(None)
        except BaseException:  # nobody would hear the worker any more, such as without memory
            traceback.print_exc()
            _end_all()

    def _pause(self) -> float | None:
        return None if self._stop_at == math.inf else max(0.0, self._stop_at - self._clock.monotonic())

    def _hear(self, message: Any) -> None:
        match message:
            case Start():
                self._is_coming = True
                if message.soft != math.inf:  # else nothing wakes this thread when it is over
                    self._stop_at = self._clock.monotonic() + message.soft
                self._starts.put(message)
            case Told(key, cancelled, released, ends):
                run = self._run
                if run is not None and (run.job.id, run.job.attempt) == key:
                    run.cancel_requested, run.release = run.cancel_requested or cancelled, run.release or released
                    if ends:
                        self._is_ending, self._stop_at = True, self._clock.monotonic()
                    self._end_coroutine()
            case Lost(key):
                self._recorder.lost(key)
            case Answer():
                self._recorder.answered(message)
            case AskStack():
                run = self._run
                # never a wait here: the worker may be waiting for this thread to read
                where = "" if run is None else self._where()
                self._channel.offer(Stack(where.encode(errors="replace")[-LONGEST_STACK:].decode(errors="ignore")))

    def _end_coroutine(self) -> None:
        task, run = self._coroutine, self._run
        if task is not None and run is not None:
            with suppress(RuntimeError):  # its loop has just ended
                task.get_loop().call_soon_threadsafe(self._cancel, task, run)

    def _cancel(self, task: StoppableTask, run: Run) -> None:
        """Cancel the coroutine, in its thread, once for each reason: what it does then must not be cut short."""
        reasons = run.cancel_requested + run.release + run.timed_out + self._is_ending
        if reasons > self._heeded:
            self._heeded = reasons
            task.cancel()

    def _where(self) -> str:
        task, ident = self._coroutine, self._thread.ident
        return of_thread(ident) if task is None else of_task(task, ident)

    def _stop_if_due(self) -> None:
        """Raise `JobTimeout` in the function, or cancel the coroutine: the soft limit is over, or it is told to."""
        is_coming = self._is_coming  # first: it is over when there is a run
        run, now = self._run, self._clock.monotonic()
        if run is None:
            self._stop_at = now + TELL_AGAIN if is_coming else math.inf
        elif now < run.deadline and not self._is_ending:  # it has begun later than was thought
            self._stop_at = run.deadline
        else:
            run.timed_out = now >= run.deadline
            self._stop_at = math.inf if self._stopped(run) else now + TELL_AGAIN

    def _stopped(self, run: Run) -> bool:
        """Tell the function to stop; False: not now, because it is in our own work, or about to be called."""
        if run.task.is_coroutine:
            self._end_coroutine()
            return True
        return self._thread.run is run and self._thread.stop(run)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the application may have put anything there
            stream.flush()


def _end_all() -> None:
    """End this process, and what it has started."""
    if hasattr(os, "killpg"):
        with suppress(OSError):
            if os.getpgrp() == os.getpid():
                os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)
