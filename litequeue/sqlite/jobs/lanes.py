"""The lanes with ready jobs, one for each task of a queue, as far as a claim needs them. Changes nothing."""

from __future__ import annotations

import json
from functools import cached_property
from itertools import chain, islice, takewhile
from typing import TYPE_CHECKING, NamedTuple

from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from litequeue.core.store import Demand
    from litequeue.sqlite.drivers.connection import Connection, Row
    from litequeue.sqlite.limits.gate import Gate

FEW = 8  # lanes that one look at the file names, and of which each is read by itself
MANY = 200  # lanes at which one claim looks, 1 to 7 us each; it looks at all of a queue or at none
A_QUEUE = 10  # as many lanes as what a queue costs besides
_A_CALL = 100  # names of queues


class Turns:
    """After which queue the next claim begins, for each kind of demand."""

    def __init__(self) -> None:
        self._after: dict[int, str] = {}

    def after(self, kind: int) -> str:
        """Return that queue; at first '', which is before all names."""
        return self._after.get(kind, "")

    def note(self, kind: int, queue: str) -> None:
        """Let the next claim of this kind begin after that queue."""
        if len(self._after) > 100:  # kinds of workers that are gone
            self._after.clear()
        self._after[kind] = queue


class Line(NamedTuple):
    """One queue's lanes of which a worker has the tasks. `heads`: the first job of each, if they are many."""

    queue: str
    tasks: list[str]
    heads: list[Row]


class Lanes:
    """The lanes of one claim; a file with many is read as far as the claim needs it."""

    def __init__(self, db: Connection, known: list[Row], queues: tuple[str, ...] | None, past: float | None) -> None:
        self._db, self._queues = db, queues
        self.past = past  # what has expired by this moment may stand among the ready jobs; None: nothing has
        self.are_few: bool = len(known) <= FEW  # then all are known by the first look
        self._few = known if queues is None else [lane for lane in known if lane[0] in queues]
        self._read: dict[str, list[Row]] = {}
        self.gate: Gate | None = None  # what it has closed is not there

    def read_anew(self) -> None:
        """What was at the head of the lanes has been taken, or parked."""
        self._read.clear()

    def _is_open(self, queue: str, task: str) -> bool:
        return self.gate is None or self.gate.is_open(queue, task)

    def single(self, demand: Demand) -> Row | None:
        """Queue and task of the one lane with jobs for this demand, if it is known to be one, and none has expired."""
        if not self.are_few or self.past is not None or demand.most_deaths is not None:
            return None
        mine = [lane for lane in self._few if lane[1] in demand.tasks]
        return mine[0] if len(mine) == 1 and self.gate is None else None

    @cached_property
    def _known(self) -> dict[str, list[str]] | None:
        """The tasks of each queue, if they are few."""
        if not self.are_few:
            return None
        tasks: dict[str, list[str]] = {}
        for queue, task, *_ in self._few:
            tasks.setdefault(queue, []).append(task)
        return tasks

    def windows(self, demand: Demand, turns: Turns) -> Iterator[list[Line]]:
        """Yield the queues that this claim serves, beginning with the one whose turn it is.

        All that have jobs of these tasks come together, unless they are more than the limit, or have more than `MANY`
        lanes: then so many at a time, and the next claim goes on behind those that were asked for.
        """
        if self._known is not None and len(self._known) < 2:
            yield [line for queue in self._known if (line := self._line(queue, demand))]
            return
        kind, whole = hash((self._queues, demand.tasks)), demand.most_deaths is not None
        window: list[Line] = []
        lanes = 0
        for queue in self._in_turn(turns.after(kind)):
            line = self._line(queue, demand)
            lanes += A_QUEUE + len(self._read.get(queue, ()))
            if line is not None:
                window.append(line)
            if window and not whole and (len(window) >= demand.limit or lanes >= MANY):
                turns.note(kind, queue)
                yield window
                window, lanes = [], 0
        if window:
            turns.note(kind, window[0].queue)
            yield window

    def _line(self, queue: str, demand: Demand) -> Line | None:
        if self._known is not None:
            known = self._known[queue]
            tasks, heads = [task for task in known if task in demand.tasks and self._is_open(queue, task)], []
        else:
            if queue not in self._read:
                self._read[queue] = self._db.rows(SQL["lanes"], {"queue": queue})
            heads = [head for head in self._read[queue] if head[2] in demand.tasks and self._is_open(queue, head[2])]
            tasks = [task for _, _, task in heads]
        return Line(queue, tasks, heads) if tasks else None

    def _in_turn(self, after: str) -> Iterator[str]:
        if self._queues is None:
            if self._known is not None:
                known = sorted(self._known)
                return chain((name for name in known if name > after), (name for name in known if name <= after))
            return chain(self._from(f"{after}\0"), takewhile(lambda name: name <= after, self._from("")))
        first = self._queues.index(after) + 1 if after in self._queues else 0
        names = self._queues[first:] + self._queues[:first]
        return (name for name in names if name in self._known) if self._known is not None else self._among(names)

    def _from(self, first: str) -> Iterator[str]:
        """All queues with ready jobs from that name on."""
        while True:
            names = [name for (name,) in self._db.rows(SQL["ready_queues"], {"first": first, "limit": _A_CALL})]
            if not names or names[0] < first:  # a name that is not UTF-8, so not as it was read
                return
            yield from names
            first = f"{names[-1]}\0"

    def _among(self, names: tuple[str, ...]) -> Iterator[str]:
        """Those of these queues that have ready jobs."""
        some = iter(names)
        while asked := list(islice(some, _A_CALL)):
            yield from (name for (name,) in self._db.rows(SQL["ready_among"], {"queues": json.dumps(asked)}))
