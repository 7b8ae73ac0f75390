"""The seam behind which an engine stands: it accepts jobs, keeps their outcomes, and can run them. Knows no SQL.

An engine is composed of parts, each a protocol of a few methods. What an engine lacks it says in `features`; a part
that it lacks is a `Missing`, whose every method raises `Unsupported`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol, cast

import msgspec

from litequeue.core.source import Source
from litequeue.errors import Unsupported

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from typing_extensions import Self

    from litequeue.core.clock import Clock
    from litequeue.core.groups import CompositionStore
    from litequeue.core.limits import RuleKeeper
    from litequeue.core.records import ListedJob, NewJob, Page, Status
    from litequeue.core.schedules import Keeper


class Feature(str, Enum):
    """What an engine may lack."""

    TRANSACTION = "transaction"  # queue.transaction(), within=
    ATOMIC_BATCH = "atomic_batch"  # enqueue_many() stores all or none
    COMPLETING = "completing"  # current_job().completing()
    KEYS = "keys"  # key=, unique=
    KEY_QUEUED = "key_queued"  # key_scope="queued"
    KEY_FOR = "key_for"  # key_scope="10s"
    AT_MOST_ONCE = "at_most_once"  # delivery="at_most_once"
    MAX_PENDING = "max_pending"  # max_pending=
    STREAMS = "streams"  # current_job().emit(), job.stream()
    POSITION = "position"  # job.position()
    REPLACE = "replace"  # on_conflict="replace"
    LISTING = "listing"  # queue.jobs()
    COMPOSITION = "composition"  # chain, group, chord; after=, on_success=, on_failure=; map(), chunks()
    SCHEDULES = "schedules"  # queue.schedules
    LIMITS = "limits"  # limits=, concurrency=, rate=, uses=, queue.limit(), queue.pause(); slots and offers of workers
    LONG_DELAY = "long_delay"  # delay= without an upper limit
    EMBEDDED = "embedded"  # with queue.worker():
    VERSIONS = "versions"  # aliases=, version=
    PROCESSES = "processes"  # process=True
    JOB_LOGS = "job_logs"  # job_logs=, job.logs()
    RECYCLING = "recycling"  # max_jobs=, max_memory= of a worker
    WORKFLOWS = "workflows"

    __str__ = str.__str__


class Defaults(NamedTuple):
    """What holds for a task that says nothing else, in seconds."""

    timeout: float
    result_ttl: float
    failed_ttl: float


class Home(Protocol):
    """What an engine may ask of the queue to which it is attached."""

    @property
    def tasks(self) -> Mapping[str, Any]:
        """The declared tasks, by name. There are more of them as modules are imported."""

    @property
    def declared(self) -> Any:
        """Its declared schedules: `litequeue.scheduling.declared.DeclaredSchedules`."""

    @property
    def limits_declared(self) -> Any:
        """Its declared limits: `litequeue.limits.declared.DeclaredLimits`."""

    @property
    def clock(self) -> Clock:
        """The clock by which the queue goes."""

    @property
    def codec(self) -> Any:
        """What turns its values into bytes and back: `litequeue.serialization.json_codec.Codec`."""

    @property
    def defaults(self) -> Defaults:
        """The queue's own limits."""

    def now(self) -> float:
        """The time, in unix seconds."""


class RunOptions(NamedTuple):
    """The options of a worker: see `Queue.worker`. `grace` in seconds, `max_memory` in bytes; `queues` None: all.

    `slots`: how many jobs of a queue at once, where that is bounded. `offers`: resources. `children`: how many child
    processes, each of which ends after so many jobs, or once it holds more memory.
    """

    threads: int
    coroutines: int
    queues: tuple[str, ...] | None
    grace: float
    name: str | None
    signals: bool
    max_jobs: int | None
    max_memory: int | None
    slots: Mapping[str, int] = {}
    offers: Mapping[str, int] = {}
    children: int = 0
    max_jobs_per_child: int | None = None
    max_memory_per_child: int | None = None


class Runner(Protocol):
    """What runs an engine's jobs in this process: what `Queue.worker` returns."""

    @property
    def name(self) -> str:
        """Its name in the log."""

    @property
    def claimed(self) -> int:
        """How many jobs it has claimed."""

    @property
    def settled(self) -> int:
        """How many ends of runs it has recorded, those of released jobs included."""

    @property
    def released(self) -> int:
        """How many jobs it has released: they are queued again."""

    @property
    def lost(self) -> int:
        """How many runs ended too late: another worker had their jobs by then."""

    def run(self, *, until_idle: bool = False) -> bool:
        """Run jobs, and handle signals, until told to stop. Return whether all that had begun was finished."""

    def stop(self) -> None:
        """Ask it to stop; from any thread."""

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None = None, /, *raised: object) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, kind: type[BaseException] | None = None, /, *raised: object) -> None: ...


