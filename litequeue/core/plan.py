"""A composition as values: the jobs to store at once, and which of them wait for which. Knows no task and no store.

A node is a job, by its place among the plan's jobs, or a group, by the complement of its place among the groups: -1 is
the first.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

import msgspec

from litequeue.core.records import NewJob

TAKES_NOTHING = -1
MOST_MEMBERS = 10_000_000  # of a group; the schema refuses more: a reader makes a list of that length

# In order: the id of a job and the stored name of its task, or the members of a group inside.
Members: TypeAlias = "tuple[tuple[str, str] | Members, ...]"


class RunsOn(IntEnum):
    """Which ends of its parents let a node begin. The numbers are those in the file."""

    SUCCESS = 0  # of all of them
    END = 1  # of all of them, however they end
    FAILURE = 2  # of its one parent
    GROUP = 3  # it is a group, which begins nothing


class Edge(NamedTuple):
    """From a node to one that waits for it.

    `place`: of a member in its group; 0: the child takes the parent's result; `TAKES_NOTHING`. `own`: both are of one
    composition, which a cancel of its last node ends as a whole.
    """

    parent: int
    child: int
    place: int = TAKES_NOTHING
    own: bool = True


class Dependent(NamedTuple):
    """How a job waits. `delay`, `expires`: seconds from the end of its last parent.

    `delay` None: it has a time of its own.
    """

    runs_on: RunsOn = RunsOn.SUCCESS
    delay: float | None = 0.0
    expires: float | None = None


class Callbacks(NamedTuple):
    """The jobs, from one place to another, that are callbacks of a job: they are stored only where that one is new."""

    owner: int
    first: int
    end: int


class WholeKey(NamedTuple):
    """The key of a composition. `digest`: of its calls. `held_for`: seconds, or as the scope says."""

    key: str
    digest: bytes
    scope: str
    held_for: float | None
    on_conflict: str


class Plan(msgspec.Struct, kw_only=True):
    """What is stored at once. Parents come before what waits for them. `last`: the node that is returned to the caller.

    `after`: jobs on record, by id and, where that may be another's by now, when they were enqueued, each with the node
    that waits for it. `groups`: how many members each has.
    """

    jobs: list[NewJob]
    groups: list[int]
    edges: list[Edge]
    dependents: dict[int, Dependent]
    after: list[tuple[str, float | None, int]]
    callbacks: list[Callbacks]
    last: int
    created_at: float
    whole: WholeKey | None = None


class StoredPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Where a plan is: the ids of its jobs, "" for one that was not stored, and of its groups.

    `held`: places of calls whose keys other jobs hold. `moved`: places of jobs that do not stand as planned any more,
    with whether they may begin; else they have ended. `last`: the id of what is returned to the caller. `pending`: it
    may be rolled back yet. `found`: nothing is stored, as another composition has the key; the members of its last
    group.
    """

    last: str
    jobs: list[str]
    groups: list[str]
    held: frozenset[int] = frozenset()
    moved: dict[int, bool] = {}
    pending: bool = False
    found: Members | None = None


def group_id(number: int) -> str:
    """Return the id of a group.

    >>> group_id(7)
    'g7'
    """
    return f"g{number}"
