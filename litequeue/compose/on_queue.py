"""The groups of a queue, and how its tasks store compositions. Knows no store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from litequeue.compose.job_group import JobGroup, found_group
from litequeue.core.engine import Feature
from litequeue.core.interruptible import interruptible
from litequeue.job import Job

if TYPE_CHECKING:
    from litequeue.core.engine import Engine
    from litequeue.core.groups import CompositionStore
    from litequeue.core.plan import Plan, StoredPlan
    from litequeue.serialization.json_codec import PlainValues
    from litequeue.task_owner import Owner


@interruptible
class HasGroups:
    """Looks groups up, and stores compositions."""

    _tasks: Mapping[str, Any]

    @property
    def engine(self) -> Engine:
        """What keeps and runs the jobs."""
        raise NotImplementedError

    def require(self, features: Any) -> None:
        """Raise `Unsupported` if the engine lacks one of them."""
        raise NotImplementedError

    @property
    def plain_values(self) -> PlainValues:
        """What reads values of tasks that are not declared here."""
        raise NotImplementedError

    def group(self, group_id: str) -> JobGroup[Any]:
        """Look a group of jobs up, by its id; raises `JobNotFound`."""
        found = self.compositions.look_up(str(group_id))
        return found_group(cast("Owner", self), found.id, found.members)

    async def agroup(self, group_id: str) -> JobGroup[Any]:
        """Async twin of `group`."""
        found = await self.compositions.alook_up(str(group_id))
        return found_group(cast("Owner", self), found.id, found.members)

    @property
    def compositions(self) -> CompositionStore:
        """The part of the engine that keeps compositions."""
        self.require([Feature.COMPOSITION])
        return self.engine.compositions

    def store(self, plan: Plan, within: Any = None) -> StoredPlan:
        """Store a composition. Calls, chains and groups call this to enqueue."""
        return self.compositions.store(plan, within)

    async def astore(self, plan: Plan, within: Any = None) -> StoredPlan:
        """Async twin of `store`."""
        return await self.compositions.astore(plan, within)

    def job_of(self, job_id: str, task: str) -> Job[Any]:
        """Return the job of a task of that stored name."""
        known = self._tasks.get(task)
        return Job(job_id, self.engine.jobs, self.plain_values if known is None else known.signature)
