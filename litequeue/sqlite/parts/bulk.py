"""Bulk: what an operator does to many jobs, in chunks: a short transaction and one notification each."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from litequeue.core.records import Status
from litequeue.errors import JobNotFound, KeyConflict, LiteQueueError, Unsupported
from litequeue.sqlite.compose.ended import follow
from litequeue.sqlite.compose.groups import number_of, require
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs import control
from litequeue.sqlite.jobs.finish import until
from litequeue.sqlite.jobs.ids import is_id
from litequeue.sqlite.jobs.states import NUMBER
from litequeue.sqlite.parts.compositions import Ended, cancelling, tell_cancelled
from litequeue.sqlite.parts.spreading import spread
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from litequeue.sqlite.compose.consequences import Consequences
    from litequeue.sqlite.drivers.connection import Connection, Steps
    from litequeue.sqlite.jobs.control import Was
    from litequeue.sqlite.kernel import Kernel

CHUNK = control.CHUNK  # jobs: what is large of one is not in its row, and stays as it is


class Changed(NamedTuple):
    """What became of the jobs of one chunk: the ids of those that were changed, and the errors of others, by id.

    `also`: jobs that ended with them, of a whole composition, or since they wait for one of these. `left`: those that a
    retry did not let wait again, since other jobs have taken their keys.
    """

    done: list[str]
    refused: dict[str, LiteQueueError]
    also: Sequence[str] = ()
    left: Sequence[str] = ()


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
        where: dict[str, Any] = {"first": NUMBER[first], "last": NUMBER[last], "exactly": exactly}
        where |= {"task": task, "queue": queue}
        return self._pages("matching", where | {"before": None}, "before")

    def dead(self, status: Status, *, task: str | None = None, queue: str | None = None) -> Iterator[str]:
        """The same for jobs that have failed, were cancelled or have expired; last those that had parents, in order.

        But for those that the end of a parent has cancelled: they wait again where that one is retried.
        """
        [(_, newest)] = self._kernel.read_listing(lambda db: db.rows(SQL["id_range"]))
        where = {"state": NUMBER[status], "task": task, "queue": queue}
        yield from self._pages("matching_dead", where | {"before": None}, "before")
        yield from self._pages("matching_dead_dependents", where | {"after": 0, "newest": newest or 0}, "after")

    def cancel(self, ids: Iterable[str], *, whole: bool = False) -> Iterator[Changed]:
        """Cancel jobs, and yield what became of each chunk; a chunk is begun when it is asked for.

        `whole`: an id may be that of a group, and the last job of a composition stands for all of it.
        """
        ended: set[str] = set()  # with others
        for chunk in _chunks(ids):
            lasts = self._lasts(chunk) if whole else {}
            for name, node in lasts.items():
                yield self._cancel_whole(name, node, ended)
            left = [job_id for job_id in chunk if job_id not in lasts]
            if left:
                yield self._cancel_each(left, ended)

    def _cancel_each(self, ids: list[str], ended: set[str]) -> Changed:
        """Cancel jobs in one transaction, and what waits for them. `ended`: with others, by now."""
        now, held, with_them = self._kernel.clock.now(), self._writer.held(), Ended()
        delete_at = until(now, self._kernel.retention.result_ttl)

        def work(db: Connection) -> tuple[dict[str, Any], dict[str, LiteQueueError]]:
            with_them.clear()
            ends: list[tuple[str | int, int]] = []
            found = _each(db, ids, lambda job_id: _cancel(job_id, now, delete_at, with_them.then, ends, ended))
            if ends:
                perform(db, follow(ends, now, with_them.then))
            return found

        was, refused = self._writer.run(work)
        with_them.was.update((job_id, found) for job_id, found in was.items() if found is not None)
        also = [job_id for job_id in with_them.then.ended if job_id not in was]
        ended.update(also)
        tell_cancelled(self._kernel, held, with_them)
        self._go_on(with_them)
        return Changed(list(was), refused, also)

    def _lasts(self, ids: list[str]) -> dict[str, int]:
        """The nodes of those that are groups, or last jobs of compositions, by id."""
        groups = {each: -number_of(each) for each in ids if not is_id(each)}
        jobs = [int(each) for each in ids if is_id(each)]
        rows = self._kernel.read(lambda db: db.rows(SQL["last_among"], {"ids": json.dumps(jobs)}))
        return groups | {str(job): job for (job,) in rows}

    def _cancel_whole(self, name: str, node: int, ended: set[str]) -> Changed:
        """Cancel a whole composition, as much as one transaction may at a time."""
        was: dict[str, Was] = {}
        more = True
        while more:
            held, part = self._writer.held(), Ended()
            try:
                more = self._writer.run(lambda db: perform(db, self._whole(node, part)))  # noqa: B023
            except JobNotFound as error:
                return Changed([], {name: error.with_traceback(None)})
            tell_cancelled(self._kernel, held, part)
            self._go_on(part)
            was |= part.was
        ended.update(was)
        if not was and name not in ended:
            what = f"group {name}" if node < 0 else f"job {name}"
            return Changed([], {name: Unsupported(f"{what} has already ended")})
        return Changed([name], {}, [job_id for job_id in was if job_id != name])

    def _go_on(self, ended: Ended) -> None:
        """End what was too much for the transaction of a cancel: it may be that no worker runs, which would."""
        if ended.then.put_off and self._writer.held() is None:
            spread(self._kernel)

    def _whole(self, node: int, part: Ended) -> Steps[bool]:
        part.clear()
        if node < 0:
            yield from require(-node)
        elif not (yield SQL["standing"], {"id": node, "now": self._kernel.clock.now()}):
            raise control.unknown(str(node))
        return (yield from cancelling(self._kernel, node, part))

    def retry(self, ids: Iterable[str]) -> Iterator[Changed]:
        """Queue ended jobs again, in the same way."""
        again: set[str] = set()  # what waits again, as its parent was retried
        for chunk in _chunks(ids):
            now, held = self._kernel.clock.now(), self._writer.held()
            revived: list[str] = []

            def steps(job_id: str) -> Steps[tuple[str, ...]]:
                return _retry(job_id, now, revived, again)  # noqa: B023

            def work(db: Connection) -> tuple[dict[str, Any], dict[str, LiteQueueError]]:
                revived.clear()  # noqa: B023
                return _each(db, chunk, steps)  # noqa: B023

            done, refused = self._writer.run(work)
            again.update(revived)
            self._kernel.announce(held)
            yield Changed(list(done), refused, left=[job_id for left in done.values() for job_id in left])

    def _pages(self, statement: str, where: dict[str, Any], last: str) -> Iterator[str]:
        while page := self._page(statement, where):
            yield from page
            where[last] = page[-1]

    def _page(self, statement: str, where: dict[str, Any]) -> list[str]:
        where |= {"now": self._kernel.clock.now(), "limit": CHUNK}
        return [job_id for (job_id,) in self._kernel.read_listing(lambda db: db.rows(SQL[statement], where))]


def _each(
    db: Connection, ids: list[str], steps: Callable[[str], Steps[Any]]
) -> tuple[dict[str, Any], dict[str, LiteQueueError]]:
    """Change jobs one by one; return what the steps returned, and the refusals, by id."""
    done: dict[str, Any] = {}
    refused: dict[str, LiteQueueError] = {}
    for job_id in ids:
        try:
            done[job_id] = perform(db, steps(job_id))
        except (JobNotFound, KeyConflict, Unsupported) as error:  # before anything was changed
            refused[job_id] = error.with_traceback(None)
    return done, refused


def _cancel(
    job_id: str,
    now: float,
    delete_at: float | None,
    then: Consequences,
    ends: list[tuple[str | int, int]],
    ended: set[str],
) -> Steps[Was | None]:
    """Cancel a job; None: it has ended with another one that was cancelled here."""
    was = yield from control.cancel(job_id, now, delete_at, then, ends=ends)
    if was is None and job_id not in ended:
        raise Unsupported(f"job {job_id} has already ended")
    return was


def _retry(job_id: str, now: float, revived: list[str], again: set[str]) -> Steps[tuple[str, ...]]:
    """Retry a job, unless it waits again since its parent was retried here."""
    if job_id in again or job_id in revived:
        return ()
    return (yield from control.retry(job_id, now, revived))


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    coming = iter(ids)
    while chunk := list(islice(coming, CHUNK)):
        yield chunk
