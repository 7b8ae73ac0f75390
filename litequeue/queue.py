"""The front door: one file, the tasks and schedules declared on it, its jobs and its workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from litequeue.core.clock import SystemClock
from litequeue.core.declaration import Declaration, declared_here, is_the_programs, refuse_another, remembered
from litequeue.core.interruptible import interruptible
from litequeue.job import Job, JobRecord, Source, Status
from litequeue.options import UNSET, Options, Unique, Unset, check_name, jobs_where, limit, span, task_options
from litequeue.scheduling.schedules import Schedules
from litequeue.scheduling.triggers import At, Cron, Every
from litequeue.serialization.json_codec import Codec, JsonCodec, checked_codec
from litequeue.sqlite.store import SqliteStore
from litequeue.task import AsyncTask, Registry, Task

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from typing_extensions import Self

    from litequeue.core.clock import Clock
    from litequeue.core.engine import Submitted
    from litequeue.core.retry import Backoff, Duration, Errors
    from litequeue.job import KeyScope, NewJob
    from litequeue.scheduling.triggers import Trigger
    from litequeue.sqlite.file.opening import Driver, Durability, OnConnect
    from litequeue.worker.worker import Worker

P = ParamSpec("P")
R = TypeVar("R")

MAX_PAYLOAD = 4 * 1024 * 1024


@interruptible
class Queue:
    """One file, and what is declared on it.

    `path`: the SQLite file; made if missing, and may be the application's own. `driver`: "apsw", or "sqlite3" where the
    process itself opens the file with Python's SQLite. `durability`: "full" survives power loss, "normal" a crash.
    `timeout`, `result_ttl`, `failed_ttl`: durations, or None for no limit. `max_payload`: bytes. `codec`: JSON unless
    given. `foreign_keys`: enforce those of your tables in `transaction()`, `completing()` and their async twins.
    `on_connect`: a function that is given each connection that such a block may get, when it is opened.

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
        self._tasks = Registry()
        self._declared: dict[str, list[Declaration]] = {}
        self._store: SqliteStore | None = None
        self._open_at_once()

    def _open_at_once(self) -> None:
        """Meet every problem with the file where the queue is declared."""
        self.store  # noqa: B018  opens it

    @property
    def store(self) -> SqliteStore:
        """The store on this file; opened on first use."""
        if self._store is None:
            self._store = SqliteStore(
                self._path,
                driver=self._driver,
                durability=self._durability,
                clock=self.clock,
                result_ttl=self.result_ttl,
                failed_ttl=self.failed_ttl,
                create=True,
                allow_unsafe_filesystem=self._allow_unsafe_filesystem,
                foreign_keys=self._foreign_keys,
                on_connect=self._on_connect,
            )
        return self._store

    @property
    def path(self) -> Path:
        """The file's absolute path."""
        return self.store.path

    @property
    def source(self) -> Source:
        """Where jobs are looked up."""
        return self.store

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
    def task(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        queue: str = "default",
        priority: int = 0,
        retries: int = 0,
        backoff: Backoff = None,
        retry_on: Errors | None = None,
        give_up_on: Errors | None = None,
        timeout: Duration | Unset | None = UNSET,
        unique: Unique = False,
        key_scope: KeyScope | None = None,
        schedule: Trigger | None = None,
        result_ttl: Duration | Unset | None = UNSET,
        expires: Duration | None = None,
        mask: Iterable[str] = (),
    ) -> Decorator: ...

    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        queue: str = "default",
        priority: int = 0,
        retries: int = 0,
        backoff: Backoff = None,
        retry_on: Errors | None = None,
        give_up_on: Errors | None = None,
        timeout: Duration | Unset | None = UNSET,
        unique: Unique = False,
        key_scope: KeyScope | None = None,
        schedule: Trigger | None = None,
        result_ttl: Duration | Unset | None = UNSET,
        expires: Duration | None = None,
        mask: Iterable[str] = (),
    ) -> Any:
        """Make a function a task, bare (`@queue.task`) or with options (`@queue.task(retries=5)`).

        `name`: its qualified name unless given. `retries`: tries after the first, with `backoff` between them
        (exponential with full jitter from 1 s to 1 h, a duration, a list of them, or a function of the number of
        failures), after `retry_on` errors (any `Exception`) but not `give_up_on` ones. `timeout`: a duration, None for
        none; the queue's unless given. `unique`: True for one job per arguments, a format such as "user:{user_id}", or
        a function of the arguments, with `key_scope` "unfinished" unless given. `schedule`: `cron()`, `every()` or
        `at()`. `expires`: a duration in which it must begin. `result_ttl`: how long to keep a result; the queue's
        unless given. `mask`: names of arguments that listings are not to show.
        """
        options = task_options(
            queue=queue,
            priority=priority,
            retries=retries,
            backoff=backoff,
            retry_on=retry_on,
            give_up_on=give_up_on,
            timeout=timeout,
            unique=unique,
            key_scope=key_scope,
            schedule=_checked_schedule(schedule),
            result_ttl=result_ttl,
            expires=expires,
            mask=mask,
        )
        if function is None:
            return lambda given: self._declare(given, name, options)
        return self._declare(function, name, options)

    def _declare(self, function: Callable[..., Any], name: str | None, options: Options) -> Task[..., Any]:
        if isinstance(function, Task):
            raise TypeError(f"{function.name} is a task already")
        if not callable(function):
            raise TypeError(
                f"a task is made of a function, got {function!r}; options are given by keyword: @task(name=...)"
            )
        named = check_name(name or getattr(function, "__qualname__", ""), "a task's name")
        if "<lambda>" in named:
            raise ValueError("a lambda has no name to be found by; give one: task(name='...')(lambda ...)")
        known = self._declared.get(named, ()) if named in self._tasks else ()
        here = declared_here(function)
        refuse_another(named, known, here)
        made: Task[..., Any] = Task(function, named, options, self)
        if made.is_coroutine:
            made = AsyncTask(function, named, options, self)
        if options.schedule is not None:
            _check_callable_without_arguments(made)
        if not is_the_programs(known, here):
            self._tasks[named] = made
        self._declared[named] = remembered(known, here)
        return made

    # ---- jobs

    def submit(self, jobs: Sequence[NewJob], within: Any = None) -> list[Submitted]:
        """Store jobs; what tasks do when they enqueue."""
        if within is not None:
            return self.store.submit_within(within, jobs)
        return self.store.submit(jobs)

    async def asubmit(self, jobs: Sequence[NewJob], within: Any = None) -> list[Submitted]:
        """Async twin of `submit`."""
        if within is not None:
            return await self.store.asubmit_within(within, jobs)
        return await self.store.asubmit(jobs)

    def job(self, job_id: str) -> Job[Any]:
        """Look a job up; raises `JobNotFound`."""
        return self._known(self.store.look_up(str(job_id)))

    async def ajob(self, job_id: str) -> Job[Any]:
        """Async twin of `job`."""
        return self._known(await self.store.alook_up(str(job_id)))

    def jobs(
        self,
        *,
        status: Status | str | None = None,
        task: str | Task[..., Any] | None = None,
        queue: str | None = None,
        tag: str | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> list[Job[Any]]:
        """List jobs, newest first, at most `limit`; `before` (a job's id) pages on."""
        name = task.name if isinstance(task, Task) else task
        where = jobs_where(status, task=name, queue=queue, tag=tag, limit=limit, before=before)
        return [self._known(record) for record in self.store.list_jobs(**where)]

    async def ajobs(self, **where: Any) -> list[Job[Any]]:
        """Async twin of `jobs`."""
        return await self.store.soon(lambda: self.jobs(**where))

    def _known(self, record: JobRecord) -> Job[Any]:
        task = self._tasks.get(record.task)
        decode = self._decode_plain if task is None else task.signature.decode_result
        return Job(record.id, self.store, decode, record)

    def _decode_plain(self, data: bytes | None) -> Any:
        return None if data is None else self.codec.decode(data)

    # ---- transactions

    def transaction(self) -> AbstractContextManager[Any]:
        """Open a write transaction on the file for the block; yields the driver's connection.

        What is enqueued inside commits with the caller's own rows, or not at all. Other writers wait: keep it short.
        """
        return self.store.transaction()

    def atransaction(self) -> AbstractAsyncContextManager[Any]:
        """Async twin of `transaction`; yields an aiosqlite connection with `driver="sqlite3"`, else the apsw one."""
        return self.store.atransaction()

    # ---- schedules and workers

    @property
    def schedules(self) -> Schedules:
        """The schedules kept in the file."""
        return Schedules(self.store, self.job)

    def worker(
        self,
        *,
        threads: int | None = None,
        coroutines: int = 100,
        queues: Sequence[str] | None = None,
        grace: Duration = "30s",
        name: str | None = None,
        signals: bool = False,
    ) -> Worker:
        """Make a worker: `with queue.worker():`, `async with queue.worker():` or `queue.worker().run()`.

        `threads`: how many plain functions run at once (the number of cores + 4, at most 8, unless given).
        `coroutines`: how many coroutines. `queues`: the queues served, in turn; all unless given. `grace`: how long
        running jobs may take to end at shutdown before they are released. `signals`: in a `with` block, let SIGTERM
        and SIGHUP stop the worker within `grace`, and have their usual effect afterwards; in the main thread only.
        """
        from litequeue.worker.worker import Worker

        return Worker(
            self, threads=threads, coroutines=coroutines, queues=queues, grace=grace, name=name, signals=signals
        )

    # ---- the file

    def backup(self, copy: str | os.PathLike[str]) -> Path:
        """Copy the file while it is in use; return the copy's path: `copy`, a new file, or a name in `copy`, a folder.

        It is checked, synced to disk, and holds what was committed when this was called; what was running then is
        queued in it. Raises `StoreError` if it cannot be made; nothing is left then.
        """
        return self.store.backup(copy)

    def close(self) -> None:
        """Close the file's connections; they are opened anew when used again."""
        if self._store is not None:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Queue {os.fspath(self._path)} tasks={len(self._tasks)}>"


@interruptible
class DefaultQueue(Queue):
    """The queue of scripts, at $LITEQUEUE_PATH or ./litequeue.db; its file is opened when it is first used."""

    def _open_at_once(self) -> None:
        """Importing a script must not make a file."""

    @property
    def store(self) -> SqliteStore:
        """The store; its place is looked up on first use."""
        if self._store is None:
            self._path = os.environ.get("LITEQUEUE_PATH") or "litequeue.db"
        return super().store


class Decorator(Protocol):
    """What `@task(...)` with options returns: keeps the signature of the function it is put on."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        """Make the function a task."""


default_queue: DefaultQueue = DefaultQueue()
task = default_queue.task


def _checked_schedule(schedule: Trigger | None) -> Trigger | None:
    if schedule is not None and not isinstance(schedule, (Cron, Every, At)):
        raise TypeError(f"schedule must be made by cron(), every() or at(), got {schedule!r}")
    return schedule


def _check_callable_without_arguments(task: Task[..., Any]) -> None:
    if task.options.unique or task.options.expires is not None:
        raise ValueError(f"{task.name}: unique= and expires= are for calls, and say nothing of a schedule's; drop them")
    try:
        task.s()
    except TypeError as error:
        raise TypeError(
            f"{error}: a task with a schedule is called without arguments; give them defaults, "
            f"or use queue.schedules.add(name, {task.name}.s(...), trigger)"
        ) from None
