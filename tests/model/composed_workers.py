"""The workers of a simulation of compositions: they claim, end, complete and die. What they are handed is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contract.jobs import BOOM, Hands
from litequeue.core.compositions import Failure, Lost
from litequeue.core.outcome import Cancelled, Ended, Failed, Outcome, Released, Retried, Snoozed, Succeeded
from litequeue.core.plan import RunsOn
from litequeue.core.store import Demand
from model.composed_plans import TASKS
from model.row import CANCELLED, FAILED, QUEUED, SCHEDULED, STATES, SUCCEEDED, must_be

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Iterable

    from litequeue.core.compositions import Handed
    from litequeue.core.records import Claimed
    from litequeue.sqlite.store import SqliteStore
    from litequeue.testing import ManualClock
    from model.composed_truth import Graph

KEPT = 60.0


class Workers:
    """Two workers of one file, with what runs in them and what has ended."""

    chance: random.Random
    clock: ManualClock
    graph: Graph
    tally: Counter[str]
    crew: list[Hands]
    runs: list[tuple[Hands, Claimed]]
    ends: dict[int, list[Ended]]

    def compare(self, claimed: Iterable[Claimed] = (), ended: Iterable[Ended] = ()) -> None:
        raise NotImplementedError

    def cycle(self, worker: Hands | None = None, limit: int | None = None) -> None:
        worker = worker or self.chance.choice(self.crew)
        ended, self.ends[worker.number] = self.ends[worker.number], []
        demand = Demand(frozenset(TASKS), limit or self.chance.choice((1, 2, 5)))
        cycle = worker.store.runs.claim(worker.number, [demand], None, ended)
        must_be(not cycle.lost, f"came too late: {cycle.lost}")
        for end in ended:
            self._note(end.job, end.outcome)
        self.compare(cycle.claimed, ended)
        for job in cycle.claimed:
            self._check_handed(worker.store, job)
            self.runs.append((worker, job))
        self.tally["claimed"] += len(cycle.claimed)

    def _check_handed(self, store: SqliteStore, job: Claimed) -> None:
        """What it takes is the result of its parent, or how that failed."""
        one = self.graph.jobs[int(job.id)]
        taken = [link.parent for link in self.graph.up(one.id) if link.place == 0]
        if taken:
            [parent] = taken
            handed = store.runs.handed_to(job.id)
            must_be(job.handed in (None, handed), f"{job.id} is handed {job.handed} with its claim, not {handed}")
            if one.waits is not None and one.waits.runs_on == RunsOn.FAILURE:
                must_be(isinstance(handed, Failure) and handed.job_id == str(parent), f"{job.id} is handed {handed}")
            else:
                wanted = self._handed(parent)
                must_be(_shape(handed) == wanted, f"{job.id} is handed {handed}, not {wanted}")
            self.tally["handed"] += 1

    def _handed(self, node: int) -> Any:
        if node > 0:
            job = self.graph.jobs[node]
            return job.result if job.state == SUCCEEDED else (str(node), STATES[job.state])
        links = sorted((link for link in self.graph.up(node) if link.place >= 0), key=lambda link: link.place)
        return [self._handed(link.parent) for link in links]

    def _note(self, run: Claimed, outcome: Outcome) -> None:
        """What became of a run."""
        number, graph = int(run.id), self.graph
        job = graph.jobs[number]
        match outcome:
            case Succeeded(result):
                job.result = result
                graph.end(number, SUCCEEDED)
            case Failed():
                graph.end(number, FAILED)
            case Cancelled():
                graph.end(number, CANCELLED)
            case Retried(run_at, _) | Snoozed(run_at):
                job.state, job.run_at = SCHEDULED, run_at
                if job.asked:
                    graph.end(number, CANCELLED)
            case _:
                job.state = QUEUED
                if job.asked:
                    graph.end(number, CANCELLED)

    def _some_run(self) -> tuple[Hands, Claimed] | None:
        return self.runs.pop(self.chance.randrange(len(self.runs))) if self.runs else None

    def end(self) -> None:
        found = self._some_run()
        if found is None:
            return
        worker, job = found
        now = self.clock.now()
        outcomes: tuple[Outcome, ...] = (
            Succeeded(f'"{job.id} {job.attempt}"'.encode()), Failed(BOOM), Retried(now + 3.0, BOOM), Snoozed(now),
            Cancelled(), Released(begun=True),
        )  # fmt: skip
        [outcome] = self.chance.choices(outcomes, (12, 4, 1, 1, 1, 1))
        self.ends[worker.number].append(Ended(job, outcome, now, KEPT))

    def complete(self) -> None:
        found = self._some_run()
        if found is not None:
            worker, job = found
            result = f'"{job.id} completed"'.encode()
            with worker.store.runs.completing(job, result, KEPT):
                pass
            self._note(job, Succeeded(result))

    def die(self) -> None:
        """A worker dies, and its jobs are rescued."""
        place = self.chance.randrange(len(self.crew))
        worker = self.crew[place]
        worker.store.runs.rescue(worker.number, None, blame=False)
        lost = [job for mine, job in self.runs if mine is worker]
        lost += [end.job for end in self.ends.pop(worker.number)]
        self.runs = [run for run in self.runs if run[0] is not worker]
        for job in lost:
            self._note(job, Released(begun=True))
        self.crew[place] = Hands(worker.store, *TASKS)
        self.ends[self.crew[place].number] = []
        self.tally["deaths"] += 1


def _shape(handed: Handed) -> Any:
    if isinstance(handed, list):
        return [_shape(each) for each in handed]
    if isinstance(handed, Lost):
        return handed.failure.job_id, handed.failure.status
    return handed
