"""Compositions: store one, and look up, count or cancel a group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from litequeue.core.records import Progress, Status
from litequeue.sqlite.compose import groups, tree
from litequeue.sqlite.compose.cancel import cancel_whole
from litequeue.sqlite.compose.consequences import Consequences
from litequeue.sqlite.compose.store import store
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs.control import Was
from litequeue.sqlite.jobs.enqueue import all_or_none
from litequeue.sqlite.jobs.finish import until
from litequeue.sqlite.jobs.user_answers import aanswered, answered
from litequeue.sqlite.parts.within import ain_transaction, in_transaction

if TYPE_CHECKING:
    from litequeue.core.groups import GroupRecord
    from litequeue.core.plan import Plan, StoredPlan
    from litequeue.core.tree import GroupSummary, Tree
    from litequeue.sqlite.commit.open_transaction import OpenTransaction
    from litequeue.sqlite.drivers.connection import Steps
    from litequeue.sqlite.kernel import Kernel


class Compositions:
    """The compositions of one file, as a caller sees them."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._writer = kernel, kernel.writer

    def store(self, plan: Plan, within: Any = None) -> StoredPlan:
        """Store a plan, all or none of it; on disk on return, or with the transaction that is open here, or `within`.

        Raises what `Jobs.submit` raises, and `JobNotFound` where `after=` names a job that is not on record.
        """
        if within is not None:
            return replace(in_transaction(self._kernel, within, all_or_none(store(plan))), pending=True)
        self._kernel.owner.enter()
        held = self._writer.held()
        if held is not None:
            stored = replace(self._writer.run(lambda db: perform(db, all_or_none(store(plan)))), pending=True)
        else:
            size = _size(plan)
            stored = answered(lambda ask: self._writer.run(lambda db: perform(db, store(plan, ask)), size=size))
        self._kernel.announce(held)
        return stored

    async def astore(self, plan: Plan, within: Any = None) -> StoredPlan:
        """Async twin of `store`; `within` may also be an aiosqlite connection."""
        if within is not None:
            return replace(await ain_transaction(self._kernel, within, all_or_none(store(plan))), pending=True)
        self._kernel.owner.enter()
        if self._writer.held() is not None:
            stored = await self._kernel.arun(lambda: all_or_none(store(plan)), self._kernel.announce)
            return replace(stored, pending=True)
        size = _size(plan)
        return await aanswered(
            lambda ask: self._writer.arun(lambda db: perform(db, store(plan, ask)), then=self._tell_stored, size=size)
        )

    def _tell_stored(self, _stored: StoredPlan) -> None:
        self._kernel.announce(None)

    def look_up(self, group_id: str) -> GroupRecord:
        """Return the group, or raise `JobNotFound`."""
        return self._kernel.read(lambda db: groups.look_up(db, group_id))

    async def alook_up(self, group_id: str) -> GroupRecord:
        """Async twin of `look_up`."""
        return await self._kernel.aread(lambda db: groups.look_up(db, group_id))

    def progress(self, group_id: str) -> Progress:
        """Return how many of the group's jobs have ended."""
        return self._kernel.read(lambda db: groups.progress(db, group_id))

    async def aprogress(self, group_id: str) -> Progress:
        """Async twin of `progress`."""
        return await self._kernel.aread(lambda db: groups.progress(db, group_id))

    def summary(self, group_id: str) -> GroupSummary:
        """Return how many jobs of the group are in each state, for an operator; raises `JobNotFound`."""
        return self._kernel.read_listing(lambda db: tree.summary(db, group_id))

    def tree(self, node_id: str) -> Tree:
        """Return what runs before and after a job or a group, some 200 of these at most."""
        return self._kernel.read_listing(lambda db: tree.tree(db, node_id))

    def cancel(self, group_id: str) -> bool:
        """Cancel what has not ended of the group, and of what leads to it; False: all had ended."""
        node, done = -groups.number_of(group_id), set[str]()
        while True:
            held, ended = self._writer.held(), Ended()
            more = self._writer.run(lambda db: perform(db, self._cancelling(node, ended)))  # noqa: B023
            self._tell_cancelled(held, ended)
            if not (more and ended.was.keys() - done):
                return bool(done or ended.was)
            done |= ended.was.keys()

    async def acancel(self, group_id: str) -> bool:
        """Async twin of `cancel`."""
        node, done = -groups.number_of(group_id), set[str]()
        while True:
            ended = Ended()
            more = await self._kernel.arun(
                lambda: self._cancelling(node, ended),  # noqa: B023
                lambda held: self._tell_cancelled(held, ended),  # noqa: B023
            )
            if not (more and ended.was.keys() - done):
                return bool(done or ended.was)
            done |= ended.was.keys()

    def _cancelling(self, node: int, ended: Ended) -> Steps[bool]:
        ended.clear()
        yield from groups.require(-node)
        return (yield from cancelling(self._kernel, node, ended))

    def _tell_cancelled(self, held: OpenTransaction | None, ended: Ended) -> None:
        tell_cancelled(self._kernel, held, ended)


class Ended:
    """What a cancel ended or asked to end, and what that brought with it."""

    def __init__(self) -> None:
        self.was: dict[str, Was] = {}
        self.then: Consequences = Consequences()

    def clear(self) -> None:
        """Begin anew: the work is run again."""
        self.was.clear()
        self.then.clear()


def cancelling(kernel: Kernel, node: int, ended: Ended) -> Steps[bool]:
    """Cancel the composition that ends in this node; return whether there is more of it, for another transaction."""
    now = kernel.clock.now()
    was, more = yield from cancel_whole(node, now, until(now, kernel.retention.result_ttl), ended.then)
    ended.was.update((job, Was(status, frees=True)) for job, status in was.items())
    return more


def tell_cancelled(kernel: Kernel, held: OpenTransaction | None, ended: Ended) -> None:
    """Tell of a cancel, now or when the transaction that is open here has been committed."""
    for job in ended.then.ended:
        ended.was.setdefault(job, Was(Status.WAITING, frees=True))
    kernel.tell_cancelled(held, ended.was)
    if ended.then.begun or ended.then.put_off:
        kernel.announce(held)


def _size(plan: Plan) -> int:
    return sum([len(new.payload) for new in plan.jobs])
