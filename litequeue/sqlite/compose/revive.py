"""A retry: what waits for the job waits again, as statements inside the transaction of the retry."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from litequeue.core.plan import RunsOn
from litequeue.core.records import Status
from litequeue.core.stored_names import task_of
from litequeue.errors import Unsupported
from litequeue.sqlite.compose.ended import GONE
from litequeue.sqlite.jobs.keys import has_held_it_long_enough, holder_of
from litequeue.sqlite.jobs.states import NUMBER, STATES
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Steps

_SUCCEEDED = NUMBER[Status.SUCCEEDED]


def wait_again(job_id: str) -> Steps[bool]:
    """Note that a job is retried; return whether its parents hold it again.

    Raises `Unsupported` where one of them has ended and not succeeded.
    """
    rows = yield SQL["dependent"], {"node": int(job_id)}
    if not rows:
        return False
    unended, runs_on, _, ended_by, ended_as = rows[0]
    if ended_as == GONE:
        raise Unsupported(f"job {job_id} waited for job {ended_by}, which was deleted from the file: enqueue it anew")
    if runs_on != RunsOn.END:
        yield from _check_parents(job_id, runs_on)
    waits = bool(unended)
    yield SQL["point_again"], {"again": json.dumps([(int(job_id), None, None, int(waits))])}
    return waits


def _check_parents(job_id: str, runs_on: int) -> Steps[None]:
    for parent, state, _, marked_by, marked_as in (yield SQL["parents_of"], {"node": int(job_id)}):
        ended_by, ended_as = (parent, state) if parent > 0 else (marked_by, marked_as)
        if runs_on == RunsOn.SUCCESS and (ended_as or 0) > _SUCCEEDED:
            raise Unsupported(
                f"job {job_id} waits for job {ended_by}, which is {STATES[ended_as]}: retry that one, and this one "
                f"waits again; or enqueue its call by itself"
            )
        if runs_on == RunsOn.FAILURE and ended_as in (_SUCCEEDED, NUMBER[Status.CANCELLED]):
            raise Unsupported(f"job {job_id} is called where job {ended_by} fails, which is {STATES[ended_as]}")


def check_told(job_id: str) -> Steps[None]:
    """Refuse a retry while its end, or that of what comes after it, is still being told: some would not wait again."""
    if (yield SQL["is_put_off"], {"node": int(job_id)}) == [(1,)]:
        raise Unsupported(
            f"job {job_id} has so many dependents that some of them are still being ended: retry it in a moment"
        )


def revive(job_id: str, now: float, revived: list[str] | None = None) -> Steps[tuple[str, ...]]:
    """After a job was retried: what its end had ended waits again; return the ids of those whose key was taken.

    `revived`: takes the ids of those that wait again.
    """
    if (yield SQL["has_edges"], ()) != [(1,)]:
        return ()
    taken: list[str] = []
    causes: set[int] = {int(job_id)}  # jobs whose ends are undone
    level: dict[int, bool] = {int(job_id): True}  # nodes, with whether they were over; else groups that were marked
    while level:
        rows = yield SQL["children_to_revive"], {"nodes": json.dumps(list(level))}
        counts = Counter(child for parent, child, *_ in rows if level[parent])
        if counts:
            yield SQL["count_up"], {"counts": json.dumps(list(counts.items()))}
        over = {child for _, child, unended, runs_on, _ in rows if runs_on == RunsOn.GROUP and not unended}
        marked = {child: ended_by for *_, child, _, _, ended_by in rows if ended_by in causes}
        healed = yield from _healed(marked)
        jobs = yield from _free_of_keys([child for child in healed if child > 0], now, taken)
        if jobs:
            yield SQL["revive"], {"ids": json.dumps(jobs), "now": now}
            if revived is not None:
                revived += map(str, jobs)
        again = [(node, None, None, int(node > 0)) for node in (*jobs, *(child for child in healed if child < 0))]
        if again:
            yield SQL["point_again"], {"again": json.dumps(again)}
        causes.update(jobs)
        groups = {child: child in over and child in counts for child in {*marked, *over} if child < 0}
        level = groups | dict.fromkeys(jobs, True)
    return tuple(taken)


def _healed(marked: dict[int, int]) -> Steps[list[int]]:
    """Those of which no other parent is a reason to end; the others name that one from now on.

    What names the same as before is taken out: nothing changes behind it, and in a circle there is no end of it.
    """
    if not marked:
        return []
    others = yield SQL["other_bad_parents"], {"marked": json.dumps(list(marked.items()))}
    bad = [(child, other // 10, other % 10, 0) for child, other in others if other is not None]
    for child, other, *_ in bad:
        if marked[child] == other:
            del marked[child]
    if bad:
        yield SQL["point_again"], {"again": json.dumps(bad)}
        yield SQL["keep_as_long"], {"ids": json.dumps([child for child, *_ in bad])}
    return [child for child, other in others if other is None]


def _free_of_keys(ids: list[int], now: float, taken: list[str]) -> Steps[list[int]]:
    """Those of these jobs whose keys no other job has taken; the others stay as they are."""
    if not ids:
        return []
    lost: set[int] = set()
    held: set[tuple[str, str]] = set()  # by these
    for job, task, key in (yield SQL["keyed_among"], {"ids": json.dumps(ids)}):
        if (yield from has_held_it_long_enough(str(job), now)):
            continue
        holder = yield from holder_of(task, key, now)
        if (holder is not None and int(holder[0]) != job) or (task_of(task), key) in held:
            lost.add(job)
            taken.append(str(job))
        held.add((task_of(task), key))
    return [job for job in ids if job not in lost]
