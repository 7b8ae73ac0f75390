"""Child processes that run functions which alone can be killed. Knows jobs as values, and no store.

Each child has a thread here, its handler, which starts it, hands it one job at a time, and hears what becomes of it.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from litequeue.children.findable import found
from litequeue.children.messages import AskStack, Lost, Told
from litequeue.children.setup_message import first_message
from litequeue.core.current_run import current_app
from litequeue.core.duration import text
from litequeue.core.logger import log
from litequeue.worker.executor.child_handler import Handler
from litequeue.worker.executor.pool import Pool
from litequeue.worker.executor.pool import Setup as PoolSetup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from litequeue.children.messages import Found, Setup
    from litequeue.core.outcome import ErrorInfo, Outcome
    from litequeue.core.records import Claimed
    from litequeue.task import Task
    from litequeue.worker.executor.context import Run
    from litequeue.worker.executor.mailbox import Mailbox

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before another child is started after one that could not be
LOOK_EVERY = 1.0  # seconds between looks whether children that have no job are still there
LAST_WAIT = 6.0  # seconds for the children to end
LAST_WORD = 0.2  # seconds for a function to end when its worker stops, before its process is killed
STACK_WAIT = 0.3  # seconds for a child to say where it is


class Children(NamedTuple):
    """What a worker has its child processes do: how many there are, and when each ends. `place`: the queue's file."""

    size: int
    max_jobs: int | None
    max_memory: int | None
    place: str


