"""The store: jobs, workers and schedules in one SQLite file, behind the `Store` protocol."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from litequeue.core.asyncio_context import require_asyncio
from litequeue.core.engine import Submitted
from litequeue.core.interruptible import interruptible
from litequeue.core.outcome import Ended, Released
from litequeue.errors import StoreError
from litequeue.ipc.dispatch import LARGEST
from litequeue.ipc.notifier import CANCEL, JOBS
from litequeue.ipc.thread_interrupt import let_go
from litequeue.sqlite.commit.external_connection import (
    aiosqlite_connection_of,
    aiosqlite_transaction,
    aperform,
    connection_of,
    perform_held,
)  # fmt: skip
from litequeue.sqlite.commit.open_transaction import OpenTransaction
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs import row_values, transitions
from litequeue.sqlite.jobs.transitions import until
from litequeue.sqlite.jobs.user_answers import aanswered, answered
from litequeue.sqlite.serving import WorkerStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence

    from litequeue.job import Claimed, JobRecord, NewJob
    from litequeue.sqlite.drivers.connection import Connection, Steps
    from litequeue.sqlite.jobs.user_answers import Ask

T = TypeVar("T")


class SqliteStore(WorkerStore):
    """A reader of the file that writes it, too, on one connection a process. Safe for threads, loops and forks."""

    _rung: int = 0  # up to which of the writer's commits

    # ---- enqueue

    def submit(self, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Store the jobs, all or none; on disk on return, or with the transaction that is open here."""
        self._owner.enter()  # before the locks of a notifier that may be another process's
        held = self._writer.held()
        if held is None and len(jobs) == 1 and jobs[0].key is None:
            submitted = self._submit_one(jobs[0])
        else:
            submitted = self._submit_together(jobs, held)
            self._announce(held)
        let_go()
        return submitted

    def _submit_together(self, jobs: Sequence[NewJob], held: OpenTransaction | None) -> list[Submitted]:
        if held is not None:
            return self._writer.run(lambda db: _submit(db, jobs))
        return answered(lambda ask: self._writer.run(lambda db: _submit_alone(db, jobs, ask)))

    def _submit_one(self, new: NewJob) -> list[Submitted]:
        claimed = self._hand_over(new) if _may_be_handed_over(new) else None
        if claimed is not None:
            return [Submitted(claimed.id, True)]
        submitted = self._writer.run(lambda db: transitions.insert(db, new, self._fence), single=True)
        self._announce(None)
        return submitted

    def _hand_over(self, new: NewJob) -> Claimed | None:
        """Store the job as the run of a worker at rest, and give it to that; None: none rests, nothing is stored."""
        for number in self._dispatch.strangers():
            self._dispatch.introduce(number, self.read(partial(row_values.served_by, worker=number)))
        taker = self._dispatch.taker(new.task, new.queue)
        if taker is None:
            return None
        claimed = self._writer.run(self._handing(new, taker.number), single=True)
        if claimed is not None and not taker.give(claimed):
            with suppress(StoreError):  # then whoever sees to that worker puts it back
                self.settle([self._undelivered(claimed)])
        return claimed

    async def _ahand_over(self, new: NewJob) -> Claimed | None:
        for number in self._dispatch.strangers():
            self._dispatch.introduce(number, await self.aread(partial(row_values.served_by, worker=number)))
        taker = self._dispatch.taker(new.task, new.queue)
        if taker is None:
            return None
        told: list[bool] = []
        # by who commits: this loop may stand still then, or the caller be cancelled
        claimed = await self._writer.arun(
            self._handing(new, taker.number), then=lambda job: told.append(job is None or taker.give(job))
        )
        if claimed is not None and not all(told):
            end = self._undelivered(claimed)
            with suppress(StoreError):
                await self._writer.arun(
                    lambda db: transitions.settle(db, [end]), then=lambda _lost: self._tell_settled([end])
                )
        return claimed

    def _handing(self, new: NewJob, worker: int) -> Callable[[Connection], Claimed | None]:
        return lambda db: transitions.insert_handed(db, new, worker, self.clock.now(), self._fence)

    def _undelivered(self, claimed: Claimed) -> Ended:
        return Ended(claimed, Released(), self.clock.now(), self._result_ttl)

    async def asubmit(self, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Async twin of `submit`."""
        self._owner.enter()
        if self._writer.held() is not None:
            return _pending(await self._arun(lambda: transitions.submit_among(jobs), self._announce))
        if len(jobs) == 1 and _may_be_handed_over(jobs[0]):
            claimed = await self._ahand_over(jobs[0])
            if claimed is not None:
                return [Submitted(claimed.id, True)]
        if len(jobs) == 1 and jobs[0].key is None:
            return await self._writer.arun(lambda db: transitions.insert_many(db, jobs), then=self._tell_submitted)
        return await aanswered(
            lambda ask: self._writer.arun(lambda db: _submit_alone(db, jobs, ask), then=self._tell_submitted)
        )

    def _tell_submitted(self, _submitted: list[Submitted]) -> None:
        self._announce(None)

    def _announce(self, held: OpenTransaction | None) -> None:
        """Wake workers now, or when the transaction that is open here has been committed."""
        if held is None:
            commits = self._writer.commits
            if commits != self._rung:  # else a neighbour has rung for the same commit
                self._rung = commits
                self._ring()
        elif self._ring not in held.after:
            held.after.append(self._ring)

    def _ring(self) -> None:
        self._notifier.ring(JOBS)

    def submit_within(self, raw: Any, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Store the jobs in a transaction that the caller has open on a connection of their own."""
        self._check_at_once()
        db = connection_of(self._file, raw)
        perform(db, self._fence.steps())
        return _submit(db, jobs)

    async def asubmit_within(self, raw: Any, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Async twin of `submit_within`, also for an aiosqlite connection."""
        self._check_at_once()
        require_asyncio()
        adb = await aiosqlite_connection_of(self._file, raw)
        if adb is None:
            return self.submit_within(raw, jobs)
        await aperform(adb, self._fence.steps())
        return _pending(await aperform(adb, transitions.submit_among(jobs)))

    def _check_at_once(self) -> None:
        """Refuse another process's file, or a replaced one, where no commit of ours follows that would notice."""
        self._owner.enter()
        self.check()

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
    async def _aheld(self) -> AsyncGenerator[OpenTransaction, None]:
        if self.driver_name != "sqlite3":
            async with self._writer.atransaction() as held:
                yield held
            return
        async with (
            self._writer.aexclusive(),
            aiosqlite_transaction(self._file) as adb,
        ):
            await aperform(adb, self._fence.steps())
            async with self._writer.aforeign(adb) as held:
                yield held
        held.tell()

    @contextmanager
    def completing(
        self, job: Claimed, result: bytes, keep_for: float, then: Callable[[], None] = lambda: None
    ) -> Generator[Any, None, None]:
        """A write transaction whose commit holds the caller's rows and the job's success; `then` is called after it."""
        with self._writer.transaction() as held:
            held.after += [then, lambda: self._tell_ended([job.id])]
            perform(held.require_sync(), transitions.require_mine(job))
            yield held.require_sync().raw
            now = self.clock.now()
            perform(held.require_sync(), transitions.complete(job, result, now, until(now, keep_for)))

    @asynccontextmanager
    async def acompleting(
        self, job: Claimed, result: bytes, keep_for: float, then: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[Any, None]:
        """Async twin of `completing`."""
        async with self._aheld() as held:
            held.after += [then, lambda: self._tell_ended([job.id])]
            await perform_held(held, transitions.require_mine(job))
            yield held.adb if held.adb is not None else held.require_sync().raw
            now = self.clock.now()
            await perform_held(held, transitions.complete(job, result, now, until(now, keep_for)))

    def note_progress(self, job: Claimed, progress: str) -> bool:
        """Record a running job's progress; return whether its cancel was asked for. Raises `Fenced`."""
        return self._writer.run(lambda db: perform(db, transitions.note_progress(job, progress)), durable=False)

    async def anote_progress(self, job: Claimed, progress: str) -> bool:
        """Async twin of `note_progress`."""
        return await self._arun(lambda: transitions.note_progress(job, progress), durable=False)

    # ---- control

    def cancel(self, job_id: str) -> bool:
        """Cancel it; False when it has ended already."""
        held = self._writer.held()
        done = self._writer.run(lambda db: perform(db, self._cancelling(job_id)))
        self._tell_cancelled(held, job_id)
        return done

    async def acancel(self, job_id: str) -> bool:
        """Async twin of `cancel`."""
        return await self._arun(lambda: self._cancelling(job_id), lambda held: self._tell_cancelled(held, job_id))

    def _cancelling(self, job_id: str) -> Steps[bool]:
        now = self.clock.now()
        return transitions.cancel(job_id, now, until(now, self._result_ttl))

    def _tell_cancelled(self, held: OpenTransaction | None, job_id: str) -> None:
        def tell() -> None:
            self._notifier.ring(CANCEL)
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
        await self._arun(lambda: transitions.retry(job_id, self.clock.now()), self._announce)

    async def _arun(
        self,
        steps: Callable[[], Steps[T]],
        then: Callable[[OpenTransaction | None], object] = lambda _held: None,
        *,
        durable: bool = True,
    ) -> T:
        """Run them in the transaction that is open here, or in one of their own; `then` tells of it.

        That is called by who commits: the caller may be cancelled by then.
        """
        held = self._writer.held()
        if held is None:
            return await self._writer.arun(
                lambda db: perform(db, steps()), durable=durable, then=lambda _value: then(None)
            )
        require_asyncio()  # else it is seen where the caller lines up
        value = await perform_held(held, steps())
        then(held)
        return value

    # ---- waiting

    @interruptible
    def wait(self, job_id: str, timeout: float | None) -> JobRecord:
        """Block until the job has ended, or raise `TimeoutError`, which says what it is doing."""
        self._owner.enter()
        self._refuse_wait_inside()
        return self._waiters.wait(job_id, timeout, self.has_ended, self.look_up)

    async def await_end(self, job_id: str, timeout: float | None) -> JobRecord:
        """Async twin of `wait`."""
        self._owner.enter()
        require_asyncio()
        self._refuse_wait_inside()
        return await self._waiters.await_end(job_id, timeout, self.look_up)

    def _refuse_wait_inside(self) -> None:
        if self._writer.held() is not None or self._writer.is_copied():
            raise StoreError("a result cannot be waited for inside a transaction: the job starts only after its commit")

    def __repr__(self) -> str:
        return f"<SqliteStore {self.path} driver={self.driver_name}>"


def _may_be_handed_over(new: NewJob) -> bool:
    """Whether it is one that may begin at once, whenever that is."""
    return new.key is None and new.run_at is None and new.expires_at is None and len(new.payload) <= LARGEST


def _submit_alone(db: Connection, jobs: Sequence[NewJob], ask: Ask) -> list[Submitted]:
    """Store them in a transaction of our own, which an error ends."""
    if all(job.key is None for job in jobs):
        return transitions.insert_many(db, jobs)
    return [perform(db, transitions.submit(job, ask)) for job in jobs]


def _submit(db: Connection, jobs: Sequence[NewJob]) -> list[Submitted]:
    """Store them in a transaction of the caller's, which may go on after an error."""
    return _pending(perform(db, transitions.submit_among(jobs)))


def _pending(submitted: list[Submitted]) -> list[Submitted]:
    """Mark what a transaction of the caller's may yet roll back: its id is then given to another job."""
    return [msgspec.structs.replace(each, pending=True) for each in submitted]
