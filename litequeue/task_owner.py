"""The part of a queue that its tasks use, and that of a task which its calls use. Knows neither, and no store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from litequeue.core.after_commit import OnCommit
    from litequeue.core.attached import Attached
    from litequeue.core.engine import Defaults, Feature, Submitted
    from litequeue.core.groups import CompositionStore
    from litequeue.core.plan import Plan, StoredPlan
    from litequeue.core.records import NewJob
    from litequeue.core.routes import Routes
    from litequeue.core.source import Source
    from litequeue.job import Job
    from litequeue.serialization.json_codec import Codec
    from litequeue.serialization.signature import Signature


class Owner(Protocol):
    """The part of a queue that its tasks use."""

    max_payload: int
    codec: Codec
    on_commit: OnCommit
    routes: Routes
    file_options: Mapping[str, Any]  # how to open its file elsewhere

    @property
    def defaults(self) -> Defaults:
        """What holds for tasks that do not say so."""

    @property
    def plain_calls(self) -> str | None:
        """What a plain call of a task does: None, or "" for a plain call, "warn" or "error"."""

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

    def store(self, plan: Plan, within: Any) -> StoredPlan:
        """Store a composition."""

    async def astore(self, plan: Plan, within: Any) -> StoredPlan:
        """Async twin of `store`."""

    @property
    def compositions(self) -> CompositionStore:
        """The part of the engine that keeps compositions."""

    def job_of(self, job_id: str, task: str) -> Job[Any]:
        """Return the job of a task of that stored name."""


class ComposedTask(Protocol):
    """The part of a task that its calls as values use."""

    name: str
    signature: Signature

    @property
    def declared_on_commit(self) -> OnCommit:
        """The `on_commit=` of its declaration, or of its queue."""

    @property
    def room_wait(self) -> float | None:
        """For how many seconds to wait for room, if at all."""

    @property
    def on_commit(self) -> OnCommit:
        """Whether, and how, its calls are stored after a commit of the application's."""

    @property
    def owner(self) -> Owner:
        """The queue on which it is declared."""

    @property
    def attached(self) -> Attached:
        """What hangs on its calls."""

    @property
    def chosen(self) -> frozenset[str]:
        """The names of the options that `using()` was given."""

    @property
    def call_delay(self) -> float | None:
        """Seconds before its calls may run."""

    @property
    def call_expires(self) -> float | datetime | None:
        """Seconds in which its calls must begin, or the moment by which."""

    def using(self, **options: Any) -> ComposedTask:
        """Return the same task with other options."""

    def templated(self, template: NewJob) -> NewJob:
        """Return a job to store with the options of this task instead of its own."""

    def as_link(self, template: NewJob, keywords: Sequence[str]) -> NewJob:
        """Return it as one whose first argument is handed on."""

    def enqueue_composition(self, composition: Any) -> Any:
        """Store a composition on this task's queue; return what its caller gets."""

    async def aenqueue_composition(self, composition: Any) -> Any:
        """Async twin of `enqueue_composition`."""

    def identity(self) -> object:
        """Return a value that is the same for the same task with the same options."""
