"""What a litequeue worker needs of a store, as protocols and the values that cross them. Knows no SQL."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import msgspec

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from pathlib import Path

    from litequeue.core.capacity import Capacity
    from litequeue.core.compositions import Handed
    from litequeue.core.dispatch import IdleWorker
    from litequeue.core.outcome import Ended, ErrorInfo
    from litequeue.core.records import Claimed
    from litequeue.core.run_logs import RunLogStore
    from litequeue.core.schedules import ScheduleRecord

DEATHS = 2  # of workers under a job: after so many it is run alone
DEATH_LIMIT = 3  # of workers, or of its own process: after so many it has failed

# Fires, and yields between its transactions, so that its caller can claim jobs; returns when the next tick is due.
Firing: TypeAlias = Generator[None, None, "float | None"]


class Demand(NamedTuple):
    """Which tasks a worker can start now, how many jobs of them, and with how many deaths at most.

    `at_once`: how many of these begin without waiting for another, as those must whose starts count against a rate.
    `patience`: how many seconds after their claim these were called lately, at most.
    `durable`: a claim must survive power loss, since one of the tasks may not run twice.
    """

    tasks: frozenset[str]
    limit: int
    most_deaths: int | None = None
    at_once: int = 1
    patience: float = 0.0
    durable: bool = False

    def met_by(self, claimed: Sequence[Claimed]) -> bool:
        """Whether as many jobs came as were requested: then there may be more."""
        return sum(job.task in self.tasks for job in claimed) >= self.limit


class Cycle(NamedTuple):
    """The result of one cycle: jobs to run, runs whose end came too late, and what to expect.

    `cut`: there may be more, though fewer jobs came than were requested: some are large, of many lanes, behind expired
    ones, or parked. `opens_at`: when a full limit has room again, by the monotonic clock. `keyless`: jobs that do not
    say what they take of limits.
    """

    claimed: list[Claimed]
    lost: list[Ended]
    next_at: float | None
    registered: bool
    cut: bool = False
    opens_at: float = math.inf
    keyless: tuple[Claimed, ...] = ()


class Declared(NamedTuple):
    """What the code of a worker declares: its schedules, and the names of its tasks.

    `imported`: whether a module has been executed in this process. `shared`: modules that declare on other queues, too.
    `dropped`: schedules that were declared here before and are not any more, each with its module.
    """

    schedules: Sequence[ScheduleRecord]
    tasks: frozenset[str]
    imported: Callable[[str], bool]
    shared: frozenset[str]
    dropped: frozenset[tuple[str, str]] = frozenset()


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A worker, as stored in the file."""

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
    modules: tuple[str, ...] = ()  # that declare its tasks and schedules
    slots: dict[str, int] = {}  # how many jobs of a queue it runs at once, where that is bounded
    offers: dict[str, int] = {}  # resources


Parameters: TypeAlias = "Mapping[str, tuple[str, ...]]"  # by stored name, what a call may give by position, in order


class NewWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker to register."""

    token: str
    identity: str
    queues: tuple[str, ...] | None
    tasks: tuple[str, ...]
    threads: int
    coroutines: int
    modules: tuple[str, ...] = ()
    parameters: Parameters = msgspec.field(default_factory=dict)
    at_most_once: tuple[str, ...] = ()  # those of the tasks whose runs may not be repeated
    slots: Mapping[str, int] = {}
    offers: Mapping[str, int] = {}


class Beat(NamedTuple):
    """The answer to a heartbeat: whether the worker is registered, and whether others may have to be reaped."""

    known: bool
    others: bool


class ReadyJobs(NamedTuple):
    """Ready jobs of one queue and task. Not `exact`: or more."""

    queue: str
    task: str
    jobs: int
    exact: bool


class Rescued(NamedTuple):
    """A dead worker's jobs: released, failed after too many deaths, or cancelled as had been requested.

    `interrupted`: failed, as their runs may not be repeated.
    """

    returned: tuple[str, ...]
    dead_lettered: tuple[str, ...]
    cancelled: tuple[str, ...]
    interrupted: tuple[str, ...] = ()


class Runs(Protocol):
    """The part that hands out jobs and records how runs ended.

    `let_begin`: the ends that were recorded last let other jobs begin, which waited for them.
    """

    let_begin: bool

    def claim(
        self,
        worker: int,
        demands: Sequence[Demand],
        queues: tuple[str, ...] | None,
        ended: Sequence[Ended] = (),
        capacity: Capacity | None = None,
    ) -> Cycle:
        """Record how runs ended and hand out jobs to start, in one transaction. `capacity` None: without bounds."""

    def settle(self, ended: Sequence[Ended]) -> list[Ended]:
        """Record how runs ended; return those that came too late and changed nothing."""

    def rescue(self, worker: int, executing: frozenset[str] | None, *, blame: bool, why: str = ...) -> Rescued:
        """Release a dead worker's jobs. `executing`: the runs it had begun, if known; `why` it is dead."""

    def claims_of(self, worker: int) -> list[Claimed]:
        """Return the jobs that stand as running under the worker."""

    def queued_among(self, job_ids: Sequence[str]) -> list[str]:
        """Return those of these jobs that could begin, and have not."""

    def ready_without(self, tasks: frozenset[str], queues: tuple[str, ...] | None) -> list[ReadyJobs]:
        """Count the ready jobs of tasks other than these, in these queues; None: in all."""

    def requested_cancels(self, worker: int) -> list[tuple[str, int]]:
        """Return the worker's running jobs whose cancel was requested, as (id, attempt)."""

    def parameters_of(self, stored_name: str) -> tuple[str, ...] | None:
        """Return how calls that are stored under this name call their arguments by position, if it is on record."""

    async def aparameters_of(self, stored_name: str) -> tuple[str, ...] | None:
        """Async twin of `parameters_of`."""

    def handed_to(self, job_id: str) -> Handed:
        """Return what the job's parents hand on to it; raises `JobNotFound` where one is not on record."""

    async def ahanded_to(self, job_id: str) -> Handed:
        """Async twin of `handed_to`."""

    def is_gone(self, job: Claimed) -> None:
        """Note that a function has returned that went on after its end: others may have what it held of limits."""

    def charge(self, job: Claimed, limit: str, used: int, before: int | None) -> None:
        """Correct what a run takes of a rate, from what it reserved, or `before`, to what it has used."""

    async def acharge(self, job: Claimed, limit: str, used: int, before: int | None) -> None:
        """Async twin of `charge`."""

    def note_progress(self, job: Claimed, progress: str) -> bool:
        """Record a running job's progress; return whether its cancel was requested. Raises `Fenced`."""

    async def anote_progress(self, job: Claimed, progress: str) -> bool:
        """Async twin of `note_progress`."""

    def emit(self, job: Claimed, value: bytes, lost: Callable[[], None]) -> None:
        """Take in a value, which is written soon; never blocks. `lost` is called if the run is not the job's any more.

        The end of the run is never on record before its values.
        """

    def heartbeat(self, job: Claimed, details: bytes | None, lost: Callable[[], None]) -> None:
        """Take in the details of a heartbeat, which are written soon, in the place of those before; never blocks.

        None: it has none. `lost`: see `emit`.
        """

    def write_emitted(self) -> None:
        """Write what runs have emitted, before another process ends one of them."""

    def completing(
        self, job: Claimed, result: bytes, keep_for: float, then: Callable[[], None] = ...
    ) -> AbstractContextManager[Any]:
        """Open a write transaction whose commit holds the caller's rows and the job's success; `then` follows it."""

    def acompleting(
        self, job: Claimed, result: bytes, keep_for: float, then: Callable[[], None] = ...
    ) -> AbstractAsyncContextManager[Any]:
        """Async twin of `completing`."""


