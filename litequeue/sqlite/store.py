"""The store: jobs, workers and schedules in one SQLite file, behind the `Store` protocol."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from litequeue.doorbell import CANCEL, DONE, SCHEDULES, WORK, Bell
from litequeue.errors import StoreError
from litequeue.interrupt import let_go
from litequeue.job import FOREVER
from litequeue.liveness import open_directory
from litequeue.outcome import Ended, Released
from litequeue.sqlite import forks, migrate, timetable, transitions
from litequeue.sqlite.caller import (
    aiosqlite_connection_of,
    aiosqlite_transaction,
    aperform,
    connection_of,
    perform_held,
)  # fmt: skip
from litequeue.sqlite.connection import BUSY_SECONDS, perform
from litequeue.sqlite.opening import Driver, Durability, File
from litequeue.sqlite.queries import SQL
from litequeue.sqlite.reader import Reader
from litequeue.sqlite.writer import Held, Writer
from litequeue.waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence

    from litequeue.clock import Clock
    from litequeue.engine import Demand, NewWorker, Rescued, ScheduleRecord, Submitted, Turn
    from litequeue.job import Claimed, JobRecord, NewJob
    from litequeue.sqlite.connection import Connection, Steps

T = TypeVar("T")

log: logging.Logger = logging.getLogger("litequeue")

LARGEST_RING = 50_000
CHECK_EVERY = 1.0  # seconds between looks whether the file is still the one at its path


class SqliteStore(Reader):
    """A reader of the file that writes it, too, on one connection a process. Safe for threads, loops and forks."""

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
        super().__init__(File(path, driver, durability, allow_unsafe_filesystem=allow_unsafe_filesystem), create=create)
        self.clock = clock
        self._result_ttl, self._failed_ttl = result_ttl, failed_ttl
        self._writer = Writer(self._file.connect, full=durability == "full", monotonic=clock.monotonic)
        self._turns = itertools.count()
        self._checked = 0.0
        self._bell = Bell(self.directory, WORK, clock.monotonic)
        self._done_bell = Bell(self.directory, DONE, clock.monotonic)
        self._waiters = Waiters(lambda: open_directory(self.path), clock.monotonic, self.doing)
        forks.watch(self)

    # ---- enqueue

    def submit(self, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Store the jobs, all or none; on disk on return, or with the transaction that is open here."""
        self._check_now_and_then()
        held = self._writer.held()
        if len(jobs) == 1 and jobs[0].key is None:
            submitted = [self._writer.run(lambda db: transitions.insert(db, jobs[0]), single=True)]
        else:
            submitted = self._writer.run(lambda db: [_submit(db, job) for job in jobs])
        self._announce(held)
        let_go()
        return submitted

    async def asubmit(self, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Async twin of `submit`."""
        self._check_now_and_then()
        held = self._writer.held()
        if held is not None and held.adb is not None:
            submitted = [await aperform(held.adb, transitions.submit(job)) for job in jobs]
        else:
            submitted = await self._writer.arun(lambda db: [_submit(db, job) for job in jobs])
        self._announce(held)
        return submitted

    def _check_now_and_then(self) -> None:
        """A job stored in a file that was deleted or replaced would be lost."""
        now = self.clock.monotonic()
        if now - self._checked >= CHECK_EVERY:
            self._checked = now
            self.check()

    def _announce(self, held: Held | None) -> None:
        """Wake workers now, or when the transaction that is open here has been committed."""
        if held is None:
            self._bell.ring()
        elif self._bell.ring not in held.after:
            held.after.append(self._bell.ring)

    def submit_within(self, raw: Any, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Store the jobs in a transaction that the caller has open on a connection of their own."""
        db = connection_of(self._file, raw)
        return [_submit(db, job) for job in jobs]

    async def asubmit_within(self, raw: Any, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Async twin of `submit_within`, also for an aiosqlite connection."""
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
            await perform_held(held, transitions.require_mine(job))
            yield held.adb if held.adb is not None else held.require_sync().raw
            now = self.clock.now()
            await perform_held(held, transitions.complete(job, result, now, _after(now, keep_for)))
        self._tell_ended([job.id])

    # ---- control

    def cancel(self, job_id: str) -> bool:
        """Cancel it; False when it has ended already."""
        held = self._writer.held()
        done = self._writer.run(lambda db: perform(db, self._cancelling(job_id)))
        self._tell_cancelled(held, job_id)
        return done

    async def acancel(self, job_id: str) -> bool:
        """Async twin of `cancel`."""
        held = self._writer.held()
        done = await self._arun(lambda: self._cancelling(job_id))
        self._tell_cancelled(held, job_id)
        return done

    def _cancelling(self, job_id: str) -> Steps[bool]:
        now = self.clock.now()
        return transitions.cancel(job_id, now, _after(now, self._result_ttl))

    def _tell_cancelled(self, held: Held | None, job_id: str) -> None:
        def tell() -> None:
            self._bell.ring(CANCEL)
            self._tell_ended([job_id])

        if held is None:
            tell()
        else:
            held.after.append(tell)

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

    async def _arun(self, steps: Callable[[], Steps[T]], *, durable: bool = True) -> T:
        held = self._writer.held()
        if held is not None:
            return await perform_held(held, steps())
        return await self._writer.arun(lambda db: perform(db, steps()), durable=durable)

    # ---- waiting

    def wait(self, job_id: str, timeout: float | None) -> JobRecord:
        """Block until the job has ended, or raise `TimeoutError`, which says what it is doing."""
        self._refuse_wait_inside()
        return self._waiters.wait(job_id, timeout, self.look_up)

    async def await_end(self, job_id: str, timeout: float | None) -> JobRecord:
        """Async twin of `wait`."""
        self._refuse_wait_inside()
        return await self._waiters.await_end(job_id, timeout, self.alook_up)

    def _refuse_wait_inside(self) -> None:
        if self._writer.held() is not None:
            raise StoreError("a result cannot be waited for inside a transaction: the job starts only after its commit")

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
        if any(type(end.outcome) is Released for end in ended):
            self._bell.ring()  # they are for whoever is free
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

    def prune(self, limit: int = transitions.CHUNK) -> int:
        """Delete at most `limit` jobs whose time has come; return how many."""
        return self._writer.run(lambda db: transitions.prune(db, self.clock.now(), limit), durable=False)

    def note_progress(self, job: Claimed, progress: str) -> bool:
        """Record a running job's progress; return whether its cancel was asked for. Raises `Fenced`."""
        return self._writer.run(lambda db: perform(db, transitions.note_progress(job, progress)), durable=False)

    async def anote_progress(self, job: Claimed, progress: str) -> bool:
        """Async twin of `note_progress`."""
        return await self._arun(lambda: transitions.note_progress(job, progress), durable=False)

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
        self._bell.ring(SCHEDULES)

    def fire(self, tasks: frozenset[str]) -> float | None:
        """Enqueue what is due of these tasks' schedules; return when the next is due."""
        next_at = self.next_schedule(tasks)
        if next_at is None or next_at > self.clock.now():
            return next_at
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
        if held is None:
            self._bell.ring(SCHEDULES)
        else:
            held.after.append(lambda: self._bell.ring(SCHEDULES))
        return value

    # ---- the file

    def tidy(self) -> None:
        """Idle work: hand free pages back in small steps, and move the WAL into the file without blocking anyone."""
        self._writer.run_outside(migrate.tidy)

    def close(self) -> None:
        """Close the connections; they are opened anew when used again."""
        self._waiters.close()
        self._bell.close()
        self._done_bell.close()
        self._writer.close(self._file.disconnect)
        self.close_reader()

    # ---- fork

    def before_fork(self) -> tuple[bool, bool]:
        """Close what is open, so that the child inherits no lock state; tell what could be closed."""
        quiet = self._writer.quiesce(self._file.disconnect)
        reading_stopped = self._reading.acquire(timeout=BUSY_SECONDS)
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

    def after_fork_in_child(self, stopped: tuple[bool, bool]) -> list[Connection]:
        """Forget what was inherited; return connections that must never be closed here."""
        if not all(stopped):
            self._file.forsake()
        left = [self._writer.start_anew(), self._reader]
        self._reader = None
        self._reading = threading.Lock()
        self._waiters.start_anew()
        return [db for db in left if db is not None]

    def __repr__(self) -> str:
        return f"<SqliteStore {self.path} driver={self.driver_name}>"


def _submit(db: Connection, job: NewJob) -> Submitted:
    return transitions.insert(db, job) if job.key is None else perform(db, transitions.submit(job))


def _after(now: float, span: float) -> float | None:
    return None if span == FOREVER else now + span
