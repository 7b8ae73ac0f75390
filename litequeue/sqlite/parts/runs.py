"""Runs: claim jobs, settle their ends, and what a running job itself writes."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from litequeue.core.logger import about, later, say
from litequeue.core.names import some
from litequeue.core.outcome import Ended, Released, Succeeded
from litequeue.errors import JobNotFound, SchemaTooNew, StoreError
from litequeue.ipc.notifier import JOBS
from litequeue.sqlite.commit.external_connection import perform_held
from litequeue.sqlite.compose import handed
from litequeue.sqlite.compose.consequences import Consequences
from litequeue.sqlite.drivers.connection import perform, transact
from litequeue.sqlite.jobs import counts, row_values, settle, workers
from litequeue.sqlite.jobs.claim import claims
from litequeue.sqlite.jobs.finish import until
from litequeue.sqlite.limits.bring_back import freed
from litequeue.sqlite.limits.charge import charge
from litequeue.sqlite.limits.held import with_held
from litequeue.sqlite.parts.spreading import spread
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence

    from litequeue.core.capacity import Capacity
    from litequeue.core.compositions import Handed
    from litequeue.core.records import Claimed
    from litequeue.core.store import Cycle, Demand, ReadyJobs, Rescued
    from litequeue.sqlite.drivers.connection import Connection, Steps
    from litequeue.sqlite.kernel import Kernel
    from litequeue.sqlite.parts.transactions import Transactions


T = TypeVar("T")


class Runs:
    """The runs of one file's jobs, as a worker sees them."""

    def __init__(self, kernel: Kernel, transactions: Transactions) -> None:
        self._kernel, self._writer, self._transactions = kernel, kernel.writer, transactions
        self.let_begin: bool = False

    def claim(
        self,
        worker: int,
        demands: Sequence[Demand],
        queues: tuple[str, ...] | None,
        ended: Sequence[Ended] = (),
        capacity: Capacity | None = None,
    ) -> Cycle:
        """Record how runs ended and hand out jobs to start, in one transaction. `capacity` None: without bounds."""
        then = Consequences()

        def work(db: Connection) -> Cycle:
            then.clear()
            now, kept = self._kernel.clock.now(), self._kernel.retention.result_ttl
            rules, monotonic = self._kernel.known_rules, self._kernel.clock.monotonic
            turns = self._kernel.turns
            return settle.turn(db, worker, demands, queues, ended, now, kept, turns, rules, monotonic, capacity, then)

        # a claim alone need not survive power loss: the job is then simply queued again
        durable = bool(ended) or any(demand.durable for demand in demands)
        outcome = self._writer.run(work, durable=durable, news=bool(ended))
        self._kernel.rooms.stir()
        if ended:
            self._kernel.tell_ended([end.job.id for end in ended])
        if any(type(end.outcome) is Released or end.job.of_schedule or end.job.held is not None for end in ended):
            self._kernel.notifier.notify(JOBS)  # any worker that is free may have them
        self.let_begin = bool(then.begun)
        then.begun.difference_update([job.id for job in outcome.claimed])
        self._tell(then)
        return outcome

    def settle(self, ended: Sequence[Ended]) -> list[Ended]:
        """Record how runs ended; return those that came too late and changed nothing."""
        then = Consequences()

        def work(db: Connection) -> list[Ended]:
            then.clear()
            return settle.settle(db, ended, then)

        lost = self._end(work)
        self.let_begin = bool(then.begun)
        self._tell_settled(ended)
        self._tell(then)
        return lost

    def _tell(self, then: Consequences) -> None:
        self._kernel.tell(then)
        if then.put_off:
            with suppress(StoreError):  # what was settled is on disk; maintenance goes on with the rest
                spread(self._kernel)

    def _end(self, work: Callable[[Connection], T]) -> T:
        """Record ends of runs, also where a newer litequeue has migrated the file, if that says that we may."""
        try:
            return self._writer.run(work)
        except SchemaTooNew:
            check = self._kernel.check_ends
            return self._writer.run_outside(lambda db: transact(db, work, check), durable=True)

    def _tell_settled(self, ended: Sequence[Ended]) -> None:
        self._kernel.tell_ended([end.job.id for end in ended])
        if any(type(end.outcome) is not Succeeded or end.job.of_schedule or end.job.held is not None for end in ended):
            self._kernel.notifier.notify(JOBS)  # any worker that is free may have what returns, or begins after it

    def _tell_completed(self, job: Claimed, ended: Consequences) -> None:
        self._kernel.tell_ended([job.id])
        self._kernel.tell(ended)
        if job.of_schedule or job.held is not None:
            self._kernel.notify_workers()

    def rescue(self, worker: int, executing: frozenset[str] | None, *, blame: bool, why: str = "") -> Rescued:
        """Release a dead worker's jobs, and deregister it."""
        now, kept = self._kernel.clock.now(), self._kernel.retention._asdict()
        then = Consequences()

        def work(db: Connection) -> Rescued:
            then.clear()
            return workers.rescue(db, worker, executing, now, **kept, blame=blame, why=why, then=then)

        rescued = self._end(work)  # durable, as what it ends is told
        self._kernel.notifier.notify(JOBS)
        self._kernel.tell_ended([*rescued.dead_lettered, *rescued.cancelled, *rescued.interrupted])
        self._tell(then)
        if rescued.interrupted:
            more = "jobs %s have failed as Interrupted: they ran when their worker was lost, and may run at most once"
            later.error(more, some(rescued.interrupted))
        for job_id in rescued.dead_lettered:
            with suppress(JobNotFound):  # pruned already
                job = self._kernel.read(partial(row_values.look_up, job_id=job_id, now=now))
                died = "%s[%s] failed: %d worker processes died while running it; it is dead-lettered, not run again"
                later.error(died, job.task_name, job.id, job.deaths, extra=about(job))
        say()
        return rescued

    @contextmanager
    def completing(
        self, job: Claimed, result: bytes, keep_for: float, then: Callable[[], None] = lambda: None
    ) -> Generator[Any, None, None]:
        """A write transaction whose commit holds the caller's rows and the job's success; `then` is called after it."""
        with self._writer.transaction() as held:
            ended = Consequences()
            held.after += [then, lambda: self._tell_completed(job, ended)]
            perform(held.require_sync(), settle.require_mine(job))
            yield held.require_sync().raw
            perform(held.require_sync(), self._kernel.emitter.pending.more())
            now = self._kernel.clock.now()
            perform(held.require_sync(), settle.complete(job, result, now, until(now, keep_for), ended))

    @asynccontextmanager
    async def acompleting(
        self, job: Claimed, result: bytes, keep_for: float, then: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[Any, None]:
        """Async twin of `completing`."""
        async with self._transactions.aheld() as held:
            ended = Consequences()
            held.after += [then, lambda: self._tell_completed(job, ended)]
            await perform_held(held, settle.require_mine(job))
            yield held.adb if held.adb is not None else held.require_sync().raw
            emitted = self._kernel.emitter.pending
            await perform_held(held, emitted.more() if held.adb is None else emitted.steps())
            now = self._kernel.clock.now()
            await perform_held(held, settle.complete(job, result, now, until(now, keep_for), ended))

    def parameters_of(self, stored_name: str) -> tuple[str, ...] | None:
        """How calls that are stored under this name call their arguments by position, if it is on record."""
        return self._kernel.read(lambda db: workers.parameters_of(db, stored_name))

    async def aparameters_of(self, stored_name: str) -> tuple[str, ...] | None:
        """Async twin of `parameters_of`."""
        return await self._kernel.aread(lambda db: workers.parameters_of(db, stored_name))

    def handed_to(self, job_id: str) -> Handed:
        """What the job takes as its first argument, from its parents, as it is stored."""
        return self._kernel.read_listing(lambda db: handed.handed_to(db, int(job_id)))

    async def ahanded_to(self, job_id: str) -> Handed:
        """Async twin of `handed_to`."""
        return await self._kernel.listed_soon(lambda: self.handed_to(job_id))

    def is_gone(self, job: Claimed) -> None:
        """Note that a function has returned that went on after its end: others may have what it held of limits."""

        def work(db: Connection) -> None:
            db.rows(SQL["is_gone"], (job.id, job.attempt))
            perform(db, freed([job.id], [job.held]))

        self._writer.run(work, durable=False)
        self._kernel.notify_workers()

    def charge(self, job: Claimed, limit: str, used: int, before: int | None) -> None:
        """Correct what a run takes of a rate, from what it reserved, or `before`, to what it has used."""
        self._writer.run(lambda db: perform(db, self._charging(job, limit, used, before)), durable=False)
        self._kernel.notify_workers()

    async def acharge(self, job: Claimed, limit: str, used: int, before: int | None) -> None:
        """Async twin of `charge`."""
        await self._kernel.arun(lambda: self._charging(job, limit, used, before), self._kernel.announce, durable=False)

    def _charging(self, job: Claimed, limit: str, used: int, before: int | None) -> Steps[None]:
        start = next(start for start in job.held.starts if start.limit == limit)
        more = used - (start.cost if before is None else before)
        yield from charge(start, more, self._kernel.clock.monotonic())

    def note_progress(self, job: Claimed, progress: str) -> bool:
        """Record a running job's progress; return whether its cancel was requested. Raises `Fenced`."""
        return self._writer.run(lambda db: perform(db, settle.note_progress(job, progress)), durable=False)

    async def anote_progress(self, job: Claimed, progress: str) -> bool:
        """Async twin of `note_progress`."""
        return await self._kernel.arun(lambda: settle.note_progress(job, progress), durable=False)

    def emit(self, job: Claimed, value: bytes, lost: Callable[[], None]) -> None:
        """Take in a value, which is written within 50 ms; never blocks."""
        self._kernel.emitter.emit(job, value, self._kernel.clock.now(), lost)

    def heartbeat(self, job: Claimed, details: bytes | None, lost: Callable[[], None]) -> None:
        """Take in the details of a heartbeat, which are written soon; never blocks."""
        if details is not None:
            self._kernel.emitter.beat(job, details, self._kernel.clock.now(), lost)

    def write_emitted(self) -> None:
        """Write what runs have emitted, before another process ends one of them. Raises `StoreError`."""
        self._kernel.emitter.write()

    def claims_of(self, worker: int) -> list[Claimed]:
        """The jobs that stand as running under the worker."""

        def look(db: Connection) -> list[Claimed]:
            return with_held(db, claims(db, [int(row[0]) for row in db.rows(SQL["runs_of"], {"worker": worker})]))

        return self._kernel.read(look)

    def queued_among(self, job_ids: Sequence[str]) -> list[str]:
        """Those of these jobs that could begin, and have not."""
        return self._kernel.read(lambda db: row_values.queued_among(db, job_ids))

    def ready_without(self, tasks: frozenset[str], queues: tuple[str, ...] | None) -> list[ReadyJobs]:
        """Count the ready jobs of tasks other than these, in these queues; None: in all."""
        return self._kernel.read(partial(counts.ready_without, tasks=tasks, queues=queues))

    def requested_cancels(self, worker: int) -> list[tuple[str, int]]:
        """The worker's running jobs that are to be cancelled, as (id, attempt)."""
        return self._kernel.read(
            lambda db: [(row[0], row[1]) for row in db.rows(SQL["requested_cancels"], {"worker": worker})]
        )
