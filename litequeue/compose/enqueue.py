"""Enqueue a composition: what is stored of it, and what its caller gets. Knows no store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from litequeue.calls import MANY
from litequeue.compose.builder import Builder
from litequeue.compose.digest import digest_of
from litequeue.compose.job_group import JobGroup, found_group
from litequeue.core.after_commit import hook_of
from litequeue.core.plan import WholeKey
from litequeue.core.slices import in_slices
from litequeue.core.warn import warn_caller
from litequeue.job import Job
from litequeue.pending_job import PendingJob
from litequeue.room import astore_with_room, store_with_room

if TYPE_CHECKING:
    from litequeue.compose.composition import Composition
    from litequeue.core.after_commit import OnCommit
    from litequeue.core.plan import Plan, StoredPlan
    from litequeue.core.records import NewJob
    from litequeue.task_owner import Owner


class Built(NamedTuple):
    """A composition as it is to be stored."""

    plan: Plan
    owner: Owner
    builder: Builder

    def handle(self, stored: StoredPlan) -> Job[Any] | JobGroup[Any]:
        """Return what its caller gets: the job of the last call, or the group."""
        return _group_of(self, stored) if self.plan.last < 0 else _job_of(self, stored)


def enqueue_whole(owner: Owner, composition: Composition) -> Job[Any] | JobGroup[Any]:
    """Store a composition, and return what its caller gets."""
    builder = Builder(owner.now())
    nodes: list[int] = []
    for _ in _added(builder, composition, nodes):
        pass
    built = _built(composition, owner, builder, nodes[0])
    on_commit = _on_commit(composition)
    if on_commit:
        job, store = _pending(built)
        hook_of(on_commit)(store)
        return job
    within, wait = composition.whole.within, _room_wait(composition)
    if wait is None:
        return built.handle(owner.store(built.plan, within))
    return built.handle(store_with_room(owner.source, lambda: owner.store(built.plan, None), wait))


async def aenqueue_whole(owner: Owner, composition: Composition) -> Job[Any] | JobGroup[Any]:
    """Async twin of `enqueue_whole`; the loop goes on every few ms."""
    builder = Builder(owner.now())
    nodes: list[int] = []
    async for _ in in_slices(_added(builder, composition, nodes)):
        pass
    built = _built(composition, owner, builder, nodes[0])
    on_commit = _on_commit(composition)
    if on_commit:
        job, store = _pending(built)
        hook = hook_of(on_commit)
        acall: Any = getattr(hook, "acall", None)
        if acall is None:
            hook(store)
        else:
            await acall(store)
        return job
    within, wait = composition.whole.within, _room_wait(composition)
    if wait is None:
        return built.handle(await owner.astore(built.plan, within))
    return built.handle(await astore_with_room(owner.source, lambda: owner.astore(built.plan, None), wait))


def _added(builder: Builder, composition: Composition, nodes: list[int]) -> Iterator[None]:
    """Add the composition, and yield after each call; its node goes into `nodes`."""
    try:
        nodes.append((yield from builder.add(composition)))
    except RecursionError:
        raise ValueError(
            "groups and callbacks are nested too deeply here, several hundred times; flatten them"
        ) from None


def _room_wait(composition: Composition) -> float | None:
    """For how long the call that is the most patient waits for room. Raises `ValueError` with `within=`."""
    waits = [call.task.room_wait for call in composition.calls() if call.task.room_wait is not None]
    if waits and composition.whole.within is not None:
        raise ValueError("give wait_for_room= or within=, not both: nothing makes room before a commit comes")
    return max(waits, default=None)


def _on_commit(composition: Composition) -> OnCommit:
    """Whether, and how, it is stored after a commit: as the whole says, else as the first of its calls does."""
    whole = composition.whole
    if whole.within is not None:
        return False
    if whole.on_commit is not None:
        return whole.on_commit
    return next((call.task.on_commit for call in composition.calls() if call.task.on_commit), False)


def _built(composition: Composition, owner: Owner, builder: Builder, last: int) -> Built:
    if len(builder.tasks) > 2 * MANY:
        warn_caller(
            f"a composition of {len(builder.tasks):,} calls is stored in one transaction, for which other writers wait;"
            f" make several of them if they need not be stored all or none"
        )
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
    return WholeKey(whole.key, digest_of(builder), whole.scope or "kept", whole.held_for, whole.on_conflict or "return")


def _job_of(built: Built, stored: StoredPlan) -> Job[Any]:
    """Return the job at the end of what was stored, or of the composition that has the key."""
    plan, owner, builder = built
    if stored.found is not None:
        return Job(stored.last, owner.source, builder.tasks[plan.last].signature)
    return _job(built, stored, plan.last)


def _job(built: Built, stored: StoredPlan, place: int) -> Job[Any]:
    plan, owner, builder = built
    new = as_stored(plan.jobs[place], stored, place)
    born = plan.created_at if stored.pending and place not in stored.held else None
    return Job(stored.jobs[place], owner.source, builder.tasks[place].signature, new, born)


def as_stored(new: NewJob, stored: StoredPlan, place: int) -> NewJob | None:
    """Return a job of a plan as it stands; None: that is to be looked up."""
    if place in stored.held or stored.moved.get(place) is False:
        return None
    return replace(new, waiting=False) if place in stored.moved else new


def _group_of(built: Built, stored: StoredPlan) -> JobGroup[Any]:
    """Return the group at the end of what was stored, or of the composition that has the key."""
    plan, owner, builder = built
    if stored.found is not None:
        return found_group(owner, stored.last, stored.found)

    def members(node: int) -> tuple[Any, ...]:
        nodes: Sequence[int] = builder.members[node]
        return tuple(members(each) if each < 0 else _job(built, stored, each) for each in nodes)

    born = plan.created_at if stored.pending else None
    return JobGroup(stored.last, owner, members(plan.last), born)


def _pending(built: Built) -> tuple[PendingJob[Any] | JobGroup[Any], Callable[[], None]]:
    """Return what a composition's caller gets while it is not stored, and what stores it."""
    plan, owner, _ = built
    job: PendingJob[Any] | JobGroup[Any]
    job = JobGroup(None, owner, ()) if plan.last < 0 else PendingJob(plan.jobs[plan.last], owner.source)
    is_stored = False

    def store() -> None:
        nonlocal is_stored
        if is_stored:  # a hook of the application's may call it again
            return
        made: Any = built.handle(owner.store(plan, None))
        is_stored = True
        job.become(made)

    return job, store
