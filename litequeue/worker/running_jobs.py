"""The jobs that run in this process now: begin, limit, cancel, end. Knows tasks and pools, and no claim."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from litequeue.core.duration import text
from litequeue.core.logger import log
from litequeue.core.outcome import Cancelled, Ended, Failed, Outcome, Released, Retried, Settled, Snoozed, Succeeded
from litequeue.ipc.dispatch import handed
from litequeue.job import Claimed
from litequeue.worker.claim_size import HORIZON
from litequeue.worker.executor.coroutine_pool import CoroutinePool
from litequeue.worker.executor.execute import Run, end_copy, work_here, written_off
from litequeue.worker.executor.thread_pool import ThreadPool

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping

    from litequeue.core.clock import Clock
    from litequeue.ipc.notifier import Listener
    from litequeue.ipc.process_lock import ProcessLock
    from litequeue.task import Task
    from litequeue.worker.executor.execute import Recorder
    from litequeue.worker.executor.pool import Pool

LATE_GRACE = 5.0  # seconds that a run told to stop may take to do so
TELL_AGAIN = 0.005  # seconds until a run that could not be stopped just now is told again
SHORT_LIMIT = 1.5  # seconds; the worker looks more often than that by itself
LARGEST_SETTLE = 1000


class Limits(NamedTuple):
    """What holds for tasks that say nothing themselves, in seconds."""

    timeout: float
    result_ttl: float
    failed_ttl: float


class RunningJobs:
    """The claimed jobs of one worker, in line and running, until their ends are taken away to be settled."""

    def __init__(
        self,
        tasks: Mapping[str, Task[..., Any]],
        limits: Limits,
        *,
        threads: int,
        coroutines: int,
        loop: asyncio.AbstractEventLoop | None,
        clock: Clock,
        recorder: Recorder,
        process_lock: ProcessLock,
        wake: Callable[[], None],
        listener: Listener,
        settle: Callable[[Ended], list[Ended] | None],
    ) -> None:
        work_here()
        self.plain: frozenset[str] = frozenset(name for name, task in tasks.items() if not task.is_coroutine)
        self.ended: deque[Ended] = deque()
        self.cut_short: int = 0  # runs that had begun and were put back
        self.left: int = 0  # runs that do not stop, and are counted on no more
        self.running: dict[tuple[str, int], Run] = {}  # by id and attempt: after a death told too soon there are two
        self._tasks = {name: _with_limits(task, limits) for name, task in tasks.items()}
        self._limits = limits
        self._clock, self._recorder, self._process_lock, self._wake = clock, recorder, process_lock, wake
        self._check_at = math.inf
        self._settle = settle
        self.worker: int = 0  # its number in the file
        self._accepting = threading.RLock()
        self._closed, self._last_handed, self._handed = False, 0, 0
        self._settled: deque[tuple[Ended, list[Ended]]] = deque()
        calls = self._begin, self._end, wake
        self._threads = ThreadPool(threads, *calls, listener, self._receive)
        self._coroutines = CoroutinePool(coroutines, *calls, first_slot=threads, loop=loop, process_lock=process_lock)
        self._coroutines.prepare(expected=len(self.plain) < len(tasks))
        self._pools: tuple[Pool, ...] = (self._threads, self._coroutines)

    # ---- room and idleness

    def room(self, kind: frozenset[str]) -> int:
        """How many more jobs of this kind of task, plain or coroutine, to claim now."""
        return (self._threads if kind is self.plain else self._coroutines).room()

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits in line. What has ended is in `ended` before it counts here no more."""
        # in the order in which jobs move on
        return any(pool.line or pool.busy for pool in self._pools) or bool(self.running)

    def due_in(self) -> float:
        """Seconds until something here wants to be looked at."""
        lines = [pool for pool in self._pools if pool.line]
        if self.ended:
            return HORIZON if lines else 0.0
        return min([self._check_at, *(pool.patient_until() for pool in lines)]) - self._clock.monotonic()

    # ---- begin and end

    def start(self, claimed: list[Claimed]) -> None:
        """Begin these jobs, or put them in line."""
        now = self._clock.monotonic()
        plain = [job for job in claimed if job.task in self.plain]
        if plain:
            self._threads.start(plain, now)
        if len(plain) < len(claimed):
            self._coroutines.start([job for job in claimed if job.task not in self.plain], now)

    # ---- what is handed over

    def post_a_sentry(self) -> None:
        """Be ready for a job that is handed over."""
        self._threads.post_a_sentry()
        if len(self.plain) < len(self._tasks):
            self._coroutines.warm()

    def receive_waiting(self) -> None:
        """Take in what came while every thread was at work."""
        self._threads.receive_waiting()

    def accept(self, worker: int, job: Claimed) -> bool:
        """Begin a job that was claimed for that worker as it was stored; from any thread.

        True, also of one that is not begun: it is known already, or is given back when that worker signs off.
        """
        with self._accepting:
            if self._is_news(worker, job):
                self._pool_of(job).admit(job, self._clock.monotonic())
        return True

    def _receive(self, message: bytes) -> None:
        """The same, in the sentry's thread, which begins a plain function itself."""
        found = handed(message)
        if found is None:
            return
        worker, job = found
        with self._accepting:
            if self._is_news(worker, job):
                self._pool_of(job).accept(job, self._clock.monotonic())

    def _is_news(self, worker: int, job: Claimed) -> bool:
        """Nothing is begun twice, or late: of what is handed to us each id is larger than the one before.

        Whatever was given back unseen counts as seen.
        """
        number = int(job.id)
        if self._closed or worker != self.worker or number <= self._last_handed or job.task not in self._tasks:
            return False
        self._last_handed, self._handed = number, self._handed + 1
        return True

    def accept_no_more(self) -> None:
        """What is handed over from now on is given back when this worker signs off."""
        with self._accepting:
            self._closed = True

    def take_notes(self) -> tuple[int, list[tuple[Ended, list[Ended]]]]:
        """Take away how many jobs were accepted, and which ends are settled already, with those that were lost."""
        with self._accepting:
            count, self._handed = self._handed, 0
        return count, [self._settled.popleft() for _ in range(len(self._settled))]

    def release(self, jobs: Iterable[Claimed]) -> None:
        """Give back jobs that have not begun."""
        now, keep_for = self._clock.now(), self._limits.result_ttl  # for those whose cancel was asked for meanwhile
        self.ended.extend(Ended(job, Released(), now, keep_for) for job in jobs)

    def release_unheard(self, jobs: Iterable[Claimed]) -> None:
        """The same of jobs that stand in the file as ours; should the word of one come yet, it is too late."""
        with self._accepting:
            known = self.known()
            unheard = [job for job in jobs if (job.id, job.attempt) not in known]
            self._last_handed = max([self._last_handed, *(int(job.id) for job in unheard)])
            self.release(unheard)

    def known(self) -> set[tuple[str, int]]:
        """What was claimed and has not been settled, as (id, attempt)."""
        # in the order in which jobs move on, so that one that does meanwhile is seen
        jobs = [job for pool in self._pools for job in list(pool.line)]
        jobs += [run.job for run in list(self.running.values())]
        jobs += [end.job for end in list(self.ended)]
        return {(job.id, job.attempt) for job in jobs}

    def begun(self) -> set[str]:
        """What has begun and has not been settled, as it is noted in the process lock."""
        jobs = [run.job for run in list(self.running.values())]
        jobs += [end.job for end in list(self.ended) if end.outcome != Released()]
        return {f"{job.id}:{job.attempt}" for job in jobs}

    def forget_backlog(self) -> None:
        """Let go of whatever has not begun, because others have it already."""
        for pool in self._pools:
            pool.withdraw()

    def release_backlog(self) -> None:
        """Give back whatever has not begun."""
        for pool in self._pools:
            self.release(pool.withdraw())

    def take_ended(self) -> list[Ended]:
        """Take away ends to settle, at most a transaction's worth."""
        take = self.ended.popleft
        return [take() for _ in range(min(len(self.ended), LARGEST_SETTLE))]

    def keep_ended(self, ended: list[Ended]) -> None:
        """Put ends back that could not be settled."""
        self.ended.extendleft(reversed(ended))

    def _begin(self, job: Claimed, slot: int) -> Run:
        task, timeout, keep_for = self._tasks[job.task]
        now = self._clock.monotonic()
        over = now + (timeout if job.timeout is None else job.timeout)
        run = Run(job, task, self._clock, self._recorder, keep_for, now, over)
        self._process_lock.enter(slot, f"{job.id}:{job.attempt}")
        self.running[job.id, job.attempt] = run
        if over < self._check_at:
            self._check_at = over
            if over - now < SHORT_LIMIT:
                self._wake()
        return run

    def _end(self, run: Run, outcome: Outcome, slot: int, pool: Pool) -> None:
        """Note an end, and wake the loop when there is enough to settle, or nothing else to come."""
        line, span = pool.line, self._clock.monotonic() - run.started
        if span > 20e-6:  # no fork takes less
            end_copy()
        self._process_lock.leave(slot)
        end = self._noted(run, outcome, pool, span)
        if not line and self._is_alone(pool) and type(outcome) is Succeeded:
            self._settle_alone(end, pool)
        else:
            job = run.job  # not run.id: a property costs, and this is done for every job
            self.ended.append(end)  # before it leaves `running`: what is in neither is put back as unheard
            self.running.pop((job.id, job.attempt), None)
            if not line or len(self.ended) >= pool.claim_size.batch:
                pool.wake()
        self._report(run, outcome, span)

    def _is_alone(self, pool: Pool) -> bool:
        """Whether the run that ends in this thread is all there is."""
        return pool is self._threads and not self.ended and len(self.running) == 1

    def _settle_alone(self, end: Ended, pool: Pool) -> None:
        """Settle the only run here and now, in its thread: whoever waits for it need not wait for the loop."""
        lost = self._settle(end)
        if lost is None:
            self.ended.append(end)
        else:
            self._settled.append((end, lost))
        self.running.pop((end.job.id, end.job.attempt), None)
        pool.wake()

    def _noted(self, run: Run, outcome: Outcome, pool: Pool, span: float) -> Ended:
        pool.claim_size.note(span)
        kept = run.keep_for
        if type(outcome) is not Succeeded:  # most are, and are asked no more
            if run.release and isinstance(outcome, Released):
                self.cut_short += 1
            # what comes back ends as cancelled if that was asked for meanwhile
            kept = self._limits.failed_ttl if isinstance(outcome, Failed) else kept
        return Ended(run.job, outcome, self._clock.now(), kept)

    def _report(self, run: Run, outcome: Outcome, span: float) -> None:
        """Log an end. When it is noted, and not before: a handler is the application's, and may stand still."""
        if type(outcome) in (Failed, Retried) or log.is_enabled_for(logging.INFO):
            _log_end(run, outcome, span)

    # ---- limits and cancels

    def check(self) -> None:
        """Stop runs whose time is over, write off those that do not stop, give back a line that stands still."""
        now = self._clock.monotonic()
        for pool in self._pools:
            if pool.line and now > pool.patient_until():
                pool.claim_size.slow_down()
                self.release(pool.withdraw())
        self._coroutines.watch()
        if now < self._check_at:
            return
        self._check_at = math.inf
        looks = [self._checked(run, now) for run in list(self.running.values())]
        # a run may begin meanwhile in another thread; should its limit be lost here, it is seen a second later
        self._check_at = min([self._check_at, now + SHORT_LIMIT, *looks]) if looks else self._check_at

    def _checked(self, run: Run, now: float) -> float:
        """Act on one run's limit; return when to look at it again."""
        if run.interrupted == math.inf:
            if now < run.deadline:
                return run.deadline
            run.timed_out = True
        elif now - run.interrupted >= LATE_GRACE:
            self._write_off(run, written_off(run))
            return math.inf
        return now + TELL_AGAIN if not self._interrupt(run, now) else run.interrupted + LATE_GRACE

    def _interrupt(self, run: Run, now: float) -> bool:
        """Tell a run to stop, once; False when it could not be told just now."""
        first = run.interrupted == math.inf
        run.interrupted = min(run.interrupted, now)
        # a thread is told again until it hears; a coroutine hears at once, and twice would be another cancel
        return (
            self._threads.interrupt(run) if run.job.task in self.plain else not first or self._coroutines.interrupt(run)
        )

    def _pool_of(self, job: Claimed) -> Pool:
        return self._threads if job.task in self.plain else self._coroutines

    def _write_off(self, run: Run, outcome: Outcome) -> None:
        pool = self._pool_of(run.job)
        if pool.write_off(run):
            span = self._clock.monotonic() - run.started
            self.left += 1
            self.ended.append(self._noted(run, outcome, pool, span))
            self.running.pop((run.id, run.attempt), None)
            self._report(run, outcome, span)
            log.error("%s[%s] does not stop; it is left running and counted as ended", run.job.task, run.id)

    def cancel(self, job_id: str, attempt: int) -> bool:
        """Cancel a job of ours: a coroutine at its next await; a plain function sees `current_job().cancelled`.

        False: it is about to begin, or has just ended; ask again soon.
        """
        run = self.running.get((job_id, attempt))
        if run is None:
            return self._cancel_in_backlog(job_id, attempt)
        if not run.cancel_requested:
            run.cancel_requested = True
            if run.job.task not in self.plain:
                self._coroutines.interrupt(run)
        return True

    def _cancel_in_backlog(self, job_id: str, attempt: int) -> bool:
        for line in (pool.line for pool in self._pools):
            for job in list(line):
                if (job.id, job.attempt) == (job_id, attempt):
                    with contextlib.suppress(ValueError):  # it begins at this moment
                        line.remove(job)
                        self.ended.append(Ended(job, Cancelled(), self._clock.now(), self._limits.result_ttl))
                        return True
        return False

    # ---- the end

    def interrupt_all(self) -> None:
        """Tell whatever runs to end, because it is being put back; again, where it could not be told before."""
        now = self._clock.monotonic()
        for run in list(self.running.values()):
            run.release = True
            self._interrupt(run, now)

    def write_off_all(self) -> None:
        """Put back whatever still runs, and count on it no more."""
        for run in list(self.running.values()):
            self._write_off(run, Released(begun=True))

    def stop(self) -> None:
        """Let the threads and the loop of our own go."""
        for pool in self._pools:
            pool.stop()


