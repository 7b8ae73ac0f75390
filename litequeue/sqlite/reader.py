"""Look at a queue's file: jobs, workers, schedules, counts, health. Changes nothing in it."""

from __future__ import annotations

import json
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from litequeue.core.background import Background
from litequeue.core.logger import later, say
from litequeue.core.owner_process import OwnerProcess
from litequeue.ipc.process_lock import directory_of, loop_silent_since, take
from litequeue.sqlite.file import guards, migrate
from litequeue.sqlite.file.opening import Durability, File, warn_of_old_library
from litequeue.sqlite.jobs import row_values, stored_schedules
from litequeue.sqlite.jobs.claim import claims
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from litequeue.core.engine import QueueCount, ScheduleRecord, WorkerRecord
    from litequeue.job import Claimed, JobRecord, Status
    from litequeue.sqlite.drivers.connection import Connection

T = TypeVar("T")

LOOK_AGAIN = 0.005  # seconds between looks whether the connection is free, at most

_warned: set[str] = set()


class Reader:
    """One file and one connection that reads it, which threads share."""

    def __init__(self, file: File, *, create: bool) -> None:
        self._file = file
        self.path: Path = Path(file.path)
        self._reader: Connection | None = None
        self._reading = threading.Lock()
        self._owner = OwnerProcess(file.path)
        self._thread = Background("litequeue-reader")  # in which coroutines have it read
        try:
            with guards.opening():
                self._prepare(create=create)
        finally:
            say()

    def _prepare(self, *, create: bool) -> None:
        """Make or check the tables, and leave nothing open: a server may fork between this and the first use."""
        db = self._file.connect(create=create)
        try:
            if create:
                migrate.migrate(db, self._file.path)
                self._file.give_next_id(db)
            else:
                migrate.check(db, self._file.path)
        finally:
            self._file.disconnect(db)
        warning = warn_of_old_library(self._file.driver)
        if warning and warning not in _warned:
            _warned.add(warning)
            later.warning(warning)

    @property
    def directory(self) -> Path:
        """Where locks and sockets lie, beside the file; made by the first who needs it."""
        return directory_of(self.path)

    @property
    def driver_name(self) -> str:
        """The name of the driver in use."""
        return self._file.driver.LIBRARY

    @property
    def library_version(self) -> str:
        """The version of the SQLite library in use."""
        return self._file.driver.library_version()

    @property
    def durability(self) -> Durability:
        """What a commit survives: power loss ("full"), or a crash of the process ("normal")."""
        return self._file.durability

    def check_process(self) -> None:
        """Raise `StoreError` in a process that was forked, without Python's hooks, while the file was open."""
        self._owner.enter()

    # ---- reading

    def _connect(self, *, lent: bool = False) -> Connection:
        self._owner.enter()  # again, beside a close() in another thread
        return self._file.connect_to_queue(lent=lent)

    def read(self, look: Callable[[Connection], T]) -> T:
        """Run `look` on the reading connection; it must read to the end what it asks for."""
        self._owner.enter()
        with self._reading:
            db = self._reader
            if db is None:
                db = self._reader = self._connect()
                db.rows("PRAGMA query_only = on")
            db.check_files()  # what is read in a file that was deleted or replaced is no longer true
            return look(db)

    async def aread(self, look: Callable[[Connection], T]) -> T:
        """Async twin of `read`."""
        return await self.soon(partial(self.read, look))

    def soon(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Make a call that reads in a thread of our own, for a coroutine; return its future."""
        return self._thread.future(call)

    def busy(self) -> bool:
        """Whether the reading connection is in use."""
        return self._reading.locked()

    def free_within(self, seconds: float) -> bool:
        """Wait until the reading connection is free, at most so long; return whether it was."""
        # not by acquire(timeout=): a Ctrl-C between that and what releases it would keep everybody out for good
        pause = LOOK_AGAIN / 64
        while self._reading.locked():
            if seconds <= 0:
                return False
            time.sleep(pause)
            seconds, pause = seconds - pause, min(2 * pause, LOOK_AGAIN)
        return True

    def has_ended(self, job_id: str) -> bool:
        """Whether the job has ended, or raise `JobNotFound`; a fraction of what `look_up` costs."""
        return self.read(lambda db: row_values.has_ended(db, job_id))

    def look_up(self, job_id: str) -> JobRecord:
        """Return the job as it now stands, or raise `JobNotFound`."""
        return self.read(lambda db: row_values.look_up(db, job_id))

    async def alook_up(self, job_id: str) -> JobRecord:
        """Async twin of `look_up`."""
        return await self.aread(lambda db: row_values.look_up(db, job_id))

    def list_jobs(
        self,
        *,
        status: Status | None = None,
        task: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> list[JobRecord]:
        """Return the newest jobs that match, newest first."""
        where = {"status": status, "task": task, "queue": queue, "tag": tag, "limit": limit, "before": before}
        return self.read(lambda db: row_values.list_jobs(db, **where))  # type: ignore[arg-type]

    def workers(self) -> list[WorkerRecord]:
        """The workers on record."""
        return self.read(row_values.workers)

    def living_workers(self) -> list[WorkerRecord]:
        """The workers on record whose lock is held."""
        return [worker for worker in self.workers() if self.lives(worker.token)]

    def lives(self, token: str) -> bool:
        """Whether the worker of that token holds its lock."""
        dead_process = take(self.directory, token)
        if dead_process is None:
            return True
        dead_process.release()
        return False

    def loop_silent_since(self, token: str) -> float | None:
        """Since what unix second an event loop of that living worker has not answered; None: it does."""
        return loop_silent_since(self.directory, token)

    def doing(self, record: JobRecord) -> str:
        """Say where an unfinished job stands, and what it waits for."""
        alive = self.living_workers()
        if not alive:
            return f"is still {record.status}, and no worker is alive; start one with `litequeue run` or queue.worker()"
        if not any(record.task in worker.tasks for worker in alive):
            return f"is still {record.status}, and no living worker knows its task; start one that imports it"
        if not any(worker.queues is None or record.queue in worker.queues for worker in alive):
            return f"is still {record.status}, and no living worker serves its queue {record.queue!r}"
        return f"is still {record.status}"

    def schedules(self) -> list[ScheduleRecord]:
        """All schedules, by name."""
        return self.read(row_values.schedules)

    def next_schedule(self, tasks: frozenset[str]) -> float | None:
        """When the next schedule of these tasks is due."""
        known = {"tasks": json.dumps(sorted(tasks)), "broken": "[]"}
        [(moment,)] = self.read(lambda db: db.rows(SQL["next_schedule"], known))
        return None if moment is None else float(moment)

    def schedule(self, name: str) -> ScheduleRecord:
        """The schedule of that name; raises `ScheduleNotFound`."""
        return self.read(lambda db: stored_schedules.require(db, name))

    def counts(self) -> list[QueueCount]:
        """How many jobs of each queue stand in each state."""
        return self.read(row_values.counts)

    def ready(self) -> list[tuple[str, str, int, float]]:
        """How many jobs of each queue and task are ready, and since when the oldest waits."""
        return self.read(row_values.ready)

    def durations(self, limit: int = 1000) -> dict[str, list[float]]:
        """Seconds of the last runs, by task."""
        return self.read(lambda db: row_values.durations(db, limit))

    def integrity(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when it is sound."""
        found = self.read(lambda db: db.rows("PRAGMA integrity_check"))
        return [text for (text,) in found if text != "ok"]

    def ownerless(self) -> list[int]:
        """Numbers of workers that hold running jobs but are not on record."""
        return self.read(lambda db: [number for (number,) in db.rows(SQL["ownerless"])])

    def orphans(self) -> int:
        """How many errors are kept of jobs that are gone."""
        [(count,)] = self.read(lambda db: db.rows(SQL["orphans"]))
        return int(count)

    def next_prune(self) -> float | None:
        """When the next job is to be deleted."""
        [(moment,)] = self.read(lambda db: db.rows(SQL["next_prune"]))
        return None if moment is None else float(moment)

    def claims_of(self, worker: int) -> list[Claimed]:
        """The jobs that stand as running under the worker."""

        def look(db: Connection) -> list[Claimed]:
            return claims(db, [int(row[0]) for row in db.rows(SQL["runs_of"], {"worker": worker})])

        return self.read(look)

    def requested_cancels(self, worker: int) -> list[tuple[str, int]]:
        """The worker's running jobs that are to be cancelled, as (id, attempt)."""
        return self.read(lambda db: [(row[0], row[1]) for row in db.rows(SQL["requested_cancels"], {"worker": worker})])

    def check(self) -> None:
        """Raise `StoreReplaced` when the path names another file now, or none."""
        self._file.check_not_replaced()

    def wal_size(self) -> int:
        """Bytes in the WAL now."""
        wal = Path(f"{self.path}-wal")
        return wal.stat().st_size if wal.exists() else 0

    def close_reader(self) -> None:
        """Close the reading connection; it is opened anew when used again."""
        self._thread.close()
        with self._reading:
            self._drop_reader()

    def _drop_reader(self) -> None:
        """Close it, by whoever holds `_reading`."""
        reader, self._reader = self._reader, None
        if reader is not None:
            self._file.disconnect(reader)
