"""A worker's idle time: jobs are dispatched to it, and an idle thread claims what it hears of. Knows no SQL."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.dispatch import IdleWorker
from litequeue.core.logger import aside
from litequeue.ipc.notifier import JOBS
from litequeue.worker.running_jobs import DEATHS

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.core.store import Cycle, Store
    from litequeue.worker.executor.inbox import Inbox
    from litequeue.worker.running_jobs import RunningJobs

LEFT = b"left"  # left to the loop: it is to look at what a thread has claimed


class Claim(NamedTuple):
    """What came of it. `sooner`: something is due before the loop knew of it."""

    turn: Cycle
    sooner: bool


class Calls(NamedTuple):
    """What is called of the worker."""

    claim_all: Callable[[], Claim]  # claim as many jobs as there is room for, as the loop does
    take_over: Callable[[Cycle], None]  # begin what was claimed, in the loop
    reconcile: Callable[[], None]  # have the loop look for claims that it knows nothing of


class Idle:
    """The loop sleeps; the thread that holds `_claiming` may claim in its place, until the loop is awake."""

    def __init__(
        self,
        store: Store,
        runs: RunningJobs,
        inbox: Inbox,
        kinds: Callable[[], frozenset[frozenset[str]]],
        queues: tuple[str, ...] | None,
        calls: Calls,
    ) -> None:
        self._store, self._runs, self._inbox, self._calls = store, runs, inbox, calls
        self._kinds, self._queues = kinds, queues
        self._claiming = threading.Lock()
        self._worker: IdleWorker | None = None  # None: the loop is awake
        self._left: list[Cycle] = []  # claimed by a thread that could not begin it by itself

    def sleep(self, span: float) -> list[bytes]:
        """Sleep until there is something for the loop to do, at most so long; return what it is told."""
        calls = self._runs.accept, self._calls.reconcile
        self._worker = worker = IdleWorker(self._runs.worker, self._kinds(), self._queues, *calls)
        try:
            self._runs.warm(self._inbox, self._claim)
            self._store.dispatch.offer(worker)
            return self._inbox.wait(span)
        finally:
            self._store.dispatch.withdraw(worker)
            with self._claiming:  # a thread may be inside its claim
                self._worker = None
            while self._left:
                self._calls.take_over(self._left.pop())

    def _claim(self, rise: Callable[[], None]) -> bytes | None:
        """In an idle thread: claim, and begin what came, the first job in this thread; else return word for the loop.

        `rise`: the thread counts as idle no more, and another one listens.
        """
        with aside(), self._claiming:
            worker = self._worker
            if worker is None or not worker.idle:
                return JOBS
            self._store.dispatch.withdraw(worker)
            try:
                claim = self._calls.claim_all()
            except Exception:
                worker.reconcile()
                return JOBS  # the loop meets it again, and says what is wrong
            claimed = claim.turn.claimed
            if not claimed or any(job.deaths >= DEATHS for job in claimed):
                self._left.append(claim.turn)
                return LEFT
            rise()
            self._runs.start(claimed, own=1)
            if claim.sooner:
                self._inbox.wake()
            return None