class Submitted(msgspec.Struct, frozen=True):
    """The id of the job that a submission led to, whether it is a new one, and whether it may be rolled back yet.

    `shown`: how a new one stands: as it was given (True), as this, or otherwise, which is to be looked up (False).
    """

    id: str
    fresh: bool
    pending: bool = False
    shown: NewJob | bool = True


class QueueCount(NamedTuple):
    """How many jobs of one queue are in one state; `exact` is False where that is an estimate."""

    queue: str
    status: Status
    jobs: int
    exact: bool = True


class JobStore(Source, Protocol):
    """The part of an engine that keeps jobs."""

    def submit(self, jobs: Sequence[NewJob], within: Any = None) -> Sequence[Submitted]:
        """Store the jobs, all or none; durable on return. `within`: in a transaction of the caller's own.

        Ids are 1 to 200 characters of A-Z a-z 0-9 . _ : ~ -, unique for ever. Nothing is stored when it raises; without
        `Feature.ATOMIC_BATCH` the first ones may be, and the error says how many.
        """

    async def asubmit(self, jobs: Sequence[NewJob], within: Any = None) -> Sequence[Submitted]:
        """Async twin of `submit`."""

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
        """Return the newest jobs that match, newest first. `before`: an id that this engine gave.

        `group`: the id of one, with `Feature.COMPOSITION`; `JobNotFound` where it is not on record.
        `timeout`: after so many seconds, return what was found; the page's `older` says where to go on.
        """

    async def alist(self, **where: Any) -> Page[ListedJob]:
        """Async twin of `list`."""

    def counts(self, *, exact: bool = False) -> builtins.list[QueueCount]:
        """Return how many jobs of each queue are in each state. `exact`: estimate none of them."""

    async def acounts(self, *, exact: bool = False) -> builtins.list[QueueCount]:
        """Async twin of `counts`."""


class Transactions(Protocol):
    """The part of an engine in whose transactions the caller's rows commit with jobs."""

    def transaction(self) -> AbstractContextManager[Any]:
        """Open a write transaction for the block; yields the connection."""

    def atransaction(self) -> AbstractAsyncContextManager[Any]:
        """Async twin of `transaction`."""


class Engine(Protocol):
    """Accepts jobs, keeps their outcomes and schedules, and runs them. Implementors do not inherit."""

    @property
    def name(self) -> str:
        """Its name, such as "sqlite", in messages and listings."""

    @property
    def features(self) -> frozenset[Feature]:
        """What it supports."""

    @property
    def jobs(self) -> JobStore:
        """The part that keeps jobs."""

    @property
    def schedules(self) -> Keeper:
        """The part that keeps schedules."""

    @property
    def rules(self) -> RuleKeeper:
        """The part that keeps what an operator says on what may start: limits and pauses."""

    @property
    def compositions(self) -> CompositionStore:
        """The part that keeps what runs after what."""

    @property
    def transactions(self) -> Transactions:
        """The part for transactions."""

    def attach(self, home: Home) -> None:
        """Make it the engine of one queue; once, before any task is declared. A second queue: `ValueError`."""

    def declare(self, task: Any) -> None:
        """Accept a task as it is declared, or raise `Unsupported` for options that it cannot keep; never connects."""

    def runner(self, options: RunOptions) -> Runner:
        """Make what runs jobs in this process."""

    def close(self) -> None:
        """Close what is open; it is opened again when it is used again."""


class Missing:
    """A part that an engine lacks: each of its methods raises `Unsupported`."""

    def __init__(self, engine: str, feature: Feature, instead: str = "") -> None:
        self._engine, self._feature, self._instead = engine, feature, instead

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._refuse

    def _refuse(self, *_arguments: object, **_options: object) -> NoReturn:
        raise unsupported(self._engine, self._feature, self._instead)

    def __repr__(self) -> str:
        return f"<Missing {self._feature} of {self._engine}>"


