"""Enqueue a composition: the options of the whole, its key, and what its caller gets. Knows no store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from litequeue.core.after_commit import OnCommit, hook_of
from litequeue.core.after_commit import checked as checked_on_commit
from litequeue.core.checks import one_of
from litequeue.core.key_scope import checked_key, held
from litequeue.core.plan import WholeKey
from litequeue.core.records import OnConflict
from litequeue.core.slices import in_slices

if TYPE_CHECKING:
    from litequeue.compose.builder import Builder
    from litequeue.compose.composition import Composition
    from litequeue.compose.job_group import JobGroup
    from litequeue.core.plan import Plan, StoredPlan
    from litequeue.job import Job
    from litequeue.task_owner import Owner


class Whole(NamedTuple):
    """The options of one enqueue. `held_for`: seconds for which the key is held, or as the scope says."""

    key: str | None = None
    scope: str | None = None
    held_for: float | None = None
    on_conflict: OnConflict | None = None
    within: Any = None
    on_commit: OnCommit | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether nothing was said."""
        return self == Whole()

    def names(self) -> str:
        """Name the options that were given."""
        fields = {"key": "key=", "scope": "key_scope=", "on_conflict": "on_conflict=", "within": "within="}
        return ", ".join(shown for name, shown in fields.items() if getattr(self, name) is not None) or "on_commit="

    def using(self, options: Mapping[str, Any]) -> Whole:
        """Return it with these options, checked."""
        made = self
        for name, value in options.items():
            match name:
                case "key":
                    made = made._replace(key=None if value is None else checked_key(value))
                case "key_scope":
                    scope = held(value)
                    if scope["key_scope"] == "queued":
                        raise ValueError(
                            "key_scope='queued' is of a single job; for the key of a composition give 'kept', "
                            "'unfinished' or a duration"
                        )
                    made = made._replace(scope=scope["key_scope"], held_for=scope["key_for"])
                case "on_conflict":
                    if one_of(value, OnConflict, "on_conflict") == "replace":
                        raise ValueError("on_conflict='replace' is of a single job; cancel the composition instead")
                    made = made._replace(on_conflict=value)
                case "within":
                    made = made._replace(within=value, on_commit=None if value is not None else made.on_commit)
                case _:
                    made = made._replace(on_commit=checked_on_commit(value), within=None if value else made.within)
        if options.get("within") is not None and options.get("on_commit"):
            raise ValueError("give within= or on_commit=, not both: within= stores the jobs in that very transaction")
        return made

    def picklable(self) -> Whole:
        """Return it for a pickle. Raises `TypeError` with `within`."""
        if self.within is not None:
            raise TypeError("a composition with within= cannot be pickled: its transaction stays in this process")
        return self


class Built(NamedTuple):
    """A composition as it is to be stored, and what its caller gets."""

    plan: Plan
    owner: Owner
    builder: Builder

    def handle(self, stored: StoredPlan) -> Job[Any] | JobGroup[Any]:
        """Return the job of the last call, or the group."""
        from litequeue.compose.job_group import group_of, job_of

        make = group_of if self.plan.last < 0 else job_of
        return make(self.owner, self.plan, self.builder, stored)


def enqueue_whole(composition: Composition) -> Job[Any] | JobGroup[Any]:
    """Store a composition, and return what its caller gets."""
    from litequeue.compose.builder import Builder
    from litequeue.compose.job_group import empty_group, pending

    owner = owner_of(composition)
    if owner is None:
        return empty_group()
    builder = Builder(owner.now())
    steps = builder.add(composition)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            built = _built(composition, owner, builder, end.value)
            break
    on_commit = _on_commit(composition, owner)
    if on_commit:
        job, store = pending(built)
        hook_of(on_commit)(store)
        return job
    return built.handle(owner.store(built.plan, composition.whole.within))


async def aenqueue_whole(composition: Composition) -> Job[Any] | JobGroup[Any]:
    """Async twin of `enqueue_whole`; the loop goes on every few ms."""
    from litequeue.compose.builder import Builder
    from litequeue.compose.job_group import empty_group, pending

    owner = owner_of(composition)
    if owner is None:
        return empty_group()
    builder = Builder(owner.now())
    nodes: list[int] = []

    def steps() -> Any:
        nodes.append((yield from builder.add(composition)))

    async for _ in in_slices(steps()):
        pass
    built = _built(composition, owner, builder, nodes[0])
    on_commit = _on_commit(composition, owner)
    if on_commit:
        job, store = pending(built)
        hook = hook_of(on_commit)
        acall: Any = getattr(hook, "acall", None)
        if acall is None:
            hook(store)
        else:
            await acall(store)
        return job
    return built.handle(await owner.astore(built.plan, composition.whole.within))


def owner_of(composition: Composition) -> Owner | None:
    """Return the queue of its first call; None: it has no calls."""
    first = next(iter(composition.calls()), None)
    return None if first is None else first.task.owner


def _on_commit(composition: Composition, owner: Owner) -> OnCommit:
    said = composition.whole.on_commit
    if composition.whole.within is not None:
        return False
    return owner.on_commit if said is None else said


def _built(composition: Composition, owner: Owner, builder: Builder, last: int) -> Built:
    return Built(builder.plan(last, _whole_key(composition, builder)), owner, builder)


def _whole_key(composition: Composition, builder: Builder) -> WholeKey | None:
    whole = composition.whole
    if whole.key is None:
        if whole.scope is not None or whole.on_conflict is not None:
            raise ValueError("key_scope= and on_conflict= apply to a key; give key= as well")
        return None
    keyed = next((call for call in composition.calls() if call.template.key is not None), None)
    if keyed is not None:
        raise ValueError(
            f"{keyed!r} has a key, and the whole has one: give key= to one of them, for the key of the whole decides "
            f"whether any of it is stored"
        )
    from litequeue.compose.digest import digest_of

    return WholeKey(whole.key, digest_of(builder), whole.scope or "kept", whole.held_for, whole.on_conflict or "return")
