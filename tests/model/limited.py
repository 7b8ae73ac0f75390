"""Limits, played from seeds: workers that claim, begin, end and die while operators change limits and pause.

Beside `world`, whose truth knows each job: here only what limits promise is checked, of far fuller queues.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from contract.jobs import BOOM, Hands
from litequeue.core.outcome import Cancelled, Ended, Failed, Outcome, Released, Retried, Snoozed, Succeeded
from litequeue.core.records import NewJob
from litequeue.core.store import Demand
from litequeue.errors import Fenced, JobNotFound, KeyConflict, Unsupported
from litequeue.limits import rate as rates
from litequeue.limits import settings, task_rules
from litequeue.limits.limit import Allowed
from litequeue.limits.rate import Rate
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.limits import parking, reboot, stored_rules
from litequeue.sqlite.store import SqliteStore
from litequeue.testing import ManualClock
from model.limited_rows import LEAKS, WAITING
from model.limited_truth import KEYS, LIMITS, MOST_COST, TASKS, WINDOW, LimitTruth, Waiting
from model.quick import quickly
from model.row import Broken, must_be
from model.world import SHARED_MEMORY, Played

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.core.records import Claimed
    from litequeue.core.store import Cycle

QUEUES = ("default", "email")
BACKLOG = 120
LAST_CYCLES = 600


class Crew(Hands):
    """A worker on record, with what it has claimed and what runs."""

    def __init__(self, store: SqliteStore) -> None:
        super().__init__(store, *TASKS)
        self.line: list[Claimed] = []
        self.runs: list[Claimed] = []
        self.gone: list[Claimed] = []  # functions that go on after their end
        self.ends: list[Ended] = []


class LimitWorld:
    """One file, some processes, and who acts next."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.chance, self.clock = random.Random(seed), ManualClock()
        self.truth, self.tally = LimitTruth(), Counter[str]()
        options: dict[str, Any] = {"driver": "sqlite3" if seed % 4 == 3 else "apsw", "durability": "normal"}
        options |= {"create": True, "result_ttl": 60.0, "failed_ttl": 60.0, "clock": self.clock}
        self.stores = [SqliteStore.open(folder / "app.db", **options) for _ in range(3)]
        self.boots = 1
        self.charged: set[tuple[str, int]] = set()
        self._declare()
        self.crew = [Crew(store) for store in self.stores[:2]]
        self.acts: tuple[tuple[Callable[[], object], float], ...] = (
            (self.enqueue, 20), (self.cycle, 25), (self.begin, 25), (self.end, 25), (self.wait, 10), (self.cancel, 2),
            (self.retry, 2), (self.complete, 3), (self.release, 2), (self.die, 0.6), (self.fall_behind, 1),
            (self.function_returns, 1), (self.charge, 2), (self.set_limit, 0.7), (self.pause, 0.6),
            (self.redeclare, 0.3), (self.prune, 1), (self.reboot, 0.05),
        )  # fmt: skip

    def step(self) -> None:
        acts, weights = zip(*self.acts, strict=True)
        self.chance.choices(acts, weights)[0]()
        for what, sql in LEAKS.items():
            found = self._rows(sql)
            must_be(not found, f"{what}: {found[:5]}")

    def _rows(self, sql: str) -> list[Any]:
        return self.stores[0].kernel.read(lambda db: db.rows(sql))

    # ---- jobs

    def enqueue(self) -> None:
        store, chance = self.chance.choice(self.stores), self.chance
        if len(self._waiting()) < BACKLOG:
            task, queue = chance.choice([*TASKS]), chance.choice(QUEUES)
            store.jobs.submit([self._new(task, queue) for _ in range(chance.choice((1, 1, 2, 10)))])

    def _new(self, task: str, queue: str) -> NewJob:
        chance, now = self.chance, self.clock.now()
        call: dict[str, Any] = {"task": task, "queue": queue, "payload": b"[]", "created_at": now}
        call["priority"] = chance.choice((0, 0, 0, 5, -5))
        if chance.random() < 0.9:
            call["takes"] = self._said(task)
        if chance.random() < 0.1:
            call["expires_at"] = now + 20.0
        if chance.random() < 0.1:
            call |= {"key": chance.choice(("a", "b")), "key_scope": "queued", "on_conflict": "replace"}
        return NewJob(**call)

    def _said(self, task: str) -> str | None:
        said = {}
        for use in TASKS[task]:
            if use.keyed or use.cost is None:
                cost = use.cost if use.cost is not None else self.chance.randint(1, MOST_COST[use.limit])
                said[use.limit] = [self.chance.choice(KEYS) if use.keyed else None, cost]
        return json.dumps(said) if said else None

    def cancel(self) -> None:
        self._to_some_job(lambda store, job_id: store.jobs.cancel(job_id))

    def retry(self) -> None:
        self._to_some_job(lambda store, job_id: store.jobs.retry(job_id))

    def _to_some_job(self, act: Callable[[SqliteStore, str], object]) -> None:
        ids = [job_id for (job_id,) in self._rows("SELECT id FROM litequeue_jobs WHERE delete_at IS NOT 0")]
        if ids:
            try:
                act(self.chance.choice(self.stores), str(self.chance.choice(ids)))
            except (Unsupported, JobNotFound, KeyConflict) as error:
                self.tally[type(error).__name__] += 1
        self._forget_holders()

    # ---- workers

    def cycle(self, worker: Crew | None = None, limit: int | None = None) -> Cycle:
        worker = worker or self.chance.choice(self.crew)
        limit = limit or self.chance.choice((1, 2, 5, 40))
        ended, worker.ends = worker.ends, []
        self._ended(end.job for end in ended if not end.left_behind)
        for end in ended:
            if end.outcome == Released(begun=False):
                self.truth.not_started(end.job)
        demand = Demand(frozenset(TASKS), limit, None, self.chance.choice((1, limit)))
        before = self._said_by_all()
        cycle = worker.store.runs.claim(worker.number, [demand], None, ended)
        must_be(not cycle.lost, f"came too late: {cycle.lost}")
        self._forget_holders()
        self.truth.check_claim(cycle.claimed, before, self._waiting(), self.clock.monotonic())
        worker.line += cycle.claimed
        if cycle.keyless:
            takes = {job.id: self._said(job.task) or "{}" for job in cycle.keyless}
            worker.store.limits.give_takes(takes, {})
        elif len(cycle.claimed) < limit == demand.at_once and not cycle.cut and cycle.opens_at > self.clock.monotonic():
            self.truth.check_left(self._waiting(), self.clock.monotonic())
        self.tally["claimed"] += len(cycle.claimed)
        return cycle

    def _said_by_all(self) -> dict[str, str | None]:
        return {str(job): takes for job, takes in self._rows("SELECT job, takes FROM litequeue_limited")}

    def _waiting(self) -> list[Waiting]:
        now = self.clock.now()  # what has expired is about to end
        return [Waiting(*row[:5], bool(row[5])) for row in self._rows(WAITING) if row[6] is None or row[6] > now]

    def _ended(self, jobs: Any) -> None:
        for job in jobs:
            self.truth.running.pop((job.id, job.attempt), None)

    def _forget_holders(self) -> None:
        """A job that has ended for good lets the next of its key begin."""
        alive = {str(job_id) for (job_id,) in self._rows("SELECT id FROM litequeue_jobs WHERE state < 4")}
        self.truth.holders = {key: job_id for key, job_id in self.truth.holders.items() if job_id in alive}

    def begin(self) -> None:
        worker = self.chance.choice(self.crew)
        if worker.line:
            job = worker.line.pop(0)
            if job.held is not None and self.clock.monotonic() > job.held.start_by:
                self._end(worker, job, Released(begun=False))
                self.tally["came too late to start"] += 1
            else:
                self.truth.start(job, self.clock.monotonic())
                worker.runs.append(job)

    def _end(self, worker: Crew, job: Claimed, outcome: Outcome, *, left: bool = False) -> None:
        worker.ends.append(Ended(job, outcome, self.clock.now(), 60.0, left))

    def _some_run(self) -> tuple[Crew, Claimed] | None:
        worker = self.chance.choice(self.crew)
        if not worker.runs:
            return None
        return worker, worker.runs.pop(self.chance.randrange(len(worker.runs)))

    def end(self) -> None:
        found = self._some_run()
        if found:
            now = self.clock.now()
            outcomes = (
                Succeeded(b"1"),
                Failed(BOOM),
                Retried(now + 3.0, BOOM),
                Snoozed(now),
                Cancelled(),
                Released(begun=True),
            )
            [outcome] = self.chance.choices(outcomes, (10, 1, 1, 1, 1, 1))
            self._end(*found, outcome)

    def complete(self) -> None:
        found = self._some_run()
        if found:
            worker, job = found
            with worker.store.runs.completing(job, b"1", 60.0):
                pass
            self._ended([job])
            self._forget_holders()

    def release(self) -> None:
        """What waits in the worker goes back, its functions not called."""
        worker = self.chance.choice(self.crew)
        for job in worker.line:
            self._end(worker, job, Released(begun=False))
        worker.line.clear()

    def fall_behind(self) -> None:
        """A run ends at its time limit, and its function goes on."""
        found = self._some_run()
        if found:
            worker, job = found
            if job.held is not None:
                self.tally["left behind"] += 1
                self._end(worker, job, Failed(BOOM), left=True)
                self.cycle(worker, 1)
                worker.gone.append(job)
            else:
                worker.runs.append(job)

    def function_returns(self) -> None:
        for worker in self.crew:
            for job in worker.gone:
                worker.store.runs.is_gone(job)
                self._ended([job])
            worker.gone.clear()

    def charge(self) -> None:
        found = self._some_run()
        if found:
            worker, job = found
            worker.runs.append(job)
            reserved = [start for start in (job.held.starts if job.held else ()) if start.limit == "costly"]
            if reserved and reserved[0].cost > 1 and (job.id, job.attempt) not in self.charged:
                self.charged.add((job.id, job.attempt))
                worker.store.runs.charge(job, "costly", 1, None)
                self.truth.charge(job, 1)

    def die(self) -> None:
        """A worker dies, and its jobs are rescued."""
        worker = self.chance.choice(self.crew)
        place = self.crew.index(worker)
        worker.store.runs.rescue(worker.number, None, blame=self.chance.random() < 0.5)
        self._ended([*worker.line, *worker.runs, *worker.gone, *(end.job for end in worker.ends)])
        self._forget_holders()
        self.crew[place] = Crew(worker.store)
        self.tally["deaths"] += 1

    # ---- time, operators, releases

    def wait(self) -> None:
        self.clock.advance(round(10 ** self.chance.uniform(-3.0, 0.8), 3))

    def prune(self) -> None:
        self.stores[2].maintenance.prune()

    def reboot(self) -> None:
        """All starts on record count as of now, and nothing that ran goes on."""
        for worker in list(self.crew):
            worker.store.runs.rescue(worker.number, None, blame=False)
        self.truth.running.clear()
        self.truth.reboot(self.clock.monotonic())
        self._forget_holders()
        self.boots += 1
        for store in self.stores:
            store.kernel.known_rules._known = (None, store.kernel.known_rules._known[1])
        self.crew = [Crew(store) for store in self.stores[:2]]
        self.cycle(limit=1)

    def boot_id(self) -> str:
        """What the system says."""
        return f"boot {self.boots}"

    def _operate(self, work: Callable[[Any], object], limit: str | None = None) -> None:
        kernel = self.stores[2].kernel
        kernel.writer.run(lambda db: [work(db), perform(db, stored_rules.changed(limit))])
        kernel.notify_workers()

    def set_limit(self) -> None:
        name = self.chance.choice([*LIMITS])
        code = LIMITS[name]
        if code.concurrency is not None:
            now = Allowed(concurrency=max(MOST_COST.get(name, 2), self.chance.randint(1, 5)))
        else:
            smooth = code.rate is not None and code.rate.smooth
            now = Allowed(rate=Rate(self.chance.randint(3, 9), WINDOW, smooth))
        if name != "ordered":
            self.truth.set_limit(name, now, self.clock.monotonic())
            text = settings.encoded_fields(
                {"concurrency": now.concurrency} if now.concurrency is not None else {"rate": now.rate}
            )
            sql = "UPDATE litequeue_limits SET operator = ?, operator_at = 1.0 WHERE name = ?"
            self._operate(lambda db: db.rows(sql, (text, name)), name)

    def pause(self) -> None:
        kind, name = self.chance.choice((*(("task", task) for task in TASKS), *(("queue", queue) for queue in QUEUES)))
        if name in self.truth.paused:
            self.truth.paused.remove(name)
            sql = "DELETE FROM litequeue_pauses WHERE kind = ? AND name = ?"
        else:
            self.truth.paused.add(name)
            sql = "INSERT INTO litequeue_pauses VALUES (?, ?, 1.0)"
        self._operate(lambda db: db.rows(sql, (kind, name)))

    def redeclare(self) -> None:
        """Another release of the code, which limits some tasks no more, or again."""
        name = self.chance.choice(("keyed", "both", "rated", "two", "heavy"))
        # runs that began without the limit let none in at their end: others wait until the next look, a minute at most
        if all(task != name for task, _ in self.truth.running.values()):
            self.truth.undeclared ^= {name}
            self._declare()

    def _declare(self) -> None:
        rules: dict[str, str | None] = {}
        for task, uses in TASKS.items():
            limits = tuple(task_rules.LimitUse(*use) for use in uses)
            made = task_rules.TaskRules(limits=limits, ordered=task == "ordered")
            plain = not uses or task in self.truth.undeclared
            rules[task] = None if plain else task_rules._encode(made).decode()
        self.stores[2].limits.declare({name: settings.encoded(allowed) for name, allowed in LIMITS.items()}, rules)

    # ---- the end

    def settle_down(self) -> None:
        """Pauses end, and one worker brings all to an end."""
        self._operate(lambda db: db.rows("DELETE FROM litequeue_pauses"))
        self.truth.paused.clear()
        for number in self.stores[0].workers.ownerless():
            self.stores[0].runs.rescue(number, None, blame=False)
        for record in self.stores[0].workers.list():
            self.stores[0].runs.rescue(record.id, None, blame=False)
        self.truth.running.clear()
        self._forget_holders()
        self.crew = [Crew(self.stores[0])]
        [last] = self.crew
        for _ in range(LAST_CYCLES):
            if not self._rows("SELECT 1 FROM litequeue_jobs WHERE state < 4"):
                break
            self.cycle(last, 40)
            while last.line:
                self.begin()
            for job in last.runs:
                self._end(last, job, Succeeded(b"1"))
            last.runs.clear()
            self.clock.advance(1.0)
        left = self._rows("SELECT id, task, state, run_at FROM litequeue_jobs WHERE state < 4")
        must_be(not left, f"never end: {left[:5]}")
        must_be(not self._rows("SELECT * FROM litequeue_ordered"), "a key is held by none")
        self.cycle(last, 1)
        self.clock.advance(100.0)
        while self.stores[0].maintenance.prune():
            pass
        must_be(not self._rows("SELECT job FROM litequeue_limited"), "what jobs take outlives them")
        must_be(self.stores[0].admin.integrity() == [], "the file is damaged")


def play(seed: int, steps: int, *, over: Callable[[], bool] = lambda: False) -> Played:
    """Play a seed for so many steps, and bring it to an end. Raises `Broken`, saying what replays it."""
    folder = Path(tempfile.mkdtemp(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
    done = 0
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(quickly(many_lanes=seed % 2 == 1))
        stack.enter_context(mock.patch.object(rates, "SLICES", (64, 4)[seed % 2]))
        stack.enter_context(mock.patch.object(parking, "CHUNK", 7))
        world = LimitWorld(seed, folder)
        stack.enter_context(mock.patch.object(reboot, "boot_id", world.boot_id))
        try:
            while done < steps and not over():
                world.step()
                done += 1
            world.settle_down()
        except KeyboardInterrupt:
            raise
        except (BaseException, Fenced) as error:
            raise Broken(f"limits, seed {seed}, step {done}: {error!r}") from error
        finally:
            for store in world.stores:
                store.close()
    return Played(done, world.tally)
