"""Runs claimed jobs: plain functions in threads, coroutines on a loop, and either in children. Knows no store."""

from __future__ import annotations

import contextlib
import math
from enum import Enum
from typing import TYPE_CHECKING, Any

from litequeue.worker.executor.child_pool import ChildPool
from litequeue.worker.executor.context import with_limits
from litequeue.worker.executor.coroutine_pool import CoroutinePool
from litequeue.worker.executor.execute import work_here
from litequeue.worker.executor.log_capture import install, uninstall
from litequeue.worker.executor.thread_pool import ThreadPool

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from litequeue.core.outcome import Outcome
    from litequeue.core.records import Claimed
    from litequeue.task import Task
    from litequeue.worker.executor.child_pool import Children
    from litequeue.worker.executor.context import Run
    from litequeue.worker.executor.mailbox import Mailbox
    from litequeue.worker.executor.pool import Pool, Setup
    from litequeue.worker.executor.shared_listener import SharedListener
    from litequeue.worker.executor.thread_pool import Claim


class Kind(Enum):
    """Where a task runs."""

    PLAIN = "in a thread"
    COROUTINE = "on an event loop"
    APART = "in a child process"


def kind_of(task: Task[..., Any]) -> Kind:
    """Return where a task runs."""
    if task.options.process:
        return Kind.APART
    return Kind.COROUTINE if task.is_coroutine else Kind.PLAIN


