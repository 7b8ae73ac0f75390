"""A task: a function, its options, and how a call of it becomes a job. Knows no store."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import repeat
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from litequeue.calls import Batch, EnqueuedJobs, GivenCall, checked_calls, in_slices, warn_caller
from litequeue.core.declaration import Transparent
from litequeue.core.duration import seconds
from litequeue.core.interruptible import interruptible
from litequeue.core.records import Call, NewJob, NewJobs
from litequeue.core.retry import Duration
from litequeue.errors import PayloadTooLarge, Unsupported
from litequeue.job import Job
from litequeue.options import Options, Using, call_field, check_fits, check_known, expiry, features_asked
from litequeue.options import key as checked_key
from litequeue.serialization.json_codec import digest
from litequeue.serialization.signature import Signature

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from litequeue.core.engine import Feature, Source, Submitted
    from litequeue.serialization.json_codec import Codec

P = ParamSpec("P")
R = TypeVar("R")

LARGE_PAYLOAD = 64 * 1024


class Owner(Protocol):
    """The part of a queue that its tasks use."""

    max_payload: int
    codec: Codec

    @property
    def source(self) -> Source:
        """The source from which its jobs are looked up."""

    def now(self) -> float:
        """The time, in unix seconds."""

    def require(self, features: Iterable[Feature]) -> None:
        """Raise `Unsupported` if the engine lacks one of them."""

    def submit(self, jobs: Sequence[NewJob], within: Any) -> Sequence[Submitted]:
        """Store jobs."""

    async def asubmit(self, jobs: Sequence[NewJob], within: Any) -> Sequence[Submitted]:
        """Async twin of `submit`."""


@interruptible
class Task(Transparent, Generic[P, R]):
    """A function that can be enqueued. Calling it stays a plain call."""

    def __init__(self, function: Callable[P, Any], name: str, options: Options, owner: Owner) -> None:
        self.name = name
        self.function = function
        self.options = options
        self.signature: Signature = Signature(function, owner.codec, name, options.mask)
        if options.mask or isinstance(options.unique, str):
            check_fits(options, function)
        self._owner = owner
        self._fields: dict[str, Any] = {}
        self._delay: float | None = None
        self._expires: float | datetime | None = options.expires
        self._within: Any = None
        self._plain = not options.unique and options.expires is None
        self._start_fields({"task": name, "queue": options.queue, "priority": options.priority})
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

    def __reduce__(self) -> str:
        return self.__qualname__  # pickled by name, as its function would be: a process pool can call it

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here and now."""
        return cast("R", self.function(*args, **kwargs))

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Store one call. The job is on disk when this returns.

        Raises `TypeError` for arguments that do not fit the signature, `EncodeError` for values that JSON cannot hold,
        `PayloadTooLarge`, `KeyConflict`, `Unsupported` or `StoreBusy`. If it raises, nothing is stored.
        """
        new = self._new(args, kwargs)
        [submitted] = self._owner.submit((new,), self._within)
        return self._job(new, submitted)

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Async twin of `enqueue`."""
        new = self._new(args, kwargs)
        [submitted] = await self._owner.asubmit((new,), self._within)
        return self._job(new, submitted)

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
            return self._store_in_chunks(checked_calls(calls), batch)
        for call in checked_calls(calls):
            batch.add(call)
        jobs = batch.take()
        if not jobs:
            return []
        submitted, records = self._owner.submit(jobs, self._within), _records(jobs)
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
            return await self._astore_in_chunks(given, batch)
        async for call in in_slices(given):
            batch.add(call)
        jobs = batch.take()
        if not jobs:
            return []
        submitted, records = await self._owner.asubmit(jobs, self._within), _records(jobs)
        del jobs
        return [job async for job in in_slices(map(self._job, records, submitted))]

    def using(self, **options: Unpack[Using]) -> Task[P, R]:
        """Return the same task with other options for the calls enqueued through it.

        `delay` (a duration) or `at` (an aware datetime or ISO text); `priority` (-100 to 100); `queue`; `key` with
        `key_scope` ("kept", "unfinished", "queued") and `on_conflict` ("return", "raise", "replace"); `expires` (a
        duration from now, or an aware datetime: not begun by then, it never runs); `retries`; `timeout` (a duration,
        None for none);
        `tags`; `within` (a connection of yours with a transaction open: the job is committed by that).
        """
        check_known(options, Using, "using()")
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        self._owner.require(features_asked(options))
        other._apply(options)
        return other

    def s(self, *args: P.args, **kwargs: P.kwargs) -> Call:
        """Return the call as a value, for schedules. It is checked now.

        Of the options of `using()` it keeps `queue`, `priority` and a duration given as `expires`.
        """
        given = self._fields.keys() - {"task", "queue", "priority"}
        lost = sorted("at" if name == "run_at" else name for name in given)
        lost += [name for name in ("delay", "within") if getattr(self, f"_{name}") is not None]
        expires = self._expires
        if isinstance(expires, datetime):
            lost += ["a moment as expires"]
        if lost or isinstance(expires, datetime):
            raise Unsupported(
                f"a call as a value keeps queue, priority and a duration as expires only, not {', '.join(lost)}"
            )
        payload = self._checked(self.signature.encode_call(args, kwargs))
        options = self._fields
        return Call(self.name, options["queue"], payload, options["priority"], expires)

    # ---- one call

    def _new(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> NewJob:
        fields = self._fields
        keyed = not self._plain and bool(self.options.unique or fields.get("key"))
        if not (keyed or self._plain):
            self._require_key_for_its_options()
        payload = self.signature.encode_call(args, kwargs, canonical=keyed)
        if len(payload) > LARGE_PAYLOAD or len(payload) > self._owner.max_payload:
            self._checked(payload)
        if self._plain:
            return NewJob(payload=payload, created_at=self._owner.now(), **fields)
        given = fields | self._timed(self._owner.now()) | self._keyed(payload, args, kwargs)
        return NewJob(payload=payload, alike=self.signature.alike if keyed else None, **given)

    def _require_key_for_its_options(self) -> None:
        if not self._fields.keys().isdisjoint(("key_scope", "on_conflict")):
            raise ValueError(f"{self.name}: key_scope= and on_conflict= apply to a key; give key= as well")

    # ---- many calls

    def _batch(self, chunk: int | None) -> Batch:
        if self.options.unique or self._fields.get("key"):
            return Batch(self._new, list, chunk)
        return Batch(self._payload, self._alike, chunk)

    def _payload(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        payload = self.signature.encode_call(args, kwargs)
        return self._checked(payload)

    def _alike(self, payloads: list[bytes]) -> NewJobs:
        """Jobs to store for calls without a key: they differ in nothing but their arguments."""
        self._require_key_for_its_options()
        like = self._fields | self._timed(self._owner.now())
        return NewJobs(NewJob(payload=b"", **like), payloads)

    def _store_in_chunks(self, calls: Iterable[GivenCall], batch: Batch) -> EnqueuedJobs[R]:
        stored = EnqueuedJobs[R](self._owner.source, self.signature.decode_result)
        try:
            for call in calls:
                if batch.add(call):
                    self._note(stored, jobs := batch.take(), self._owner.submit(jobs, self._within))
            if jobs := batch.take():
                self._note(stored, jobs, self._owner.submit(jobs, self._within))
        except Exception as error:
            stored.explain(error)
            raise
        return stored

    async def _astore_in_chunks(
        self, calls: Iterable[GivenCall] | AsyncIterable[GivenCall], batch: Batch
    ) -> EnqueuedJobs[R]:
        stored = EnqueuedJobs[R](self._owner.source, self.signature.decode_result)
        try:
            async for call in in_slices(calls):
                if batch.add(call):
                    self._note(stored, jobs := batch.take(), await self._owner.asubmit(jobs, self._within))
            if jobs := batch.take():
                self._note(stored, jobs, await self._owner.asubmit(jobs, self._within))
        except Exception as error:
            stored.explain(error)
            raise
        return stored

    def _note(self, stored: EnqueuedJobs[R], jobs: Sequence[NewJob], submitted: Sequence[Submitted]) -> None:
        if submitted[0].pending:
            stored.add_pending(list(map(self._job, _records(jobs), submitted)))
        else:
            stored.add(submitted)

    # ---- options of one call

    def _timed(self, now: float) -> dict[str, Any]:
        run_at = self._fields.get("run_at")
        times: dict[str, Any] = {"created_at": now}
        if self._delay is not None:
            run_at = times["run_at"] = now + self._delay
        if self._expires is not None:
            expires = self._expires
            expires_at = expires.timestamp() if isinstance(expires, datetime) else now + expires
            if expires_at <= (run_at or now):
                raise ValueError(f"{self.name}: the job would expire before it may run; give a later expires=")
            times["expires_at"] = expires_at
        return times

    def _keyed(self, payload: bytes, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        unique = self.options.unique
        if not unique or self._fields.get("key") is not None:
            return {}
        aliases: list[str] = []
        if unique is True:
            key, *aliases = map(digest, self.signature.identities(payload))
        else:
            key = self._filled(unique, args, kwargs) if isinstance(unique, str) else unique(*args, **kwargs)
        scope = self._fields.get("key_scope") or self.options.key_scope or "unfinished"
        fields = {"key": checked_key(key), "aliases": tuple(aliases)}
        return fields if "key_scope" in self._fields else {**fields, "key_scope": scope}

    def _filled(self, template: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        try:
            return template.format(**self._arguments(args, kwargs))
        except (AttributeError, LookupError, ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"unique={template!r} does not fit these arguments of {self.name}: {error}") from error

    def _arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        bound = inspect.signature(self.function).bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    def _checked(self, payload: bytes) -> bytes:
        size, limit = len(payload), self._owner.max_payload
        if size > limit:
            raise PayloadTooLarge(
                f"the arguments of {self.name} take {size:,} bytes, more than max_payload={limit:,}; "
                f"store the data elsewhere and pass an id or a path"
            )
        if size > LARGE_PAYLOAD:
            warn_caller(f"the arguments of {self.name} take {size:,} bytes; pass an id or a path instead of the data")
        return payload

    def _job(self, new: NewJob, submitted: Submitted) -> Job[R]:
        record = new if submitted.fresh else None
        born = new.created_at if submitted.pending and submitted.fresh else None
        return Job(submitted.id, self._owner.source, self.signature.decode_result, record, born)

    # ---- options of a call

    def _apply(self, options: Using) -> None:
        given = dict(options)
        self._plain = False
        if given.get("delay") is not None and given.get("at") is not None:
            raise ValueError("give delay= or at=, not both")
        fields: dict[str, Any] = {}
        for name, value in given.items():
            if name == "delay":
                fields |= {"run_at": None} if "run_at" in self._fields else {}  # the later of the two counts
                self._delay = None if value is None else seconds(cast("Duration", value), "delay")
            elif name == "expires":
                self._expires = expiry(cast("Duration | datetime | None", value))
            elif name == "within":
                self._within = value
            else:
                fields |= call_field(name, value)
                self._delay = None if name == "at" else self._delay
        self._start_fields(fields)

    def __repr__(self) -> str:
        return f"<Task {self.name} queue={self._fields['queue']}>"


def _records(jobs: Sequence[NewJob]) -> Iterable[NewJob]:
    """What their `Job`s show until they are loaded, which has nothing to do with their arguments."""
    return repeat(jobs.like, len(jobs)) if isinstance(jobs, NewJobs) else jobs


@interruptible
class AsyncTask(Task[P, R]):
    """A task whose function is a coroutine function: a plain call returns an awaitable."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:  # type: ignore[override]
        """Call the function here and now; await what it returns."""
        return cast("Coroutine[Any, Any, R]", self.function(*args, **kwargs))


class Decorator(Protocol):
    """The decorator that `@task(...)` with options returns; it keeps the signature of the function."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        """Make the function a task."""


def check_scheduled(task: Task[..., Any]) -> None:
    """Refuse a task with schedules whose calls would not fit its signature."""
    if task.options.unique and task.options.schedules:
        raise ValueError(
            f"{task.name}: unique= applies to single calls; remove it beside schedule=, "
            f"whose overlap= says what a tick does while the last job has not ended"
        )
    for schedule in task.options.schedules:
        try:
            task.s(*schedule.args, **schedule.kwargs)
        except TypeError as error:
            raise TypeError(
                f"{error}: the schedule calls the task without these; give them defaults, "
                f"or schedule=Schedule(trigger, args=(...), kwargs={{...}})"
            ) from None
