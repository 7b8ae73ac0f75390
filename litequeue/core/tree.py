"""What runs before and after a job or a group, as a tree to be shown. Knows no store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from litequeue.core.stored_names import task_of

if TYPE_CHECKING:
    from litequeue.core.records import Status

MOST_NODES = 200  # that are read for one tree
MOST_DEEP = 10  # levels on either side
MOST_BESIDE = 5  # members of a group, or others at one place

Runs = Literal["success", "end", "failure"]


class Branch(msgspec.Struct, kw_only=True):
    """A job or a group in the tree, and what hangs on it: before it what it waits for, or after it what waits for it.

    `status`: None for one that is not on record, and for a group. `members`, `unended`: of a group, how many members
    it has, and how many of these have not ended. `failed`: of a group, the job for which it will not succeed.
    `runs_on`: which ends of what is before it let it begin. `more`: how many hang on it that are not in `branches`.
    `again`: what hangs on it stands elsewhere in the tree.
    """

    id: str
    task: str | None = None
    status: Status | None = None
    reason: str | None = None
    members: int | None = None
    unended: int | None = None
    failed: str | None = None
    runs_on: Runs | None = None
    branches: list[Branch] = []
    more: int = 0
    again: bool = False

    @property
    def is_group(self) -> bool:
        """Whether it is a group."""
        return self.members is not None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        branches = [each.to_json() for each in self.branches]
        own: dict[str, Any] = {"id": self.id, "kind": "group" if self.is_group else "job"}
        if self.is_group:
            own |= {"members": self.members, "unended": self.unended, "failed": self.failed}
        else:
            own |= {
                "task": None if self.task is None else task_of(self.task),
                "status": None if self.status is None else str(self.status),
                "reason": self.reason,
                "runs_on": self.runs_on,
            }
        return own | {"branches": branches, "more": self.more, "again": self.again}


class Tree(msgspec.Struct, kw_only=True):
    """What stands before a job or a group, and after it: as branches of a root of its own."""

    before: Branch
    after: Branch

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "before": [each.to_json() for each in self.before.branches],
            "more_before": self.before.more,
            "after": [each.to_json() for each in self.after.branches],
            "more_after": self.after.more,
        }


class GroupSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A group as an operator sees it: how many of its jobs, those of groups inside included, are in each state.

    `members`: how many it had at the enqueue, groups inside as one each. `failed`: the job for which it will not
    succeed.
    """

    id: str
    created_at: float
    members: int
    failed: str | None
    by_status: dict[Status, int]
