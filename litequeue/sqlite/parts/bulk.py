"""Bulk: what an operator does to many jobs, in chunks: a short transaction and one notification each."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from litequeue.core.records import Status
from litequeue.errors import JobNotFound, KeyConflict, LiteQueueError, Unsupported
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs import control
from litequeue.sqlite.jobs.finish import until
from litequeue.sqlite.jobs.states import NUMBER
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from litequeue.sqlite.drivers.connection import Connection, Steps
    from litequeue.sqlite.jobs.control import Was
    from litequeue.sqlite.kernel import Kernel

CHUNK = control.CHUNK  # jobs: what is large of one is not in its row, and stays as it is


class Changed(NamedTuple):
    """What became of the jobs of one chunk: the ids of those that were changed, and the errors of others, by id."""

    done: list[str]
    refused: dict[str, LiteQueueError]


class Bulk:
    """Changes of many jobs of one file. Each chunk stays done, so the same call goes on after an interruption."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._writer = kernel, kernel.writer

    def unfinished(
        self, status: Status | None = None, *, task: str | None = None, queue: str | None = None
    ) -> Iterator[str]:
        """Yield the ids of unfinished jobs that match, newest first; they are read as they are asked for."""
        first, last = (Status.SCHEDULED, Status.RUNNING) if status is None else (status, status)
        if status is Status.QUEUED:  # parked ones stand among the waiting
            last = Status.WAITING
        exactly = None if status is None else NUMBER[status]
        where = {"first": NUMBER[first], "last": NUMBER[last], "exactly": exactly, "task": task, "queue": queue}
        return self._pages("matching", where)

    def dead(self, status: Status, *, task: str | None = None, queue: str | None = None) -> Iterator[str]:
        """The same for jobs that have failed, were cancelled or have expired."""
        return self._pages("matching_dead", {"state": NUMBER[status], "task": task, "queue": queue})

    def cancel(self, ids: Iterable[str]) -> Iterator[Changed]:
        """Cancel jobs, and yield what became of each chunk; a chunk is begun when it is asked for."""
        for chunk in _chunks(ids):
            now, held = self._kernel.clock.now(), self._writer.held()
            delete_at = until(now, self._kernel.retention.result_ttl)
            was, refused = self._change(chunk, lambda job_id: _cancel(job_id, now, delete_at))  # noqa: B023
            self._kernel.tell_cancelled(held, was)
            yield Changed(list(was), refused)

    def retry(self, ids: Iterable[str]) -> Iterator[Changed]:
        """Queue ended jobs again, in the same way."""
        for chunk in _chunks(ids):
            now, held = self._kernel.clock.now(), self._writer.held()
            done, refused = self._change(chunk, lambda job_id: control.retry(job_id, now))  # noqa: B023
            self._kernel.announce(held)
            yield Changed(list(done), refused)

    def _change(
        self, chunk: list[str], steps: Callable[[str], Steps[Any]]
    ) -> tuple[dict[str, Any], dict[str, LiteQueueError]]:
        """Change the jobs of a chunk in one transaction; return what the steps returned, and the refusals, by id."""

        def work(db: Connection) -> tuple[dict[str, Any], dict[str, LiteQueueError]]:
            done: dict[str, Any] = {}
            refused: dict[str, LiteQueueError] = {}
            for job_id in chunk:
                try:
                    done[job_id] = perform(db, steps(job_id))
                except (JobNotFound, KeyConflict, Unsupported) as error:  # before anything was changed
                    refused[job_id] = error.with_traceback(None)
            return done, refused

        return self._writer.run(work)

    def _pages(self, statement: str, where: dict[str, Any]) -> Iterator[str]:
        before: str | None = None
        while page := self._page(statement, where | {"before": before}):
            yield from page
            before = page[-1]

    def _page(self, statement: str, where: dict[str, Any]) -> list[str]:
        where |= {"now": self._kernel.clock.now(), "limit": CHUNK}
        return [job_id for (job_id,) in self._kernel.read_listing(lambda db: db.rows(SQL[statement], where))]


def _cancel(job_id: str, now: float, delete_at: float | None) -> Steps[Was]:
    was = yield from control.cancel(job_id, now, delete_at)
    if was is None:
        raise Unsupported(f"job {job_id} has already ended")
    return was


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    coming = iter(ids)
    while chunk := list(islice(coming, CHUNK)):
        yield chunk
