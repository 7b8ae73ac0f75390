"""How waits for results read the file: which jobs have ended, and what one that has not is doing."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from litequeue.core.stored_names import other_version, task_of
from litequeue.ipc.process_lock import directory_of, is_held
from litequeue.limits.resources import unmet
from litequeue.sqlite.jobs import row_values
from litequeue.sqlite.limits.rules import stored_uses

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from litequeue.core.records import JobRecord
    from litequeue.sqlite.read_connection import ReadConnection

T = TypeVar("T")


class ResultReads:
    """Reads on the connection for look-ups. `soon` makes a call in another thread, for a coroutine."""

    def __init__(
        self, connection: ReadConnection, soon: Callable[[Callable[[], T]], asyncio.Future[T]], database: Path
    ) -> None:
        self._connection, self._soon, self._database = connection, soon, database

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
        workers = self._connection.read(row_values.workers)
        alive = [worker for worker in workers if is_held(self.directory, worker.token)]
        if not alive:
            return f"is still {record.status}, and no worker is running; start one: `litequeue run` or queue.worker()"
        if not any(record.task in worker.tasks for worker in alive):
            other = other_version(record.task, [task for worker in alive for task in worker.tasks])
            why = f"{other}; start one" if other else "no running worker has its task; start one that imports it"
            return f"is still {record.status}, and {why}"
        alive = [worker for worker in alive if worker.queues is None or record.queue in worker.queues]
        if not alive:
            return f"is still {record.status}, and no running worker serves its queue {record.queue!r}"
        uses = self._connection.read(stored_uses).get(task_of(record.task), {})
        having = [worker.offers for worker in alive if record.task in worker.tasks]
        if having and (missing := unmet(uses, having)) is not None:
            return f"is still {record.status}, and its task {missing}"
        return f"is still {record.status}"
