"""The jobs that a worker has claimed: dispatched, released, over their limits, cancelled. Knows no store."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

from litequeue.core.outcome import Cancelled, Ended, Outcome, Released
from litequeue.core.store import DEATHS
from litequeue.worker.executor.claim_size import HORIZON
from litequeue.worker.executor.execute import cut_short, written_off
from litequeue.worker.executor.mailbox import SHORT_LIMIT
from litequeue.worker.executor.stoppable import TELL_AGAIN
from litequeue.worker.run_stacks import RunStacks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from litequeue.core.clock import Clock
    from litequeue.core.engine import Defaults
    from litequeue.core.records import Claimed
    from litequeue.task import Task
    from litequeue.worker.executor.context import Run
    from litequeue.worker.executor.executor import Executor
    from litequeue.worker.executor.mailbox import Mailbox
    from litequeue.worker.executor.shared_listener import SharedListener
    from litequeue.worker.executor.thread_pool import Claim

LATE_GRACE = 5.0  # seconds that a run told to stop may take to do so


class RunningJobs:
    """The claimed jobs of one worker, waiting and running, until their ends are settled."""

    def __init__(self, executor: Executor, mailbox: Mailbox, defaults: Defaults, clock: Clock) -> None:
        self._executor, self._mailbox, self._clock = executor, mailbox, clock
        self._keep_for = defaults.result_ttl  # of jobs that end before they have begun
        self.stacks: RunStacks = RunStacks(executor, mailbox, clock)
        self.worker: int = 0  # its number in the file
        self._accepting = threading.RLock()
        self._closed = self._alone = False
        self._dispatched = 0
        self.unbegun: int = 0  # claimed here, and ended or released before they had begun
        self._withdrawn: set[tuple[str, int]] = set()  # released before their dispatch was complete

    def serve(self, tasks: Mapping[str, Task[..., Any]]) -> bool:
        """Run jobs of these tasks, too; False, and nothing is changed: not while a job is here."""
        self._executor.prepare(tasks)
        with self._accepting:
            return self._executor.serve(tasks)

    def due_in(self) -> float:
        """Return the seconds until the next check is due."""
        patience = self._executor.patient_until
        if self._mailbox.ended:
            return 0.0 if patience == math.inf else HORIZON
        return min(min(self._mailbox.look_at, patience) - self._clock.monotonic(), self._executor.watch_in())

    def start_alone(self, quarantined: Claimed) -> bool:
        """Begin it where nothing else runs, or has ended and is not settled, which would be blamed with it."""
        with self._accepting:
            if self._executor.busy or self._mailbox.ended:
                return False
            self._alone = True
            self._executor.start([quarantined])
            return True

    def must_be_alone(self, job: Claimed) -> bool:
        """Whether so many workers have died under it that it runs alone; of a child's death nobody else is blamed."""
        return job.deaths >= DEATHS and job.task not in self._executor.apart

    # ---- what is dispatched

    def warm(self, listener: SharedListener, claim: Claim) -> None:
        """Be ready for a job that is dispatched, or heard of; nothing that must run alone is at hand."""
        self._alone = False
        self._executor.warm(listener, claim)

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
        if self._alone or self.must_be_alone(job):
            self.release([job])  # the loop quarantines what is to run alone
            self._mailbox.wake()
        else:
            self._executor.admit(job)

    def accept_no_more(self) -> None:
        """A job that is dispatched from now on is released when this worker deregisters."""
        self._executor.note_stop()
        with self._accepting:
            self._closed = True

    def take_dispatched(self) -> int:
        """Return how many jobs were accepted since the last call."""
        with self._accepting:
            count, self._dispatched = self._dispatched, 0
        return count

    # ---- what is released

    def release(self, jobs: Iterable[Claimed]) -> None:
        """Release jobs that have not begun."""
        released = list(jobs)
        self.unbegun += len(released)
        self._mailbox.release(released, self._clock.now(), self._keep_for)

    def release_unheard(self, jobs: Iterable[Claimed]) -> None:
        """The same of jobs that stand in the file as ours; should one be dispatched yet, it is too late."""
        with self._accepting:
            known = self.known()
            unheard = [job for job in jobs if (job.id, job.attempt) not in known]
            self._withdrawn |= {(job.id, job.attempt) for job in unheard}
            self._mailbox.release(unheard, self._clock.now(), self._keep_for)

    def known(self) -> set[tuple[str, int]]:
        """Return the claimed jobs that are not settled, as (id, attempt)."""
        # in the order in which jobs move on, so that one that does meanwhile is seen
        jobs = self._executor.backlog()
        jobs += [run.job for run in list(self._mailbox.running.values())]
        jobs += [end.job for end in list(self._mailbox.ended)]
        return {(job.id, job.attempt) for job in jobs}

    def present(self, ended: Iterable[Ended]) -> list[tuple[str, int, str, str]]:
        """Return the runs whose functions go on, as (id, attempt, queue, task): of `ended`, what was left behind."""
        over = {(end.job.id, end.job.attempt) for end in ended}
        jobs = [run.job for key, run in list(self._mailbox.running.items()) if key not in over]
        jobs += list(self._mailbox.left_behind.values())
        return [(job.id, job.attempt, job.queue, job.task) for job in jobs]

    # ---- limits and cancels

    def check(self) -> None:
        """Stop runs over their limits, write off those that do not stop, release a backlog that does not move."""
        now, mailbox = self._clock.monotonic(), self._mailbox
        self.release(self._executor.withdraw_stuck(now))
        self._executor.watch()
        if now >= self.stacks.look_at:
            self.stacks.look(now)
        if now < mailbox.look_at:
            return
        mailbox.look_at = math.inf
        looks = [self._checked(run, now) for run in list(mailbox.running.values())]
        # a run may begin meanwhile in another thread; should its limit be lost here, it is seen a second later
        mailbox.look_at = min([mailbox.look_at, now + SHORT_LIMIT, *looks]) if looks else mailbox.look_at

    def _checked(self, run: Run, now: float) -> float:
        """Act on one run's limit; return when to look at it again."""
        if run.interrupted == math.inf:
            if now < (due := run.due):
                return due
            run.timed_out, run.is_silent = True, now < run.deadline
        elif now - run.interrupted >= LATE_GRACE:
            self._write_off(run, written_off(run))
            return math.inf
        return now + TELL_AGAIN if not self._interrupt(run, now) else run.interrupted + LATE_GRACE

    def _interrupt(self, run: Run, now: float) -> bool:
        """Tell a run to stop, once; False when it could not be told just now."""
        first = run.interrupted == math.inf
        run.interrupted = min(run.interrupted, now)
        return not (first or self._executor.tells_again(run)) or self._executor.interrupt(run)

    def _write_off(self, run: Run, outcome: Outcome) -> None:
        released = isinstance(outcome, Released)
        self.stacks.leave(run, lambda: self._executor.write_off(run, outcome), released=released)

    def cancel(self, job_id: str, attempt: int) -> bool:
        """Cancel a job of ours: a coroutine at its next await; a plain function sees `current_job().cancelled`.

        False: it is about to begin, or has just ended; ask again soon.
        """
        run = self._mailbox.running.get((job_id, attempt))
        if run is None:
            job = self._executor.remove(job_id, attempt)
            if job is not None:
                self.unbegun += 1
                self._mailbox.ended.append(Ended(job, Cancelled(), self._clock.now(), self._keep_for))
            return job is not None
        if not run.cancel_requested:
            run.cancel_requested = True
            self._executor.ask(run)
        return True

    # ---- the end

    def ask_all(self) -> None:
        """Ask running jobs to end, as a cancel does, but to be released: coroutines are cancelled, functions see it."""
        now = self._clock.monotonic()
        for run in list(self._mailbox.running.values()):
            run.release = True
            if self._executor.tells_again(run):
                self._executor.ask(run)
            else:
                self._interrupt(run, now)

    def interrupt_all(self) -> None:
        """Tell running jobs to end, because they are being released; again, if a job could not be told before."""
        now = self._clock.monotonic()
        for run in list(self._mailbox.running.values()):
            run.release = True
            self._interrupt(run, now)

    def write_off_all(self) -> None:
        """Release the jobs that still run, and write off their runs."""
        for run in list(self._mailbox.running.values()):
            self._write_off(run, cut_short(run))
