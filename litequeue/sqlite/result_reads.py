"""How waits for results read the file: which jobs have ended, and what one that has not is doing."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from litequeue.ipc.process_lock import directory_of
from litequeue.sqlite.jobs import row_values

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from litequeue.core.records import JobRecord
    from litequeue.sqlite.drivers.connection import Connection
    from litequeue.sqlite.read_connection import ReadConnection

T = TypeVar("T")


class ResultReads:
    """Reads on the connection for look-ups. `soon` makes a call in another thread, for a coroutine."""

    def __init__(
        self,
        connection: ReadConnection,
        soon: Callable[[Callable[[], T]], asyncio.Future[T]],
        database: Path,
        doing: Callable[[Connection, JobRecord], str],
    ) -> None:
        self._connection, self._soon, self._database, self._doing = connection, soon, database, doing

    @property
    def directory(self) -> Path:
        """The folder beside the file, for locks and sockets."""
        return directory_of(self._database)

    def file_version(self) -> object:
        """Return a value that differs after every commit to the file."""
        return self._connection.version()

    def ended_among(self, job_ids: Sequence[str]) -> list[str]:
        """Return those of these jobs that have ended, or are not on record."""
        return self._connection.read(lambda db: row_values.ended_among(db, job_ids))

    def busy(self) -> bool:
        """Whether the connection is in use."""
        return self._connection.busy()

    def free_within(self, seconds: float) -> bool:
        """Wait until the connection is free, at most this long; return whether it was."""
        return self._connection.free_within(seconds)

    def soon(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Make a call that reads in another thread, for a coroutine."""
        return self._soon(call)  # type: ignore[arg-type, return-value]  # a generic method given as a value

    def doing(self, record: JobRecord) -> str:
        """Return in words the state of an unfinished job, and what it waits for."""
        return self._connection.read(lambda db: self._doing(db, record))
