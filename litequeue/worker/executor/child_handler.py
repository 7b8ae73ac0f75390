"""The thread that has charge of one child process: starts it, hands it jobs, hears how they end. Knows no store."""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from subprocess import SubprocessError
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from litequeue.children.child_process import EXIT_SEEN, ChildProcess
from litequeue.children.log_records import handle
from litequeue.children.messages import (
    Answer,
    Begun,
    Called,
    Ended,
    Logged,
    NotLoaded,
    Ready,
    Stack,
    Start,
    travelling,
)
from litequeue.core.clock import SystemClock
from litequeue.core.current_run import current_app
from litequeue.core.logger import log
from litequeue.core.outcome import (
    Cancelled,
    Died,
    ErrorInfo,
    Failed,
    Outcome,
    Released,
    Retried,
    Settled,
    Snoozed,
    interrupted,
)
from litequeue.errors import Fenced
from litequeue.worker.executor.context import Run
from litequeue.worker.executor.execute import cut_short, written_off

if TYPE_CHECKING:
    from litequeue.children.child_process import Death
    from litequeue.core.records import Claimed
    from litequeue.worker.executor.child_work import ChildWork
    from litequeue.worker.executor.mailbox import Mailbox
    from litequeue.worker.executor.pool import Setup

START_WITHIN = 120.0  # seconds for a child to import the application
STOP_SIGNALS = (-9, -15)  # as exit codes
DIED = "ChildDied"  # the type of the error of a run whose process died