class Workers(Protocol):
    """The part that knows the workers of all processes."""

    def register(self, worker: NewWorker) -> int:
        """Register a worker; return its number."""

    def serve(
        self,
        worker: int,
        tasks: frozenset[str],
        modules: Sequence[str],
        parameters: Parameters,
        at_most_once: Sequence[str] = (),
    ) -> None:
        """Record which tasks a registered worker runs now, their modules, how they are called, and those run once."""

    def beat(self, worker: int) -> Beat:
        """Send the worker's heartbeat; it is not registered any more if it was declared dead meanwhile."""

    def list(self) -> builtins.list[WorkerRecord]:
        """Return the registered workers."""

    def ownerless(self) -> builtins.list[int]:
        """Return the numbers of workers that have running jobs but are not registered."""


class Ticks(Protocol):
    """The part that knows when schedules are due."""

    def declare(self, code: Declared) -> None:
        """Make the file's declared schedules those of the code, and remove what its modules declare no more."""

    def bring_near(self, tasks: frozenset[str]) -> Firing:
        """After the clock was set back: let these tasks' schedules fire at their next ticks by it, in steps."""

    def fire(self, tasks: frozenset[str]) -> Firing:
        """Enqueue the due ticks of these tasks' schedules, in steps."""


class FileMaintenance(Protocol):
    """The part for what a worker does to the file beside its jobs."""

    def prune(self) -> int:
        """Delete jobs that have been kept long enough, for about 5 ms; return how many."""

    def spread(self) -> None:
        """Go on with the consequences of ends that were too many for their transaction."""

    def next_prune(self) -> float | None:
        """Return when the next job is to be deleted."""

    def version(self) -> object:
        """Return a value that changes when there may be work for a worker; None: it cannot be read just now."""

    def check(self) -> None:
        """Raise if the file was deleted or replaced."""

    def vacuum(self) -> int:
        """Give free pages back to the file system, for about 5 ms; return how many bytes."""

    def checkpoint(self) -> int:
        """Move the WAL into the file without blocking anyone; return how many of its pages have to wait for readers."""

    def may_shrink(self, worker: int, *, alone: bool) -> bool:
        """Whether no other worker makes the file smaller alone; `alone`: this one does, for the next three seconds."""


class Limits(Protocol):
    """The part that keeps limits, and what tasks take of them."""

    def declare(self, limits: Mapping[str, str], tasks: Mapping[str, str | None]) -> None:
        """Keep what the code of a worker declares, as text, where it differs from what was declared last.

        `tasks`: the rules of each; None: it is plain.
        """

    def uses(self) -> Mapping[str, Mapping[str, int]]:
        """Return the resources that one run of each task uses, by its name without a version."""

    def give_takes(self, takes: Mapping[str, str], failed: Mapping[str, ErrorInfo]) -> bool:
        """Keep what jobs take of limits that did not say so; end those for which it cannot be worked out.

        Return whether any may start now, or let others start: not where the file asks for more than they say.
        """


class IdleWorkers(Protocol):
    """The part that knows the idle workers of this process."""

    def offer(self, worker: IdleWorker) -> None:
        """Let a job be dispatched to the worker while it is idle."""

    def withdraw(self, worker: IdleWorker) -> None:
        """The worker is idle no more."""


class Store(Protocol):
    """All of that: what a worker is given."""

    @property
    def path(self) -> Path:
        """The file's absolute path."""

    @property
    def directory(self) -> Path:
        """The folder beside the file, for locks and sockets."""

    @property
    def runs(self) -> Runs:
        """The part that hands out jobs and records how runs ended."""

    @property
    def run_logs(self) -> RunLogStore:
        """The part that keeps the logs of runs."""

    @property
    def workers(self) -> Workers:
        """The part that knows the workers of all processes."""

    @property
    def ticks(self) -> Ticks:
        """The part that knows when schedules are due."""

    @property
    def limits(self) -> Limits:
        """The part that keeps limits."""

    @property
    def maintenance(self) -> FileMaintenance:
        """The part for what a worker does to the file beside its jobs."""

    @property
    def dispatch(self) -> IdleWorkers:
        """The part that knows the idle workers of this process."""

    def check_process(self) -> None:
        """Raise `StoreError` in a process that was forked, without Python's hooks, while the file was open."""