def _with_limits(task: Task[..., Any], limits: Limits) -> tuple[Task[..., Any], float, float]:
    timeout, ttl = task.options.timeout, task.options.result_ttl
    return task, limits.timeout if timeout is None else timeout, limits.result_ttl if ttl is None else ttl


def _log_end(run: Run, outcome: Outcome, span: float) -> None:
    name, took = f"{run.job.task}[{run.id}]", text(span)
    about = {"job": run.id, "task": run.job.task, "queue": run.job.queue, "attempt": run.attempt, "seconds": span}

    def say(level: int, what: str, message: str, *arguments: object) -> None:
        log.log(level, message, name, took, *arguments, extra=about | {"outcome": what})

    match outcome:
        case Succeeded() | Settled():
            say(logging.INFO, "succeeded", "%s succeeded in %s")
        case Failed(error):
            trace = error.traceback.rstrip()
            say(logging.ERROR, "failed", "%s failed after %s: %s: %s\n%s", error.type, error.message, trace)
        case Retried(_, error):
            say(
                logging.WARNING,
                "retried",
                "%s failed after %s and will be tried again: %s: %s",
                error.type,
                error.message,
            )
        case Snoozed():
            say(logging.INFO, "snoozed", "%s comes back later, after %s")
        case Cancelled():
            say(logging.INFO, "cancelled", "%s was cancelled after %s")
        case Released():
            say(logging.INFO, "released", "%s is put back after %s")
