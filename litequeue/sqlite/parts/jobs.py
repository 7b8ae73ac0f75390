"""Jobs: enqueue, look up, list, count, cancel, retry, wait."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from litequeue.core.asyncio_context import require_asyncio
from litequeue.core.clock import SystemClock
from litequeue.core.engine import Submitted
from litequeue.core.interruptible import interruptible
from litequeue.core.logger import later, say
from litequeue.core.names import some
from litequeue.core.records import Status
from litequeue.core.store import Demand
from litequeue.errors import StoreError
from litequeue.ipc.look_ups import NotReadError, within
from litequeue.ipc.result_waiters import require
from litequeue.ipc.thread_interrupt import let_go
from litequeue.sqlite.compose.cancel import is_last
from litequeue.sqlite.compose.consequences import Consequences
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs import control, counts, enqueue, position, row_values, settle, why
from litequeue.sqlite.jobs.finish import until
from litequeue.sqlite.jobs.large_values import INLINE
from litequeue.sqlite.jobs.listing import Listing, Where
from litequeue.sqlite.jobs.user_answers import aanswered, answered
from litequeue.sqlite.limits.bring_back import bring_these_back
from litequeue.sqlite.parts.compositions import Ended, cancelling, tell_cancelled
from litequeue.sqlite.parts.run_logs import HasRunLogs
from litequeue.sqlite.parts.spreading import spread
from litequeue.sqlite.parts.streams import Streams
from litequeue.sqlite.parts.within import ain_transaction, in_transaction
from litequeue.sqlite.result_reads import BUSY

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Sequence

    from litequeue.core.dispatch import IdleWorker
    from litequeue.core.engine import QueueCount
    from litequeue.core.records import Claimed, JobRecord, ListedJob, NewJob, Page
    from litequeue.errors import QueueFull
    from litequeue.sqlite.commit.open_transaction import OpenTransaction
    from litequeue.sqlite.drivers.connection import Connection, Steps


class _Dispatched(NamedTuple):
    """A job that was stored, and what was claimed for an idle worker with it; `more`: workers are to look as well."""

    submitted: Submitted
    claimed: list[Claimed]
    then: Consequences
    more: bool


class Jobs(Streams, HasRunLogs):
    """The jobs of one file, as a caller sees them."""

    # ---- enqueue

    def submit(self, jobs: Sequence[NewJob], within: Any = None) -> Sequence[Submitted]:
        """Store the jobs, all or none; on disk on return, or with the transaction that is open here, or on `within`.

        `within`: a connection of the caller's own, of this driver, with a transaction open; or a session or connection
        of SQLAlchemy or Django around one.
        """
        if within is not None:
            return _pending(in_transaction(self._kernel, within, enqueue.submit_among(jobs)))
        self._kernel.owner.enter()  # before the locks of a notifier that may be another process's
        held = self._writer.held()
        if held is None and len(jobs) == 1 and (new := jobs[0]).key is None and new.max_pending is None:
            submitted = self._submit_one(new)
        else:
            submitted = self._submit_together(jobs, held)
            self._kernel.announce(held)
        let_go()
        return submitted

    def _submit_together(self, jobs: Sequence[NewJob], held: OpenTransaction | None) -> Sequence[Submitted]:
        if held is not None:
            return self._writer.run(lambda db: _submit(db, jobs))
        size = enqueue.size_of(jobs)
        return answered(lambda ask: self._writer.run(lambda db: enqueue.submit_alone(db, jobs, ask), size=size))

    def _submit_one(self, new: NewJob) -> Sequence[Submitted]:
        idle = self._idle_worker_for(new)
        if idle is not None:
            return self._dispatch(new, idle)
        if len(new.payload) <= INLINE and new.takes is None:  # one statement
            submitted = self._writer.run(lambda db: enqueue.insert(db, new, self._kernel.fence), single=True)
        else:
            submitted = self._writer.run(lambda db: enqueue.insert_many(db, [new]), size=len(new.payload))
        self._kernel.announce(None)
        return submitted

    def _idle_worker_for(self, new: NewJob) -> IdleWorker | None:
        """An idle worker of this process that may begin it at once, whenever that is."""
        if new.key is not None or new.run_at is not None or new.expires_at is not None or new.max_pending is not None:
            return None
        return self._kernel.idle.take(new.task, new.queue)

    def _dispatch(self, new: NewJob, idle: IdleWorker) -> Sequence[Submitted]:
        """Store the job, and claim for that worker in the same transaction."""
        told = False

        def tell(stored: _Dispatched) -> None:
            nonlocal told
            self._tell_dispatched(idle, stored)
            told = True

        try:
            # HAZARD: told by the thread that commits. This one may leave by a Ctrl-C before that is done: what it had
            # the worker look for would not be in the file yet, and the job stand as running for ever
            stored = self._writer.run(self._storing_for(new, idle), then=tell, size=len(new.payload))
        finally:
            if not told:  # perhaps a Ctrl-C between the commit and the telling: then a claim stands in the file
                idle.reconcile()
        return [stored.submitted]

    async def _adispatch(self, new: NewJob, idle: IdleWorker) -> Sequence[Submitted]:
        told = False

        def tell(stored: _Dispatched) -> None:
            nonlocal told
            self._tell_dispatched(idle, stored)
            told = True

        try:
            # told by the thread that commits: this loop may stand still then, or the caller be cancelled
            stored = await self._writer.arun(self._storing_for(new, idle), then=tell, size=len(new.payload))
        finally:
            if not told:
                idle.reconcile()
        return [stored.submitted]

    def _storing_for(self, new: NewJob, idle: IdleWorker) -> Callable[[Connection], _Dispatched]:
        kind = idle.kind_of(new.task, new.queue)
        demands = [] if kind is None else [Demand(kind, 1)]

        def work(db: Connection) -> _Dispatched:
            [submitted], then = enqueue.insert_many(db, [new]), Consequences()
            if not idle.idle:
                return _Dispatched(submitted, [], then, more=True)
            kernel, now, mine = self._kernel, self._kernel.clock.now(), (idle.number, demands, idle.queues)
            known = kernel.turns, kernel.known_rules, kernel.clock.monotonic
            cycle = settle.turn(db, *mine, (), now, kernel.retention.result_ttl, *known, idle.capacity, then)
            if cycle.keyless:  # only the worker's loop can work out what they take: it meets them in its own claim
                perform(db, bring_these_back(job.id for job in cycle.keyless))
            alone = not cycle.keyless and [job.id for job in cycle.claimed] == [submitted.id]
            return _Dispatched(submitted, cycle.claimed, then, more=not alone)  # an older one came first, or none may

        return work

    def _tell_dispatched(self, idle: IdleWorker, stored: _Dispatched) -> None:
        idle.accept(idle.number, stored.claimed)
        self._kernel.rooms.stir()
        self._kernel.tell(stored.then)
        if stored.more:
            self._kernel.announce(None)

    async def asubmit(self, jobs: Sequence[NewJob], within: Any = None) -> Sequence[Submitted]:
        """Async twin of `submit`; `within` may also be an aiosqlite connection."""
        if within is not None:
            return _pending(await ain_transaction(self._kernel, within, enqueue.submit_among(jobs)))
        self._kernel.owner.enter()
        if self._writer.held() is not None:
            return _pending(await self._kernel.arun(lambda: enqueue.submit_among(jobs), self._kernel.announce))
        idle = self._idle_worker_for(jobs[0]) if len(jobs) == 1 else None
        if idle is not None:
            return await self._adispatch(jobs[0], idle)
        if len(jobs) == 1 and jobs[0].key is None and jobs[0].max_pending is None:
            size, tell = len(jobs[0].payload), self._tell_submitted
            return await self._writer.arun(lambda db: enqueue.insert_many(db, jobs), then=tell, size=size)
        size, tell = enqueue.size_of(jobs), self._tell_submitted
        return await aanswered(
            lambda ask: self._writer.arun(lambda db: enqueue.submit_alone(db, jobs, ask), then=tell, size=size)
        )

    def _tell_submitted(self, _submitted: Sequence[Submitted]) -> None:
        self._kernel.announce(None)

    # ---- look up, list, count

    def look_up(self, job_id: str) -> JobRecord:
        """Return the job as it now stands, or raise `JobNotFound`."""
        return self._kernel.read(lambda db: row_values.look_up(db, job_id, self._kernel.clock.now()))

    async def alook_up(self, job_id: str) -> JobRecord:
        """Async twin of `look_up`."""
        self._kernel.owner.enter()
        require_asyncio()
        return require(await self._kernel.reads.look_up_soon(job_id))

    def look_up_many(self, job_ids: Sequence[str], timeout: float | None = None) -> dict[str, JobRecord]:
        """Return those of these jobs that are on record, by id, or raise `TimeoutError`."""
        return self._kernel.reads.look_up_many(job_ids, self._until(timeout))

    async def alook_up_many(self, job_ids: Sequence[str], timeout: float | None = None) -> dict[str, JobRecord]:
        """Async twin of `look_up_many`."""
        call = partial(self._kernel.reads.look_up_many, job_ids, self._until(timeout))
        try:
            return await within(self._kernel.soon(call), timeout)
        except NotReadError:
            raise TimeoutError(BUSY) from None

    @staticmethod
    def _until(timeout: float | None) -> float | None:
        return None if timeout is None else SystemClock.monotonic() + timeout

    def has_ended(self, job_id: str) -> bool:
        """Whether the job has ended, or raise `JobNotFound`; a fraction of what `look_up` costs."""
        return self._kernel.read(lambda db: row_values.has_ended(db, job_id, self._kernel.clock.now()))

    def position(self, job_id: str) -> int | None:
        """Return how many jobs of its queue come before it, at most `MOST_BEFORE`; None: it is not queued."""
        return self._kernel.read(lambda db: position.position(db, job_id, self._kernel.clock.now()))

    async def aposition(self, job_id: str) -> int | None:
        """Async twin of `position`."""
        return await self._kernel.aread(lambda db: position.position(db, job_id, self._kernel.clock.now()))

    def list(
        self,
        *,
        status: Status | None = None,
        task: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        schedule: str | None = None,
        group: str | None = None,
        limit: int = 100,
        before: str | None = None,
        timeout: float | None = None,
    ) -> Page[ListedJob]:
        """Return the newest jobs that match, newest first; what was found after `timeout` seconds, if that is over."""
        kernel = self._kernel
        names = {"task": task, "queue": queue, "tag": tag, "schedule": schedule, "group": group}
        listing = self._listing(status=status, limit=limit, before=before, **names)
        over = self._deadline(timeout)
        while kernel.read_listing(listing.step) and kernel.clock.monotonic() < over:
            kernel.let_others_list()
        return listing.page()

    async def alist(self, *, timeout: float | None = None, **where: Any) -> Page[ListedJob]:
        """Async twin of `list`."""
        kernel, listing = self._kernel, self._listing(**where)
        over = self._deadline(timeout)
        # a step at a time: those of other coroutines come between
        while await kernel.listed_soon(lambda: kernel.read_listing(listing.step)) and kernel.clock.monotonic() < over:
            pass
        return listing.page()

    def _listing(self, **where: Any) -> Listing:
        return Listing(Where(**where), self._kernel.clock.now())

    def _deadline(self, timeout: float | None) -> float:
        return math.inf if timeout is None else self._kernel.clock.monotonic() + timeout

    def counts(self, *, exact: bool = False) -> builtins.list[QueueCount]:
        """Return how many jobs of each queue are in each state.

        Those that have succeeded are estimated in a file of more than 20,000 ids, unless `exact`: that reads all jobs.
        """
        return self._kernel.read_listing(lambda db: counts.counts(db, exact=exact))

    async def acounts(self, *, exact: bool = False) -> builtins.list[QueueCount]:
        """Async twin of `counts`."""
        return await self._kernel.listed_soon(lambda: self.counts(exact=exact))

    # ---- control

    def cancel(self, job_id: str) -> bool:
        """Cancel the job, and with the last one of a composition all of it; return False if that has already ended."""
        seen: set[str] = set()
        while True:
            held, ended = self._writer.held(), Ended()
            done, more = self._writer.run(lambda db: perform(db, self._cancelling(job_id, ended)))  # noqa: B023
            tell_cancelled(self._kernel, held, ended)
            if not (more and ended.was.keys() - seen):
                if ended.then.put_off and held is None:  # perhaps no worker is there to go on
                    spread(self._kernel)
                return done
            seen |= ended.was.keys()

    async def acancel(self, job_id: str) -> bool:
        """Async twin of `cancel`."""
        seen: set[str] = set()
        while True:
            ended = Ended()
            done, more = await self._kernel.arun(
                lambda: self._cancelling(job_id, ended),  # noqa: B023
                lambda held: tell_cancelled(self._kernel, held, ended),  # noqa: B023
            )
            if not (more and ended.was.keys() - seen):
                return done
            seen |= ended.was.keys()

    def _cancelling(self, job_id: str, ended: Ended) -> Steps[tuple[bool, bool]]:
        """Cancel the job, and note what ended; return whether any had not, and whether there are more."""
        ended.clear()  # the work may be run again
        now = self._kernel.clock.now()
        kept = until(now, self._kernel.retention.result_ttl)
        found = yield from control.cancel(job_id, now, kept, then=ended.then)
        if found is not None:
            ended.was[job_id] = found
        if not (yield from is_last(int(job_id))):
            return found is not None, False
        more = yield from cancelling(self._kernel, int(job_id), ended)
        return bool(ended.was), more

    def retry(self, job_id: str) -> tuple[str, ...]:
        """Queue an ended job again; return the ids of what stays cancelled, though this job's end had cancelled it."""
        held = self._writer.held()
        left = self._writer.run(lambda db: perform(db, control.retry(job_id, self._kernel.clock.now())))
        self._kernel.announce(held)
        return _told(job_id, left)

    async def aretry(self, job_id: str) -> tuple[str, ...]:
        """Async twin of `retry`."""
        now = self._kernel.clock.now
        return _told(job_id, await self._kernel.arun(lambda: control.retry(job_id, now()), self._kernel.announce))

    # ---- waiting

    def why(self, job_id: str) -> str:
        """Return in one sentence why the job does not run, or that it runs or has ended, and how."""
        return self._kernel.read(lambda db: why.why(db, job_id, self._kernel.clock, self._kernel.lives))

    async def awhy(self, job_id: str) -> str:
        """Async twin of `why`."""
        return await self._kernel.soon(lambda: self.why(job_id))

    @interruptible
    def wait(self, job_id: str, timeout: float | None) -> JobRecord:
        """Block until the job has ended, or raise `TimeoutError`, which says what it is doing."""
        self._kernel.owner.enter()
        self._refuse_wait_inside()
        return self._kernel.waiters.wait(job_id, timeout, self.has_ended, self.look_up)

    async def await_end(self, job_id: str, timeout: float | None) -> JobRecord:
        """Async twin of `wait`."""
        self._kernel.owner.enter()
        require_asyncio()
        self._refuse_wait_inside()
        return await self._kernel.waiters.await_end(job_id, timeout)

    def check_may_wait(self, *, blocking: bool = False) -> None:
        """Raise `StoreError` inside a transaction; `blocking`: `RuntimeError` on a loop of a worker of this file."""
        self._kernel.owner.enter()
        self._refuse_wait_inside()
        if blocking:
            self._kernel.waiters.check_may_block()

    def watch(self, job_ids: Sequence[str], tell: Callable[[Sequence[str]], object]) -> Callable[[], object]:
        """Tell of jobs as they end, once of each; return what ends the watch."""
        self._kernel.owner.enter()
        return self._kernel.waiters.watch(job_ids, tell)

    @interruptible
    def wait_for_room(self, full: QueueFull, timeout: float) -> None:
        """Block until there may be room for the calls that the error tells of, at most so many seconds."""
        self._kernel.rooms.wait(full, timeout)

    async def await_room(self, full: QueueFull, timeout: float) -> None:
        """Async twin of `wait_for_room`."""
        require_asyncio()
        await self._kernel.rooms.await_room(full, timeout)

    def _refuse_wait_inside(self) -> None:
        if self._writer.held() is not None or self._writer.is_copied():
            raise StoreError(
                "nothing can be waited for inside a transaction, neither a job's end nor room for one: a job "
                "starts only after its commit. Wait after the block"
            )


def _submit(db: Connection, jobs: Sequence[NewJob]) -> Sequence[Submitted]:
    """Store them in a transaction of the caller's, which may go on after an error."""
    return _pending(perform(db, enqueue.submit_among(jobs)))


def _pending(submitted: list[Submitted]) -> Sequence[Submitted]:
    """Mark what a transaction of the caller's may yet roll back: its id is then given to another job."""
    return [msgspec.structs.replace(each, pending=True) for each in submitted]


def _told(job_id: str, left: tuple[str, ...]) -> tuple[str, ...]:
    if left:
        why = "job %s is retried; of what waits for it these stay cancelled, since other jobs have taken their keys: %s"
        later.warning(why, job_id, some(left))
        say()
    return left
