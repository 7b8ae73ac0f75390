"""A worker's idle time: jobs are dispatched to it, and an idle thread claims what it hears of. Knows no SQL."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from litequeue.core.dispatch import IdleWorker
from litequeue.core.logger import aside
from litequeue.ipc.notifier import JOBS

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.core.store import Cycle, IdleWorkers
    from litequeue.worker.claiming import Claiming
    from litequeue.worker.executor.executor import Executor
    from litequeue.worker.executor.shared_listener import SharedListener
    from litequeue.worker.reconcile import Reconciliation
    from litequeue.worker.running_jobs import RunningJobs

LEFT = b"left"  # left to the loop: it is to look at what a thread has claimed


class Idle:
    """The loop sleeps; one thread at a time may claim in its place, until the loop is awake."""

    def __init__(
        self,
        dispatch: IdleWorkers,
        listener: SharedListener,
        claiming: Claiming,
        executor: Executor,
        runs: RunningJobs,
        reconciliation: Reconciliation,
    ) -> None:
        self._dispatch, self._listener = dispatch, listener
        self._claiming, self._executor, self._runs, self._reconciliation = claiming, executor, runs, reconciliation
        self._lock = threading.Lock()  # held by the thread that claims
        self._worker: IdleWorker | None = None  # None: the loop is awake
        self._left: list[Cycle] = []  # claimed by a thread that could not begin it by itself

    def sleep(self, span: float) -> list[bytes]:
        """Sleep until there is something for the loop to do, at most so long; return what it is told."""
        calls = self._runs.accept, self._reconciliation.request
        kinds, capacity = self._claiming.kinds, self._claiming.capacity()
        self._worker = worker = IdleWorker(self._runs.worker, kinds, self._claiming.queues, *calls, capacity)
        try:
            self._runs.warm(self._listener, self._claim)
            self._dispatch.offer(worker)
            return self._listener.wait(span)
        finally:
            self._dispatch.withdraw(worker)
            with self._lock:  # a thread may be inside its claim
                self._worker = None

    def take_left(self) -> list[Cycle]:
        """Return what was claimed, but is left to the loop to begin."""
        left, self._left = self._left, []
        return left

    def _claim(self, rise: Callable[[], None]) -> bytes | None:
        """In an idle thread: claim, and begin what came, the first job in this thread; else return word for the loop.

        `rise`: the thread counts as idle no more, and another one listens.
        """
        with aside(), self._lock:
            worker = self._worker
            if worker is None or not worker.idle:
                return JOBS
            self._dispatch.withdraw(worker)
            try:
                claim = self._claiming.claim_all()
            except Exception:
                worker.reconcile()
                return JOBS  # the loop meets it again, and says what is wrong
            claimed = claim.turn.claimed
            if claim.turn.keyless or not claimed or any(self._runs.must_be_alone(job) for job in claimed):
                self._left.append(claim.turn)
                return LEFT
            rise()
            self._executor.start(claimed, own=1)
            if claim.sooner:
                self._listener.wake()
            return None
