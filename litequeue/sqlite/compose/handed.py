"""What a job is handed by its parents, as it is stored. Reads only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from msgspec.structs import replace

from litequeue.core.compositions import Failure, Lost
from litequeue.core.records import Status
from litequeue.core.stored_names import task_of
from litequeue.errors import DecodeError
from litequeue.sqlite.compose.groups import check_not_in_itself
from litequeue.sqlite.jobs.row_values import snapshot
from litequeue.sqlite.jobs.states import STATES
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.core.compositions import Handed
    from litequeue.core.records import Claimed
    from litequeue.sqlite.drivers.connection import Connection

PAGE = 1_000  # members that are read at once

_IN_WORDS = {
    Status.CANCELLED: ("JobCancelled", "it was cancelled"),
    Status.EXPIRED: ("JobExpired", "it had not begun in time, so it never ran"),
}


def handed_to(db: Connection, job: int) -> Handed:
    """Return the result of the job's parent, those of its group, or how its parent failed.

    Raises `DecodeError` where the parent is gone, which only someone else can have deleted.
    """
    with snapshot(db):
        rows = db.rows(SQL["gives"], {"child": job})
        if not rows:
            raise DecodeError(f"job {job} takes a result, and what gives it is not on record")
        parent, on_failure = rows[0]
        if parent < 0:
            return _results_of(db, parent)
        found = db.rows(SQL["ended_parent"], {"id": parent})
        if not found:
            raise DecodeError(f"job {job} takes the result of job {parent}, which is not on record any more")
        return _failure(db, *found[0]) if on_failure else _result(db, *found[0])


def with_handed(db: Connection, jobs: list[Claimed]) -> list[Claimed]:
    """Return these claims with what a single parent hands on to them, where that is in its row."""
    if db.rows(SQL["has_edges"]) != [(1,)]:
        return jobs
    ids = f"[{','.join([job.id for job in jobs])}]"
    parents: dict[int, int] = dict(db.rows(SQL["giving_among"], {"ids": ids}))
    if not parents:
        return jobs
    given: dict[int, bytes] = dict(db.rows(SQL["results_among"], {"ids": json.dumps(list(set(parents.values())))}))
    return [_with(job, given.get(parents.get(int(job.id), 0))) for job in jobs]


def _with(job: Claimed, result: bytes | None) -> Claimed:
    return job if result is None else replace(job, handed=result)


def _results_of(db: Connection, group: int, around: tuple[int, ...] = ()) -> list[Handed]:
    check_not_in_itself(-group, around)
    results: list[Handed] = []
    after = -1
    while members := db.rows(SQL["members"], {"group": group, "after": after, "limit": PAGE}):
        for place, node, *row in members:
            if node < 0:
                results.append(_results_of(db, node, (*around, -group)))
            elif row[0] is None:
                raise DecodeError(f"job {node}, a member of the group {-node}, is not on record any more")
            else:
                results.append(_result(db, node, *row))
            after = place
    rows = db.rows(SQL["group"], {"group": -group})
    if not rows or len(results) != rows[0][1]:
        raise DecodeError(f"members of the group {-group} are not on record any more")
    return results


def _result(db: Connection, job: int, task: str, state: int, failures: int, result: bytes | None) -> bytes | Lost:
    status = STATES[state]
    if status is Status.SUCCEEDED:
        return b"" if result is None else result
    return _lost(db, job, task, status, failures)


def _failure(db: Connection, job: int, task: str, state: int, failures: int, _: bytes | None) -> Failure:
    """How the job failed, though it may have been retried since: its callback begins in its own time."""
    status = STATES[state]
    if status not in (Status.FAILED, Status.EXPIRED):
        status = Status.FAILED if db.rows(SQL["last_error"], {"id": job}) else Status.EXPIRED
    return _lost(db, job, task, status, failures).failure


def _lost(db: Connection, job: int, task: str, status: Status, failures: int) -> Lost:
    kind, message = _IN_WORDS.get(status, ("Unknown", f"it is {status}"))
    traceback = ""
    if status is Status.FAILED:
        for kind, message, traceback in db.rows(SQL["last_error"], {"id": job}):  # noqa: B007
            pass
    tries = max(1, failures + (status is not Status.FAILED))
    return Lost(Failure(str(job), task_of(task), status, kind, message, tries), traceback)
