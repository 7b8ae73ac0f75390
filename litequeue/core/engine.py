"""What accepts jobs and tells what became of them, as protocols and the values that cross them. Knows no SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from litequeue.job import Source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from litequeue.core.outcome import Ended
    from litequeue.ipc.dispatch import IdleWorker
    from litequeue.job import Claimed, NewJob, Status


# What a worker can take in one claim of one kind: these tasks, at most so many jobs.
class Demand(NamedTuple):
    """Which tasks a worker can start now, how many jobs of them, and with how many deaths at most."""

    tasks: frozenset[str]
    limit: int
    most_deaths: int | None = None

    def met_by(self, claimed: Sequence[Claimed]) -> bool:
        """Whether as many jobs came as were asked for: then there may be more."""
        return sum(job.task in self.tasks for job in claimed) >= self.limit


class Cycle(NamedTuple):
    """What one round with the store brought: jobs to run, runs whose end came too late, and what to expect."""

    claimed: list[Claimed]
    lost: list[Ended]
    next_at: float | None
    registered: bool


class Submitted(msgspec.Struct, frozen=True):
    """The id of the job that a submission led to, whether it is a new one, and whether it may be rolled back yet."""

    id: str
    fresh: bool
    pending: bool = False


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as it stands in the file."""

    id: int
    token: str
    identity: str
    queues: tuple[str, ...] | None
    tasks: tuple[str, ...]
    threads: int
    coroutines: int
    started_at: float
    beats: int
    beat_at: float
    running: int


class NewWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that signs on."""

    token: str
    identity: str
    queues: tuple[str, ...] | None
    tasks: tuple[str, ...]
    threads: int
    coroutines: int


class Beat(NamedTuple):
    """What a worker learns by a heartbeat: whether it is on record, and whether there may be others to see to."""

    known: bool
    others: bool


class ScheduleRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it stands in the file. `next_at` None: it will not fire again."""

    name: str
    task: str
    queue: str
    payload: bytes
    priority: int
    trigger: str
    declared: bool
    paused: bool = False
    created_at: float = 0.0
    next_at: float | None = None
    last_at: float | None = None
    last_job: str | None = None


class Rescued(NamedTuple):
    """What became of a dead worker's jobs: put back, failed as poison, or cancelled as had been asked."""

    returned: tuple[str, ...]
    dead_lettered: tuple[str, ...]
    cancelled: tuple[str, ...]


class QueueCount(NamedTuple):
    """How many jobs of one queue stand in one state, and since when the oldest was enqueued."""

    queue: str
    status: Status
    jobs: int
    oldest: float


class Engine(Source, Protocol):
    """Accepts jobs and tells what became of them. Implementors do not inherit."""

    def submit(self, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Store the jobs, all or none; durable on return."""

    async def asubmit(self, jobs: Sequence[NewJob]) -> list[Submitted]:
        """Async twin of `submit`."""

    def close(self) -> None:
        """Let go of what is held open."""


class Store(Engine, Protocol):
    """An engine whose jobs a worker of ours runs."""

    def claim(
        self, worker: int, demands: Sequence[Demand], queues: tuple[str, ...] | None, ended: Sequence[Ended] = ()
    ) -> Cycle:
        """Record how runs ended and hand out jobs to start, in one transaction."""

    def offer(self, taker: IdleWorker, listener: str, span: float) -> None:
        """Let a worker be given a job by whoever enqueues one, while it rests, for `span` seconds at most."""

    def withdraw(self, worker: int) -> None:
        """It rests no more."""

    def settle(self, ended: Sequence[Ended]) -> list[Ended]:
        """Record how runs ended; return those that came too late and changed nothing."""

    def rescue(self, worker: int, executing: frozenset[str] | None, *, blame: bool) -> Rescued:
        """Put a dead worker's jobs back. `executing`: the runs it had begun, if known."""

    def prune(self, limit: int = 500) -> int:
        """Delete at most `limit` jobs whose time has come; return how many."""

    def completing(self, job: Claimed, result: bytes, keep_for: float) -> AbstractContextManager[Any]:
        """A write transaction whose commit holds the caller's rows and the job's success."""

    def acompleting(self, job: Claimed, result: bytes, keep_for: float) -> AbstractAsyncContextManager[Any]:
        """Async twin of `completing`."""

    def note_progress(self, job: Claimed, progress: str) -> bool:
        """Record a running job's progress; return whether its cancel was asked for. Raises `Fenced`."""

    def requested_cancels(self, worker: int) -> list[tuple[str, int]]:
        """The worker's running jobs that are to be cancelled, as (id, attempt)."""

    def register(self, worker: NewWorker) -> int:
        """Enter a worker; return its number."""

    def beat(self, worker: int) -> Beat:
        """Move the worker's heartbeat; it is not on record when it was declared dead meanwhile."""

    def workers(self) -> list[WorkerRecord]:
        """The workers on record."""

    def ownerless(self) -> list[int]:
        """Numbers of workers that hold running jobs but are not on record."""

    def declare(self, schedules: Sequence[ScheduleRecord], tasks: frozenset[str]) -> None:
        """Make the file's declared schedules those of the code, as far as they are of these tasks."""

    def bring_near(self, tasks: frozenset[str]) -> None:
        """After the clock was set back: let these tasks' schedules fire at their next ticks by it."""

    def fire(self, tasks: frozenset[str]) -> float | None:
        """Enqueue what is due of these tasks' schedules; return when the next is due."""

    def version(self) -> object:
        """What changes when there may be something new for a worker; None when that cannot be told just now."""

    def check(self) -> None:
        """Raise when the file was deleted or replaced."""

    def tidy(self) -> None:
        """Idle work on the file: give pages back, checkpoint."""
