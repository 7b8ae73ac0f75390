"""A task: a function, its options, and how a call of it becomes a job. Knows no store."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

import msgspec

from litequeue.call_fields import CallKey, refuse_clash, times
from litequeue.calls import (
    LARGE_PAYLOAD,
    Batch,
    EnqueuedJobs,
    GivenCall,
    astore_in_chunks,
    checked_calls,
    checked_size,
    store_in_chunks,
)
from litequeue.compose.task_calls import TaskCalls
from litequeue.core.after_commit import OnCommit
from litequeue.core.after_commit import checked as checked_on_commit
from litequeue.core.attached import ATTACHED, Attached
from litequeue.core.declaration import Transparent
from litequeue.core.duration import seconds
from litequeue.core.hints import TaskWords, explained
from litequeue.core.interruptible import interruptible
from litequeue.core.pickled import by_name
from litequeue.core.plain_calls import guarded
from litequeue.core.process_options import check_soft_timeout
from litequeue.core.records import NewJob, NewJobs, as_shown
from litequeue.core.retry import Duration
from litequeue.core.slices import in_slices
from litequeue.core.stored_names import stored_name, stored_names
from litequeue.errors import Unsupported
from litequeue.job import Job
from litequeue.limits.of_task import uses_of
from litequeue.limits.takes import Taken
from litequeue.options import Options, Using, call_field, check_fits, check_known, expiry, features_asked
from litequeue.pending_job import Deferred
from litequeue.room import astore_with_room, check_wait, store_with_room
from litequeue.serialization.signature import Signature
from litequeue.task_owner import Owner

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from litequeue.core.engine import Submitted
    from litequeue.limits.limit import Limit

P = ParamSpec("P")
R = TypeVar("R")


@interruptible
class Task(TaskCalls[P, R], Transparent, TaskWords, Generic[P, R]):
    """A function that can be enqueued. Calling it stays a plain call."""

    def __init__(self, function: Callable[P, Any], name: str, options: Options, owner: Owner) -> None:
        self.name = name
        self.function = function
        self.options = options
        self.signature: Signature = Signature(function, owner.codec, name, options.mask)
        self.limits: tuple[Limit, ...] = uses_of(name, options.own_limit, options.limits)
        check_soft_timeout(options.soft_timeout, options.timeout, owner.defaults.timeout)
        if options.mask or self.limits or isinstance(options.unique, str):
            check_fits(options, self.signature.calling.parameters)
        self.taken: Taken | None = Taken(name, self.limits) if any(use.depends for use in self.limits) else None
        self._owner = owner
        self._called = guarded(function, name, owner.plain_calls)
        self._fields: dict[str, Any] = {}
        self._delay: float | None = options.delay
        self._expires: float | datetime | None = options.expires
        self.room_wait: float | None = None  # wait_for_room=
        self._within: Any = None
        self.declared_on_commit: OnCommit = owner.on_commit if options.on_commit is None else options.on_commit
        self._on_commit: OnCommit = self.declared_on_commit
        self._plain = not (options.unique or options.expires is not None or options.delay is not None or self.taken)
        self.attached: Attached = options.attached
        self._hangs: bool = options.attached != Attached()
        self.chosen: frozenset[str] = frozenset()
        self._made_from: tuple[Task[P, R], Using] | None = None  # what `using()` was called on, and with what
        self.stored_name: str = stored_name(name, options.version)
        oldest = options.version if options.upgrade is None else 1
        self.served: tuple[str, ...] = stored_names((name, *options.aliases), options.version, oldest)
        queue = options.queue or owner.routes.queue_of(name)
        self._call_key = CallKey(name, options, self.signature)
        self._start_fields({"task": self.stored_name, "queue": queue, "priority": options.priority})
        if options.aliases:
            self._start_fields({"former_names": options.aliases})
        if options.max_pending is not None:
            self._start_fields({"max_pending": options.max_pending})
        self.__wrapped__ = function
        self.__doc__ = function.__doc__
        self.__module__ = getattr(function, "__module__", "")
        self.__qualname__ = getattr(function, "__qualname__", name)
        self.__name__: str = getattr(function, "__name__", name)

    def _start_fields(self, fields: dict[str, Any]) -> None:
        self._fields = {**self._fields, **fields}

    @property
    def is_coroutine(self) -> bool:
        """Whether the function is `async def`; it then runs on the worker's event loop, otherwise in a thread."""
        return self.signature.is_coroutine

    @property
    def queue(self) -> str:
        """The queue into which its calls go."""
        return str(self._fields["queue"])

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle it by name, as its function would be, with the options of `using()`: a process pool can call it."""
        if self._made_from is None:
            instead = "pass its name, and look it up there: queue.tasks[name]"
            return by_name(self, [self.__module__], self.__qualname__, f"the task {self.name!r}", instead)
        task, options = self._made_from
        if options.get("within") is not None:
            raise TypeError(f"a task with within= cannot be pickled: {self.name}'s transaction stays in this process")
        return _using, (task, options)

    def __deepcopy__(self, _copied: object = None) -> Task[P, R]:
        return self

    __copy__ = __deepcopy__

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here and now."""
        return cast("R", self._called(*args, **kwargs))

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Store one call. The job is on disk when this returns.

        Raises `TypeError` for arguments that do not fit the signature, `EncodeError` for values that JSON cannot hold,
        `PayloadTooLarge`, `KeyConflict`, `QueueFull`, `Unsupported` or `StoreBusy`. If it raises, nothing is stored.
        """
        new = self._new(args, kwargs)
        if self._on_commit:
            return self._deferred((new,)).by(self._on_commit)[0]
        [submitted] = self._submit((new,))
        return self._job(new, submitted)

    async def aenqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Async twin of `enqueue`."""
        new = self._new(args, kwargs)
        if self._on_commit:
            return (await self._deferred((new,)).aby(self._on_commit))[0]
        [submitted] = await self._asubmit((new,))
        return self._job(new, submitted)

    def new_job(self, queue: Owner, /, *args: P.args, **kwargs: P.kwargs) -> NewJob:
        """Check and encode one call, and store nothing: `queue.submit([...])` stores several, of any of its tasks.

        Raises what `enqueue()` raises for the arguments, and `ValueError` if `queue` is not the task's own, or where
        `within=` has chosen another transaction.
        """
        if queue is not self._owner:
            raise ValueError(
                f"{self.name} is a task of another queue than {queue!r}; jobs of both cannot commit together"
            )
        if self._within is not None:
            raise ValueError(f"{self.name}: within= stores a job in a transaction of its own; call enqueue() instead")
        if self.room_wait is not None:
            raise ValueError(f"{self.name}: wait_for_room= waits in enqueue() and enqueue_many() alone")
        if not self.attached.is_nothing:
            raise ValueError(f"{self.name}: after=, on_success= and on_failure= need enqueue() or enqueue_many()")
        return self._new(args, kwargs)

    @overload
    def enqueue_many(self, calls: Iterable[GivenCall]) -> list[Job[R]]: ...
    @overload
    def enqueue_many(self, calls: Iterable[GivenCall], *, chunk: int) -> Sequence[Job[R]]: ...
    def enqueue_many(self, calls: Iterable[GivenCall], *, chunk: int | None = None) -> Sequence[Job[R]]:
        """Store many calls, all or none. Each call is a tuple of positional or a mapping of keyword arguments.

        With `chunk`, a transaction for each `chunk` calls or MiB of arguments, so that neither memory nor the wait of
        other writers grows with their number. The calls are taken from the iterable as they are needed. All are stored
        on return; a job that is returned is made when it is looked at. `PartlyEnqueued` says which are stored if a
        later one fails.
        """
        batch = self._batch(chunk)
        if chunk is not None:
            return store_in_chunks(checked_calls(calls), batch, self._enqueued(), self._submit, self._job)
        for call in checked_calls(calls):
            batch.add(call)
        jobs = batch.take()
        if not jobs:
            return []
        if self._on_commit:
            return self._deferred(jobs).by(self._on_commit)
        submitted, records = self._submit(jobs), as_shown(jobs)
        del jobs  # their arguments may take more than what is made now
        return list(map(self._job, records, submitted))

    @overload
    async def aenqueue_many(self, calls: Iterable[GivenCall] | AsyncIterable[GivenCall]) -> list[Job[R]]: ...
    @overload
    async def aenqueue_many(
        self, calls: Iterable[GivenCall] | AsyncIterable[GivenCall], *, chunk: int
    ) -> Sequence[Job[R]]: ...
    async def aenqueue_many(
        self, calls: Iterable[GivenCall] | AsyncIterable[GivenCall], *, chunk: int | None = None
    ) -> Sequence[Job[R]]:
        """Async twin of `enqueue_many`; `calls` may be an async iterable. The loop goes on every few ms.

        So do not change the arguments before it returns.
        """
        batch = self._batch(chunk)
        given = calls if isinstance(calls, AsyncIterable) else checked_calls(calls)
        if chunk is not None:
            return await astore_in_chunks(given, batch, self._enqueued(), self._asubmit, self._job)
        async for call in in_slices(given):
            batch.add(call)
        jobs = batch.take()
        if not jobs:
            return []
        if self._on_commit:
            return await self._deferred(jobs).aby(self._on_commit)
        submitted, records = await self._asubmit(jobs), as_shown(jobs)
        del jobs
        return [job async for job in in_slices(map(self._job, records, submitted))]

    def using(self, **options: Unpack[Using]) -> Task[P, R]:
        """Return the same task with other options for the calls enqueued through it.

        `delay` (a duration) or `at` (an aware datetime or ISO text); `priority` (-100 to 100); `queue`; `key` with
        `key_scope` ("kept", "unfinished", "queued", or a duration from the enqueue) and `on_conflict` ("return",
        "raise", "replace"); `expires` (a duration from now, or an aware datetime: not begun by then, it never runs);
        `retries`; `timeout` (a duration, None for none); `tags`; `wait_for_room` (how long to wait where `max_pending`
        jobs are queued); `within` (a connection of yours with a transaction open, which commits the job); `on_commit`
        (True: it is stored after the commit of the application's transaction, as an integration says).
        """
        check_known(options, Using, "using()")
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        self._owner.require(features_asked(options))
        other._apply(options)
        other._made_from = self, options
        return other

    # ---- one call

    def _new(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> NewJob:
        fields = self._fields
        keyed = not self._plain and bool(self.options.unique or fields.get("key"))
        if not (keyed or self._plain):
            self._require_key_for_its_options()
        try:
            payload = self.signature.encode_call(args, kwargs, canonical=keyed)
        except TypeError as error:
            raise explained(error, self.function, kwargs, Using.__annotations__) from error.__cause__
        if len(payload) > LARGE_PAYLOAD or len(payload) > self._owner.max_payload:
            self._checked(payload)
        if self._plain:
            return NewJob(payload=payload, created_at=self._owner.now(), **fields)
        given = fields | self._timed() | self._call_key.fields(fields, payload, args, kwargs)
        if self.taken is not None:
            given["takes"] = self.taken.of(self.signature.arguments(args, kwargs))
        return NewJob(payload=payload, alike=self.signature.stored.alike if keyed else None, **given)

    def _complete(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> NewJob:
        """Return one call as a job without its times."""
        own_time = self._fields.get("run_at")
        return msgspec.structs.replace(self._new(args, kwargs), created_at=0.0, expires_at=None, run_at=own_time)

    def _require_key_for_its_options(self) -> None:
        if not self._fields.keys().isdisjoint(("key_scope", "on_conflict")):
            raise ValueError(f"{self.name}: key_scope= and on_conflict= apply to a key; give key= as well")

    def _submit(self, jobs: Sequence[NewJob]) -> Sequence[Submitted]:
        if not self._hangs and self.room_wait is None:
            return self._owner.submit(jobs, self._within)
        if self.room_wait is None:
            return self._store(jobs)
        return store_with_room(self._owner.source, lambda: self._store(jobs), self.room_wait)

    async def _asubmit(self, jobs: Sequence[NewJob]) -> Sequence[Submitted]:
        if not self._hangs and self.room_wait is None:
            return await self._owner.asubmit(jobs, self._within)
        if self.room_wait is None:
            return await self._astore(jobs)
        return await astore_with_room(self._owner.source, lambda: self._astore(jobs), self.room_wait)

    def _store(self, jobs: Sequence[NewJob]) -> Sequence[Submitted]:
        if self.attached.is_nothing:
            self.attached.check()
            return self._owner.submit(jobs, self._within)
        plan, nodes = self._plan_of(jobs)
        return self._submitted(plan, self._owner.store(plan, self._within), nodes)

    async def _astore(self, jobs: Sequence[NewJob]) -> Sequence[Submitted]:
        if self.attached.is_nothing:
            self.attached.check()
            return await self._owner.asubmit(jobs, self._within)
        plan, nodes = self._plan_of(jobs)
        return self._submitted(plan, await self._owner.astore(plan, self._within), nodes)

    # ---- many calls

    def _batch(self, chunk: int | None) -> Batch:
        if chunk is not None and self._on_commit:
            raise Unsupported("chunk= stores calls as they come, so not after a commit; leave out chunk= or on_commit=")
        if self.options.unique or self._fields.get("key"):
            return Batch(self._new, list, chunk)
        if self.taken is not None:
            return Batch(self._payload_and_takes, self._alike_with_takes, chunk)
        return Batch(self._payload, self._alike, chunk)

    def _payload(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        payload = self.signature.encode_call(args, kwargs)
        return self._checked(payload)

    def _payload_and_takes(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[bytes, str]:
        return self._payload(args, kwargs), cast("Taken", self.taken).of(self.signature.arguments(args, kwargs))

    def _alike_with_takes(self, encoded: list[tuple[bytes, str]]) -> NewJobs:
        like = self._alike([])
        return NewJobs(like.like, [payload for payload, _ in encoded], [takes for _, takes in encoded])

    def _alike(self, payloads: list[bytes]) -> NewJobs:
        """Jobs to store for calls without a key: they differ in nothing but their arguments."""
        self._require_key_for_its_options()
        like = self._fields | self._timed()
        return NewJobs(NewJob(payload=b"", **like), payloads)

    def _enqueued(self) -> EnqueuedJobs[R]:
        return EnqueuedJobs[R](self._owner.source, self.signature)

    # ---- options of one call

    def _timed(self) -> dict[str, Any]:
        return times(self.name, self._owner.now(), self._fields.get("run_at"), self._delay, self._expires)

    def _checked(self, payload: bytes) -> bytes:
        return checked_size(payload, self.name, self._owner.max_payload)

    def _deferred(self, jobs: Sequence[NewJob]) -> Deferred[R]:
        return Deferred(jobs, self._owner.source, self._submit, self._job)

    def _job(self, new: NewJob, submitted: Submitted) -> Job[R]:
        record: NewJob | None = new
        if not (submitted.fresh and submitted.shown is True):
            record = submitted.shown if submitted.fresh and isinstance(submitted.shown, NewJob) else None
        born = new.created_at if submitted.pending and submitted.fresh else None
        return Job(submitted.id, self._owner.source, self.signature, record, born)

    # ---- options of a call

    def _apply(self, options: Using) -> None:
        given = dict(options)
        refuse_clash(self.name, given, self.options)
        self._plain = False
        self.chosen |= given.keys()
        if given.keys() & ATTACHED:
            self.attached = self.attached.with_options(given)
            self._hangs = self.attached != Attached()
        fields: dict[str, Any] = {}
        for name, value in given.items():
            if name in ATTACHED:
                continue
            if name == "delay":
                fields |= {"run_at": None} if "run_at" in self._fields else {}  # the later of the two counts
                self._delay = None if value is None else seconds(cast("Duration", value), "delay")
            elif name == "expires":
                self._expires = expiry(cast("Duration | datetime | None", value))
            elif name == "wait_for_room":
                self.room_wait = None if value is None else seconds(cast("Duration", value), "wait_for_room")
            elif name == "within":
                self._within, self._on_commit = value, False if value is not None else self._on_commit
            elif name == "on_commit":
                self._within, self._on_commit = None if value else self._within, checked_on_commit(value)
            else:
                fields |= call_field(name, value)
                self._delay = None if name == "at" else self._delay
        self._start_fields(fields)
        if self.room_wait is not None:
            check_wait(self.name, self.options, within=self._within is not None, on_commit=bool(self._on_commit))

    def __repr__(self) -> str:
        return f"<Task {self.name} queue={self.queue}>"


@interruptible
class AsyncTask(Task[P, R]):
    """A task whose function is a coroutine function: a plain call returns an awaitable."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:  # type: ignore[override]
        """Call the function here and now; await what it returns."""
        return cast("Coroutine[Any, Any, R]", self._called(*args, **kwargs))


def _using(task: Task[P, R], options: Using) -> Task[P, R]:
    return task.using(**options)
