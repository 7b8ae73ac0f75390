"""Maintenance of the file: prune, vacuum, checkpoint, and notice what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.sqlite.file import free_pages
from litequeue.sqlite.jobs import control, workers
from litequeue.sqlite.parts.spreading import spread
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.sqlite.drivers.connection import Connection
    from litequeue.sqlite.kernel import Kernel

STEP = 0.004  # seconds of the write lock; the commit comes on top
MOST = 5000  # jobs in one transaction


class FileMaintenance:
    """What a worker does to the file beside its jobs."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._writer = kernel, kernel.writer

    def prune(self, limit: int = MOST) -> int:
        """Delete jobs that have been kept long enough, for about `STEP` seconds, at most `limit`; return how many."""
        now = self._kernel.clock.now()
        return self._step(lambda db, is_time_up: control.prune(db, now, limit, is_time_up))

    def vacuum(self) -> int:
        """Give free pages back to the file system, for about `STEP` seconds; return how many bytes."""
        return self._step(free_pages.vacuum)

    def checkpoint(self) -> int:
        """Move the WAL into the file without blocking anyone; return how many of its pages have to wait for readers."""
        return self._writer.run_outside(free_pages.checkpoint)

    def _step(self, work: Callable[[Connection, Callable[[], bool]], int]) -> int:
        monotonic = self._kernel.clock.monotonic

        def step(db: Connection) -> int:
            until = monotonic() + STEP  # from here: the wait for the file does not count
            return work(db, lambda: monotonic() >= until)

        return self._writer.run(step, durable=False, news=False)

    def may_shrink(self, worker: int, *, alone: bool) -> bool:
        """Whether no other worker makes the file smaller alone; `alone`: this one does, for the next three seconds."""
        now = self._kernel.clock.now()
        if alone:
            return self._writer.run(
                lambda db: workers.may_shrink(db, worker, now, alone=True), durable=False, news=False
            )
        return self._kernel.read(lambda db: workers.may_shrink(db, worker, now, alone=False))

    def spread(self) -> None:
        """Go on with the consequences of ends that were too many for their transaction, of whichever process."""
        spread(self._kernel)

    def next_prune(self) -> float | None:
        """When the next job is to be deleted."""
        [(moment,)] = self._kernel.read(lambda db: db.rows(SQL["next_prune"]))
        return None if moment is None else float(moment)

    def version(self) -> object:
        """What changes when there may be something new for a worker; None when that cannot be told just now.

        The heartbeats of our own workers, and claims alone, are nothing new.
        """
        return self._writer.changes()

    def check(self) -> None:
        """Raise `StoreReplaced` when the path names another file now, or none."""
        self._kernel.file.check_not_replaced()
