"""Groups, as users see them. Reads only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from litequeue.core.groups import GroupRecord
from litequeue.core.names import SHOWN
from litequeue.core.plan import Members, group_id
from litequeue.core.records import Progress
from litequeue.core.why import Parents
from litequeue.errors import DecodeError, JobNotFound
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs.row_values import snapshot
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection, Row, Steps

MOST_PARENTS = 10_000  # that are looked at to tell what a job waits for

PRUNED = "pruned", ""  # in the place of a member that is gone
_ID = re.compile(r"g([1-9][0-9]{0,17})")


def number_of(group: str) -> int:
    """Return the number in a group's id, or raise `JobNotFound`."""
    found = _ID.fullmatch(str(group))
    if found is None:
        raise JobNotFound(f"no group {group!r}: the id of a group is like g7")
    return int(found[1])


def require(number: int) -> Steps[Row]:
    """Read a group's row inside a transaction, or raise `JobNotFound`."""
    rows = yield SQL["group"], {"group": number}
    return _found(rows, number)


def _found(rows: list[Row], number: int) -> Row:
    if not rows:
        raise JobNotFound(f"no group {group_id(number)} in this file: it never existed, or its jobs are pruned")
    return rows[0]


def look_up(db: Connection, group: str) -> GroupRecord:
    """Read a group and the ids of its members."""
    number = number_of(group)
    with snapshot(db):
        created_at, *_ = _found(db.rows(SQL["group"], {"group": number}), number)
        return GroupRecord(id=group_id(number), created_at=created_at, members=perform(db, members_of(number)))


def members_of(number: int, around: tuple[int, ...] = ()) -> Steps[Members]:
    """Read the ids of a group's members. `around`: the groups that it is in."""
    check_not_in_itself(number, around)
    nodes = yield SQL["member_nodes"], {"group": -number}
    members: list[Any] = []
    for place, node, task in nodes:
        members += [PRUNED] * (place - len(members))
        members.append((str(node), task) if node > 0 else (yield from members_of(-node, (*around, number))))
    [(count,)] = (yield SQL["member_count"], {"group": number}) or [(0,)]
    return (*members, *[PRUNED] * (count - len(members)))


def check_not_in_itself(number: int, around: tuple[int, ...]) -> None:
    """Raise `DecodeError` where a group is in itself, as only someone else can have written."""
    if number in around:
        raise DecodeError(f"group {group_id(number)} is a member of itself in this file, which litequeue did not write")


def progress(db: Connection, group: str) -> Progress:
    """Count how many of its jobs have ended; a flat group of which none has failed knows it."""
    with snapshot(db):
        return count(db, number_of(group))


def count(db: Connection, number: int) -> Progress:
    """Do the same in a snapshot."""
    _, members, unended = _found(db.rows(SQL["group"], {"group": number}), number)
    if db.rows(SQL["group_is_flat"], {"group": -number}) == [(1,)]:
        return Progress(members - unended, members)
    [(total, unended, bad)] = db.rows(SQL["group_progress"], {"group": -number})
    return Progress(total - unended, total, f"{bad} not succeeded" if bad else None)


def parents(db: Connection, job: int) -> Parents | None:
    """Return what a job waits for; None: it waits for no parents."""
    rows = db.rows(SQL["dependent"], {"node": job})
    if not rows or not rows[0][2]:
        return None
    jobs: list[int] = []
    groups: list[int] = []
    for parent, is_there in db.rows(SQL["unended_parents"], {"node": job, "limit": SHOWN + 1}):
        if not is_there:
            return Parents(0, (), gone=f"job {parent}" if parent > 0 else f"group {group_id(-parent)}")
        (jobs if parent > 0 else groups).append(parent)
    [(of_jobs, of_groups)] = db.rows(SQL["count_unended_parents"], {"node": job, "most": MOST_PARENTS})
    group = None
    if groups:
        done = count(db, -groups[0])
        group = int((done.total or 0) - done.done), int(done.total or 0), group_id(-groups[0])
    return Parents(of_jobs, tuple(map(str, jobs)), group, of_groups)


def job_ids(db: Connection, group: str) -> list[int]:
    """Read the ids of all jobs in it, ascending."""
    number = number_of(group)
    _found(db.rows(SQL["group"], {"group": number}), number)
    return [job for (job,) in db.rows(SQL["group_ids"], {"group": -number})]