class ChildPool(Pool):
    """Children, started as they are needed."""

    def __init__(self, children: Children, setup: PoolSetup, mailbox: Mailbox, *, first_slot: int) -> None:
        super().__init__(children.size, setup, mailbox)
        self._lock = threading.Lock()
        self._idle: list[Handler] = []
        self._handlers: dict[int, Handler] = {}
        self._slots = list(range(first_slot, first_slot + children.size))
        self._place = children.place
        self.found: dict[str, Found] = {}
        self.max_jobs: int | None = children.max_jobs
        self.max_memory: int | None = children.max_memory
        self._busy = 0
        self._pause = FIRST_PAUSE
        self._paused_until = self._looked_at = -math.inf
        self._stopping = False
        self.stops: bool = False  # the worker is being stopped
        self.app: str | None = current_app.get(None)
        self._not_loaded: dict[str, tuple[float, float]] = {}  # until when, and the pause after that, of tasks

    def learn(self, tasks: Mapping[str, Task[..., Any]]) -> None:
        """Learn where these tasks are found; raises `Unsupported` for one that no child can find."""
        self.found |= {name: found(task, self._place) for name, task in tasks.items()}

    def first_message(self) -> Setup:
        """Return what a child is told first."""
        tasks = tuple(dict.fromkeys(self.found.values()))
        return first_message(tasks, self._place, tells_memory=self.max_memory is not None)

    # ---- room

    @property
    def busy(self) -> int:
        """How many children run a job."""
        return self._busy

    @property
    def _usable(self) -> int:
        """How many children there can be just now."""
        if self._clock.monotonic() >= self._paused_until:
            return self.size
        return sum(handler.is_up for handler in list(self._handlers.values()))

    @property
    def free(self) -> int:
        """How many more jobs could begin at once, or once a child has started."""
        return self._usable - self.busy - len(self.backlog)

    def patient_until(self) -> float:
        """Return when the backlog will have waited for too long: not while a child is starting for it."""
        if any(not handler.is_up for handler in list(self._handlers.values())):
            return math.inf
        return super().patient_until()

    # ---- handlers

    def admit(self, job: Claimed, now: float) -> None:
        """Add a job to the backlog from any thread; a child without a job begins it, or the worker starts one."""
        self._put_first(job, now)
        with self._lock:
            called = self._call_idle(1)
        if not called:
            self._wake()

    def _staff(self, wanted: int) -> None:
        with self._lock:
            starting = sum(not handler.is_up for handler in self._handlers.values())
            short = len(self.backlog) - self._call_idle(wanted) - starting
            paused = self._clock.monotonic() < self._paused_until
            new = [] if paused else [self._new_handler() for _ in range(min(short, len(self._slots)))]
        for handler in new:
            try:
                threading.Thread(target=handler.work, name=f"litequeue-child-{handler.slot}", daemon=True).start()
            except RuntimeError as error:
                self.leave(handler)
                self.note_failed_start(str(error))

    def _call_idle(self, wanted: int) -> int:
        called = min(max(wanted, 0), len(self._idle))
        for _ in range(called):
            self._idle[-1].call()  # before it is taken out: a Ctrl-C between the two must not lose it
            self._idle.pop()
        return called

    def _new_handler(self) -> Handler:
        handler = Handler(self._slots.pop(0), self, self._setup, self._mailbox)
        self._handlers[handler.slot] = handler
        return handler

    def take(self) -> Claimed | None:
        """Take the next job of the backlog, for a child that is up."""
        with self._lock:
            self._busy += 1  # before it leaves the backlog
            try:
                return self.backlog.popleft()
            except IndexError:
                self._busy -= 1
                return None

    def note_free(self) -> None:
        """Note that a child has no job any more."""
        with self._lock:
            self._busy -= 1

    def rest(self, handler: Handler) -> bool:
        """Wait for more jobs; False: there will be none, or this handler is to end."""
        with self._lock:
            if self._stopping:
                return False
            if self.backlog:
                return True
            self._idle.append(handler)
        self._wake()
        handler.wait_for_call()
        with self._lock:
            if handler in self._idle:
                self._idle.remove(handler)
            return not self._stopping

    def leave(self, handler: Handler) -> None:
        """Note that the handler has ended."""
        with self._lock:
            if self._handlers.get(handler.slot) is handler:
                del self._handlers[handler.slot]
                self._slots.append(handler.slot)
        self._wake()

    def note_started(self) -> None:
        """Note that a child is ready: if others are needed, they are tried for again at once."""
        self._pause, self._paused_until = FIRST_PAUSE, -math.inf

    def note_failed_start(self, why: str) -> None:
        """Note that no child could be started, and start none for a while; its jobs go to other workers."""
        with self._lock:
            now = self._clock.monotonic()
            if now >= self._paused_until:  # else another one could not be started, either
                self._paused_until = now + self._pause
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
            left = self._paused_until - now
        log.error("no child process could be started: %s; trying again in %s", why, text(round(left, 2)))

    def not_loaded_for(self, task: str) -> float:
        """Return for how many seconds jobs of this task are not tried, because it could not be imported."""
        until, _ = self._not_loaded.get(task, (-math.inf, 0.0))
        return until - self._clock.monotonic()

    def note_loaded(self, task: str) -> None:
        """Note that the task could be imported."""
        self._not_loaded.pop(task, None)

    def note_not_loaded(self, run: Run, error: ErrorInfo) -> float:
        """Note that a job could not begin in a child, for which no job is to blame; return the pause."""
        task, now = run.job.task, self._clock.monotonic()
        with self._lock:
            until, pause = self._not_loaded.get(task, (-math.inf, FIRST_PAUSE))
            if now >= until:  # else another child has met the same
                self._not_loaded[task] = until, _ = now + pause, min(2 * pause, LONGEST_PAUSE)
        told = run.job.task_name, error.type, error.message, text(round(until - now, 1)), error.traceback.rstrip()
        log.error("%s cannot begin in a child process: %s: %s; trying again in %s\n%s", *told)
        return until - now

    def comes_late(self, job: Claimed) -> bool:
        """Whether the job's start counts against a rate, and comes too late for it."""
        return job.held is not None and self._is_late(job)

    def begin(self, job: Claimed, slot: int) -> Run:
        """Note that the job begins in this slot."""
        return self._begin(job, slot)

    def ends(self, run: Run, outcome: Outcome, slot: int) -> None:
        """Note how a run has ended."""
        self._end(run, outcome, slot)

    def undo_begin(self, run: Run, slot: int) -> None:
        """Undo `begin`: the child died before it had called the function."""
        self._process_lock.leave(slot)
        with self._lock:  # else another handler might begin it in between, and that run would be forgotten
            self._put_first(run.job, self._clock.monotonic())
            self._mailbox.running.pop((run.job.id, run.job.attempt), None)

    # ---- what the worker asks

    def watch(self) -> None:
        """Staff a backlog that no child is there for; let handlers see, now and then, which children have died."""
        if self.backlog and not any(not handler.is_up for handler in list(self._handlers.values())):
            self._staff(len(self.backlog))
        now = self._clock.monotonic()
        if now - self._looked_at >= LOOK_EVERY:
            self._looked_at = now
            for handler in list(self._idle):
                if handler.has_lost_child:
                    handler.call()
            for handler in list(self._handlers.values()):
                if handler.untold and (run := handler.run) is not None:
                    self.ask(run)

    def watch_in(self) -> float:
        """Return the seconds until children may be started again."""
        left = self._paused_until - self._clock.monotonic()
        return left if left > 0 else math.inf

    def ask(self, run: Run) -> None:
        """Tell the child that its run is to end, by a cancel or a release."""
        handler = self._handler_of(run)
        if handler is not None:
            handler.untold = not handler.tell(Told((run.job.id, run.job.attempt), run.cancel_requested, run.release))

    def tell_lost(self, run: Run) -> None:
        """Tell the child that another worker has its job."""
        handler = self._handler_of(run)
        if handler is not None:
            handler.tell(Lost((run.job.id, run.job.attempt)))

    def interrupt(self, run: Run) -> bool:
        """Kill the child of this run; one that is only released is told first, and has a moment to end."""
        handler = self._handler_of(run)
        if handler is None:
            return True
        if run.timed_out or self._clock.monotonic() - run.interrupted >= LAST_WORD:
            handler.kill(run)
        else:
            handler.tell(Told((run.job.id, run.job.attempt), run.cancel_requested, run.release, ends=True))
        return True

    def stack(self, run: Run) -> Callable[[], str]:
        """Return what asks the child where it is."""
        handler = self._handler_of(run)
        if handler is None:
            return str

        def ask() -> str:
            if handler.run is not run:
                return ""
            handler.stack_told.clear()
            handler.tell(AskStack())
            if handler.stack_told.wait(STACK_WAIT):
                return handler.stack_text
            return f"  in child process {handler.pid}, which does not answer: it may be in a call of C code"

        return ask

    def _let_go(self, run: Run) -> bool:
        handler = self._handler_of(run)
        if handler is None or not handler.give_up(run):
            return False
        self._keep(run)
        self.leave(handler)
        self.note_free()
        return True

    def note_stop(self) -> None:
        """Note that the worker has begun to stop: a child that is killed from now on is blamed for nothing."""
        self.stops = True

    def stop(self) -> None:
        """End the children that have no job, and wait for them; the others end after their jobs."""
        with self._lock:
            self._stopping = True
            idle, self._idle = self._idle, []
        handlers = list(self._handlers.values())
        for handler in handlers:
            handler.stop_starting()
        for handler in idle:
            handler.call()
        over = self._clock.monotonic() + LAST_WAIT
        for handler in handlers:
            handler.wait_for_end(max(0.0, over - self._clock.monotonic()))

    def _handler_of(self, run: Run) -> Handler | None:
        return next((handler for handler in list(self._handlers.values()) if handler.run is run), None)

    def _wake(self) -> None:
        self._mailbox.wake()
