"""Limits: what the code declares, and what jobs take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.records import Status
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs.finish import finish, until
from litequeue.sqlite.limits import stored_rules
from litequeue.sqlite.limits.rules import stored_uses
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litequeue.core.outcome import ErrorInfo
    from litequeue.sqlite.drivers.connection import Connection
    from litequeue.sqlite.kernel import Kernel


class Limits:
    """The limits of one file."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._writer = kernel, kernel.writer

    def declare(self, limits: Mapping[str, str], tasks: Mapping[str, str | None]) -> None:
        """Keep what the code of a worker declares, as text, where it differs from what was declared last."""
        if self._kernel.read(lambda db: stored_rules.differs(db, limits, tasks)):
            self._writer.run(lambda db: stored_rules.declare(db, limits, tasks))
            self._kernel.notify_workers()

    def uses(self) -> dict[str, dict[str, int]]:
        """Return the resources that one run of each task uses, by its name without a version."""
        return self._kernel.read(stored_uses)

    def give_takes(self, takes: Mapping[str, str], failed: Mapping[str, ErrorInfo]) -> None:
        """Keep what jobs take of limits that did not say so; end those for which it cannot be worked out."""
        now, failed_ttl = self._kernel.clock.now(), self._kernel.retention.failed_ttl

        def work(db: Connection) -> list[str]:
            db.many(SQL["keep_takes"], takes.items())
            back = {"ids": f"[{','.join((*takes, *failed))}]"}  # they were set aside
            db.rows(SQL["bring_back"], back)
            db.rows(SQL["forget_parked"], back)
            ended: list[str] = []
            for job_id, error in failed.items():
                rows = db.rows(SQL["standing"], {"id": job_id, "now": now})
                if rows and rows[0][0] == 1:
                    end = finish(
                        job_id,
                        rows[0][1],
                        Status.FAILED,
                        now,
                        until(now, failed_ttl),
                        was=Status.QUEUED,
                        failed=1,
                        error=error,
                    )
                    if perform(db, end):
                        ended.append(job_id)
            return ended

        ended = self._writer.run(work)
        if ended:
            self._kernel.tell_ended(ended)
