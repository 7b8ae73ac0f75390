"""A queue: one file, the tasks and schedules declared on it, its jobs and its workers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from litequeue.by_name import HasNames, Names
from litequeue.compose.on_queue import HasGroups
from litequeue.core.after_commit import OnCommit
from litequeue.core.after_commit import checked as checked_on_commit
from litequeue.core.checks import MAX_PAYLOAD, check_max_payload
from litequeue.core.clock import SystemClock
from litequeue.core.declaration import Declaration, declared_here, is_the_programs, refuse_another, remembered
from litequeue.core.duration import seconds
from litequeue.core.engine import Defaults, Engine, Feature, Runner
from litequeue.core.hints import QueueWords, hinted
from litequeue.core.interruptible import interruptible
from litequeue.core.module_patterns import checked_patterns, import_matching
from litequeue.core.names import check_name
from litequeue.core.opened_engine import OpenedEngine
from litequeue.core.pickled import by_name
from litequeue.core.plain_calls import VARIABLE
from litequeue.core.records import JobSummary, Page, Status
from litequeue.core.registry import Registry
from litequeue.core.routes import Routes
from litequeue.core.run_logs import JobLogs, checked_job_logs
from litequeue.core.source import Source
from litequeue.core.warn import calling_module
from litequeue.decorator import Decorator, check_scheduled, checked_name
from litequeue.job import Job
from litequeue.limits.declared import DeclaredLimits
from litequeue.limits.on_queue import DeclaresLimits
from litequeue.lock import Lock
from litequeue.options import Options, TaskOptions, features_needed, jobs_where, limit, span, task_options
from litequeue.scheduling.declared import DeclaredSchedules
from litequeue.scheduling.schedules import Schedule, ScheduleOptions, Schedules, check_call
from litequeue.serialization.json_codec import Codec, JsonCodec, PlainValues, checked_codec
from litequeue.sqlite.store import SqliteStore
from litequeue.task import AsyncTask, Task
from litequeue.worker_options import WorkerOptions, run_options, worker_features

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from typing_extensions import Self, Unpack

    from litequeue.compose.call import Call
    from litequeue.compose.job_group import JobGroup
    from litequeue.core.clock import Clock
    from litequeue.core.engine import Submitted
    from litequeue.core.records import NewJob
    from litequeue.core.retry import Duration
    from litequeue.scheduling.triggers import Trigger
    from litequeue.sqlite.file.opening import Driver, Durability, OnConnect

P = ParamSpec("P")
R = TypeVar("R")

_LISTING, _GROUP_LISTING = (Feature.LISTING,), (Feature.LISTING, Feature.COMPOSITION)
_FILE_BY_DEFAULT = "apsw", "full", False, False, None


def default_path() -> str:
    """Where the file of a queue is that was given none."""
    return os.environ.get("LITEQUEUE_PATH") or "litequeue.db"


@interruptible
class Queue(HasNames, HasGroups, DeclaresLimits, QueueWords):
    """One file, and what is declared on it.

    `path`: the SQLite file; made if missing, and may be the application's own. Without it nothing is opened before the
    first use: `bind(path)` says which file, else it is $LITEQUEUE_PATH or ./litequeue.db. `driver`: "apsw", or
    "sqlite3" where the process itself opens the file with Python's SQLite. `durability`: "full" survives power loss,
    "normal" a crash. `timeout`, `result_ttl`, `failed_ttl`: durations, or None for no limit. `max_payload`: bytes.
    `codec`: JSON unless given. `foreign_keys`: enforce those of your tables in `transaction()`, `completing()` and
    their async twins. `on_connect`: a function that is given each connection that such a block may get, when it is
    opened. `imports`: modules with tasks that a worker imports, such as "shop.tasks" or "shop.*". `on_commit`: True to
    store calls after the commit of the application's transaction, as an integration says; or a function that is given
    what to call then. `engine`: what keeps and runs the jobs instead of the file: an engine, or text such as
    "name:rest". `routes`: queues by patterns of tasks' names: `{"send_*": "email"}`. `job_logs`: how much to keep of
    what each run logs, such as "64KiB" (the last bytes; `job.logs()`), nothing unless given.

    Raises, before anything is written: `StoreError` and its kinds for a path that cannot hold a queue.
    """

    @hinted
    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        driver: Driver = "apsw",
        durability: Durability = "full",
        timeout: Duration | None = "10m",
        result_ttl: Duration | None = "1d",
        failed_ttl: Duration | None = "30d",
        max_payload: int = MAX_PAYLOAD,
        codec: Codec | None = None,
        allow_unsafe_filesystem: bool = False,
        foreign_keys: bool = False,
        on_connect: OnConnect | None = None,
        imports: Sequence[str] = (),
        on_commit: OnCommit = False,
        engine: Engine | str | None = None,
        routes: Mapping[str, str] | None = None,
        job_logs: JobLogs | None = None,
    ) -> None:
        self.timeout: float = limit(timeout, "timeout")
        self.result_ttl: float = span(result_ttl, "result_ttl")
        self.failed_ttl: float = span(failed_ttl, "failed_ttl")
        self.max_payload: int = check_max_payload(max_payload)
        self.codec: Codec = JsonCodec() if codec is None else checked_codec(codec)
        self.clock: Clock = SystemClock()
        self._module = calling_module()  # where it is declared
        self.on_commit: OnCommit = checked_on_commit(on_commit)
        self.imports: tuple[str, ...] = checked_patterns(imports)
        self._imported = False
        self.routes: Routes = Routes(routes)
        self.job_logs: int = checked_job_logs(job_logs)
        self._tasks: Registry[Task[..., Any]] = Registry()
        self._names = Names(self._tasks, self)
        self._declared: dict[str, list[Declaration]] = {}
        self.declared: DeclaredSchedules = DeclaredSchedules(self.plain_values.decode_value)
        self.limits_declared: DeclaredLimits = DeclaredLimits()
        self.file_options: Mapping[str, Any] = {
            "driver": driver,
            "durability": durability,
            "allow_unsafe_filesystem": allow_unsafe_filesystem,
            "foreign_keys": foreign_keys,
            "on_connect": on_connect,
        }
        make_file: partial[SqliteStore] = partial(SqliteStore, **self.file_options)
        of_file = tuple(self.file_options.values())
        self._engine: OpenedEngine[SqliteStore] = OpenedEngine(
            self, engine, path, make_file, default_path, file_options=of_file != _FILE_BY_DEFAULT
        )

    def bind(self, path: str | os.PathLike[str]) -> None:
        """Say which file it is and open it, where settings are read at start: before the first use of a `Queue()`.

        Raises `ValueError` if it has another file or an engine already, and what `Queue(path)` raises.
        """
        self._engine.bind(path)

    @property
    def engine(self) -> Engine:
        """What keeps and runs the jobs: the SQLite file, unless another was given; opened on first use."""
        return self._engine.get()

    def require(self, features: Iterable[Feature]) -> None:
        """Raise `Unsupported` if the engine lacks one of them. Opens nothing."""
        self._engine.require(features)

    @property
    def defaults(self) -> Defaults:
        """The limits of tasks that say nothing else, in seconds."""
        return Defaults(self.timeout, self.result_ttl, self.failed_ttl)

    @property
    def path(self) -> Path:
        """The file's absolute path."""
        return self._engine.file("queue.path").path

    @property
    def source(self) -> Source:
        """The source from which jobs are looked up."""
        return self.engine.jobs

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The tasks declared on this queue, by name; `queue.tasks[name]` raises `UnknownTask`."""
        return self._tasks

    @property
    def plain_calls(self) -> str | None:
        """What a plain call of a task does that is declared now: $LITEQUEUE_PLAIN_CALLS."""
        return os.environ.get(VARIABLE)

    def now(self) -> float:
        """The time, in unix seconds."""
        return self.clock.now()

    # ---- tasks

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, function: None = None, /, **options: Unpack[TaskOptions]) -> Decorator: ...
    def task(self, function: Callable[..., Any] | None = None, /, **options: Unpack[TaskOptions]) -> Any:
        """Make a function a task, bare (`@queue.task`) or with options (`@queue.task(retries=5)`).

        `name`: its qualified name unless given. `retries`: tries after the first, with `backoff` between them
        (exponential with full jitter from 1 s to 1 h, a duration, a list of them, or a function of the number of
        failures), after `retry_on` errors (any `Exception`) but not `give_up_on` ones. `timeout`: a duration, None for
        none; the queue's unless given. `unique`: True for one job per arguments, a format such as "user:{user_id}", or
        a function of the arguments, with `key_scope` "unfinished" unless given. `schedule`: `cron()`, `every()`,
        `at()`, a `Schedule`, or a list of these. `delay`: before which no job starts, `expires`: within which it must
        begin. `result_ttl`: how long to keep a result. `mask`: arguments that listings are not to show. `on_commit`: as
        the queue's, which it overrides. `aliases`: names that the task had before, whose jobs it runs. `version`: a
        number, 1 unless given, that counts changes of the arguments; `upgrade`: a function of an older version and its
        arguments by name, which returns those of this one. `max_pending`: how many of its jobs may be queued; one more
        raises `QueueFull`, or waits with `using(wait_for_room=)`. `delivery`: "at_most_once" for what must never run
        twice: a run that is cut short fails as `Interrupted`. `concurrency`, `rate` (such as "10/m"; `smooth`: spaced
        evenly): how many run at once, and how many start in any window, of all workers; for each value of `limit_key`,
        a format of the arguments such as "{user}", and in `ordered` order. `limits`: what `queue.limit()` returned,
        shared with other tasks. `uses`: what a run needs of the resources that a worker offers, such as {"gpu": 1}.
        `job_logs`: as the queue's, which it overrides; False for none. `process`: True to run it in a child process,
        which is killed at `timeout` even amid C code, and whose crash is this job's alone; `soft_timeout`: there, a
        duration after which `JobTimeout` is raised in it (docs/processes.md). `heartbeat_timeout`: how long a run may
        go without `current_job().heartbeat()` before it is stopped.
        """
        name, checked = options.get("name"), task_options(options, self.job_logs)
        if function is None:
            return lambda given: self._declare(given, name, checked)
        return self._declare(function, name, checked)

    def _declare(self, function: Callable[..., Any], name: str | None, options: Options) -> Task[..., Any]:
        self.require(features_needed(options))
        named = checked_name(function, name)
        self._tasks.refuse_taken(named, options.aliases)
        known = self._declared.get(named, ()) if named in self._tasks else ()
        here = declared_here(function)
        refuse_another(named, known, here)
        if options.own_limit is not None and named in self.limits_declared.all:
            raise ValueError(f"queue.limit({named!r}) is declared, and the task's own limit has that name; rename one")
        made: Task[..., Any] = Task(function, named, options, self)
        if made.is_coroutine:
            made = AsyncTask(function, named, options, self)
        check_scheduled(made)
        self._engine.declare(made)
        if not is_the_programs(known, here):
            self._tasks.add(named, made, options.aliases)
            self.declared.note_module()
            self.declared.of_task(named, options.schedules, lambda *args, **kwargs: made.s(*args, **kwargs).scheduled())
        self._declared[named] = remembered(known, here)
        return made

    def import_modules(self, importer: Callable[[Sequence[str]], object] = import_matching) -> None:
        """Import the modules of `imports=`, once; a worker does so before it begins. Raises what they raise."""
        if not self._imported:
            importer(self.imports)
            self._imported = True

    # ---- jobs

    def submit(self, jobs: Sequence[NewJob], within: Any = None) -> Sequence[Submitted]:
        """Store jobs. Tasks call this to enqueue."""
        return self.engine.jobs.submit(jobs, within)

    async def asubmit(self, jobs: Sequence[NewJob], within: Any = None) -> Sequence[Submitted]:
        """Async twin of `submit`."""
        return await self.engine.jobs.asubmit(jobs, within)

    def job(self, job_id: str) -> Job[Any]:
        """Look a job up; raises `JobNotFound`."""
        return self._known(self.engine.jobs.look_up(str(job_id)))

    async def ajob(self, job_id: str) -> Job[Any]:
        """Async twin of `job`."""
        return self._known(await self.engine.jobs.alook_up(str(job_id)))

    def jobs(
        self,
        *,
        status: Status | str | None = None,
        task: str | Task[..., Any] | None = None,
        queue: str | None = None,
        tag: str | None = None,
        schedule: str | None = None,
        group: str | JobGroup[Any] | None = None,
        limit: int = 100,
        before: str | None = None,
        timeout: Duration | None = None,
    ) -> Page[Job[Any]]:
        """List jobs, newest first, at most `limit`. With `before` (a job's id), list only older jobs: the next page.

        After `timeout` return what was found; the page's `older` is what to give as `before` to go on, or None.
        `group`: a group of jobs or its id; those of groups inside are listed too. `JobNotFound`: it is not on record.
        """
        self.require(_LISTING if group is None else _GROUP_LISTING)
        names: dict[str, Any] = {"task": task, "queue": queue, "tag": tag, "schedule": schedule, "group": group}
        where = jobs_where(status=status, limit=limit, before=before, timeout=timeout, owner=self, **names)
        return self.engine.jobs.list(**where).of(self._known)

    async def ajobs(self, **where: Any) -> Page[Job[Any]]:
        """Async twin of `jobs`."""
        self.require(_LISTING if where.get("group") is None else _GROUP_LISTING)
        return (await self.engine.jobs.alist(**jobs_where(**where, owner=self))).of(self._known)

    def _known(self, record: JobSummary, born: float | None = None) -> Job[Any]:
        task = self._tasks.get(record.task)
        values = self.plain_values if task is None else task.signature
        return Job(record.id, self.engine.jobs, values, record, born)

    @property
    def plain_values(self) -> PlainValues:
        """What reads values of tasks that are not declared here."""
        return PlainValues(self.codec)

    # ---- transactions

    def transaction(self) -> AbstractContextManager[Any]:
        """Open a write transaction on the file for the block; yields the driver's connection.

        Jobs enqueued inside commit with the caller's own rows, or not at all. Other writers wait: keep it short.
        """
        return self.engine.transactions.transaction()

    def atransaction(self) -> AbstractAsyncContextManager[Any]:
        """Async twin of `transaction`; yields an aiosqlite connection with `driver="sqlite3"`, else the apsw one."""
        return self.engine.transactions.atransaction()

    def lock(self, name: str, *, timeout: Duration | None = None) -> Lock:
        """Return a lock of that name, for `with`, `async with`, or as a decorator: one block at a time holds it.

        All threads, coroutines and processes that use the file are excluded; the system frees it if its holder dies.
        `timeout`: how long to wait for it, without end unless given; then `LockTimeout`. 0: do not wait.
        """
        self._engine.check_file("queue.lock()")
        longest = math.inf if timeout is None else seconds(timeout, "timeout")
        return Lock(lambda: self._engine.file("queue.lock()").path, check_name(name, "a lock's name"), longest)

    # ---- schedules and workers

    @property
    def schedules(self) -> Schedules[Job[Any]]:
        """The schedules kept in the file."""
        return Schedules(self.engine.schedules, self._known, self.jobs, self.now)

    def schedule(self, name: str, call: Call[Any], trigger: Trigger, **options: Unpack[ScheduleOptions]) -> None:
        """Declare a schedule in code: enqueue `call` (made by `task.s(...)`) whenever `trigger` is due.

        The options are those of `Schedule`. A worker that starts adds it to the file, and removes it when the module
        no longer declares it.
        """
        self.require([Feature.SCHEDULES])
        self.declared.add(name, Schedule(trigger, name=name, **options), check_call(call, options))

    def worker(self, **options: Unpack[WorkerOptions]) -> Runner:
        """Make a worker: `with queue.worker():`, `async with queue.worker():` or `queue.worker().run()`.

        `threads`: how many plain functions run at once (the number of cores + 4, at most 8, unless given; "auto": the
        cores that this process may use + 4, at most 32). `coroutines`: how many coroutines (100). `children`: how many
        child processes for tasks with `process=True` (the cores that this process may use; 0: leave these jobs to other
        workers); each ends after `max_jobs_per_child`, or once it holds more than `max_memory_per_child`, and another
        takes its place. `queues`: the queues served, in turn, all unless given; a mapping says how many jobs of a queue
        at once: `{"email": None, "reports": 2}`. `offers`: resources for tasks with `uses=`, such as `{"gpu": 2}`.
        `grace`: how long running jobs may take to end at shutdown before they are released (30 s). `signals`: in a
        `with` block, let SIGTERM and SIGHUP stop the worker within `grace`, and have their usual effect afterwards; in
        the main thread only. `max_jobs`: end after it has run so many jobs. `max_memory`: end once this process holds
        more than so much, such as "500MB". At either, it claims no more and lets what runs end. `name`: for the log.
        """
        self.import_modules()
        checked = run_options(options)
        self.require(worker_features(checked))
        return self._engine.runner(checked)

    # ---- the file

    def backup(self, copy: str | os.PathLike[str]) -> Path:
        """Copy the file while it is in use; return the copy's path: `copy`, a new file, or a name in `copy`, a folder.

        The copy is checked and synced to disk. It holds what was committed when this was called; jobs that were running
        then are queued in it. Raises `StoreError` if the copy cannot be made; then no file is left behind.
        """
        return self._engine.file("queue.backup()").admin.backup(copy)

    def close(self) -> None:
        """Close the file's connections; they are opened again when they are needed."""
        self._engine.close()

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle it by the name that it has in a module."""
        instead = "pass its path, and make a Queue(path) there"
        return by_name(self, [self._module, "litequeue"], "queue", "this queue", instead)

    def __deepcopy__(self, _copied: object = None) -> Self:
        return self

    __copy__ = __deepcopy__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Queue {self._engine.place} tasks={len(self._tasks)}>"


default_queue: Queue = Queue()
task = default_queue.task
