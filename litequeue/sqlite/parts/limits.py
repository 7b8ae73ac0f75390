"""Limits: what the code declares, and what jobs take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.records import Status
from litequeue.limits.task_rules import takes_of
from litequeue.sqlite.compose.consequences import Consequences
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs.finish import finish, until
from litequeue.sqlite.jobs.states import STATES
from litequeue.sqlite.limits import stored_rules
from litequeue.sqlite.limits.bring_back import bring_these_back
from litequeue.sqlite.limits.rules import stored_uses
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litequeue.core.outcome import ErrorInfo
    from litequeue.sqlite.drivers.connection import Connection
    from litequeue.sqlite.kernel import Kernel
    from litequeue.sqlite.limits.rules import Rules


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

    def give_takes(self, takes: Mapping[str, str], failed: Mapping[str, ErrorInfo]) -> bool:
        """Keep what jobs take of limits that did not say so; end those for which it cannot be worked out.

        Return whether any may start now, or let others start: not where the file asks for more than they say.
        """

        def work(db: Connection) -> tuple[list[str], list[str], Consequences]:
            then = Consequences()
            known = self._kernel.known_rules.now(db)
            tasks: dict[str, str] = dict(db.rows(SQL["tasks_among"], {"ids": f"[{','.join(takes)}]"}))
            said = [job_id for job_id, text in takes.items() if says_all(known, tasks.get(job_id), text)]
            db.many(SQL["keep_takes"], [(job_id, takes[job_id]) for job_id in said])
            perform(db, bring_these_back((*said, *failed)))  # they were set aside
            return said, [job_id for job_id, error in failed.items() if self._fail(db, job_id, error, then)], then

        said, ended, then = self._writer.run(work)
        if ended:
            self._kernel.tell_ended(ended)
        self._kernel.tell(then)
        return bool(said or ended)

    def _fail(self, db: Connection, job_id: str, error: ErrorInfo, then: Consequences) -> bool:
        now, kept = self._kernel.clock.now(), self._kernel.retention.failed_ttl
        rows = db.rows(SQL["standing"], {"id": job_id, "now": now})
        if not rows or STATES[rows[0][0]] is not Status.QUEUED:
            return False
        was = Status.QUEUED
        end = now, until(now, kept)
        return perform(db, finish(job_id, rows[0][1], Status.FAILED, *end, was=was, failed=1, error=error, then=then))


def says_all(known: Rules, task: str | None, takes: str) -> bool:
    """Whether this is all that the rules of a job's task ask for."""
    rules = None if task is None else known.of(task)
    return task is not None and (rules is None or not takes_of(rules, takes).missing)
