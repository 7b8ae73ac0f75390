"""The running jobs of this process: begin, limit, cancel, end. Knows tasks and pools, and no claim."""

from __future__ import annotations

import contextlib
import math
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from litequeue.core.logger import log
from litequeue.core.outcome import Cancelled, Ended, Outcome, Released, Succeeded
from litequeue.worker.executor.claim_size import HORIZON
from litequeue.worker.executor.coroutine_pool import CoroutinePool
from litequeue.worker.executor.execute import end_copy, work_here, written_off
from litequeue.worker.executor.host import Limited, begun, kept_for, with_limits
from litequeue.worker.executor.report import report
from litequeue.worker.executor.stoppable import TELL_AGAIN
from litequeue.worker.executor.thread_pool import ThreadPool

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping

    from litequeue.core.clock import Clock
    from litequeue.core.engine import Defaults
    from litequeue.core.records import Claimed
    from litequeue.ipc.process_lock import ProcessLock
    from litequeue.task import Task
    from litequeue.worker.executor.execute import Recorder, Run
    from litequeue.worker.executor.inbox import Inbox
    from litequeue.worker.executor.pool import Pool
    from litequeue.worker.executor.thread_pool import Claim

LATE_GRACE = 5.0  # seconds that a run told to stop may take to do so
SHORT_LIMIT = 1.5  # seconds; the worker looks more often than that by itself
LARGEST_SETTLE = 1000
DEATHS = 2  # of workers under a job: after so many it is run alone


