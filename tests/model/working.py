"""The other half of the machine: workers that are moved by hand, and real ones that run until nothing is left to do."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from contract.jobs import BOOM, Hands
from litequeue.core.outcome import Cancelled, Ended, Failed, Outcome, Released, Retried, Snoozed, Succeeded
from litequeue.core.records import Claimed
from litequeue.core.store import Demand, NewWorker
from model.machine import FAILED_TTL, HOUR, RESULT_TTL, Machine, some, which
from model.row import QUEUED, Row, claimed

OUTCOMES = (
    lambda now: Succeeded(b"1"),
    lambda now: Failed(BOOM),
    lambda now: Retried(now + 30.0, BOOM),
    lambda now: Snoozed(now),
    lambda now: Cancelled(),
    lambda now: Released(begun=True),
    lambda now: Released(),
)


def end_of(row: Row, now: float) -> Outcome:
    """How a run of this job ends, its task being one of the machine's."""
    n = int((re.findall(rb"\d+", row.payload) or [b"0"])[-1])
    if row.task == "fails":
        return Failed(BOOM)
    if row.task == "later":
        return Snoozed(now + HOUR)
    return Retried(now, BOOM) if row.task == "flaky" and row.failures < n else Succeeded(b"%d" % n)


class Working(Machine):
    """With workers."""

    def __init__(self) -> None:
        super().__init__()
        self.hands: list[Hands] = []
        self.runs: list[tuple[Hands, Claimed]] = []

    # ---- by hand: claims, and ends that may come too late

    @rule(q=which)
    def register(self, q: int) -> None:
        queue = self.queues[q]
        hands = Hands(queue.engine, *queue.tasks)
        assert hands.number == self.truth.register(_record(hands))
        self.hands.append(hands)

    @precondition(lambda self: self.hands)
    @rule(place=some, limit=st.integers(1, 3))
    def claim(self, place: float, limit: int) -> None:
        hands = self.hands[int(place * len(self.hands))]
        demands = [Demand(frozenset(hands.tasks), limit)]
        turn = hands.store.runs.claim(hands.number, demands, None)
        self.truth.turn(hands.number, demands, None, (), self.now, turn)
        self.runs += [(hands, job) for job in turn.claimed]

    @precondition(lambda self: self.runs)
    @rule(place=some, outcome=st.sampled_from(OUTCOMES), again=st.booleans())
    def settle(self, place: float, outcome: Any, *, again: bool) -> None:
        at = int(place * len(self.runs))
        hands, job = self.runs[at] if again else self.runs.pop(at)
        ended = [Ended(job, outcome(self.now), self.now, RESULT_TTL)]
        lost = lambda ends: [(end.job.id, end.job.attempt) for end in ends]  # noqa: E731
        self.same(lambda: lost(hands.store.runs.settle(ended)), lambda: lost(self.truth.settle(ended)))

    @precondition(lambda self: self.hands)
    @rule(place=some, blame=st.booleans(), known=st.booleans())
    def rescue(self, place: float, *, blame: bool, known: bool) -> None:
        """It may go on, none the wiser."""
        hands = self.hands[int(place * len(self.hands))]
        executing = frozenset(f"{job.id}:{job.attempt}" for mine, job in self.runs if mine is hands) if known else None
        act = lambda: hands.store.runs.rescue(hands.number, executing, blame=blame)  # noqa: E731
        self.same(act, lambda: self.truth.rescue(hands.number, executing, self.now, blame=blame))

    # ---- a real one

    @rule(q=which)
    def run_until_idle(self, q: int) -> None:
        """It declares, fires, prunes, buries whoever has no lock, and runs all that is ready."""
        queue = self.queues[q]
        queue.worker(threads=2).run(until_idle=True)
        self._must_run()
        self._take_over_attempts(q)

    def _must_run(self) -> None:
        truth, now, queue = self.truth, self.now, self.queues[0]
        tasks = frozenset(queue.tasks)
        truth.ticks.declare(queue.declared.records(), tasks, now)
        mine = truth.register(NewWorker(token="", identity="", queues=None, tasks=(), threads=1, coroutines=1))
        self._run_what_is_ready(mine)
        for number in sorted((truth.workers.keys() | set(truth.ownerless())) - {mine}):
            truth.rescue(number, None, now, blame=number in truth.workers)
        truth.ticks.bring_near(tasks, now)
        truth.ticks.fire(tasks, now)
        truth.prune(now, 500)
        self._run_what_is_ready(mine)
        del truth.workers[mine]

    def _run_what_is_ready(self, worker: int) -> None:
        truth, now = self.truth, self.now
        while True:
            truth.wake(now)
            ready = [row for row in truth.jobs.values() if row.state == QUEUED]
            if not ready:
                return
            for row in ready:
                job = claimed(msgspec.structs.replace(row, attempt=row.attempt + 1))
                truth.take(job, worker, now)
                outcome = end_of(truth.jobs[row.id], now)
                truth.settle([Ended(job, outcome, now, FAILED_TTL if isinstance(outcome, Failed) else RESULT_TTL)])

    def _take_over_attempts(self, q: int) -> None:
        """A claim may have been put back before it began, so there may be more of them than runs."""
        for number, row in list(self.truth.jobs.items()):
            attempt = self.queues[q].engine.jobs.look_up(str(number)).attempt
            assert attempt >= row.attempt
            if attempt > row.attempt:
                errors = {run: error for run, error in self.truth.errors.items() if run[0] != number}
                self.truth.errors = errors | self._errors(q, number)
                self.truth.jobs[number] = msgspec.structs.replace(row, attempt=attempt)

    def _errors(self, q: int, number: int) -> dict[tuple[int, int], tuple[float, str]]:
        sql = "SELECT job, attempt, at, type FROM litequeue_errors WHERE job = ?"
        rows = self.queues[q].engine.kernel.read(lambda db: db.rows(sql, (number,)))
        assert len(rows) == sum(job == number for job, _ in self.truth.errors)
        return {(job, attempt): (at, kind) for job, attempt, at, kind in rows}


def _record(hands: Hands) -> NewWorker:
    return NewWorker(token="", identity="", queues=None, tasks=hands.tasks, threads=1, coroutines=1)
