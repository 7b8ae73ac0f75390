"""Maintenance of the file: prune, tidy, and notice what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.sqlite.file import migrate
from litequeue.sqlite.jobs import control
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.kernel import Kernel


class FileMaintenance:
    """What a worker does to the file beside its jobs."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._writer = kernel, kernel.writer

    def prune(self, limit: int = control.CHUNK) -> int:
        """Delete at most `limit` jobs that have been kept long enough; return how many."""
        return self._writer.run(lambda db: control.prune(db, self._kernel.clock.now(), limit), durable=False)

    def next_prune(self) -> float | None:
        """When the next job is to be deleted."""
        [(moment,)] = self._kernel.read(lambda db: db.rows(SQL["next_prune"]))
        return None if moment is None else float(moment)

    def version(self) -> object:
        """What changes when there may be something new for a worker; None when that cannot be told just now.

        The heartbeats of our own workers, and claims alone, are nothing new.
        """
        return self._writer.changes()

    def tidy(self) -> None:
        """Idle work: hand free pages back in small steps, and move the WAL into the file without blocking anyone."""
        self._writer.run_outside(migrate.tidy)

    def check(self) -> None:
        """Raise `StoreReplaced` when the path names another file now, or none."""
        self._kernel.file.check_not_replaced()
