"""The store: jobs, workers and schedules in one SQLite file, behind the `Store` protocol."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from litequeue.doorbell import Bell
from litequeue.errors import StoreError
from litequeue.job import FOREVER
from litequeue.interrupt import let_go
from litequeue.liveness import directory_of, open_directory, take
from litequeue.sqlite import forks, migrate, reading, timetable, transitions
from litequeue.sqlite.caller import aiosqlite_transaction, aperform, connection_of
from litequeue.sqlite.connection import perform
from litequeue.sqlite.opening import Driver, Durability, File, warn_of_old_library
from litequeue.sqlite.queries import SQL
from litequeue.sqlite.writer import Held, Writer
from litequeue.waiters import TOPIC as DONE
from litequeue.waiters import AsyncWaiter, Waiter, Waiters

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence

    from litequeue.clock import Clock
    from litequeue.engine import Demand, NewWorker, QueueCount, Rescued, ScheduleRecord, Submitted, Turn, WorkerRecord
    from litequeue.job import Claimed, JobRecord, NewJob, Status
    from litequeue.outcome import Ended
    from litequeue.sqlite.connection import Connection, Steps

T = TypeVar("T")

log = logging.getLogger("litequeue")

WORK = "work"
# How long a wait trusts the doorbell before it looks by itself, in seconds.
SAFETY_POLL = 1.0
LARGEST_RING = 50_000
_warned: set[str] = set()


class SqliteStore:
    """One file, one write connection, one reader. Safe for threads, loops and forks."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        driver: Driver,
        durability: Durability,
        clock: Clock,
        result_ttl: float,
        failed_ttl: float,
        create: bool,
        allow_unsafe_filesystem: bool = False,
    ) -> None:
        self._file = File(path, driver, durability, allow_unsafe_filesystem=allow_unsafe_filesystem)
        self.path = Path(self._file.path)
        self.clock = clock
        self._result_ttl, self._failed_ttl = result_ttl, failed_ttl
        self._writer = Writer(self._connect, full=durability == "full", monotonic=clock.monotonic)
        self._reader: Connection | None = None
        self._reading = threading.Lock()
        self._turns = itertools.count()
        self._checked = 0.0
        self._prepare(create=create)
        self._bell = Bell(self.directory, WORK, clock.monotonic)
        self._done_bell = Bell(self.directory, DONE, clock.monotonic)
        self._waiters = Waiters(lambda: open_directory(self.path))
        forks.watch(self)

    def _prepare(self, *, create: bool) -> None:
        db = self._file.connect(create=create)
        try:
            if create:
                migrate.migrate(db, self._file.path)
            else:
                migrate.check(db, self._file.path)
        finally:
            self._file.disconnect(db)
        warning = warn_of_old_library(self._file.driver)
        if warning and warning not in _warned:
            _warned.add(warning)
            log.warning(warning)

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

    def _connect(self) -> Connection:
        return self._file.connect()

    # ---- reading

    def read(self, look: Callable[[Connection], T]) -> T:
        """Run `look` on the reading connection; it must read to the end what it asks for."""
        with self._reading:
            if self._reader is None:
                self._reader = self._file.connect()
                self._reader.rows("PRAGMA query_only = on")
            return look(self._reader)

    async def aread(self, look: Callable[[Connection], T]) -> T:
        """Async twin of `read`."""
        return await asyncio.to_thread(self.read, look)

    def look_up(self, job_id: str) -> JobRecord:
        """Return the job as it now stands, or raise `JobNotFound`."""
        return self.read(lambda db: reading.look_up(db, job_id))

    async def alook_up(self, job_id: str) -> JobRecord:
        """Async twin of `look_up`."""
        return await self.aread(lambda db: reading.look_up(db, job_id))

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
        return self.read(lambda db: reading.list_jobs(db, **where))  # type: ignore[arg-type]

    def workers(self) -> list[WorkerRecord]:
        """The workers on record."""
        return self.read(reading.workers)

    def living_workers(self) -> list[WorkerRecord]:
        """The workers on record whose lock is held."""
        return [worker for worker in self.workers() if self.lives(worker.token)]

    def lives(self, token: str) -> bool:
        """Whether the worker of that token holds its lock."""
        remains = take(self.directory, token)
        if remains is None:
            return True
        remains.release()
        return False

    def schedules(self) -> list[ScheduleRecord]:
        """All schedules, by name."""
        return self.read(reading.schedules)

    def schedule(self, name: str) -> ScheduleRecord:
        """The schedule of that name; raises `ScheduleNotFound`."""
        return self.read(lambda db: timetable.require(db, name))

    def counts(self) -> list[QueueCount]:
        """How many jobs of each queue stand in each state."""
        return self.read(reading.counts)

    def ready(self) -> list[tuple[str, str, int, float]]:
        """How many jobs of each queue and task are ready, and since when the oldest waits."""
        return self.read(reading.ready)

    def durations(self, limit: int = 1000) -> dict[str, list[float]]:
        """Seconds of the last runs, by task."""
        return self.read(lambda db: reading.durations(db, limit))

    def version(self) -> int:
        """A number that changes when another connection has written to the file."""
        [(number,)] = self.read(lambda db: db.rows("PRAGMA data_version"))
        return int(number)

    def integrity(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when it is sound."""
        found = self.read(lambda db: db.rows("PRAGMA integrity_check"))
        return [text for (text,) in found if text != "ok"]

    # ---- enqueue

    def submit(self, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Store the jobs, all or none; on disk on return, or with the transaction that is open here."""
        held = self._writer.held()
        submitted = self._writer.run(lambda db: [perform(db, transitions.submit(job)) for job in jobs])
        self._announce(held)
        let_go()
        return submitted

    async def asubmit(self, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Async twin of `submit`."""
        held = self._writer.held()
        if held is not None and held.adb is not None:
            submitted = [await aperform(held.adb, transitions.submit(job)) for job in jobs]
        else:
            submitted = await self._writer.arun(lambda db: [perform(db, transitions.submit(job)) for job in jobs])
        self._announce(held)
        return submitted

    def _announce(self, held: Held | None) -> None:
        """Wake workers now, or when the transaction that is open here has been committed."""
        if held is None:
            self._bell.ring()
        elif self._bell.ring not in held.after:
            held.after.append(self._bell.ring)

    def submit_within(self, raw: Any, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Store the jobs in a transaction that the caller has open on a connection of their own."""
        db = connection_of(self._file, raw)
        return [perform(db, transitions.submit(job)) for job in jobs]

    async def asubmit_within(self, raw: Any, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Async twin of `submit_within`, also for an aiosqlite connection."""
        from litequeue.sqlite.caller import aiosqlite_connection_of

        adb = await aiosqlite_connection_of(self._file, raw)
        if adb is None:
            return self.submit_within(raw, jobs)
        return [await aperform(adb, transitions.submit(job)) for job in jobs]

    # ---- transactions of the caller's

    @contextmanager
    def transaction(self) -> Generator[Any, None, None]:
        """A write transaction; yields the driver's own connection."""
        with self._writer.transaction() as held:
            yield held.require_sync().raw
        let_go()

    @asynccontextmanager
    async def atransaction(self) -> AsyncGenerator[Any, None]:
        """Async twin of `transaction`; yields an aiosqlite connection where the driver is sqlite3."""
        async with self._aheld() as held:
            yield held.adb if held.adb is not None else held.require_sync().raw

    @asynccontextmanager
    async def _aheld(self) -> AsyncGenerator[Held, None]:
        if self.driver_name != "sqlite3":
            async with self._writer.atransaction() as held:
                yield held
            return
        async with (
            self._writer.aexclusive(),
            aiosqlite_transaction(self._file) as adb,
            self._writer.aforeign(adb) as held,
        ):
            yield held
        for call in held.after:
            call()

    @contextmanager
    def completing(self, job: Claimed, result: bytes, keep_for: float) -> Generator[Any, None, None]:
        """A write transaction whose commit holds the caller's rows and the job's success."""
        with self._writer.transaction() as held:
            db = held.require_sync()
            perform(db, transitions.require_mine(job))
            yield db.raw
            now = self.clock.now()
            perform(db, transitions.complete(job, result, now, _after(now, keep_for)))
        self._tell_ended([job.id])

    @asynccontextmanager
    async def acompleting(self, job: Claimed, result: bytes, keep_for: float) -> AsyncGenerator[Any, None]:
        """Async twin of `completing`."""
        async with self._aheld() as held:
            await _arun_held(held, transitions.require_mine(job))
            yield held.adb if held.adb is not None else held.require_sync().raw
            now = self.clock.now()
            await _arun_held(held, transitions.complete(job, result, now, _after(now, keep_for)))
        self._tell_ended([job.id])

    # ---- control

    def cancel(self, job_id: str) -> bool:
        """Cancel it; False when it has ended already."""
        done = self._writer.run(lambda db: perform(db, self._cancelling(job_id)))
        self._tell_cancelled(job_id)
        return done

    async def acancel(self, job_id: str) -> bool:
        """Async twin of `cancel`."""
        done = await self._arun(lambda: self._cancelling(job_id))
        self._tell_cancelled(job_id)
        return done

    def _cancelling(self, job_id: str) -> Steps[bool]:
        now = self.clock.now()
        return transitions.cancel(job_id, now, _after(now, self._result_ttl))

    def _tell_cancelled(self, job_id: str) -> None:
        self._bell.ring(b"cancel")
        self._tell_ended([job_id])

    def retry(self, job_id: str) -> None:
        """Queue an ended job anew."""
        held = self._writer.held()
        self._writer.run(lambda db: perform(db, transitions.retry(job_id, self.clock.now())))
        self._announce(held)

    async def aretry(self, job_id: str) -> None:
        """Async twin of `retry`."""
        held = self._writer.held()
        await self._arun(lambda: transitions.retry(job_id, self.clock.now()))
        self._announce(held)

    async def _arun(self, steps: Callable[[], Steps[T]]) -> T:
        held = self._writer.held()
        if held is not None:
            return await _arun_held(held, steps())
        return await self._writer.arun(lambda db: perform(db, steps()))

    # ---- waiting

    def wait(self, job_id: str, timeout: float | None) -> JobRecord:
        """Block until the job has ended, or raise `TimeoutError`, which says what it is doing."""
        self._refuse_wait_inside()
        deadline = None if timeout is None else self.clock.monotonic() + timeout
        waiter = Waiter(job_id)
        # arm, then read, then wait: an end in between wakes us
        self._waiters.add(waiter)
        try:
            while not (record := self.look_up(job_id)).status.finished:
                left = self._left(deadline, record, timeout)
                waiter.event.wait(left)
                waiter.event.clear()
            return record
        finally:
            self._waiters.remove(waiter)

    async def await_end(self, job_id: str, timeout: float | None) -> JobRecord:
        """Async twin of `wait`."""
        self._refuse_wait_inside()
        deadline = None if timeout is None else self.clock.monotonic() + timeout
        waiter = AsyncWaiter(job_id)
        self._waiters.add(waiter)
        try:
            while not (record := await self.alook_up(job_id)).status.finished:
                left = self._left(deadline, record, timeout)
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(waiter.event.wait(), left)
                waiter.event.clear()
            return record
        finally:
            self._waiters.remove(waiter)

    def _refuse_wait_inside(self) -> None:
        if self._writer.held() is not None:
            raise StoreError("a result cannot be waited for inside a transaction: the job starts only after its commit")

    def _left(self, deadline: float | None, record: JobRecord, timeout: float | None) -> float:
        if deadline is None:
            return SAFETY_POLL
        left = deadline - self.clock.monotonic()
        if left <= 0:
            raise TimeoutError(f"job {record.id} ({record.task}) {self._doing(record)} after {timeout:g} s")
        return min(left, SAFETY_POLL)

    def _doing(self, record: JobRecord) -> str:
        alive = self.living_workers()
        if not alive:
            return f"is still {record.status}, and no worker is alive; start one with `litequeue run` or queue.worker()"
        if not any(record.task in worker.tasks for worker in alive):
            return f"is still {record.status}, and no living worker knows its task; start one that imports it"
        if not any(worker.queues is None or record.queue in worker.queues for worker in alive):
            return f"is still {record.status}, and no living worker serves its queue {record.queue!r}"
        return f"is still {record.status}"

    # ---- worker

    def claim(
        self, worker: int, demands: Sequence[Demand], queues: tuple[str, ...] | None, ended: Sequence[Ended] = ()
    ) -> Turn:
        """Record how runs ended and hand out jobs to start, in one transaction."""
        turn = next(self._turns)

        def work(db: Connection) -> Turn:
            return transitions.turn(db, worker, demands, queues, ended, self.clock.now(), self._result_ttl, turn)

        # a claim alone need not survive power loss: the job is then simply queued again
        outcome = self._writer.run(work, durable=bool(ended))
        if ended:
            self._tell_ended([end.job.id for end in ended])
        return outcome

    def settle(self, ended: Sequence[Ended]) -> list[Ended]:
        """Record how runs ended; return those that came too late and changed nothing."""
        lost = self._writer.run(lambda db: transitions.settle(db, ended))
        self._tell_ended([end.job.id for end in ended])
        self._bell.ring()
        return lost

    def _tell_ended(self, job_ids: list[str]) -> None:
        self._waiters.ended(job_ids)
        message = " ".join(job_ids).encode()
        self._done_bell.ring(message if len(message) < LARGEST_RING else b"")

    def rescue(self, worker: int, executing: frozenset[str] | None, *, blame: bool) -> Rescued:
        """Put a dead worker's jobs back, and take it off the record."""
        now = self.clock.now()
        until = _after(now, self._failed_ttl)
        rescued = self._writer.run(
            lambda db: transitions.rescue(db, worker, executing, now, until, blame=blame), durable=False
        )
        self._bell.ring()
        self._tell_ended([*rescued.condemned, *rescued.cancelled])
        return rescued

    def ownerless(self) -> list[int]:
        """Numbers of workers that hold running jobs but are not on record."""
        return self.read(lambda db: [number for (number,) in db.rows(SQL["ownerless"])])

    def prune(self, limit: int = transitions.CHUNK) -> int:
        """Delete at most `limit` jobs whose time has come; return how many."""
        return self._writer.run(lambda db: transitions.prune(db, self.clock.now(), limit), durable=False)

    def next_prune(self) -> float | None:
        """When the next job is to be deleted."""
        [(moment,)] = self.read(lambda db: db.rows(SQL["next_prune"]))
        return None if moment is None else float(moment)

    def note_progress(self, job: Claimed, progress: str) -> bool:
        """Record a running job's progress; return whether its cancel was asked for. Raises `Fenced`."""
        return self._writer.run(lambda db: transitions.note_progress(db, job, progress), durable=False)

    def requested_cancels(self, worker: int) -> list[tuple[str, int]]:
        """The worker's running jobs that are to be cancelled, as (id, attempt)."""
        return self.read(lambda db: [(row[0], row[1]) for row in db.rows(SQL["requested_cancels"], {"worker": worker})])

    def sign_on(self, worker: NewWorker) -> int:
        """Enter a worker; return its number."""
        now = self.clock.now()
        return self._writer.run(lambda db: transitions.sign_on(db, worker, now), durable=False)

    def beat(self, worker: int) -> bool:
        """Move the worker's heartbeat; False when it was declared dead meanwhile."""
        values = {"worker": worker, "now": self.clock.now()}
        return bool(self._writer.run(lambda db: db.rows(SQL["beat"], values), durable=False))

    # ---- schedules

    def declare(self, schedules: Sequence[ScheduleRecord], tasks: frozenset[str]) -> None:
        """Make the file's declared schedules those of the code, as far as they are of these tasks."""
        now = self.clock.now()
        self._writer.run(lambda db: timetable.declare(db, schedules, tasks, now))
        self._bell.ring()

    def fire(self, tasks: frozenset[str]) -> float | None:
        """Enqueue what is due of these tasks' schedules; return when the next is due."""
        fired, next_at = self._writer.run(lambda db: timetable.fire(db, tasks, self.clock.now()))
        if fired:
            self._bell.ring()
        return next_at

    def put_schedule(self, schedule: ScheduleRecord, *, replace: bool) -> None:
        """Add a schedule, or change the one of its name."""
        self._change_schedule(lambda db: timetable.put(db, schedule, self.clock.now(), replace=replace))

    def remove_schedule(self, name: str) -> None:
        """Delete a schedule."""
        self._change_schedule(lambda db: timetable.remove(db, name))

    def pause_schedule(self, name: str) -> None:
        """Let it fire no more until it is resumed."""
        self._change_schedule(lambda db: timetable.pause(db, name))

    def resume_schedule(self, name: str) -> None:
        """Let it go on from now."""
        self._change_schedule(lambda db: timetable.resume(db, name, self.clock.now()))

    def trigger_schedule(self, name: str) -> str:
        """Enqueue its call at once; return the job's id."""
        return self._change_schedule(lambda db: timetable.trigger_now(db, name, self.clock.now()))

    def _change_schedule(self, work: Callable[[Connection], T]) -> T:
        held = self._writer.held()
        value = self._writer.run(work)
        self._announce(held)
        return value

    # ---- the file

    def check(self) -> None:
        """Raise `StoreReplaced` when the path names another file now, or none."""
        self._file.check_not_replaced()

    def tidy(self) -> None:
        """Idle work: hand free pages back in small steps, and move the WAL into the file without blocking anyone."""
        self._writer.run_outside(migrate.tidy)

    def wal_size(self) -> int:
        """Bytes in the WAL now."""
        wal = Path(f"{self.path}-wal")
        return wal.stat().st_size if wal.exists() else 0

    def close(self) -> None:
        """Close the connections; they are opened anew when used again."""
        self._waiters.close()
        self._bell.close()
        self._done_bell.close()
        self._writer.close(self._file.disconnect)
        with self._reading:
            reader, self._reader = self._reader, None
            if reader is not None:
                self._file.disconnect(reader)

    # ---- fork

    def before_fork(self) -> tuple[bool, bool]:
        """Close what is open, so that the child inherits no lock state; tell what could be closed."""
        quiet = self._writer.quiesce(self._file.disconnect)
        reading_stopped = self._reading.acquire(timeout=1.0)
        if reading_stopped and self._reader is not None:
            self._file.disconnect(self._reader)
            self._reader = None
        return quiet, reading_stopped

    def after_fork_in_parent(self, stopped: tuple[bool, bool]) -> None:
        """Go on as before."""
        quiet, reading_stopped = stopped
        if reading_stopped:
            self._reading.release()
        if quiet:
            self._writer.go_on()

    def after_fork_in_child(self) -> list[Connection]:
        """Forget what was inherited; return connections that must never be closed here."""
        left = [self._writer.start_anew(), self._reader]
        self._reader = None
        self._reading = threading.Lock()
        self._waiters.start_anew()
        return [db for db in left if db is not None]

    def __repr__(self) -> str:
        return f"<SqliteStore {self.path} driver={self.driver_name}>"


def _after(now: float, span: float) -> float | None:
    return None if span == FOREVER else now + span


async def _arun_held(held: Held, steps: Steps[T]) -> T:
    if held.adb is not None:
        return await aperform(held.adb, steps)
    return perform(held.require_sync(), steps)
