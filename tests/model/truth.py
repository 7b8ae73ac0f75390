"""What must be true of a queue's file, in plain Python: jobs, keys, runs and workers. Knows no store and no SQL.

Written from the documentation, one method for each thing that can be done; it raises what the store must raise, and
changes nothing then. Where the documentation leaves a choice (which queue comes first), it checks what was chosen.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from litequeue.core.engine import Submitted
from litequeue.core.outcome import Cancelled, Ended, ErrorInfo, Failed, Released, Retried, Settled, Snoozed, Succeeded
from litequeue.core.records import FOREVER, Claimed, NewJob, Status
from litequeue.core.store import Beat, Rescued
from litequeue.errors import Fenced, JobNotFound, KeyConflict, Unsupported
from model.row import (
    CANCELLED,
    DEATHS,
    EXPIRED,
    FAILED,
    QUEUED,
    RUNNING,
    SCHEDULED,
    STATES,
    SUCCEEDED,
    WAITING,
    Row,
    claimed,
    expires,
    holds,
    is_over,
    must_be,
    place,
    replaceable,
)
from model.ticks import Ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from litequeue.core.store import Cycle, Demand, NewWorker


class Truth:
    """The jobs, their errors, the workers and the schedules that must be on record."""

    def __init__(self, result_ttl: float, failed_ttl: float, chunk: int) -> None:
        self.result_ttl, self.failed_ttl, self.chunk = result_ttl, failed_ttl, chunk
        self.jobs: dict[int, Row] = {}
        self.errors: dict[tuple[int, int], tuple[float, str]] = {}  # by job and attempt: when, and of what type
        self.workers: dict[int, NewWorker] = {}
        self.effects: dict[int, int] = {}  # how often each job's own row was stored by completing()
        self.ticks = Ticks(self)
        self.last_job = self.last_worker = 0
        self.emptied = 0  # the job whose row was emptied while it was the newest, and is not deleted yet
        self.touched: set[int] = set()  # what was changed since somebody last looked

    @contextmanager
    def all_or_none(self) -> Generator[None, None, None]:
        """Undo what the block has changed if it raises."""
        saved = self.saved()
        try:
            yield
        except BaseException:
            self.restore(saved)
            raise

    def saved(self) -> tuple[Any, ...]:
        maps = (self.jobs, self.errors, self.workers, self.effects, self.ticks.schedules)
        return (*(dict(each) for each in maps), self.last_job, self.last_worker, self.emptied)

    def restore(self, saved: tuple[Any, ...]) -> None:
        before = self.jobs
        self.jobs, self.errors, self.workers, self.effects, self.ticks.schedules = (dict(each) for each in saved[:5])
        self.last_job, self.last_worker, self.emptied = saved[5:]
        self.touched.update(before.keys() | self.jobs.keys())

    def _set(self, row: Row, **changes: Any) -> Row:
        changed = self.jobs[row.id] = msgspec.structs.replace(row, **changes)
        self.touched.add(row.id)
        return changed

    def known(self, job_id: str, now: float) -> Row:
        row = self.jobs.get(int(job_id))
        if row is None or is_over(row, now):
            raise JobNotFound(f"no job {job_id}")
        return row

    def holder(self, task: str, key: str, now: float) -> Row | None:
        """Whose key it is; a job that holds it no more loses it here."""
        row = next((row for row in self.jobs.values() if row.held_key == key and row.task == task), None)
        if row is None or holds(row, now):
            return row
        self._set(row, held_key=None)
        return None

    # ---- enqueue

    def submit(self, jobs: Sequence[NewJob]) -> list[Submitted]:
        if len(jobs) == 1:
            return [self._submit(jobs[0])]
        with self.all_or_none():
            return [self._submit(new) for new in jobs]

    def _submit(self, new: NewJob) -> Submitted:
        holder = None if new.key is None else self.holder(new.task, new.key, new.created_at)
        if holder is not None:
            return self._meet(new, holder)
        self.last_job += 1
        scope = None if new.key is None else new.key_scope
        fields = {"task": new.task, "created_at": new.created_at, "schedule": new.schedule, **replaceable(new)}
        self.jobs[self.last_job] = Row(id=self.last_job, key=new.key, key_scope=scope, held_key=new.key, **fields)
        self.touched.add(self.last_job)
        return Submitted(str(self.last_job), fresh=True)

    def _meet(self, new: NewJob, holder: Row) -> Submitted:
        if new.on_conflict == "replace" and holder.state < RUNNING and not holder.begun:
            self._set(holder, **replaceable(new))
        elif new.on_conflict == "raise" or new.payload != holder.payload:
            raise KeyConflict("held", str(holder.id))
        return Submitted(str(holder.id), fresh=False)

    # ---- a worker's turn

    def turn(
        self,
        worker: int,
        demands: Sequence[Demand],
        queues: tuple[str, ...] | None,
        ended: Sequence[Ended],
        now: float,
        told: Cycle,
    ) -> None:
        """Check what the store has told, and take over what was claimed."""
        self._check_lost(self.settle(ended), told.lost)
        self.wake(now)
        must_be(told.registered == (worker in self.workers), "a worker is told wrongly whether it is on record")
        must_be(told.next_at == self.next_at(), f"next_at is {told.next_at}, must be {self.next_at()}")
        self.claim(worker, demands, queues, now, told.claimed)

    def claim(
        self, worker: int, demands: Sequence[Demand], queues: tuple[str, ...] | None, now: float, told: list[Claimed]
    ) -> None:
        """Check what was claimed for a worker, by itself or when a job was stored, and take it over."""
        left = list(told)
        if worker in self.workers:
            for demand in demands:
                mine = [job for job in left if job.task in demand.tasks]
                left = [job for job in left if job.task not in demand.tasks]
                self._check_claim(demand, queues, mine, now)
                for job in mine:
                    self.take(job, worker, now)
        must_be(not left, f"claimed without being asked for: {left}")

    def wake(self, now: float) -> None:
        """What has expired ends, and what is due is ready."""
        self._expire(now)
        self._promote(now)

    def _check_lost(self, lost: list[Ended], told: list[Ended]) -> None:
        names = [
            sorted((end.job.id, end.job.attempt, type(end.outcome).__name__) for end in ends) for ends in (lost, told)
        ]
        must_be(names[0] == names[1], f"came too late: {names[0]}; told: {names[1]}")

    def next_at(self) -> float | None:
        """When a worker must look again: at what is scheduled, or expires."""
        moments = [row.run_at for row in self.jobs.values() if row.state == SCHEDULED]
        moments += [
            row.expires_at for row in self.jobs.values() if expires(row, FOREVER) and row.expires_at is not None
        ]
        return min(moments, default=None)

    def _check_claim(self, demand: Demand, queues: tuple[str, ...] | None, claimed: list[Claimed], now: float) -> None:
        """All that was asked for and is there; from each queue its first, and from none but its share."""
        lines: dict[str, list[Row]] = {}
        most = FOREVER if demand.most_deaths is None else demand.most_deaths
        for row in self.jobs.values():
            served = row.task in demand.tasks and (queues is None or row.queue in queues)
            if served and row.state == QUEUED and row.deaths <= most and not expires(row, now):
                lines.setdefault(row.queue, []).append(row)
        there = sum(map(len, lines.values()))
        must_be(
            len(claimed) == min(there, demand.limit), f"{len(claimed)} of {there} claimed, {demand.limit} asked for"
        )
        for queue, line in lines.items():
            taken = [int(job.id) for job in claimed if job.queue == queue]
            first = [row.id for row in sorted(line, key=place)[: len(taken)]]
            must_be(taken == first, f"queue {queue}: claimed {taken}, the first are {first}")
            must_be(len(taken) >= min(len(line), demand.limit // len(lines)), f"queue {queue} got less than its share")
        must_be(
            len({job.id for job in claimed}) == sum(job.queue in lines for job in claimed), "claimed what is not ready"
        )

    def take(self, job: Claimed, worker: int, now: float) -> None:
        row = self.jobs[int(job.id)]
        changes = {"attempt": row.attempt + 1, "begun": row.begun + 1, "worker": worker, "started_at": now}
        row = self._set(row, state=RUNNING, **changes)
        must_be(job == claimed(row), f"claimed as {job}, must be {claimed(row)}")

    def _expire(self, now: float) -> None:
        overdue = sorted(
            (row for row in self.jobs.values() if expires(row, now)), key=lambda row: (row.expires_at, row.id)
        )
        for row in overdue[: self.chunk]:
            self._end(row, EXPIRED, now, self.result_ttl)

    def _promote(self, now: float) -> None:
        due = sorted(
            (row for row in self.jobs.values() if row.state == SCHEDULED and row.run_at <= now),
            key=lambda row: (-row.priority, row.run_at, row.id),
        )
        for row in due[: self.chunk]:
            self._set(row, state=QUEUED)

    # ---- settle

    def settle(self, ended: Sequence[Ended]) -> list[Ended]:
        """Return those that come too late."""
        return [end for end in ended if not self._settle(end)]

    def _settle(self, end: Ended) -> bool:
        row, outcome = self.jobs.get(int(end.job.id)), end.outcome
        if isinstance(outcome, Released) and not outcome.begun and end.job.key:
            self.holder(end.job.task, end.job.key, end.at)
        if isinstance(outcome, Settled):
            return True
        if row is None or row.attempt != end.job.attempt:
            return False
        if row.state != RUNNING:  # the same end told once more is no late one
            return isinstance(outcome, Succeeded) and row.state == SUCCEEDED
        match outcome:
            case Succeeded(result):
                self._end(row, SUCCEEDED, end.at, end.keep_for, result=result)
            case Failed(error):
                self._end(row, FAILED, end.at, end.keep_for, failures=row.failures + 1)
                self._err(row, end.at, error)
            case Cancelled():
                self._end(row, CANCELLED, end.at, end.keep_for)
            case Retried(run_at, error):
                self._come_back(row, end, state=SCHEDULED, run_at=run_at, failures=row.failures + 1)
                self._err(row, end.at, error)
            case Snoozed(run_at):
                self._come_back(row, end, state=SCHEDULED, run_at=run_at)
            case Released(begun=True):
                self._come_back(row, end, state=QUEUED)
            case Released():
                started = row.started_at if row.begun > 1 else None
                changes = {"begun": row.begun - 1, "started_at": started, "held_key": self._held_again(row, end.at)}
                self._come_back(row, end, state=QUEUED, **changes)
        return True

    def _held_again(self, row: Row, now: float) -> str | None:
        """The key of one that was claimed, and has not begun after all, is held until it begins."""
        holder = self.holder(row.task, row.key, now) if row.key else None
        free = row.begun == 1 and row.key and not holder
        return row.key if row.key_scope == "queued" and free else _unless_queued(row)

    def _err(self, row: Row, at: float, error: ErrorInfo) -> None:
        must_be((row.id, row.attempt) not in self.errors, "one attempt fails twice")
        self.errors[row.id, row.attempt] = (at, error.type)

    def _come_back(self, row: Row, end: Ended, **changes: Any) -> None:
        """A job whose cancel was asked for meanwhile ends where it would have come back."""
        row = self._set(row, worker=None, **{"held_key": _unless_queued(row)} | changes)
        if row.cancel_requested:
            self._end(row, CANCELLED, end.at, end.keep_for)

    def _end(self, row: Row, state: int, now: float, keep_for: float, **changes: Any) -> None:
        delete_at = None if keep_for == FOREVER else now + keep_for
        self._set(row, state=state, worker=None, finished_at=now, delete_at=delete_at, **changes)

    def mine(self, job: Claimed) -> Row:
        row = self.jobs.get(int(job.id))
        if row is None or row.state != RUNNING or row.attempt != job.attempt:
            raise Fenced("late")
        return row

    def complete(self, job: Claimed, result: bytes, keep_for: float, now: float) -> None:
        row = self.mine(job)
        self._end(row, SUCCEEDED, now, keep_for, result=result)
        self.effects[row.id] = self.effects.get(row.id, 0) + 1

    def note_progress(self, job: Claimed, progress: str) -> bool:
        return bool(self._set(self.mine(job), progress=progress).cancel_requested)

    # ---- control

    def cancel(self, job_id: str, now: float) -> bool:
        row = self.known(job_id, now)
        if row.state == RUNNING:
            self._set(row, cancel_requested=1)
        elif row.state < RUNNING:
            self._end(row, CANCELLED, now, self.result_ttl, cancel_requested=1)
        return row.state <= RUNNING

    def retry(self, job_id: str, now: float) -> tuple[str, ...]:
        row = self.known(job_id, now)
        if row.state in (QUEUED, RUNNING, WAITING, SUCCEEDED):
            raise Unsupported(f"job {job_id} is {STATES[row.state]}")
        holder = None if row.key is None else self.holder(row.task, row.key, now)
        if holder is not None and holder.id != row.id:
            raise KeyConflict("taken meanwhile", str(holder.id))
        anew = {
            "failures": 0,
            "deaths": 0,
            "finished_at": None,
            "delete_at": None,
            "expires_at": None,
            "progress": None,
        }
        self._set(row, state=QUEUED, run_at=now, cancel_requested=0, held_key=row.key, **anew)
        return ()

    def prune(self, now: float, limit: int) -> int:
        over = sorted(
            (row.delete_at, row.id) for row in self.jobs.values() if row.delete_at is not None and row.delete_at <= now
        )[:limit]
        for _, number in over:
            must_be(self.jobs.pop(number).state > RUNNING, f"job {number} is pruned before its end")
            self.touched.add(number)
        gone = {number for _, number in over}
        if self.emptied < self.last_job:
            self.emptied = self.last_job if self.last_job in gone else 0
        self.errors = {run: error for run, error in self.errors.items() if run[0] not in gone}
        return len(over)

    def next_prune(self) -> float | None:
        if 0 < self.emptied < self.last_job:
            return 0.0
        return min((row.delete_at for row in self.jobs.values() if row.delete_at is not None), default=None)

    # ---- workers

    def register(self, worker: NewWorker) -> int:
        self.last_worker += 1
        self.workers[self.last_worker] = worker
        return self.last_worker

    def beat(self, worker: int) -> Beat:
        known = worker in self.workers
        return Beat(known, others=not known or len(self.workers) > 1 or bool(self.ownerless()))

    def running(self, worker: int) -> list[Row]:
        return [row for _, row in sorted(self.jobs.items()) if row.state == RUNNING and row.worker == worker]

    def ownerless(self) -> list[int]:
        owners = {row.worker for row in self.jobs.values() if row.worker is not None}
        return sorted(owners - self.workers.keys())

    def rescue(self, worker: int, executing: Iterable[str] | None, now: float, *, blame: bool) -> Rescued:
        """A death counts against what was executing alone, and condemns, the third time, only what was alone."""
        runs = self.running(worker)
        begun = {f"{row.id}:{row.attempt}" for row in runs}
        begun &= begun if executing is None else set(executing)
        fates = Rescued(returned=(), dead_lettered=(), cancelled=())
        for row in runs:
            guilty = blame and f"{row.id}:{row.attempt}" in begun
            fate = self._reap(row, now, guilty=guilty, alone=len(begun) == 1)
            fates = fates._replace(**{fate: (*getattr(fates, fate), str(row.id))})
        self.workers.pop(worker, None)
        return fates

    def _reap(self, row: Row, now: float, *, guilty: bool, alone: bool) -> str:
        deaths = row.deaths + guilty
        if guilty and alone and deaths >= DEATHS:
            self._err(row, now, ErrorInfo("WorkerDied", "", ""))
            self._end(row, FAILED, now, self.failed_ttl, deaths=deaths)
            return "dead_lettered"
        row = self._set(row, state=QUEUED, worker=None, deaths=deaths, held_key=_unless_queued(row))
        if row.cancel_requested:
            self._end(row, CANCELLED, now, self.result_ttl)
            return "cancelled"
        return "returned"

    # ---- look

    def listed(self, wanted: Callable[[Row], bool], limit: int, before: str | None = None) -> list[int]:
        """The newest that are wanted, newest first."""
        ids = [number for number, row in self.jobs.items() if wanted(row)]
        return sorted((number for number in ids if before is None or number < int(before)), reverse=True)[:limit]

    def ready_without(self, tasks: frozenset[str], queues: tuple[str, ...] | None) -> list[tuple[str, str, int, bool]]:
        lanes = [(row.queue, row.task) for row in self.jobs.values() if row.state == QUEUED and row.task not in tasks]
        served = [lane for lane in lanes if queues is None or lane[0] in queues]
        return [(*lane, served.count(lane), True) for lane in sorted(set(served))]

    def counts(self) -> dict[tuple[str, Status], int]:
        found: dict[tuple[str, Status], int] = {}
        for row in self.jobs.values():
            place = row.queue, STATES[row.state]
            found[place] = found.get(place, 0) + 1
        return found


def _unless_queued(row: Row) -> str | None:
    """The key of one that has begun."""
    return None if row.key_scope == "queued" else row.held_key
