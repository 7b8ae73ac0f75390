"""A group as it was when it was read, and the part of an engine that keeps compositions. Knows no store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from litequeue.core.plan import Members, Plan, StoredPlan
    from litequeue.core.records import Progress


class GroupRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A group: its id, when it was enqueued, and its members' jobs."""

    id: str
    created_at: float
    members: Members


class CompositionStore(Protocol):
    """The part of an engine that keeps what runs after what."""

    def store(self, plan: Plan, within: Any = None) -> StoredPlan:
        """Store a plan, all or none of it, or find the composition that holds its key. `within`: as of `submit`.

        Raises `JobNotFound` where `after=` names a job that is not on record, and what `submit` raises.
        """

    async def astore(self, plan: Plan, within: Any = None) -> StoredPlan:
        """Async twin of `store`."""

    def look_up(self, group_id: str) -> GroupRecord:
        """Return the group, or raise `JobNotFound`."""

    async def alook_up(self, group_id: str) -> GroupRecord:
        """Async twin of `look_up`."""

    def progress(self, group_id: str) -> Progress:
        """Return how many of the group's jobs have ended."""

    async def aprogress(self, group_id: str) -> Progress:
        """Async twin of `progress`."""

    def cancel(self, group_id: str) -> bool:
        """Cancel what has not ended of the group, and of what leads to it; False: all had ended."""

    async def acancel(self, group_id: str) -> bool:
        """Async twin of `cancel`."""