_WHAT: dict[Feature, tuple[str, str]] = {  # what is asked for, and the way out
    Feature.TRANSACTION: ("queue.transaction() and within=", "commit your own rows first, then enqueue"),
    Feature.ATOMIC_BATCH: ("enqueue_many() of all or none", "enqueue the calls one by one"),
    Feature.COMPLETING: (
        "current_job().completing()",
        "pass current_job().idempotency_key to what must happen once, and return the result",
    ),
    Feature.KEYS: ("key= and unique=", "leave them out, and make the task safe to run twice"),
    Feature.KEY_QUEUED: ('key_scope="queued"', 'use key_scope="unfinished" or "kept"'),
    Feature.KEY_FOR: ('key_scope="10s"', 'use key_scope="kept", which holds the key as long as the job is kept'),
    Feature.REPLACE: ('on_conflict="replace"', "cancel the job that holds the key, then enqueue"),
    Feature.AT_MOST_ONCE: (
        'delivery="at_most_once"',
        "pass current_job().idempotency_key to what must happen once",
    ),
    Feature.MAX_PENDING: ("max_pending=", "look at queue.engine.jobs.counts() before you enqueue"),
    Feature.POSITION: ("job.position()", "look at job.status, and at how many jobs the queue has"),
    Feature.STREAMS: (
        "current_job().emit() and job.stream()",
        "return the values as the result, or write them where the reader looks",
    ),
    Feature.LISTING: ("queue.jobs()", "keep the ids of your jobs, and look each up by queue.job(id)"),
    Feature.COMPOSITION: (
        "a composition (chain, group, chord, after=, on_success=, on_failure=, map, chunks)",
        "let each task enqueue what comes after it",
    ),
    Feature.SCHEDULES: ("schedule= and queue.schedules", "let cron or a systemd timer enqueue the task"),
    Feature.LIMITS: ("a limit on what may start", "run fewer workers, or ask the engine's own tools for it"),
    Feature.LONG_DELAY: ("a delay of that length", "give a shorter one, or enqueue later"),
    Feature.EMBEDDED: (
        "a worker inside the program (with queue.worker():)",
        "run it as a process of its own: queue.worker().run(), or litequeue run app:queue",
    ),
    Feature.VERSIONS: (
        "aliases= and version=",
        "declare a second task for the old calls, which calls the function of the new one",
    ),
    Feature.PROCESSES: (
        "a task in a child process of the worker (process=True, max_jobs_per_child=, max_memory_per_child=)",
        "leave process=True out, and start a process in the function",
    ),
    Feature.RECYCLING: (
        "a worker that ends after so many jobs, or at so much memory (max_jobs=, max_memory=)",
        "restart its process from outside, now and then",
    ),
    Feature.JOB_LOGS: ("job_logs= and job.logs()", "look in the log of the process that runs the jobs"),
    Feature.WORKFLOWS: ("a workflow", "enqueue single tasks"),
}


def unsupported(engine: str, feature: Feature, instead: str = "") -> Unsupported:
    """Make the error for what an engine lacks. `instead`: a way out that is better than the general one."""
    what, way_out = _WHAT[feature]
    return Unsupported(f"{engine}: {what} is not supported; {instead or way_out}")


def require(engine: Engine, features: Iterable[Feature]) -> None:
    """Raise `Unsupported` if the engine lacks one of them."""
    for feature in features:
        if feature not in engine.features:
            raise unsupported(engine.name, feature)


class StandaloneRunner:
    """A runner of an engine without `Feature.EMBEDDED`: it has `run()` and `stop()`, and no `with` block."""

    def __init__(self, engine: str, runner: Runner) -> None:
        self._engine, self._runner = engine, runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def run(self, *, until_idle: bool = False) -> bool:
        """Run jobs until told to stop; see `Runner.run`."""
        return self._runner.run(until_idle=until_idle)

    def stop(self) -> None:
        """Ask it to stop; from any thread."""
        self._runner.stop()

    def __enter__(self) -> NoReturn:
        raise unsupported(self._engine, Feature.EMBEDDED)

    def __exit__(self, *raised: object) -> None: ...

    async def __aenter__(self) -> NoReturn:
        raise unsupported(self._engine, Feature.EMBEDDED)

    async def __aexit__(self, *raised: object) -> None: ...


def runner_of(engine: Engine, options: RunOptions) -> Runner:
    """Make what runs the engine's jobs in this process; its `with` block is refused where the engine lacks that."""
    runner = engine.runner(options)
    return runner if Feature.EMBEDDED in engine.features else cast("Runner", StandaloneRunner(engine.name, runner))
