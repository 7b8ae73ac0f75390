"""What hangs on one call: the jobs it runs after, and its callbacks. Knows no task and no call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from litequeue.core.checks import one_of
from litequeue.core.plan import RunsOn

if TYPE_CHECKING:
    from typing_extensions import Self

    from litequeue.core.records import NewJob

AfterFailed = Literal["cancel", "run"]


class CallValue(Protocol):
    """A call as a value: a `Call`."""

    task: Any
    template: NewJob
    form: Any
    whole: Any

    @property
    def attached(self) -> Attached:
        """What hangs on it."""

    def new_job(self, now: float, *, link: bool, waits: bool) -> NewJob:
        """Return it as a job to store. `link`: it is given a result; `waits`: for another job."""

    @property
    def using(self) -> Callable[..., Any]:
        """Return the same call with other options."""

    def using_unless_said(self, options: Mapping[str, Any]) -> Self:
        """Return the same call with those of the options that it has not been given."""


class Earlier(NamedTuple):
    """A job on record. `born`: when it was enqueued, where that may be rolled back: its id is then another's.

    `source`: from where it is looked up; None: it was given by its id.
    """

    id: str
    born: float | None = None
    source: Any = None


class Attached(NamedTuple):
    """`after`: jobs on record.

    `runs_on`: which ends of these, and of what is before it in a composition, let it begin.
    """

    after: tuple[Earlier, ...] = ()
    runs_on: RunsOn = RunsOn.SUCCESS
    on_success: CallValue | None = None
    on_failure: CallValue | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether a job of its own is stored, and nothing else."""
        return not (self.after or self.on_success or self.on_failure)

    def check(self) -> None:
        """Refuse `after_failed` of a job before which there is none."""
        if self.runs_on is RunsOn.END and not self.after:
            raise ValueError("after_failed= says what the end of a job before this one does; give after= as well")

    def with_options(self, options: dict[str, Any]) -> Attached:
        """Return it with these options of a call, checked."""
        changes: dict[str, Any] = {}
        if "after" in options:
            changes["after"] = _earlier(options["after"])
        if "after_failed" in options:
            ends = one_of(options["after_failed"], AfterFailed, "after_failed")
            changes["runs_on"] = RunsOn.END if ends == "run" else RunsOn.SUCCESS
        for name in sorted(CALLBACKS):
            if name in options:
                changes[name] = _callback(options[name], name)
        return self._replace(**changes)


CALLBACKS = frozenset({"on_success", "on_failure"})
ATTACHED = CALLBACKS | {"after", "after_failed"}


def _earlier(jobs: Any) -> tuple[Earlier, ...]:
    if jobs is None:
        return ()
    if hasattr(type(jobs), "jobs"):  # a group of jobs
        jobs = jobs.jobs
    elif isinstance(jobs, str) or hasattr(type(jobs), "id") or not isinstance(jobs, Iterable):
        jobs = [jobs]
    found: list[Earlier] = []
    for job in jobs:
        if hasattr(type(job), "jobs"):
            found += _earlier(job)
            continue
        job_id = job if isinstance(job, str) else getattr(job, "id", None)
        if not isinstance(job_id, str):
            raise TypeError(
                f"after= takes jobs, or their ids, that are stored already, got {job!r}; "
                f"for calls that are stored with this one write chain(call, this) or group(calls) | this"
            )
        found.append(Earlier(job_id, getattr(job, "_born", None), getattr(job, "_source", None)))
    return tuple(dict.fromkeys(found))


def _callback(call: Any, name: str) -> CallValue | None:
    if call is None:
        return None
    if not hasattr(call, "template"):
        hint = f"; write {call.name}.s(...)" if hasattr(call, "enqueue_many") else ""
        raise TypeError(f"{name}= takes a call, such as task.s(...), got {call!r}{hint}")
    if call.attached.after:
        raise ValueError(f"{name}={call!r} has after=; a callback runs after the job that it belongs to")
    if not call.whole.is_nothing:
        raise ValueError(f"{name}={call!r} has {call.whole.names()}; a callback is stored with its job")
    found: CallValue = call
    return found
