"""What a run of `limits` left behind, and whether its limits were kept. Reads alone.

Two records: every change of a job's state, in the order of the file, and the lines that functions wrote. A job holds
its place from its claim to its end on record, so what the functions wrote lies within it: functions that ran side by
side were all on record when the one claimed last was claimed, and the limit of that moment binds them.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from litequeue import Queue

QUEUED, PARKED, RUNNING = 1, 2, 3


class Kind(NamedTuple):
    """One kind of limit. `window`: seconds of a rate; 0: it limits how many run at once. `keys`: each has its own."""

    name: str
    most: int
    changes: tuple[int, ...]  # to which an operator sets it, in turn
    seconds: float = 0.0  # that a job takes
    window: float = 0.0
    keys: int = 1
    most_cost: int = 1
    smooth: bool = False


class Job(NamedTuple):
    """A job that was stored."""

    key: str
    cost: int


class Move(NamedTuple):
    """A job's change of state. `at`: unix seconds."""

    seq: int
    at: float
    job: int
    attempt: int
    old: int
    new: int


class Change(NamedTuple):
    """From here on a limit allows so many."""

    seq: int
    at: float
    most: int


class Start(NamedTuple):
    """A function that was called, by the monotonic clock. `returned`: None where its process was killed first."""

    job: int
    attempt: int
    at: float
    returned: float | None
    dead: float  # when its process had been killed, at the latest; infinity: it was not
    used: int | None


Run = tuple[int, int]  # job and attempt


class Starts:
    """All that the functions wrote, by run."""

    def __init__(self, starts: Iterable[Start]) -> None:
        self.of: dict[Run, Start] = {(start.job, start.attempt): start for start in starts}

    @classmethod
    def read(cls, path: Path, deaths: dict[int, float]) -> Starts:
        """Read the lines; a line that was cut short by a kill counts as not written."""
        begun: dict[Run, tuple[float, int]] = {}
        ended: dict[Run, float] = {}
        used: dict[Run, int] = {}
        for line in path.read_text().splitlines():
            what, job, attempt, value, pid = line.split()
            run = int(job), int(attempt)
            if what == "begin":
                begun[run] = float(value), int(pid)
            elif what == "end":
                ended[run] = float(value)
            else:
                used[run] = int(value)
        return cls(
            Start(*run, at, ended.get(run), deaths.get(pid, float("inf")), used.get(run))
            for run, (at, pid) in begun.items()
        )


def read_moves(queue: Queue) -> tuple[list[Move], dict[str, list[Change]]]:
    """Read the changes of state, and those of limits by name."""
    moves: list[Move] = []
    changes: dict[str, list[Change]] = defaultdict(list)
    rows = queue.engine.kernel.read(  # type: ignore[attr-defined]
        lambda db: db.rows("SELECT seq, at, job, attempt, old, new, name FROM moves ORDER BY seq")
    )
    for seq, at, job, attempt, old, new, name in rows:
        if name is None:
            moves.append(Move(seq, at, job, attempt, old, new))
        else:
            changes[name].append(Change(seq, at, new))
    return moves, changes