class Handler:
    """One place for a child. `run`: the one that it is at."""

    def __init__(self, slot: int, pool: ChildWork, setup: Setup, mailbox: Mailbox) -> None:
        self.slot = slot
        self._pool, self._setup, self._mailbox = pool, setup, mailbox
        self.is_up: bool = False  # its child is ready for jobs
        self.run: Run | None = None
        self.stack_told, self.stack_text = threading.Event(), ""
        self._lock = threading.Lock()
        self._wakeup = threading.Lock()
        self._wakeup.acquire()
        self._given_up = self._killed = self._begun = self._used_up = False
        self._child: ChildProcess | None = None
        self._starting: ChildProcess | None = None
        self._is_last = False  # no other child is started here
        self.untold = False  # the child was not told what is asked of its run: it did not read
        self._over = threading.Event()

    # ---- other threads

    @property
    def pid(self) -> int:
        """The number of the child process; 0: there is none."""
        child = self._child
        return 0 if child is None else child.pid

    @property
    def has_lost_child(self) -> bool:
        """Whether its child is gone."""
        child = self._child
        return child is not None and child.has_ended

    def call(self) -> None:
        """Let it look at the backlog, and after its child; one call is as good as two."""
        with suppress(RuntimeError):  # another thread has called it at the same moment
            if self._wakeup.locked():
                self._wakeup.release()

    def wait_for_call(self) -> None:
        """Wait for `call`."""
        self._wakeup.acquire()

    def wait_for_end(self, seconds: float) -> None:
        """Wait until it has ended, unless it is at a run."""
        if self.run is None:
            self._over.wait(seconds)

    def tell(self, message: object) -> bool:
        """Send a small message to the child, if it is there; False: it does not read just now. Never waits for it."""
        child = self._child
        if child is not None:
            with suppress(OSError, ValueError):
                return child.channel.offer(message)
        return True

    def stop_starting(self) -> None:
        """Start no child any more, and kill one that is starting."""
        with self._lock:
            self._is_last = True
            if self._starting is not None:
                self._starting.kill()

    def kill(self, run: Run) -> None:
        """Kill the child, if it is still at this run."""
        with self._lock:
            if self.run is run and self._child is not None:
                self._killed = True
                self._child.kill()

    def give_up(self, run: Run) -> bool:
        """Leave the run, and the child, which does not die, to themselves. False: the run has ended."""
        with self._lock:
            if self.run is not run:
                return False
            self._given_up = run.written_off = True
            return True

    # ---- its own thread

    def work(self) -> None:
        """Run jobs of the backlog until there will be none, or the child cannot be started."""
        if self._pool.app is not None:
            current_app.set(self._pool.app)
        try:
            while not self._given_up and self._has_child():
                job = self._pool.take()
                if job is None:
                    if not self._pool.rest(self):
                        break
                elif self._pool.comes_late(job):
                    self._pool.note_free()
                else:
                    self._one(job)
        finally:
            self.is_up = False
            if self._child is not None:
                self._child.end()
            if not self._given_up:
                self._pool.leave(self)
            self._over.set()

    def _has_child(self) -> bool:
        """See that its child is up: start one, or another in the place of one that is gone or has run enough."""
        child = self._child
        if child is not None and child.has_ended:
            death = child.take_end()
            log.warning("child process %d, which had no job, %s; another takes its place", child.pid, death)
            self._child, self.is_up = None, False
        return self._child is not None or self._start()

    def _start(self) -> bool:
        child = None
        try:
            child = self._new_child()
            if child is None:
                return False
            message = self._first_words(child)
        except (OSError, RuntimeError, MemoryError, SubprocessError) as error:  # no process, thread, descriptor
            if child is not None:
                self._starting = None
                child.take_end()
            self._pool.note_failed_start(str(error) or type(error).__name__)
            return False
        with self._lock:
            self._starting = None
            stopped = self._is_last
        if isinstance(message, Ready) and not stopped:
            self._child, self.is_up = child, True
            self._pool.note_started()
            return True
        why = "it" if child.ends_within(EXIT_SEEN) else f"it was not ready within {START_WITHIN:g} s, and"
        death = child.take_end()
        output = f"; it printed last:\n{death.output}\n" if death.output else ""
        if not stopped:
            self._pool.note_failed_start(f"{why} {death}{output}")
        return False

    def _new_child(self) -> ChildProcess | None:
        with self._lock:
            if self._is_last:
                return None
            self._starting = child = ChildProcess()
            return child

    def _first_words(self, child: ChildProcess) -> Any:
        until = child.started + START_WITHIN
        child.begin(self._pool.first_message())
        while isinstance(message := child.next(max(0.0, until - SystemClock.monotonic())), Logged):
            handle(message.fields)
        return message

    def _one(self, job: Claimed) -> None:
        child = self._child
        assert child is not None  # noqa: S101  for the type: `_has_child` has just seen to it
        child.output.begin()
        child.jobs += 1
        self._killed = self._begun = self._used_up = self.untold = False
        self.run = run = self._pool.begin(job, self.slot)
        outcome = self._outcome(child, run)
        with self._lock:
            self.run = None
        if self._given_up:
            self._mailbox.note_gone(job)
            return
        if outcome is None:
            self._pool.undo_begin(run, self.slot)
        else:
            self._pool.ends(run, outcome, self.slot)
        # killed: it has ended its run just before
        if self._child is not None and (self._used_up or self._killed or child.jobs == self._pool.max_jobs):
            self._child, self.is_up = None, False
            child.end()  # may take a while, in which another worker is to have the next job
        self._pool.note_free()

    def _outcome(self, child: ChildProcess, run: Run) -> Outcome | None:
        """Return how the run ended; None: it is to begin again, in another child."""
        try:
            outcome = self._ran(child, run)
        except Exception as error:  # else the job would be running for ever
            log.error("the handler of child process %d failed", child.pid, error=error)
            outcome = self._after_death(child, run)
        if outcome is None and (run.cancel_requested or run.release):
            return Cancelled() if run.cancel_requested else Released()
        return outcome

    def _ran(self, child: ChildProcess, run: Run) -> Outcome | None:
        """Have the child run the job; return how that ended, None: the child died before it had begun."""
        options = run.task.options
        left = self._pool.not_loaded_for(run.job.task)
        if left > 0:
            return Snoozed(run.clock.now() + left)
        soft = math.inf if options.soft_timeout is None else options.soft_timeout
        found = self._pool.found[run.job.task]
        self._send(child, Start(run.job, found, soft, run.keep_for))
        while True:
            message = child.next()
            match message:
                case Ended(outcome, memory):
                    self._note_memory(child, memory)
                    return outcome
                case Begun():
                    self._begun = True
                    self._pool.note_loaded(run.job.task)
                    if run.cancel_requested or run.release:  # asked for while the job was on its way
                        self._pool.ask(run)
                case NotLoaded(error):
                    self._used_up = True  # what could be imported of it stays as it is; another one tries anew
                    return Snoozed(run.clock.now() + self._pool.note_not_loaded(run, error))
                case Called():
                    self._perform(child, run, message)
                case Logged(fields, of):
                    kept = run.log if of == (run.job.id, run.job.attempt) else None  # a left thread logs for no job
                    handle(fields, None if kept is None else kept.add)
                case Stack(told):
                    self.stack_text = told
                    self.stack_told.set()
                case _:
                    return self._after_death(child, run)

    def _send(self, child: ChildProcess, message: object) -> None:
        """Send a message of any size; waits while the child does not read."""
        with suppress(OSError, ValueError):  # it is gone, which is seen next
            child.channel.send(message)

    def _note_memory(self, child: ChildProcess, memory: int | None) -> None:
        most = self._pool.max_memory
        if most is not None and memory is not None and memory > most:
            told = child.pid, memory / 1e6, most / 1e6
            log.info("child process %d holds %.0f MB, more than max_memory_per_child (%.0f MB): it is replaced", *told)
            self._used_up = True

    def _perform(self, child: ChildProcess, run: Run, called: Called) -> None:
        """Do what the run asks of the store, and answer."""
        value: Any = None
        error: BaseException | None = None
        try:
            value = self._called(run, called)
        except (Exception, Fenced) as raised:
            error = raised
        if called.number is not None:
            self._send(child, Answer(called.number, value, travelling(error)))
        elif isinstance(error, Fenced) and called.run == (run.job.id, run.job.attempt):
            self._pool.tell_lost(run)

    def _called(self, run: Run, called: Called) -> Any:
        _, of, method, arguments = called
        if of != (run.job.id, run.job.attempt):
            raise Fenced("the job that asks for this has ended; a thread of it goes on")
        recorder: Any = run.recorder
        if method in ("parameters_of", "handed_to", "write_emitted"):
            return getattr(recorder, method)(*arguments)
        if method == "note_success":  # it is on record, by `completing()`
            run.settled = True
            return None
        if method == "heartbeat":
            run.beaten = run.clock.monotonic()
            return recorder.heartbeat(run.job, *arguments, lambda: self._pool.tell_lost(run))
        if method == "emit":
            return recorder.emit(run.job, *arguments, lambda: self._pool.tell_lost(run))
        if method in ("note_progress", "charge"):
            return getattr(recorder, method)(run.job, *arguments)
        raise LookupError(method)

    def _after_death(self, child: ChildProcess, run: Run) -> Outcome | None:
        closed = not child.ends_within(EXIT_SEEN)
        death = child.take_end()
        self._child, self.is_up = None, False
        if self._given_up:
            return None
        if run.settled:
            return Settled()
        with self._lock:
            killed = self._killed
        if killed and (self._begun or run.timed_out):
            return _with_output(written_off(run), death)
        if not self._begun:
            if not killed:
                log.warning("child process %d %s before it had begun a job; another takes its place", child.pid, death)
            return None
        how = "closed its connection to the worker, and was killed" if closed else str(death)
        return _outcome_of(death, how, run, stops=self._pool.stops)


def _outcome_of(death: Death, how: str, run: Run, *, stops: bool) -> Outcome:
    """Return how the run has ended, which had begun. `how` its process died; `stops`: the worker does."""
    if stops and death.code in (None, *STOP_SIGNALS):
        return cut_short(run)  # a service manager kills what is left of a service that it stops
    if run.task.options.policy.at_most_once:
        return _with_output(Failed(interrupted(f"Its child process {how}")), death)
    return Died(ErrorInfo(DIED, f"its process {how}", _told(death)))


def _with_output(outcome: Outcome, death: Death) -> Outcome:
    """Return it with the last output of the process as its traceback."""
    if isinstance(outcome, (Failed, Retried)) and death.output:
        return replace(outcome, error=outcome.error._replace(traceback=_told(death)))
    return outcome


def _told(death: Death) -> str:
    return "its last output:\n" + death.output.replace("\0", "\\0") if death.output else ""