class RunningJobs:
    """The claimed jobs of one worker, waiting and running, until their ends are settled."""

    def __init__(
        self,
        tasks: Mapping[str, Task[..., Any]],
        limits: Defaults,
        *,
        threads: int,
        coroutines: int,
        loop: asyncio.AbstractEventLoop | None,
        clock: Clock,
        recorder: Recorder,
        process_lock: ProcessLock,
        wake: Callable[[], None],
        settle: Callable[[Ended], list[Ended] | None],
    ) -> None:
        work_here()
        self.plain: frozenset[str] = frozenset()
        self.ended: deque[Ended] = deque()
        self.cut_short: int = 0  # runs that had begun and were released
        self.left: int = 0  # runs that do not stop, and were given up
        self.running: dict[tuple[str, int], Run] = {}  # by id and attempt: after a death told too soon there are two
        self._tasks: dict[str, Limited] = {}
        self._clock, self._recorder, self._process_lock, self._wake = clock, recorder, process_lock, wake
        self._check_at, self._settle, self._limits = math.inf, settle, limits
        self.worker: int = 0  # its number in the file
        self._accepting = threading.RLock()
        self._closed = self._alone = False
        self._dispatched = 0
        self._withdrawn: set[tuple[str, int]] = set()  # released before their dispatch was complete
        self._settled: deque[tuple[Ended, list[Ended]]] = deque()
        calls = self._begin, self._end, wake
        self._threads = ThreadPool(threads, *calls)
        self._coroutines = CoroutinePool(coroutines, *calls, first_slot=threads, loop=loop, process_lock=process_lock)
        self.add(tasks)
        self._pools: tuple[Pool, ...] = (self._threads, self._coroutines)

    def add(self, tasks: Mapping[str, Task[..., Any]]) -> bool:
        """Run jobs of these tasks, too, or in place of the old ones; raises `Unsupported` where that cannot be.

        False, and nothing is changed: one is of the other kind now, and a job is here, which may have been dispatched.
        """
        self._coroutines.prepare(expected=any(task.is_coroutine for task in tasks.values()))
        with self._accepting:
            known = [(self._tasks[name].task, task) for name, task in tasks.items() if name in self._tasks]
            turned = any(old.is_coroutine is not new.is_coroutine for old, new in known)
            if turned and (self.busy or self.ended):
                return False
            self._tasks |= {name: with_limits(task, self._limits) for name, task in tasks.items()}
            self.plain = frozenset(name for name, (task, _, _) in self._tasks.items() if not task.is_coroutine)
        return True

    # ---- room and idleness

    def room(self, kind: frozenset[str]) -> int:
        """How many more jobs of this kind of task, plain or coroutine, to claim now."""
        return (self._threads if kind is self.plain else self._coroutines).room()

    @property
    def busy(self) -> bool:
        """Whether a job runs or is in the backlog. One that has ended is in `ended` before it stops to count here."""
        # in the order in which jobs move on
        return any(pool.line or pool.busy for pool in self._pools) or bool(self.running)

    def due_in(self) -> float:
        """Return the seconds until the next check is due."""
        lines = [pool for pool in self._pools if pool.line]
        if self.ended:
            return HORIZON if lines else 0.0
        return min([self._check_at, *(pool.patient_until() for pool in lines)]) - self._clock.monotonic()

    # ---- begin and end

    def start(self, claimed: list[Claimed], own: int = 0) -> None:
        """Begin these jobs, or add them to the backlog; `own`: how many the caller, a thread of the pool, begins."""
        now = self._clock.monotonic()
        plain = [job for job in claimed if job.task in self.plain]
        if plain:
            self._threads.start(plain, now, own=own)
        if len(plain) < len(claimed):
            self._coroutines.start([job for job in claimed if job.task not in self.plain], now)

    def start_alone(self, quarantined: Claimed) -> bool:
        """Begin it where nothing else runs, or has ended and is not settled, which would be blamed with it."""
        with self._accepting:
            if self.busy or self.ended:
                return False
            self._alone = True
            self.start([quarantined])
            return True

    # ---- what is dispatched

    def warm(self, inbox: Inbox, claim: Claim) -> None:
        """Be ready for a job that is dispatched, or heard of; nothing that must run alone is at hand."""
        self._alone = False
        self._threads.warm(inbox, claim)
        if len(self.plain) < len(self._tasks):
            self._coroutines.warm()

    def accept(self, worker: int, claimed: Iterable[Claimed]) -> None:
        """Begin jobs that were claimed for that worker when another was stored; from any thread.

        A job that comes too late is not begun: it is released already, or is when that worker deregisters.
        """
        with self._accepting:
            for job in claimed:
                late = self._closed or worker != self.worker or (job.id, job.attempt) in self._withdrawn
                if not late:
                    self._dispatched += 1
                    self._admit(job)

    def _admit(self, job: Claimed) -> None:
        if self._alone or job.deaths >= DEATHS:
            self.release([job])  # the loop quarantines what is to run alone
            self._wake()
        else:
            self._pool_of(job).admit(job, self._clock.monotonic())

    def accept_no_more(self) -> None:
        """A job that is dispatched from now on is released when this worker deregisters."""
        with self._accepting:
            self._closed = True

    def take_notes(self) -> tuple[int, list[tuple[Ended, list[Ended]]]]:
        """Take away how many jobs were accepted, and which ends are settled already, with those that were lost."""
        with self._accepting:
            count, self._dispatched = self._dispatched, 0
        return count, [self._settled.popleft() for _ in range(len(self._settled))]

    def release(self, jobs: Iterable[Claimed]) -> None:
        """Release jobs that have not begun."""
        now, keep_for = self._clock.now(), self._limits.result_ttl  # for those whose cancel was asked for meanwhile
        self.ended.extend(Ended(job, Released(), now, keep_for) for job in jobs)

    def release_unheard(self, jobs: Iterable[Claimed]) -> None:
        """The same of jobs that stand in the file as ours; should one be dispatched yet, it is too late."""
        with self._accepting:
            known = self.known()
            unheard = [job for job in jobs if (job.id, job.attempt) not in known]
            self._withdrawn |= {(job.id, job.attempt) for job in unheard}
            self.release(unheard)

    def known(self) -> set[tuple[str, int]]:
        """Return the claimed jobs that are not settled, as (id, attempt)."""
        # in the order in which jobs move on, so that one that does meanwhile is seen
        jobs = [job for pool in self._pools for job in list(pool.line)]
        jobs += [run.job for run in list(self.running.values())]
        jobs += [end.job for end in list(self.ended)]
        return {(job.id, job.attempt) for job in jobs}

    def begun(self) -> set[str]:
        """Return the runs that have begun and are not settled, as noted in the lock file."""
        jobs = [run.job for run in list(self.running.values())]
        jobs += [end.job for end in list(self.ended) if end.outcome != Released()]
        return {f"{job.id}:{job.attempt}" for job in jobs}

    def forget_backlog(self) -> None:
        """Drop the jobs that have not begun, because other workers have them already."""
        for pool in self._pools:
            pool.withdraw()

    def release_backlog(self) -> None:
        """Release the jobs that have not begun."""
        for pool in self._pools:
            self.release(pool.withdraw())

    def take_ended(self) -> list[Ended]:
        """Return ends to settle, at most as many as fit one transaction."""
        take = self.ended.popleft
        return [take() for _ in range(min(len(self.ended), LARGEST_SETTLE))]

    def keep_ended(self, ended: list[Ended]) -> None:
        """Keep ends that could not be settled."""
        self.ended.extendleft(reversed(ended))

    def _begin(self, job: Claimed, slot: int) -> Run:
        now = self._clock.monotonic()
        run = begun(job, self._tasks[job.task], self._clock, self._recorder, now)
        over = run.deadline
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
            self.ended.append(end)  # before it leaves `running`: what is in neither is released as unheard
            self.running.pop((job.id, job.attempt), None)
            if not line or len(self.ended) >= pool.claim_size.batch:
                pool.wake()
        report(run, outcome, span)

    def _is_alone(self, pool: Pool) -> bool:
        """Whether the run that ends in this thread is all there is."""
        return pool is self._threads and not self.ended and len(self.running) == 1

    def _settle_alone(self, end: Ended, pool: Pool) -> None:
        """Settle the only run here and now, in its thread: its waiters need not wait for the loop."""
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
            kept = kept_for(run, outcome, self._limits)
        return Ended(run.job, outcome, self._clock.now(), kept)

    # ---- limits and cancels

    def check(self) -> None:
        """Stop runs over their limits, write off those that do not stop, release a backlog that does not move."""
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
        # a thread is told again until it stops; a coroutine is told once, since twice would be another cancel
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
            report(run, outcome, span)
            log.error("%s[%s] does not stop when told; it is left running and counted as ended", run.job.task, run.id)

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
        """Tell running jobs to end, because they are being released; again, if a job could not be told before."""
        now = self._clock.monotonic()
        for run in list(self.running.values()):
            run.release = True
            self._interrupt(run, now)

    def write_off_all(self) -> None:
        """Release the jobs that still run, and write off their runs."""
        for run in list(self.running.values()):
            self._write_off(run, Released(begun=True))

    def stop(self) -> None:
        """End the threads and our own event loop."""
        for pool in self._pools:
            pool.stop()
