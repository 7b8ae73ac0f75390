"""After ends of jobs: what waits for them begins, or ends with them, as statements inside the transaction of the ends.

It counts, and does not scan: an end costs a step for each node that waits for it. More than `MOST` of these steps in
one transaction are put off, for `go_on`.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.plan import RunsOn
from litequeue.core.records import Status
from litequeue.sqlite.compose.consequences import Consequences
from litequeue.sqlite.jobs.states import NUMBER
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from litequeue.sqlite.drivers.connection import Row, Steps

MOST = 10_000  # steps in one transaction: 50 ms where they let begin, up to 200 ms where they cancel
AT_ONCE = 1_000  # ends that are gone on with together
GONE = 8  # in the place of a state: someone has deleted the job, and its result cannot come

_SUCCEEDED, _FAILED, _CANCELLED, _EXPIRED = (
    NUMBER[status] for status in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED)
)
_FIRST = -(2**63)


class Over(NamedTuple):
    """A node that has ended: why, as the job that decided it and that one's state.

    Not `is_over`: a group of which a member has not succeeded while others have not ended.
    """

    node: int
    ended_by: int
    ended_as: int
    is_over: bool = True


class Found(NamedTuple):
    """What a level of nodes brings with it."""

    counts: Counter[int]
    ends: dict[int, Over]  # by child: what ends it, or marks a group
    groups: set[int]  # of these
    fails: set[int]  # those that run since their parent failed


def follow(ended: Iterable[tuple[str | int, int]], now: float, then: Consequences) -> Steps[None]:
    """After these jobs have ended, each with its state: let begin, or end, what waits for them."""
    if (yield SQL["has_edges"], ()) != [(1,)]:
        return
    yield from Spread(now, then).follow([Over(int(job), int(job), state) for job, state in ended])


def go_on(now: float, then: Consequences) -> Steps[bool]:
    """Go on with ends whose consequences were put off; False: there is none."""
    rows = yield SQL["put_off_first"], {"limit": AT_ONCE}
    if not rows:
        return False
    begun = [row for row in rows if row[4] != _FIRST][:1]  # one that was cut off, or many that are whole
    taken, after = (begun, begun[0][4]) if begun else (rows, _FIRST)
    yield SQL["take_up"], {"nodes": json.dumps([row[0] for row in taken])}
    yield from Spread(now, then).follow(
        [Over(node, by, how, bool(is_over)) for node, by, how, is_over, _ in taken], after
    )
    return True


class Spread:
    """The consequences of ends, level by level, in one transaction."""

    def __init__(self, now: float, then: Consequences, delete_at: float | None = None) -> None:
        """`delete_at`: of a job whose parent is gone; any other is kept as long as its parent."""
        self._now, self._then, self._left, self._delete_at = now, then, MOST, delete_at

    def follow(self, level: Sequence[Over], after: int = _FIRST) -> Steps[None]:
        """Follow these ends. `after`: the child of the first behind which to begin."""
        while level:
            rows = yield from self._children(level, after)
            found = self._read(level, rows)
            level, after = (yield from self._settle(found.counts, found.ends, found.groups, found.fails)), _FIRST

    def follow_from(
        self, counts: Counter[int], ends: dict[int, Over], groups: set[int], fails: AbstractSet[int] = frozenset()
    ) -> Steps[None]:
        """Begin with what was found otherwise, and go on from there."""
        yield from self.follow((yield from self._settle(counts, ends, groups, fails)))

    def _settle(
        self, counts: Counter[int], ends: dict[int, Over], groups: set[int], fails: AbstractSet[int]
    ) -> Steps[list[Over]]:
        """Write what was found: parents that have ended, by child, and what ends; return the next level."""
        if ends:
            yield SQL["end_dependents"], {"ends": json.dumps([(c, o.ended_by, o.ended_as) for c, o in ends.items()])}
        counted = (yield SQL["count_down"], {"counts": json.dumps(list(counts.items()))}) if counts else []
        nexts = [Over(group, ends[group].ended_by, ends[group].ended_as, is_over=False) for group in groups]
        over: set[int] = set()
        ready: list[int] = []
        for node, unended, runs_on, waits, ended_by, ended_as in counted:
            if unended:
                continue
            if runs_on == RunsOn.GROUP:
                over.add(node)
                nexts.append(Over(node, node if ended_by is None else ended_by, ended_as or _SUCCEEDED))
            elif waits and (runs_on != RunsOn.FAILURE or node in fails):
                ready.append(node)
        if over & groups:
            nexts = [each for each in nexts if each.is_over or each.node not in over]
        jobs = [(child, end) for child, end in ends.items() if child not in groups]
        if jobs:
            nexts += yield from self._cancel(jobs)
        if ready:
            yield from self._let_begin(ready)
        return nexts

    def _children(self, level: Sequence[Over], after: int) -> Steps[list[Row]]:
        """What waits for these nodes, as far as there is room for it; the rest is put off."""
        nodes = {"nodes": json.dumps([each.node for each in level]), "after": after}
        most = self._left
        rows = list((yield SQL["children"], nodes | {"limit": most + 1}))
        while len(rows) > most:
            last = rows[-1][:2]
            if rows[0][:2] == last and self._left == MOST:  # all are places of one child: it would never come further
                most *= 2
                rows = list((yield SQL["children"], nodes | {"limit": most + 1}))
                continue
            while rows and rows[-1][:2] == last:  # the places of one child together
                rows.pop()
            yield from self._put_off(level, last[0], rows[-1][1] if rows and rows[-1][0] == last[0] else None, after)
            break
        self._left = max(0, self._left - len(rows))
        return rows

    def _put_off(self, level: Sequence[Over], node: int, done: int | None, after: int) -> Steps[None]:
        """Leave for later this node, from the child on that was not done, and those after it."""
        self._then.put_off = True
        place = next(place for place, each in enumerate(level) if each.node == node)
        for number, each in enumerate(level[place:], start=place):
            begun = after if number == 0 else _FIRST
            behind = begun if number > place or done is None else done
            yield SQL["put_off"], each._asdict() | {"is_over": int(each.is_over), "after": behind}

    def _read(self, level: Sequence[Over], rows: Sequence[Row]) -> Found:
        over = {each.node: each for each in level}
        found = Found(Counter(), {}, set(), set())
        for parent, child, runs_on, waits, marked in rows:
            end = over[parent]
            if end.is_over:
                found.counts[child] += 1
            if child in found.ends or not (waits or runs_on == RunsOn.GROUP):
                continue
            if runs_on == RunsOn.FAILURE:
                if end.ended_as in (_FAILED, _EXPIRED):
                    found.fails.add(child)
                else:
                    found.ends[child] = end
            elif end.ended_as == _SUCCEEDED or (runs_on == RunsOn.END and end.ended_as != GONE):
                continue
            elif runs_on != RunsOn.GROUP:
                found.ends[child] = end
            elif marked is None:
                found.ends[child] = end
                found.groups.add(child)
        return found

    def _cancel(self, ends: Sequence[tuple[int, Over]]) -> Steps[list[Over]]:
        told = json.dumps([(child, end.ended_by, end.ended_as) for child, end in ends])
        done = yield SQL["cancel_together"], {"ends": told, "now": self._now, "delete_at": self._delete_at}
        self._then.ended += [str(job) for (job,) in done]
        return [Over(job, job, _CANCELLED) for (job,) in done]

    def _let_begin(self, nodes: Sequence[int]) -> Steps[None]:
        named = {"nodes": json.dumps(nodes)}
        begun = yield SQL["let_begin"], named | {"now": self._now}
        self._then.begun.update(str(job) for (job,) in begun)
        yield SQL["hold_no_more"], named
