"""What a run of `compositions` left behind, and whether each job ran when and as its parents allow. Reads alone.

Two records: every change of a job's state, in the order of the file, and the lines that functions wrote, in theirs. A
function writes that it has ended before its end is on record, and one that waits begins after that: so in either record
a parent comes first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.plan import RunsOn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from litequeue.sqlite.drivers.connection import Connection

WAITING, RUNNING, SUCCEEDED, FAILED, CANCELLED = 2, 3, 4, 5, 6

MOVES = (
    "CREATE TABLE moves (seq INTEGER PRIMARY KEY, job INTEGER, attempt INTEGER, old INTEGER, new INTEGER)",
    """CREATE TRIGGER moved AFTER UPDATE OF state ON litequeue_jobs WHEN NEW.state <> OLD.state
    BEGIN INSERT INTO moves (job, attempt, old, new) VALUES (NEW.id, NEW.attempt, OLD.state, NEW.state); END""",
)


class Move(NamedTuple):
    """A job's change of state."""

    job: int
    attempt: int
    old: int
    new: int


class Graph(NamedTuple):
    """What was stored: jobs, with the states they had then, what each waits for, and which ends of these it needs."""

    jobs: dict[int, int]
    parents: dict[int, list[int]]
    runs_on: dict[int, RunsOn]

    @classmethod
    def read(cls, db: Connection) -> Graph:
        """Read it before anything runs."""
        up = defaultdict[int, list[int]](list)
        for parent, child in db.rows("SELECT parent, child FROM litequeue_edges"):
            up[child].append(parent)
        jobs: dict[int, int] = dict(db.rows("SELECT id, state FROM litequeue_jobs"))
        waits = db.rows("SELECT node, runs_on FROM litequeue_dependents WHERE node > 0")
        parents = {job: [*cls._inside(up, job)] for job, _ in waits}
        return cls(jobs, parents, {job: RunsOn(runs_on) for job, runs_on in waits})

    @classmethod
    def _inside(cls, up: dict[int, list[int]], node: int) -> Iterator[int]:
        for parent in up[node]:
            if parent > 0:
                yield parent
            else:
                yield from cls._inside(up, parent)

    def allows(self, job: int, states: dict[int, int]) -> bool:
        """Whether its parents let it begin, as they stand."""
        ends = [states[parent] for parent in self.parents[job]]
        match self.runs_on[job]:
            case RunsOn.SUCCESS:
                return all(end == SUCCEEDED for end in ends)
            case RunsOn.END:
                return all(end >= SUCCEEDED for end in ends)
            case _:
                return all(end >= FAILED and end != CANCELLED for end in ends)


class Run(NamedTuple):
    """A function that was called. `line`: where it says so. `ok`, `failed`: where it says how it ends, if it does."""

    line: int
    pid: int
    ok: int | None = None
    failed: int | None = None


class Runs(NamedTuple):
    """What functions wrote, by job and attempt, and the processes that were killed."""

    of: dict[int, dict[int, Run]]
    dead: set[int]
    doubled: int  # calls of one attempt that was begun already

    @classmethod
    def read(cls, path: Path, dead: set[int]) -> Runs:
        """Read the lines; one that a kill has cut short counts as not written."""
        found: dict[int, dict[int, Run]] = defaultdict(dict)
        doubled = 0
        for number, line in enumerate(path.read_text().splitlines()):
            what, job, attempt, pid = line.split()
            runs = found[int(job)]
            if what == "begin":
                doubled += int(attempt) in runs
                runs[int(attempt)] = Run(number, int(pid))
            else:
                runs[int(attempt)] = runs[int(attempt)]._replace(**{what: number})
        return cls(found, dead, doubled)


class Record:
    """All of it, and what is wrong with it. `by_hand`: jobs that a caller has cancelled."""

    def __init__(self, graph: Graph, moves: Sequence[Move], runs: Runs, by_hand: set[int]) -> None:
        self.graph, self._moves, self._runs, self._by_hand = graph, moves, runs, by_hand
        self._states = dict(graph.jobs)
        self.let_begin_early = self.revived = 0
        for move in moves:
            self._states[move.job] = move.new
            if move.old == WAITING and move.new < WAITING and not graph.allows(move.job, self._states):
                self.let_begin_early += 1
            self.revived += move.old == CANCELLED and move.new == WAITING

    @classmethod
    def read(cls, db: Connection, graph: Graph, runs: Runs, by_hand: set[int]) -> Record:
        rows = db.rows("SELECT job, attempt, old, new FROM moves ORDER BY seq")
        return cls(graph, [Move(*row) for row in rows], runs, by_hand)

    def not_ended(self) -> int:
        return sum(state < SUCCEEDED for state in self._states.values())

    def ended_wrong(self) -> int:
        """Jobs that were cancelled though their parents allow them, or ran though these do not."""
        wrong = 0
        for job, runs_on in self.graph.runs_on.items():
            if job in self._by_hand or (runs_on is RunsOn.FAILURE and job in self._runs.of):
                continue  # a callback was called for a failure that was retried since
            cancelled = self._states[job] == CANCELLED
            wrong += cancelled == self.graph.allows(job, self._states)
        return wrong

    def begun_early(self) -> int:
        """Functions that were called before those of their parents had ended."""
        wrong, cancelled = 0, {move.job for move in self._moves if move.new == CANCELLED}
        for job, runs_on in self.graph.runs_on.items():
            runs = self._runs.of.get(job, {})
            first = min([run.line for run in runs.values()], default=None)
            for parent in self.graph.parents[job] if first is not None else ():
                ends = [(run.ok, run.failed) for run in self._runs.of.get(parent, {}).values()]
                match runs_on:
                    case RunsOn.SUCCESS:
                        before = [ok for ok, _ in ends if ok is not None and ok < first]
                    case RunsOn.END:
                        before = [True for end in ends for line in end if line is not None and line < first]
                        before += [True] * (parent in cancelled)  # before it began, and waits again
                    case _:
                        before = [failed for _, failed in ends if failed is not None and failed < first]
                wrong += not before
        return wrong

    def run_twice(self) -> int:
        """Functions that came to a good end twice, though neither process was killed; and calls without a claim."""
        claims = Counter((move.job, move.attempt) for move in self._moves if move.new == RUNNING)
        wrong = self._runs.doubled
        for job, runs in self._runs.of.items():
            wrong += sum((job, attempt) not in claims for attempt in runs)
            wrong += sum(run.ok is not None and run.pid not in self._runs.dead for run in runs.values()) > 1
        return wrong

    def run_again(self) -> int:
        """Jobs whose functions came to a good end more than once: a process was killed before that was on record."""
        return sum(sum(run.ok is not None for run in runs.values()) > 1 for runs in self._runs.of.values())

    def succeeded_twice(self) -> int:
        ends = Counter(move.job for move in self._moves if move.new == SUCCEEDED)
        return sum(count > 1 for count in ends.values())

    def succeeded_unrun(self) -> int:
        """Jobs that have succeeded without a function that says so."""
        return sum(
            state == SUCCEEDED and not any(run.ok is not None for run in self._runs.of.get(job, {}).values())
            for job, state in self._states.items()
        )