class Executor:
    """Takes claimed jobs; what comes of them is in the mailbox.

    `plain`: the names of the tasks run in threads; `apart`: of those run in child processes.
    """

    def __init__(
        self,
        setup: Setup,
        mailbox: Mailbox,
        *,
        threads: int,
        coroutines: int,
        loop: asyncio.AbstractEventLoop | None,
        children: Children,
    ) -> None:
        work_here()
        self.plain: frozenset[str] = frozenset()
        self.apart: frozenset[str] = frozenset()
        self._setup, self._mailbox = setup, mailbox
        self._keeps_logs = False
        self._threads = ThreadPool(threads, setup, mailbox)
        self._coroutines = CoroutinePool(coroutines, setup, mailbox, first_slot=threads, loop=loop)
        self._children = ChildPool(children, setup, mailbox, first_slot=threads + coroutines)
        # children are among them from their first task on: until then they cost nothing
        self._pools: tuple[Pool, ...] = (self._threads, self._coroutines)
        self._has_children = False

    def prepare(self, tasks: Mapping[str, Task[..., Any]]) -> None:
        """Raise `Unsupported` where these tasks cannot be run."""
        self._coroutines.prepare(expected=any(kind_of(task) is Kind.COROUTINE for task in tasks.values()))
        self._children.learn({name: task for name, task in tasks.items() if task.options.process})

    def serve(self, tasks: Mapping[str, Task[..., Any]]) -> bool:
        """Run jobs of these tasks, too, or in place of the old ones.

        False, and nothing is changed: one is of the other kind now, and a job is here, which may have been dispatched.
        """
        known = self._setup.tasks
        turned = any(name in known and kind_of(known[name].task) is not kind_of(new) for name, new in tasks.items())
        if turned and (self.busy or self._mailbox.ended):
            return False
        if not self._keeps_logs and any(task.options.job_logs for task in tasks.values()):
            self._keeps_logs = True
            install()
        known |= {name: with_limits(task, self._setup.defaults) for name, task in tasks.items()}
        if not self._has_children and any(kind_of(task) is Kind.APART for task, _, _ in known.values()):
            self._has_children, self._pools = True, (*self._pools, self._children)
        self.plain = frozenset(name for name, (task, _, _) in known.items() if kind_of(task) is Kind.PLAIN)
        self.apart = frozenset(name for name, (task, _, _) in known.items() if kind_of(task) is Kind.APART)
        return True

    def kinds(self, names: frozenset[str]) -> frozenset[frozenset[str]]:
        """Return these tasks by where they run: what is claimed by itself."""
        parts = self.plain & names, self.apart & names, names - self.plain - self.apart
        return frozenset(part for part in parts if part)

    # ---- room and idleness

    def slots(self) -> dict[str, int]:
        """Return how many runs there can be at once, in threads and as coroutines."""
        return {"threads": self._threads.size, "coroutines": self._coroutines.size, "children": self._children.size}

    def slot_kind(self, job: Claimed) -> str:
        """Return which of the `slots` this job takes."""
        return "threads" if job.task in self.plain else "children" if job.task in self.apart else "coroutines"

    def room(self, kind: frozenset[str]) -> int:
        """How many more jobs of this kind of task, plain or coroutine, to claim now."""
        return self._pool_for(next(iter(kind))).room()

    def free(self, kind: frozenset[str]) -> int:
        """How many more jobs of this kind could begin at once."""
        return self._pool_for(next(iter(kind))).free

    @property
    def patience(self) -> float:
        """How many seconds after their claim functions may have to wait for their call here."""
        return max(pool.patience for pool in self._pools)

    @property
    def busy(self) -> bool:
        """Whether a job runs or is in the backlog. One that ends is in the mailbox before it counts here no more."""
        # in the order in which jobs move on
        return any(pool.backlog or pool.busy for pool in self._pools) or bool(self._mailbox.running)

    @property
    def patient_until(self) -> float:
        """When a backlog will have waited for too long, by the monotonic clock."""
        return min((pool.patient_until() for pool in self._pools if pool.backlog), default=math.inf)

    # ---- begin

    def start(self, claimed: list[Claimed], own: int = 0) -> None:
        """Begin these jobs, or add them to the backlog; `own`: how many the caller, a thread of the pool, begins."""
        now = self._setup.clock.monotonic()
        plain = [job for job in claimed if job.task in self.plain]
        if plain:
            self._threads.start(plain, now, own=own)
        if len(plain) == len(claimed):
            return
        others = [job for job in claimed if job.task not in self.plain] if plain else claimed
        if self.apart and (apart := [job for job in others if job.task in self.apart]):
            self._children.start(apart, now)
            others = [job for job in others if job.task not in self.apart]
        if others:
            self._coroutines.start(others, now)

    def admit(self, job: Claimed) -> None:
        """Begin a job that is dispatched, from any thread, also one in which a Ctrl-C may come at any time."""
        self._pool_of(job).admit(job, self._setup.clock.monotonic())

    def warm(self, listener: SharedListener, claim: Claim) -> None:
        """Be ready for a job that is dispatched, or heard of."""
        if len(self.plain) + len(self.apart) < len(self._setup.tasks):
            self._coroutines.warm()  # first: a thread that claims a coroutine before would start a second loop
        self._threads.warm(listener, claim)

    # ---- the backlog

    def backlog(self) -> list[Claimed]:
        """Return the jobs that have not begun."""
        return [job for pool in self._pools for job in list(pool.backlog)]

    def withdraw(self) -> list[Claimed]:
        """Remove the jobs that have not begun, and return them."""
        return [job for pool in self._pools for job in pool.withdraw()]

    def withdraw_stuck(self, now: float) -> list[Claimed]:
        """The same of a backlog that has waited for too long: less is claimed from now on."""
        stuck = [pool for pool in self._pools if pool.backlog and now > pool.patient_until()]
        for pool in stuck:
            pool.claim_size.slow_down()
        return [job for pool in stuck for job in pool.withdraw()]

    def remove(self, job_id: str, attempt: int) -> Claimed | None:
        """Remove one job that has not begun, and return it."""
        for pool in self._pools:
            for job in list(pool.backlog):
                if (job.id, job.attempt) == (job_id, attempt):
                    with contextlib.suppress(ValueError):  # it begins at this moment
                        pool.backlog.remove(job)
                        return job
        return None

    # ---- what runs

    def interrupt(self, run: Run) -> bool:
        """Tell a run to stop. False: it could not be told just now, because it is in our own work; try again soon."""
        return self._pool_of(run.job).interrupt(run)

    def tells_again(self, run: Run) -> bool:
        """Whether a run that was told to end is told again until it does."""
        return self._pool_of(run.job).tells_again

    def ask(self, run: Run) -> None:
        """Tell a run that its cancel was requested, or that it is released."""
        self._pool_of(run.job).ask(run)

    def write_off(self, run: Run, outcome: Outcome) -> bool:
        """Count a run that does not stop as ended, with this outcome. False if it has already ended."""
        return self._pool_of(run.job).write_off(run, outcome)

    def watch_in(self) -> float:
        """Return the seconds until the next look at event loops and children."""
        coroutines = self._coroutines.watch_in()
        return min(coroutines, self._children.watch_in()) if self._has_children else coroutines

    def stack(self, run: Run) -> Callable[[], str]:
        """Return what tells where a run is, also after it was written off; empty text once it has ended."""
        return self._pool_of(run.job).stack(run)

    def watch(self) -> None:
        """Log what holds an event loop, and replace ours if it has not answered for too long; look after children."""
        self._coroutines.watch()
        if self._has_children:
            self._children.watch()

    def note_stop(self) -> None:
        """Note that the worker has begun to stop."""
        self._children.note_stop()

    def stop(self) -> None:
        """End the threads and our own event loop."""
        for pool in self._pools:
            pool.stop()
        if self._keeps_logs:
            self._keeps_logs = False
            uninstall()

    def _pool_of(self, job: Claimed) -> Pool:
        return self._pool_for(job.task)

    def _pool_for(self, task: str) -> Pool:
        if task in self.plain:
            return self._threads
        return self._children if task in self.apart else self._coroutines
