"""Dispatch to an idle worker of this process: a job is claimed for it where another is stored. Knows no store.

An entry is a hint. Whether the worker gets a job, and which, is decided by the claim in that transaction.
"""

from __future__ import annotations

from collections.abc import Callable

from litequeue.core.capacity import Capacity
from litequeue.core.records import Claimed


class IdleWorker:
    """A worker with nothing to do. `kinds`: the sets of tasks that it claims together; `queues` None: all."""

    __slots__ = ("accept", "capacity", "idle", "kinds", "number", "queues", "reconcile")

    def __init__(
        self,
        number: int,
        kinds: frozenset[frozenset[str]],
        queues: tuple[str, ...] | None,
        accept: Callable[[int, list[Claimed]], None],
        reconcile: Callable[[], None],
        capacity: Capacity | None = None,
    ) -> None:
        self.number: int = number
        self.kinds: frozenset[frozenset[str]] = kinds
        self.queues: tuple[str, ...] | None = queues
        self.accept: Callable[[int, list[Claimed]], None] = accept  # begin what was claimed for that number
        self.reconcile: Callable[[], None] = reconcile  # look in the file: `accept` may never be called
        self.capacity: Capacity | None = capacity
        self.idle: bool = True

    def kind_of(self, task: str, queue: str) -> frozenset[str] | None:
        """Return the tasks that it claims together with this one; None when it does not serve the task or the queue."""
        if self.queues is not None and queue not in self.queues:
            return None
        return next((kind for kind in self.kinds if task in kind), None)


class Dispatch:
    """The idle workers of this process."""

    def __init__(self) -> None:
        self._idle: dict[IdleWorker, None] = {}

    def offer(self, worker: IdleWorker) -> None:
        """Let one job be claimed for the worker while it is idle."""
        self._idle[worker] = None

    def withdraw(self, worker: IdleWorker) -> None:
        """The worker is about to claim for itself."""
        worker.idle = False
        self._idle.pop(worker, None)

    def take(self, task: str, queue: str) -> IdleWorker | None:
        """Return an idle worker that serves this task and queue; the next caller gets another."""
        for worker in list(self._idle) if self._idle else ():
            if worker.kind_of(task, queue) is not None and self._idle.pop(worker, worker) is None:
                return worker
        return None

    def reset_after_fork(self) -> None:
        """After a fork, in the child: the workers of this process are the parent's."""
        self._idle = {}
