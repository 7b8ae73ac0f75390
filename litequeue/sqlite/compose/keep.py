"""What pruning leaves, since something that waits needs it; and what goes with a job that is pruned."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from litequeue.sqlite.drivers.connection import Connection

_FORGET = "name_for_good", "forget_edges_from", "forget_edges_to", "forget_dependents", "forget_keys_of_wholes"
KEEP_ON = 600.0  # seconds, before another look at what is needed


def keep_needed(db: Connection, jobs: list[int], now: float) -> list[int]:
    """Return those of these jobs that nothing needs; the others are kept on."""
    needed: dict[int, float] = {}  # until when
    groups: dict[int, set[int]] = {}
    for parent, child, until in db.rows(SQL["takers"], {"nodes": json.dumps(jobs), "now": now, "later": now + KEEP_ON}):
        if child < 0:
            groups.setdefault(child, set()).add(parent)
        elif until is not None:
            needed[parent] = max(needed.get(parent, 0.0), until)
    for job, until in db.rows(SQL["untold_among"], {"nodes": json.dumps(jobs), "now": now, "later": now + KEEP_ON}):
        needed[job] = max(needed.get(job, 0.0), until)
    for group, until in _needed_groups(db, groups, now).items():
        for job in groups[group]:
            needed[job] = max(needed.get(job, 0.0), until)
    if needed:
        db.many(SQL["keep_on"], [(until, job) for job, until in needed.items()])
    return [job for job in jobs if job not in needed]


def _needed_groups(db: Connection, groups: Iterable[int], now: float) -> dict[int, float]:
    """Those of these groups that have not ended, or whose results something takes, and until when."""
    needed: dict[int, float] = {}
    for group in groups:  # mostly one: of jobs that end together
        inside, seen = [group], {group}
        while inside:
            node = inside.pop()
            found = db.rows(SQL["group_needed"], {"group": node, "now": now, "later": now + KEEP_ON})
            for outer, until in found:
                if until is not None:
                    needed[group] = max(needed.get(group, 0.0), until)
                elif outer is not None and outer not in seen:
                    seen.add(outer)
                    inside.append(outer)
    return needed


def forget(db: Connection, jobs: Sequence[int]) -> None:
    """Delete what is kept of jobs that are pruned, and groups of which no member is left."""
    nodes: list[int] = list(jobs)
    while nodes:
        near = {"nodes": json.dumps(nodes)}
        groups = [group for (group,) in db.rows(SQL["groups_beside"], near)]
        for statement in _FORGET:
            db.rows(SQL[statement], near)
        nodes = [group for (group,) in db.rows(SQL["empty_among"], {"nodes": json.dumps(groups)})] if groups else []
        if nodes:
            db.rows(SQL["forget_groups"], {"nodes": json.dumps(nodes)})
