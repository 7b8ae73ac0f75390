"""A queue: one file, the tasks and schedules declared on it, its jobs and its workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from litequeue.core.clock import SystemClock
from litequeue.core.declaration import Declaration, declared_here, is_the_programs, refuse_another, remembered
from litequeue.core.engine import Defaults, Engine, Feature, Runner, Source, require, runner_of
from litequeue.core.engine_choice import chosen_engine
from litequeue.core.interruptible import interruptible
from litequeue.core.names import check_name
from litequeue.core.records import JobSummary, Page, Status
from litequeue.core.registry import Registry
from litequeue.errors import Unsupported
from litequeue.job import Job
from litequeue.options import (
    Options,
    TaskOptions,
    features_needed,
    jobs_where,
    limit,
    run_options,
    span,
    task_options,
)
from litequeue.scheduling.declared import DeclaredSchedules
from litequeue.scheduling.schedules import Schedule, ScheduleOptions, Schedules, check_call
from litequeue.serialization.json_codec import Codec, JsonCodec, checked_codec
from litequeue.sqlite.store import SqliteStore
from litequeue.task import AsyncTask, Decorator, Task, check_scheduled

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from typing_extensions import Self, Unpack

    from litequeue.core.clock import Clock
    from litequeue.core.engine import Submitted
    from litequeue.core.records import Call, NewJob
    from litequeue.core.retry import Duration
    from litequeue.scheduling.triggers import Trigger
    from litequeue.sqlite.file.opening import Driver, Durability, OnConnect

P = ParamSpec("P")
R = TypeVar("R")

MAX_PAYLOAD = 4 * 1024 * 1024
_FILE_BY_DEFAULT = "litequeue.db", "apsw", "full", False, False, None


@interruptible
class Queue:
    """One file, and what is declared on it.

    `path`: the SQLite file; made if missing, and may be the application's own. `driver`: "apsw", or "sqlite3" where the
    process itself opens the file with Python's SQLite. `durability`: "full" survives power loss, "normal" a crash.
    `timeout`, `result_ttl`, `failed_ttl`: durations, or None for no limit. `max_payload`: bytes. `codec`: JSON unless
    given. `foreign_keys`: enforce those of your tables in `transaction()`, `completing()` and their async twins.
    `on_connect`: a function that is given each connection that such a block may get, when it is opened. `engine`: what
    keeps and runs the jobs instead of the file: an engine, or text such as "name:rest" of an installed one.

    Raises, before anything is written: `StoreError` and its kinds for a path that cannot hold a queue.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = "litequeue.db",
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
        engine: Engine | str | None = None,
    ) -> None:
        if isinstance(max_payload, bool) or not isinstance(max_payload, int) or max_payload <= 0:
            raise ValueError(f"max_payload must be a positive number of bytes, got {max_payload!r}")
        self.timeout: float = limit(timeout, "timeout")
        self.result_ttl: float = span(result_ttl, "result_ttl")
        self.failed_ttl: float = span(failed_ttl, "failed_ttl")
        self.max_payload = max_payload
        self.codec: Codec = JsonCodec() if codec is None else checked_codec(codec)
        self.clock: Clock = SystemClock()
        self._path = path
        self._driver = driver
        self._durability = durability
        self._allow_unsafe_filesystem = allow_unsafe_filesystem
        self._foreign_keys, self._on_connect = foreign_keys, on_connect
        self._tasks: Registry[Task[..., Any]] = Registry()
        self._declared: dict[str, list[Declaration]] = {}
        self.declared: DeclaredSchedules = DeclaredSchedules(self._decode_plain)
        of_file = path, driver, durability, allow_unsafe_filesystem, foreign_keys, on_connect
        self._engine: Engine | None = chosen_engine(engine, file_was_given=of_file != _FILE_BY_DEFAULT)
        if self._engine is not None:
            self._engine.attach(self)
        self._open_at_once()

    def _open_at_once(self) -> None:
        """Open the file once, so that a problem with it is an error where the queue is declared."""
        self.engine  # noqa: B018  opens it

    @property
    def engine(self) -> Engine:
        """What keeps and runs the jobs: the SQLite file, unless another was given; opened on first use."""
        if self._engine is None:
            self._engine = SqliteStore(
                self._path,
                driver=self._driver,
                durability=self._durability,
                allow_unsafe_filesystem=self._allow_unsafe_filesystem,
                foreign_keys=self._foreign_keys,
                on_connect=self._on_connect,
            )
            self._engine.attach(self)
        return self._engine

    def require(self, features: Iterable[Feature]) -> None:
        """Raise `Unsupported` if the engine lacks one of them. Opens nothing."""
        if self._engine is not None:  # else it is the default queue's file, which lacks nothing that can be asked for
            require(self._engine, features)

    def _file(self, what: str) -> SqliteStore:
        """The SQLite file; `Unsupported` where another engine keeps the jobs."""
        engine = self.engine
        if not isinstance(engine, SqliteStore):
            raise Unsupported(
                f"{engine.name}: {what} is not supported, for this queue has no file; use the tools of {engine.name}"
            )
        return engine

    @property
    def defaults(self) -> Defaults:
        """The limits of tasks that say nothing else, in seconds."""
        return Defaults(self.timeout, self.result_ttl, self.failed_ttl)

    @property
    def path(self) -> Path:
        """The file's absolute path."""
        return self._file("queue.path").path

    @property
    def source(self) -> Source:
        """The source from which jobs are looked up."""
        return self.engine.jobs

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The tasks declared on this queue, by name; `queue.tasks[name]` raises `UnknownTask`."""
        return self._tasks

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
        `at()`, a `Schedule`, or a list of these. `expires`: a duration in which it must begin. `result_ttl`: how long
        to keep a result; the queue's unless given. `mask`: names of arguments that listings are not to show.
        """
        name, checked = options.get("name"), task_options(options)
        if function is None:
            return lambda given: self._declare(given, name, checked)
        return self._declare(function, name, checked)

    def _declare(self, function: Callable[..., Any], name: str | None, options: Options) -> Task[..., Any]:
        self.require(features_needed(options))
        if isinstance(function, Task):
            raise TypeError(f"{function.name} is already a task")
        if not callable(function):
            raise TypeError(
                f"a task is made from a function, got {function!r}; options are given by keyword: @task(name=...)"
            )
        named = check_name(name or getattr(function, "__qualname__", ""), "a task's name")
        if "<lambda>" in named:
            raise ValueError("a lambda needs a name; give one: task(name='...')(lambda ...)")
        known = self._declared.get(named, ()) if named in self._tasks else ()
        here = declared_here(function)
        refuse_another(named, known, here)
        made: Task[..., Any] = Task(function, named, options, self)
        if made.is_coroutine:
            made = AsyncTask(function, named, options, self)
        check_scheduled(made)
        if self._engine is not None:
            self._engine.declare(made)
        if not is_the_programs(known, here):
            self._tasks[named] = made
            self.declared.note_module()
            self.declared.of_task(named, options.schedules, made.s)
        self._declared[named] = remembered(known, here)
        return made

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
        limit: int = 100,
        before: str | None = None,
        timeout: Duration | None = None,
    ) -> Page[Job[Any]]:
        """List jobs, newest first, at most `limit`. With `before` (a job's id), list only older jobs: the next page.

        After `timeout` return what was found; the page's `older` is what to give as `before` to go on, or None.
        """
        self.require([Feature.LISTING])
        where = jobs_where(
            status=status,
            task=task,
            queue=queue,
            tag=tag,
            schedule=schedule,
            limit=limit,
            before=before,
            timeout=timeout,
        )
        return self.engine.jobs.list(**where).of(self._known)

    async def ajobs(self, **where: Any) -> Page[Job[Any]]:
        """Async twin of `jobs`."""
        self.require([Feature.LISTING])
        return (await self.engine.jobs.alist(**jobs_where(**where))).of(self._known)

    def _known(self, record: JobSummary) -> Job[Any]:
        task = self._tasks.get(record.task)
        decode = self._decode_plain if task is None else task.signature.decode_result
        return Job(record.id, self.engine.jobs, decode, record)

    def _decode_plain(self, data: bytes | None) -> Any:
        return None if data is None else self.codec.decode(data)

    # ---- transactions

    def transaction(self) -> AbstractContextManager[Any]:
        """Open a write transaction on the file for the block; yields the driver's connection.

        Jobs enqueued inside commit with the caller's own rows, or not at all. Other writers wait: keep it short.
        """
        return self.engine.transactions.transaction()

    def atransaction(self) -> AbstractAsyncContextManager[Any]:
        """Async twin of `transaction`; yields an aiosqlite connection with `driver="sqlite3"`, else the apsw one."""
        return self.engine.transactions.atransaction()

    # ---- schedules and workers

    @property
    def schedules(self) -> Schedules[Job[Any]]:
        """The schedules kept in the file."""
        return Schedules(self.engine.schedules, self.job, self.ajob, self.jobs)

    def schedule(self, name: str, call: Call, trigger: Trigger, **options: Unpack[ScheduleOptions]) -> None:
        """Declare a schedule in code: enqueue `call` (made by `task.s(...)`) whenever `trigger` is due.

        The options are those of `Schedule`. A worker that starts adds it to the file, and removes it when the module
        no longer declares it.
        """
        self.require([Feature.SCHEDULES])
        self.declared.add(name, Schedule(trigger, name=name, **options), check_call(call))

    def worker(
        self,
        *,
        threads: int | None = None,
        coroutines: int = 100,
        queues: Sequence[str] | None = None,
        grace: Duration = "30s",
        name: str | None = None,
        signals: bool = False,
    ) -> Runner:
        """Make a worker: `with queue.worker():`, `async with queue.worker():` or `queue.worker().run()`.

        `threads`: how many plain functions run at once (the number of cores + 4, at most 8, unless given).
        `coroutines`: how many coroutines. `queues`: the queues served, in turn; all unless given. `grace`: how long
        running jobs may take to end at shutdown before they are released. `signals`: in a `with` block, let SIGTERM
        and SIGHUP stop the worker within `grace`, and have their usual effect afterwards; in the main thread only.
        """
        options = run_options(
            threads=threads, coroutines=coroutines, queues=queues, grace=grace, name=name, signals=signals
        )
        return runner_of(self.engine, options)

    # ---- the file

    def backup(self, copy: str | os.PathLike[str]) -> Path:
        """Copy the file while it is in use; return the copy's path: `copy`, a new file, or a name in `copy`, a folder.

        The copy is checked and synced to disk. It holds what was committed when this was called; jobs that were running
        then are queued in it. Raises `StoreError` if the copy cannot be made; then no file is left behind.
        """
        return self._file("queue.backup()").admin.backup(copy)

    def close(self) -> None:
        """Close the file's connections; they are opened again when they are needed."""
        if self._engine is not None:
            self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __repr__(self) -> str:
        place = os.fspath(self._path) if isinstance(self._engine, SqliteStore | None) else f"on {self._engine.name}"
        return f"<Queue {place} tasks={len(self._tasks)}>"


@interruptible
class DefaultQueue(Queue):
    """The queue of scripts, at $LITEQUEUE_PATH or ./litequeue.db; its file is opened when it is first used."""

    def _open_at_once(self) -> None:
        """Do nothing: importing a script must not make a file."""

    @property
    def engine(self) -> Engine:
        """The SQLite file; its path is looked up on first use."""
        if self._engine is None:
            self._path = os.environ.get("LITEQUEUE_PATH") or "litequeue.db"
        return super().engine


default_queue: DefaultQueue = DefaultQueue()
task = default_queue.task
