"""How waits for results, and look-ups of coroutines, read the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from litequeue.core.clock import SystemClock
from litequeue.core.records import JobRecord
from litequeue.errors import JobNotFound
from litequeue.ipc.look_ups import LookUps
from litequeue.ipc.process_lock import directory_of
from litequeue.sqlite.jobs import row_values

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from litequeue.core.background import Background
    from litequeue.sqlite.drivers.connection import Connection
    from litequeue.sqlite.read_connection import ReadConnection

T = TypeVar("T")
Found = JobRecord | JobNotFound


RECORDS = 100  # jobs read at once: with a result of 1 MiB each, that keeps others from the connection for some 50 ms
BUSY = "other threads kept the file's connection busy the whole time"


class ResultReads:
    """Reads on the connection for look-ups; for coroutines they are made in the `thread`."""

    def __init__(
        self,
        connection: ReadConnection,
        thread: Background,
        database: Path,
        now: Callable[[], float],
        doing: Callable[[Connection, JobRecord], str],
    ) -> None:
        self._connection, self._thread, self._database = connection, thread, database
        self._now, self._doing = now, doing
        self._look_ups: LookUps[Found] = LookUps(self._found, thread.future_on)
        self._ends: LookUps[Found | None] = LookUps(self._ended, thread.future_on)

    def reset_after_fork(self) -> None:
        """Forget what coroutines have asked for, in the child of a fork."""
        self._look_ups.reset_after_fork()
        self._ends.reset_after_fork()

    @property
    def directory(self) -> Path:
        """The folder beside the file, for locks and sockets."""
        return directory_of(self._database)

    def file_version(self) -> object:
        """Return a value that differs after every commit to the file."""
        return self._connection.version()

    def ended_among(self, job_ids: Sequence[str]) -> list[str]:
        """Return those of these jobs that have ended, or are not on record."""
        return self._ended_among(job_ids)

    def busy(self) -> bool:
        """Whether the connection is in use."""
        return self._connection.busy()

    def free_within(self, seconds: float) -> bool:
        """Wait until the connection is free, at most this long; return whether it was."""
        return self._connection.free_within(seconds)

    def soon(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Make a call that reads in another thread, for a coroutine."""
        return self._thread.future(call)

    def later(self, call: Callable[[], object]) -> None:
        """Make a call in the same thread; may be asked for at any moment, also amid another request."""
        self._thread.submit(call)

    def look_up_many(self, job_ids: Sequence[str], until: float | None = None) -> dict[str, JobRecord]:
        """Read those of these jobs that are on record, by id; `until`: raise `TimeoutError` after that (monotonic)."""
        found: dict[str, JobRecord] = {}
        for first in range(0, len(job_ids), RECORDS):
            if until is not None and not self.free_within(until - SystemClock.monotonic()):
                raise TimeoutError(BUSY)
            some = job_ids[first : first + RECORDS]
            found |= self._connection.read(lambda db, some=some: row_values.look_up_many(db, some, self._now()))  # type: ignore[misc]
        return found

    def look_up_soon(self, job_id: str) -> asyncio.Future[Found]:
        """Look up a job in any state, for a coroutine."""
        return self._look_ups.ask(job_id)

    def end_of(self, job_id: str) -> asyncio.Future[Found | None]:
        """Look up a job that has ended, for a coroutine; None: it has not."""
        return self._ends.ask(job_id)

    def _found(self, job_ids: Sequence[str]) -> dict[str, Found]:
        found = self.look_up_many(job_ids)
        return {job_id: found.get(job_id) or row_values.not_found(job_id) for job_id in job_ids}

    def _ended(self, job_ids: Sequence[str]) -> dict[str, Found | None]:
        return {**dict.fromkeys(job_ids), **self._found(self._ended_among(job_ids))}

    def _ended_among(self, job_ids: Sequence[str]) -> list[str]:
        return self._connection.read(lambda db: row_values.ended_among(db, job_ids))

    def doing(self, record: JobRecord) -> str:
        """Return in words the state of an unfinished job, and what it waits for."""
        return self._connection.read(lambda db: self._doing(db, record))
