"""The common part of both pools: a backlog of claimed jobs, how a run begins and ends, how fast they run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from litequeue.core.outcome import Ended, Outcome, Released, Succeeded, is_interrupted
from litequeue.worker.executor.claim_size import ClaimSize
from litequeue.worker.executor.context import Limited, Run, begun, kept_for, kept_log
from litequeue.worker.executor.execute import end_copy
from litequeue.worker.executor.report import report

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.core.clock import Clock
    from litequeue.core.engine import Defaults
    from litequeue.core.records import Claimed
    from litequeue.ipc.process_lock import ProcessLock
    from litequeue.worker.executor.context import Recorder
    from litequeue.worker.executor.mailbox import Mailbox


SPARE = 1.5  # times what a call needed after its claim: allowed to the next
PATIENCE_KEPT = 0.95  # of what is allowed, with each call that needed less


class Setup(NamedTuple):
    """What the runs of one worker have in common. `tasks`: those that it serves, by name; more may come."""

    tasks: dict[str, Limited]
    defaults: Defaults
    clock: Clock
    recorder: Recorder
    process_lock: ProcessLock


class Pool(ABC):
    """At most `size` runs at a time; jobs claimed beyond that wait in the backlog, each a few milliseconds."""

    settles: bool = False  # whether a thread of it may settle the end of a run itself
    tells_again: bool = True  # whether a run that was told to end is told again until it does

    def __init__(self, size: int, setup: Setup, mailbox: Mailbox) -> None:
        self.size: int = size
        self.backlog: deque[Claimed] = deque()
        self.claim_size: ClaimSize = ClaimSize()
        self.patience: float = 0.0  # with starts that count against a rate, where functions were called late lately
        self._setup, self._mailbox = setup, mailbox
        self._clock, self._process_lock = setup.clock, setup.process_lock  # by themselves: each job asks them thrice
        self._since = 0.0  # when the backlog was last added to, by the monotonic clock

    @property
    @abstractmethod
    def busy(self) -> int:
        """How many jobs are running: counted before they leave the backlog, and until they have ended."""

    @abstractmethod
    def _staff(self, wanted: int) -> None:
        """See that so many more jobs of the backlog begin, as far as there is room."""

    @abstractmethod
    def admit(self, job: Claimed, now: float) -> None:
        """Add a job to the backlog, from any thread, also one in which a Ctrl-C may come at any time."""

    @abstractmethod
    def interrupt(self, run: Run) -> bool:
        """Tell a run to end. False: not now, because it is in our own work; try again soon."""

    def ask(self, run: Run) -> None:  # noqa: B027  a function in a thread sees by itself what is asked of its run
        """Tell a run that its cancel was requested, or that it is released."""

    @abstractmethod
    def stack(self, run: Run) -> Callable[[], str]:
        """Return what tells where a run is, also after it was written off; empty text once it has ended."""

    @abstractmethod
    def _let_go(self, run: Run) -> bool:
        """Free the slot of this run, though it continues. False if it has already ended."""

    @abstractmethod
    def _wake(self) -> None:
        """Wake the worker, which has ends to settle."""

    @abstractmethod
    def stop(self) -> None:
        """End idle threads; busy ones end after their jobs."""

    @property
    def free(self) -> int:
        """How many more jobs could begin at once."""
        return self.size - self.busy - len(self.backlog)

    def room(self) -> int:
        """How many more jobs to claim now."""
        free = self.free
        return self.claim_size.claim_size(free, self.size) if free > 0 else 0

    def start(self, jobs: list[Claimed], now: float, *, own: int = 0) -> None:
        """Add jobs to the backlog, and begin as many as have room; `own`: the caller's thread begins so many."""
        self._since = now
        self.backlog.extend(jobs)
        if len(jobs) > own:
            self._staff(len(jobs) - own)

    def _put_first(self, job: Claimed, now: float) -> None:
        """Put a job that was dispatched first in the backlog: it is older than the jobs claimed meanwhile."""
        self._since = now
        self.backlog.appendleft(job)

    def patient_until(self) -> float:
        """Return when the backlog will have waited for too long."""
        return self._since + self.claim_size.patience

    def withdraw(self) -> list[Claimed]:
        """Remove all jobs that have not begun from the backlog, and return them."""
        taken = []
        while True:
            try:
                taken.append(self.backlog.pop())
            except IndexError:
                return taken

    def _is_late(self, job: Claimed) -> bool:
        """Whether the start of a job with limits was counted too long ago: then it goes back, and is not called."""
        held, self._mailbox.limited = job.held, True
        if held.start_by == math.inf:
            return False
        now = self._clock.monotonic()
        needed = (now - held.claimed_at) * SPARE
        self.patience = max(needed, self.patience * PATIENCE_KEPT if now <= held.start_by else 0.0)
        if now <= held.start_by:
            return False
        self._mailbox.late += 1
        self._mailbox.end(Ended(job, Released(), self._setup.clock.now(), self._setup.defaults.result_ttl))
        self._wake()
        return True

    # ---- a run begins, and ends

    def _begin(self, job: Claimed, slot: int) -> Run:
        setup, mailbox = self._setup, self._mailbox
        now = self._clock.monotonic()
        run = begun(job, setup.tasks[job.task], setup.clock, setup.recorder, now)
        self._process_lock.enter(slot, f"{job.id}:{job.attempt}")
        mailbox.running[job.id, job.attempt] = run
        if (due := run.due) < mailbox.look_at:
            mailbox.look(due, now)
        return run

    def _end(self, run: Run, outcome: Outcome, slot: int) -> None:
        """Put an end in the mailbox, and wake the worker when there is enough to settle, or nothing else to come."""
        backlog, span = self.backlog, self._clock.monotonic() - run.started
        if span > 20e-6:  # no fork takes less
            end_copy()
        self._keep(run)
        self._process_lock.leave(slot)
        ended = self._noted(run, outcome, span)
        alone = not backlog and type(outcome) is Succeeded
        if not (alone and self._settled(ended)):  # if it is settled, the worker is woken when the thread rests
            waiting = self._mailbox.end(ended)
            if not backlog or waiting >= self.claim_size.batch:
                self._wake()
        report(run, outcome, span)

    def _keep(self, run: Run) -> None:
        """Note of a run that may not be repeated that it has begun, until its end is on record."""
        if run.task.options.policy.at_most_once:
            self._process_lock.keep(f"{run.job.id}:{run.job.attempt}")

    def _settled(self, ended: Ended) -> bool:
        """Settle the only run of the worker in its own thread, if that may be."""
        return self.settles and self._process_lock.intact and self._mailbox.settle(ended)

    def write_off(self, run: Run, outcome: Outcome) -> bool:
        """Count a run that does not stop as ended, with this outcome. False if it has already ended."""
        left, key = self._mailbox.left_behind, (run.job.id, run.job.attempt)
        left[key] = run.job  # first: its function may return as soon as it is let go
        if not self._let_go(run):
            left.pop(key, None)
            return False
        span = self._clock.monotonic() - run.started
        self._mailbox.left += 1
        ended = self._noted(run, outcome, span)
        self._mailbox.end(ended if run.job.held is None else replace(ended, left_behind=True))
        report(run, outcome, span)
        return True

    def _noted(self, run: Run, outcome: Outcome, span: float) -> Ended:
        self.claim_size.note(span)
        kept = run.keep_for
        if type(outcome) is not Succeeded:  # most are, and are asked no more
            if run.release and (isinstance(outcome, Released) or is_interrupted(outcome)):
                self._mailbox.cut_short += 1
            kept = kept_for(run, outcome, self._setup.defaults)
        if run.log is None:
            return Ended(run.job, outcome, self._clock.now(), kept)
        return Ended(run.job, outcome, self._clock.now(), kept, log=kept_log(run, outcome))
