"""A store and the truth side by side: whatever is done is done to both, and must come out the same. Decides nothing."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from contract.jobs import to_the_end
from litequeue.core.records import JobRecord, Status
from litequeue.core.store import Demand, ReadyJobs
from litequeue.errors import Fenced, LiteQueueError, StoreBusy
from model.remote import Remote
from model.row import STATES, Broken, Row, is_over, must_be
from model.ticks import code

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from litequeue.core.engine import Submitted
    from litequeue.core.outcome import Ended
    from litequeue.core.records import Claimed, NewJob
    from litequeue.core.schedules import ScheduleRecord
    from litequeue.core.store import Beat, Cycle, Firing, NewWorker, Rescued, WorkerRecord
    from litequeue.sqlite.store import SqliteStore
    from model.crew import Worker
    from model.truth import Truth
    from model.world import World

T = TypeVar("T")

ROW = "INSERT INTO effects VALUES (?)"


class RolledBack(LiteQueueError):
    """A block of the caller's ends with an error of its own."""


def complete(store: SqliteStore, job: Claimed, result: bytes, keep_for: float, fails: bool) -> None:
    """What a function of a task does that stores its effect in the file."""
    with store.runs.completing(job, result, keep_for) as db:
        db.execute(ROW, (int(job.id),))
        if fails:
            raise RolledBack


