"""The calls of a task as values, and many calls as a group. Knows no store."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

import msgspec

from litequeue.calls import checked_chunk
from litequeue.compose.builder import Builder
from litequeue.compose.call import Call, Form
from litequeue.compose.composition import Composition, Group
from litequeue.compose.enqueue import aenqueue_whole, as_stored, enqueue_whole
from litequeue.compose.whole import Whole
from litequeue.core.attached import Attached
from litequeue.core.engine import Submitted
from litequeue.core.interruptible import interruptible
from litequeue.core.records import NewJob
from litequeue.core.slices import in_slices
from litequeue.errors import Unsupported

if TYPE_CHECKING:
    from litequeue.compose.job_group import JobGroup
    from litequeue.core.after_commit import OnCommit
    from litequeue.core.plan import Plan, StoredPlan
    from litequeue.limits.takes import Taken
    from litequeue.options import Options
    from litequeue.serialization.signature import Signature
    from litequeue.task_owner import Owner

P = ParamSpec("P")
R = TypeVar("R")


@interruptible
class TaskCalls(Generic[P, R]):
    """The part of a task that makes its calls values."""

    name: str
    signature: Signature
    options: Options
    taken: Taken | None
    attached: Attached
    _owner: Owner
    _fields: dict[str, Any]
    _delay: float | None
    _expires: float | datetime | None
    _within: Any
    _on_commit: OnCommit

    def s(self, /, *args: Any, **kwargs: Any) -> Call[R]:
        """Return the call as a value, to join with others, to schedule, or to enqueue later. It is checked now.

        Behind another call, the result of that one is its first argument, before these. It keeps the options of
        `using()` but `within`. Raises what `enqueue()` raises for the arguments.
        """
        return self._call(args, kwargs, takes_nothing=False)

    def si(self, /, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Return the call as a value that takes no result of what is before it: these are all of its arguments."""
        return self._call(args, kwargs, takes_nothing=True)

    def map(self, items: Iterable[Any]) -> JobGroup[R]:
        """Enqueue a call for each item, which is its only argument, all or none; return the group of their jobs."""
        return self._group([self._call((item,), {}, takes_nothing=True) for item in _checked(items, "map")]).enqueue()

    async def amap(self, items: Iterable[Any] | AsyncIterable[Any]) -> JobGroup[R]:
        """Async twin of `map`. The loop goes on every few ms, so do not change the items before it returns."""
        calls = [self._call((item,), {}, takes_nothing=True) async for item in in_slices(items)]
        return await self._group(calls).aenqueue()

    def chunks(self, items: Iterable[Any], size: int) -> JobGroup[list[R]]:
        """Enqueue a job for each `size` items, all or none; return their group.

        A job calls the function with each of its items in turn, and its result is the list of theirs. It is retried,
        limited in its time and cancelled as one.
        """
        checked_chunk(size)
        given = list(_checked(items, "chunks"))
        calls = [self._chunk(given[at : at + size]) for at in range(0, len(given), size)]
        return cast("JobGroup[list[R]]", self._group(calls).enqueue())

    async def achunks(self, items: Iterable[Any] | AsyncIterable[Any], size: int) -> JobGroup[list[R]]:
        """Async twin of `chunks`."""
        checked_chunk(size)
        calls: list[Call[Any]] = []
        some: list[Any] = []
        async for item in in_slices(items):
            some.append(item)
            if len(some) == size:
                calls.append(self._chunk(some))
                some = []
        if some:
            calls.append(self._chunk(some))
        return cast("JobGroup[list[R]]", await self._group(calls).aenqueue())

    # ---- what its calls use

    @property
    def owner(self) -> Owner:
        """The queue on which it is declared."""
        return self._owner

    @property
    def on_commit(self) -> OnCommit:
        """Whether, and how, its calls are stored after a commit of the application's."""
        return self._on_commit

    @property
    def call_delay(self) -> float | None:
        """Seconds before its calls may run."""
        return self._delay

    @property
    def call_expires(self) -> float | datetime | None:
        """Seconds in which its calls must begin, or the moment by which."""
        return self._expires

    def _call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, takes_nothing: bool) -> Call[R]:
        if self._within is not None:
            raise Unsupported(
                f"{self.name}: a call as a value keeps no within=; give it to what is enqueued: "
                f"chain(...).using(within=...).enqueue()"
            )
        template, is_link = self._template(args, kwargs, may_be_link=not takes_nothing)
        return Call(self, template, Form(is_link, takes_nothing, tuple(sorted(kwargs))))  # type: ignore[arg-type]

    def _template(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, may_be_link: bool) -> tuple[NewJob, bool]:
        """Return a call as a job without times, and whether its first argument is to be handed on."""
        try:
            return self._complete(args, kwargs), False
        except TypeError as error:
            if not may_be_link:
                raise
            incomplete = error
        try:
            payload = self.signature.encode_link(args, kwargs)
        except TypeError as error:
            # what is missing, beside the first argument; else what is wrong with those that are given
            raise (error if "missing" in str(incomplete) else incomplete) from None
        return self._linked(payload), True

    def _complete(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> NewJob:
        raise NotImplementedError

    def _checked(self, payload: bytes) -> bytes:
        raise NotImplementedError

    def _linked(self, payload: bytes) -> NewJob:
        """Return a call whose first argument is handed on as a job without times."""
        unique = self.options.unique
        if unique and not self._fields.get("key"):
            raise ValueError(
                f"{self.name}: unique= makes a key of the arguments, and the first one is a result that is not there "
                f"yet; give the call a key of its own: {self.name}.using(key=...).s(...), or key= to the composition"
            )
        return NewJob(payload=self._checked(payload), created_at=0.0, alike=self.signature.stored.alike, **self._fields)

    def _chunk(self, items: list[Any]) -> Call[Any]:
        if self.options.unique:
            raise Unsupported(f"{self.name}: unique= is of single calls; chunks of calls have no key: use map()")
        payload = self._checked(self.signature.encode_chunk(items))
        takes = None
        if self.taken is not None:
            takes = self.taken.of_chunk([self.signature.arguments((item,), {}) for item in items])
        template = NewJob(payload=payload, created_at=0.0, takes=takes, **self._fields)
        return Call(self, template, Form(False, True))  # type: ignore[arg-type]

    def _group(self, calls: list[Call[Any]]) -> Group:
        whole = Whole(within=self._within)
        keyed = self._fields.get("key")
        if keyed is not None:
            raise ValueError(f"{self.name}: key={keyed!r} would be the key of each call; give it to a group of calls")
        return Group(tuple(calls), whole)

    def templated(self, template: NewJob) -> NewJob:
        """Return a job to store with the options of this task instead of its own."""
        fields = dict(self._fields)
        if fields.get("key") is None and template.key is not None:  # made of the arguments
            fields |= {"key": template.key}
        elif fields.get("key") is not None:
            fields |= {"aliases": (), "alike": self.signature.stored.alike}
        return msgspec.structs.replace(template, **fields)

    def as_link(self, template: NewJob, keywords: Sequence[str]) -> NewJob:
        """Return a complete call as one whose first argument is handed on."""
        return msgspec.structs.replace(
            self._linked(self.signature.as_link(template.payload, keywords)), key=template.key
        )

    def identity(self) -> object:
        """Return a value that is the same for the same task with the same options."""
        fields = {name: value for name, value in self._fields.items() if name != "former_names"}
        return id(self._owner), frozenset(fields.items()), self._delay, self._expires, self.attached

    # ---- enqueue

    def enqueue_composition(self, composition: Composition) -> Any:
        """Store a composition on this task's queue; return what its caller gets."""
        return enqueue_whole(self._owner, composition)

    async def aenqueue_composition(self, composition: Composition) -> Any:
        """Async twin of `enqueue_composition`."""
        return await aenqueue_whole(self._owner, composition)

    def _plan_of(self, jobs: Sequence[NewJob]) -> tuple[Plan, list[int]]:
        """Return these jobs with what hangs on each, and their places."""
        builder = Builder(jobs[0].created_at)
        nodes = builder.add_jobs(self, jobs)  # type: ignore[arg-type]
        return builder.plan(nodes[-1]), nodes

    def _submitted(self, plan: Plan, stored: StoredPlan, nodes: list[int]) -> list[Submitted]:
        return [
            Submitted(
                stored.jobs[node],
                node not in stored.held,
                stored.pending,
                as_stored(plan.jobs[node], stored, node) or False,
            )
            for node in nodes
        ]


def _checked(items: Any, name: str) -> Iterable[Any]:
    if not isinstance(items, Iterable):
        more = f"; an async iterable is for a{name}()" if isinstance(items, AsyncIterable) else ""
        raise TypeError(f"{name}() takes the items in a list or another iterable, got {items!r}{more}")
    return items
