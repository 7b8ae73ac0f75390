"""Administration: backup, repair, and what `status` and `doctor` ask."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from litequeue.sqlite.compose.mend import astray
from litequeue.sqlite.jobs import counts, row_values
from litequeue.sqlite.limits import overview
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from litequeue.sqlite.drivers.connection import Connection
    from litequeue.sqlite.jobs.counts import Ready
    from litequeue.sqlite.kernel import Kernel


class Admin:
    """What an operator asks of one file and does to it."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._writer = kernel, kernel.writer

    def repair(self, work: Callable[[Connection], str]) -> str:
        """Run one of `sqlite.repair`; return what it has done."""
        return self._writer.run_outside(work)

    def backup(self, copy: str | os.PathLike[str], *, as_it_is: bool = False) -> Path:
        """Copy the file while it is in use; in the copy no worker is registered, and jobs that were running are queued.

        `as_it_is`: neither that nor a check, for a file that is to be mended.
        """
        from litequeue.sqlite.admin.backup import backup

        self._kernel.file.check_not_replaced()
        with self._kernel.copying:
            return backup(
                self._kernel.file, copy, self._kernel.clock.now(), self._kernel.retention._asdict(), as_it_is=as_it_is
            )

    def ready(self) -> list[Ready]:
        """How many jobs of each queue and task are ready, and since when the oldest waits.

        The oldest is looked for among the first 100 jobs of each priority, or fewer where there are more than 100 of
        these: where all of them were scheduled for later or have been retried, an older one may stand behind them.
        """
        return self._kernel.read_listing(counts.ready)

    def parked(self) -> dict[str, int]:
        """How many jobs of each queue wait for a full key of a limit."""
        return dict(self._kernel.read_listing(lambda db: db.rows(SQL["parked_of_queues"])))

    def durations(self, limit: int = 1000) -> dict[str, list[float]]:
        """Seconds of the last runs, by task."""
        return self._kernel.read_listing(lambda db: row_values.durations(db, limit))

    def integrity(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when it is sound."""
        found = self._kernel.read_listing(lambda db: db.rows("PRAGMA integrity_check"))
        return [text for (text,) in found if text != "ok"]

    def orphans(self) -> dict[str, int]:
        """How many rows of each kind are kept of jobs, limits and workers that are gone."""
        return {what: count for what, count in self._kernel.read_listing(lambda db: db.rows(SQL["orphans"])) if count}

    def stuck(self) -> int:
        """How many jobs wait for nothing in this file, or are parked and nothing looks whether they may go on."""

        def count(db: Connection) -> int:
            [(stuck, unseen)] = db.rows(SQL["stuck_jobs"])
            return int(stuck + unseen) + astray(db)

        return self._kernel.read_listing(count)

    def too_costly(self) -> list[tuple[str, str, int, int]]:
        """Return tasks that take more of a limit than that ever has: task, limit, cost, and the most there is."""
        return self._kernel.read(overview.too_costly)

    def wal_size(self) -> int:
        """Bytes in the WAL now."""
        wal = Path(f"{self._kernel.path}-wal")
        return wal.stat().st_size if wal.exists() else 0