class Mirror:
    """One process's store; the `Keeper` of its workers. Before each call others may get their turn."""

    def __init__(self, world: World, store: SqliteStore | Remote) -> None:
        self._world = world
        self.store: Any = store
        self.jobs = self.runs = self.ticks = self.maintenance = self  # the parts of a store, for the worker's own code
        self.limits = SimpleNamespace(uses=dict)  # its tasks use no resources
        self.workers = SimpleNamespace(
            beat=self.beat, list=self.workers_on_record, ownerless=self.ownerless, register=self.register
        )

    @property
    def now(self) -> float:
        return self._world.clock.now()

    def _write(self, act: Callable[[], Any], expect: Callable[[Truth], Any]) -> Any:
        """Do it on both sides; what comes out, value or error, must be the same."""
        self._world.interleave()
        if self._world.locked_against(self):
            return self._refused(act)
        return self._done(act, lambda: expect(self._world.truth))

    def _done(self, act: Callable[[], Any], expect: Callable[[], Any]) -> Any:
        value = self._same(act, expect)
        self._world.perhaps_die()
        return value

    def _refused(self, act: Callable[[], Any]) -> Any:
        """Another has a transaction open: nothing is written."""
        value, error = _outcome(act)
        if isinstance(error, StoreBusy):
            raise error
        raise Broken(f"beside another's transaction: {value!r}, {error!r}") from error

    def _read(self, act: Callable[[], T], expect: Callable[[Truth], T]) -> T:
        self._world.interleave()
        with self._world.committed() as truth:
            return self._same(act, lambda: expect(truth))

    def _same(self, act: Callable[[], Any], expect: Callable[[], Any]) -> Any:
        wanted, wrong = _outcome(expect)
        value, error = _outcome(act)
        if type(error) is not type(wrong):
            raise Broken(f"{error!r} is raised, must be {wrong!r}") from error
        if error is not None:
            raise error
        must_be(value == wanted, f"{value!r} is returned, must be {wanted!r}")
        return value

    # ---- enqueue and control

    def submit(self, jobs: Sequence[NewJob]) -> list[Submitted]:
        pending = self._world.holds(self)

        def act() -> list[Submitted]:
            self._world.dispatched = None
            submitted = self.store.jobs.submit(jobs)
            if self._world.dispatched is not None:
                self._dispatched(*self._world.dispatched, jobs[0].task)
            must_be(all(each.pending == pending for each in submitted), "pending is told wrongly")
            return [type(each)(each.id, each.fresh) for each in submitted]

        return self._write(act, lambda truth: truth.submit(jobs))

    def _dispatched(self, worker: Worker, number: int, claimed: list[Claimed], task: str) -> None:
        [kind] = [kind for kind in worker._kinds() if task in kind]
        self._world.truth.wake(self.now)
        self._world.truth.claim(number, [Demand(kind, 1)], worker.queues, self.now, claimed)
        self._world.tally["dispatched"] += len(claimed)

    def submit_within(self, raw: Any, jobs: Sequence[NewJob]) -> list[Submitted]:
        def act() -> list[Submitted]:
            return [type(each)(each.id, each.fresh) for each in self.store.jobs.submit(jobs, raw)]

        return self._same(act, lambda: self._world.truth.submit(jobs))

    def cancel(self, job_id: str) -> bool:
        return self._write(lambda: self.store.jobs.cancel(job_id), lambda truth: truth.cancel(job_id, self.now))

    def retry(self, job_id: str) -> None:
        self._write(lambda: self.store.jobs.retry(job_id), lambda truth: truth.retry(job_id, self.now))

    @contextmanager
    def transaction(self) -> Generator[Any, None, None]:
        """A block of the caller's; with an error in it, nothing of it has happened."""
        self._world.interleave()
        if self._world.locked_against(self):
            with suppress(StoreBusy), self.store.transactions.transaction():
                raise Broken("two transactions are open")
            raise StoreBusy("as it must be")
        with self._world.holding(self), self.store.transactions.transaction() as db:
            yield db

    # ---- a worker's side

    def claim(
        self, worker: int, demands: Sequence[Demand], queues: tuple[str, ...] | None, ended: Sequence[Ended] = ()
    ) -> Cycle:
        self._world.interleave()
        if self._world.locked_against(self):
            return self._refused(lambda: self.store.runs.claim(worker, demands, queues, ended))
        turn, error = _outcome(lambda: self.store.runs.claim(worker, demands, queues, ended))
        if turn is None:
            raise Broken(f"a claim is refused: {error!r}") from error
        self._world.truth.turn(worker, demands, queues, ended, self.now, turn)
        self._world.tally["claimed"] += len(turn.claimed)
        self._world.tally["came too late"] += len(turn.lost)
        self._world.perhaps_die()
        return turn

    def settle(self, ended: Sequence[Ended]) -> list[Ended]:
        def names(lost: Sequence[Ended]) -> list[tuple[str, int]]:
            return sorted((end.job.id, end.job.attempt) for end in lost)

        return self._write(lambda: names(self.store.runs.settle(ended)), lambda truth: names(truth.settle(ended)))

    def completing(self, job: Claimed, result: bytes, keep_for: float, *, fails: bool) -> None:
        """The job's success, and a row of its own, in one transaction; `fails`: the function raises in the block."""

        def expect(truth: Truth) -> None:
            truth.mine(job)
            if fails:
                raise RolledBack
            truth.complete(job, result, keep_for, self.now)

        arguments = (job, result, keep_for, fails)
        if isinstance(self.store, Remote):
            self._write(lambda: self.store.call(complete, *arguments), expect)
        else:
            self._write(lambda: complete(self.store, *arguments), expect)

    def note_progress(self, job: Claimed, progress: str) -> bool:
        act = lambda: self.store.runs.note_progress(job, progress)  # noqa: E731
        return self._write(act, lambda truth: truth.note_progress(job, progress))

    def ready_without(self, tasks: frozenset[str], queues: tuple[str, ...] | None) -> list[ReadyJobs]:
        return self._read(
            lambda: self.store.runs.ready_without(tasks, queues),
            lambda truth: truth.ready_without(tasks, queues),
        )

    def requested_cancels(self, worker: int) -> list[tuple[str, int]]:
        return self._read(
            lambda: sorted(self.store.runs.requested_cancels(worker)),
            lambda truth: sorted((str(row.id), row.attempt) for row in truth.running(worker) if row.cancel_requested),
        )

    def claims_of(self, worker: int) -> list[str]:
        return self._read(
            lambda: [job.id for job in self.store.runs.claims_of(worker)],
            lambda truth: [str(row.id) for row in truth.running(worker)],
        )

    def register(self, worker: NewWorker) -> int:
        return self._write(lambda: self.store.workers.register(worker), lambda truth: truth.register(worker))

    def beat(self, worker: int) -> Beat:
        return self._write(lambda: self.store.workers.beat(worker), lambda truth: truth.beat(worker))

    def rescue(self, worker: int, executing: frozenset[str] | None, *, blame: bool, why: str = "") -> Rescued:
        act = lambda: self.store.runs.rescue(worker, executing, blame=blame, why=why)  # noqa: E731
        rescued: Rescued = self._write(act, lambda truth: truth.rescue(worker, executing, self.now, blame=blame))
        self._world.tally["rescued"] += len(rescued.returned) + len(rescued.cancelled)
        self._world.tally["condemned"] += len(rescued.dead_lettered)
        return rescued

    def prune(self, limit: int = 500) -> int:
        pruned: int = self._write(
            lambda: self.store.maintenance.prune(limit), lambda truth: truth.prune(self.now, limit)
        )
        self._world.tally["pruned"] += pruned
        return pruned

    def workers_on_record(self) -> list[WorkerRecord]:
        self._world.interleave()
        with self._world.committed() as truth:
            found = self.store.workers.list()
            held = [(worker.id, worker.token, worker.running) for worker in found]
            must = [(number, worker.token, len(truth.running(number))) for number, worker in truth.workers.items()]
            must_be(held == must, f"workers on record: {held}, must be {must}")
        return found

    def ownerless(self) -> list[int]:
        return self._read(lambda: sorted(self.store.workers.ownerless()), lambda truth: truth.ownerless())

    def next_prune(self) -> float | None:
        return self._read(lambda: self.store.maintenance.next_prune(), lambda truth: truth.next_prune())

    def check(self) -> None:
        self.store.maintenance.check()

    def vacuum(self) -> int:
        return self._write(self.store.maintenance.vacuum, lambda _truth: 0)

    def spread(self) -> None:
        """Nothing waits for plain jobs."""
        self._read(lambda: self.store.maintenance.spread(), lambda _truth: None)

    def checkpoint(self) -> int:
        self._world.interleave()
        with suppress(StoreBusy):  # beside another's transaction it does what it can
            self.store.maintenance.checkpoint()
        return 0

    def may_shrink(self, worker: int, *, alone: bool) -> bool:
        self._world.interleave()
        return True

    @property
    def directory(self) -> Path:
        return self.store.directory

    # ---- schedules

    def declare(self, schedules: Sequence[ScheduleRecord], tasks: frozenset[str]) -> None:
        act = lambda: self.store.ticks.declare(code(schedules, tasks))  # noqa: E731
        expect = lambda truth: truth.ticks.declare(schedules, tasks, self.now)  # noqa: E731
        self._write_if(lambda truth: truth.ticks.changes_by(lambda: expect(truth)), act, expect)

    def bring_near(self, tasks: frozenset[str]) -> Firing:
        yield from ()  # all steps at once
        expect = lambda truth: truth.ticks.bring_near(tasks, self.now)  # noqa: E731
        changes = lambda truth: truth.ticks.changes_by(lambda: expect(truth))  # noqa: E731
        return self._write_if(changes, lambda: self._to_the_end("bring_near", tasks), expect)

    def fire(self, tasks: frozenset[str]) -> Firing:
        yield from ()

        def is_due(truth: Truth) -> bool:
            next_at = truth.ticks.next_of(tasks)
            return next_at is not None and next_at <= self.now

        act = lambda: self._to_the_end("fire", tasks)  # noqa: E731
        return self._write_if(is_due, act, lambda truth: truth.ticks.fire(tasks, self.now))

    def _write_if(
        self, changes: Callable[[Truth], bool], act: Callable[[], Any], expect: Callable[[Truth], Any]
    ) -> Any:
        """The same for what takes no lock where nothing is to be changed."""
        self._world.interleave()
        if not self._world.locked_against(self):
            return self._done(act, lambda: expect(self._world.truth))
        with self._world.committed() as truth:
            return self._refused(act) if changes(truth) else self._same(act, lambda: expect(truth))

    def _to_the_end(self, verb: str, tasks: frozenset[str]) -> float | None:
        if isinstance(self.store, Remote):
            return self.store.call(to_the_end, verb, tasks)
        return to_the_end(self.store, verb, tasks)

    def put_schedule(self, schedule: ScheduleRecord, *, replace: bool) -> None:
        act = lambda: self.store.schedules.put(schedule, replace=replace) and None  # noqa: E731
        self._write(act, lambda truth: truth.ticks.put(schedule, self.now, replace_it=replace))

    def remove_schedule(self, name: str) -> None:
        self._write(lambda: self.store.schedules.remove(name), lambda truth: truth.ticks.remove(name))

    def pause_schedule(self, name: str) -> None:
        self._write(lambda: self.store.schedules.pause(name), lambda truth: truth.ticks.pause(name))

    def resume_schedule(self, name: str) -> None:
        act = lambda: self.store.schedules.resume(name)  # noqa: E731
        self._write(act, lambda truth: truth.ticks.resume(name, self.now))

    def trigger_schedule(self, name: str) -> str:
        act = lambda: self.store.schedules.trigger(name).id  # noqa: E731
        return self._write(act, lambda truth: truth.ticks.trigger_now(name, self.now))

    def next_schedule(self, tasks: frozenset[str]) -> float | None:
        return self._read(lambda: self.store.ticks.next_at(tasks), lambda truth: truth.ticks.next_of(tasks))

    # ---- look

    def look_up(self, job_id: str) -> None:
        self._read(
            lambda: _seen(self.store.jobs.look_up(job_id)),
            lambda truth: _must_be_seen(truth, truth.known(job_id, self.now)),
        )

    def list_jobs(self, *, limit: int, before: str | None, status: Status | None, **where: str | None) -> list[str]:
        def wanted(row: Row) -> bool:
            tag = where.get("tag")
            names = all(where[name] in (None, getattr(row, name)) for name in ("task", "queue"))
            return (
                not is_over(row, self.now)
                and names
                and status in (None, STATES[row.state])
                and (tag is None or f'"{tag}"' in (row.tags or ""))
            )

        options: dict[str, Any] = {"status": status, "limit": limit, "before": before, **where}
        return self._read(
            lambda: [job.id for job in self.store.jobs.list(**options)],
            lambda truth: [str(number) for number in truth.listed(wanted, limit, before)],
        )

    def counts(self) -> None:
        self._read(
            lambda: {(count.queue, count.status): count.jobs for count in self.store.jobs.counts()},
            lambda truth: truth.counts(),
        )


def _outcome(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except (LiteQueueError, Fenced, RolledBack) as error:
        return None, error


SEEN = (
    "task",
    "queue",
    "priority",
    "attempt",
    "failures",
    "deaths",
    "run_at",
    "started_at",
    "finished_at",
    "expires_at",
)


def _seen(job: JobRecord) -> tuple[Any, ...]:
    errors = [(error.attempt, error.type) for error in job.errors]
    return (job.status, job.result, job.cancel_requested, errors, *(getattr(job, name) for name in SEEN))


def _must_be_seen(truth: Truth, row: Row) -> tuple[Any, ...]:
    errors = [(attempt, kind) for (job, attempt), (_, kind) in sorted(truth.errors.items()) if job == row.id]
    fields = (getattr(row, name) for name in SEEN)
    return (STATES[row.state], row.result, bool(row.cancel_requested), errors, *fields)