class Record:
    """Both records, of one kind."""

    def __init__(
        self, kind: Kind, jobs: dict[int, Job], moves: list[Move], changes: dict[str, list[Change]], starts: Starts
    ) -> None:
        self.kind, self.jobs = kind, jobs
        self.moves = [move for move in moves if move.job in jobs]
        self.changes = [Change(0, 0.0, kind.most), *changes.get(kind.name, [])]
        self.starts = sorted((start for run, start in starts.of.items() if run[0] in jobs), key=lambda start: start.at)
        self._by_run = {(start.job, start.attempt): start for start in self.starts}
        self._left = {(move.job, move.attempt): move.at for move in self.moves if move.old == RUNNING}
        self._seqs = [change.seq for change in self.changes]
        self._claimed = {(move.job, move.attempt): move for move in self.moves if move.new == RUNNING}

    def _most(self, seq: int) -> int:
        return self.changes[bisect_right(self._seqs, seq) - 1].most

    def run_again(self) -> int:
        """How many jobs were begun more than once."""
        return sum(1 for start in self.starts if start.attempt > 1)

    def not_ended(self) -> int:
        """How many have not succeeded."""
        return len(self.jobs) - len({move.job for move in self.moves if move.new == 4})

    # ---- never exceeded

    def exceeded_by_rows(self) -> int:
        """How many starts found the limit full, by the states on record: a dead run counts until it is reaped."""
        if self.kind.window:
            return 0
        running: dict[str, int] = defaultdict(int)
        wrong = 0
        for move in self.moves:
            key = self.jobs[move.job].key
            if move.new == RUNNING:
                running[key] += 1
                wrong += running[key] > self._most(move.seq)
            elif move.old == RUNNING:
                running[key] -= 1
        return wrong

    def exceeded(self) -> int:
        """How many functions were called that the limit did not allow, by what they wrote."""
        found = self._side_by_side() if not self.kind.window else self._in_a_window()
        return sum(taken > self._most(max(seqs)) for taken, seqs in found)

    def _seq(self, start: Start) -> int:
        return self._claimed[start.job, start.attempt].seq

    def _side_by_side(self) -> Iterator[tuple[int, list[int]]]:
        """For each function the number of those that ran when it was called, and when each was claimed."""
        running: dict[str, list[Start]] = defaultdict(list)
        for start in self.starts:
            beside = [each for each in running[self.jobs[start.job].key] if self._stops(each) > start.at]
            running[self.jobs[start.job].key] = beside = [*beside, start]
            yield len(beside), [self._seq(each) for each in beside]

    @staticmethod
    def _stops(start: Start) -> float:
        return start.returned if start.returned is not None else start.dead

    def _in_a_window(self) -> Iterator[tuple[int, list[int]]]:
        """For each function what was taken of the window that ends with its call, at the least."""
        before: dict[str, list[Start]] = defaultdict(list)
        for start in self.starts:
            key = self.jobs[start.job].key
            within = [each for each in before[key] if each.at > start.at - self.kind.window]
            before[key] = within = [*within, start]
            yield sum(self._least(each) for each in within), [self._seq(each) for each in within]

    def _least(self, start: Start) -> int:
        cost = self.jobs[start.job].cost
        return cost if start.used is None else min(cost, start.used)

    # ---- in order

    def out_of_order(self) -> int:
        """How many starts came before their turn: another of their key had begun and not ended, or came later."""
        current: dict[str, int] = {}
        over: set[int] = set()
        wrong = 0
        for move in self.moves:
            key = self.jobs[move.job].key
            if move.new == RUNNING:
                last = current.get(key, move.job)
                wrong += move.job < last or (move.job > last and last not in over)
                current[key] = move.job
            elif move.new > RUNNING:
                over.add(move.job)
        return wrong

    # ---- full use

    def use(self, *, held: bool = False) -> float:
        """What part of the places, or of the rate, was used while jobs waited that could have used it.

        Used: a function ran; `held`: a job held it by its state on record.
        """
        offset = time.time() - time.monotonic()
        events: dict[str, list[tuple[float, int, int]]] = defaultdict(list)  # when, taken, waiting
        for move in self.moves:
            job = self.jobs[move.job]
            waits = (move.new in {QUEUED, PARKED}) - (move.old in {QUEUED, PARKED})
            events[job.key].append((move.at, 0, waits * job.cost))
        for run, claimed in self._claimed.items():
            job, (begins, ends) = self.jobs[run[0]], self._used(run, claimed.at, offset, held=held)
            start = self._by_run.get(run)
            taken = job.cost if start is None or start.used is None else start.used
            events[job.key] += [(begins, taken, 0), (ends, -taken, 0)]
        free = room = 0.0
        for some in events.values():
            one, other = self._free(sorted(some))
            free, room = free + one, room + other
        return 1.0 - free / room if room else 1.0

    def _used(self, run: Run, claimed: float, offset: float, *, held: bool) -> tuple[float, float]:
        """From when to when a run took its place, in unix seconds: of a rate, for its window."""
        start = self._by_run.get(run)
        if held and not self.kind.window:
            return claimed, max(claimed, self._left.get(run, claimed))
        begins = claimed if start is None else start.at + offset
        if self.kind.window:
            return begins, begins + (self.kind.window if start is not None else 0.0)
        returned = None if start is None else start.returned
        if returned is not None:
            return begins, returned + offset
        return begins, max(begins, self._left.get(run, begins))

    def _free(self, events: list[tuple[float, int, int]]) -> tuple[float, float]:
        """Integrate over time: what stood free while others waited, and what there was then."""
        first = min(move.at for move in self._claimed.values())
        first += self.kind.window if self.kind.smooth else 0.0  # its window fills slowly
        free = room = 0.0
        taken = waiting = 0
        moments = [change.at for change in self.changes]
        marks = sorted([*events, *((change.at, 0, 0) for change in self.changes[1:])])
        for (at, took, waits), (until, *_) in zip(marks, [*marks[1:], marks[-1]], strict=True):
            taken, waiting = taken + took, waiting + waits
            most = self.changes[bisect_right(moments, at) - 1].most
            if waiting > 0 and at >= first:
                free += (until - at) * max(0, min(most - taken, waiting))
                room += (until - at) * most
        return free, room
