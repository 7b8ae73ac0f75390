"""Compositions, played from seeds: whatever is stored, ends, is retried, cancelled, expires or is pruned in any order.

After each step the file is compared with `composed_truth`. In every other seed what follows from an end is put off
after a few rows, as it otherwise is after thousands: what still waits then may lag behind the truth.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from contract.jobs import Hands
from litequeue.core.outcome import Ended, Succeeded
from litequeue.core.plan import RunsOn
from litequeue.errors import Fenced, JobNotFound, KeyConflict, Unsupported
from litequeue.sqlite.compose import cancel as cancels
from litequeue.sqlite.compose import ended as ends
from litequeue.sqlite.compose.consequences import Consequences
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.parts import runs
from litequeue.sqlite.store import SqliteStore
from litequeue.testing import ManualClock
from model.composed_plans import TASKS, Lot
from model.composed_rows import LEFT, Rows
from model.composed_truth import Graph, Job
from model.composed_workers import KEPT, Workers
from model.quick import quickly
from model.row import (
    CANCELLED,
    EXPIRED,
    FAILED,
    QUEUED,
    RUNNING,
    SCHEDULED,
    STATES,
    SUCCEEDED,
    WAITING,
    Broken,
    must_be,
)
from model.world import SHARED_MEMORY, Played

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from litequeue.core.records import Claimed

BACKLOG = 60
FEW = 4  # steps in one transaction, where the rest is put off
LAST_CYCLES = 100


class RolledBack(Exception):
    """A caller's transaction is undone."""


class ComposedWorld(Workers):
    """One file, some processes, and who acts next."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.chance, self.clock = random.Random(seed), ManualClock()
        self.graph, self.tally = Graph(), Counter[str]()
        options: dict[str, Any] = {"driver": "sqlite3" if seed % 4 == 3 else "apsw", "durability": "normal"}
        options |= {"create": True, "result_ttl": KEPT, "failed_ttl": KEPT, "clock": self.clock}
        self.stores = [SqliteStore.open(folder / "app.db", **options) for _ in range(2)]
        self.crew = [Hands(store, *TASKS) for store in self.stores]
        self.runs: list[tuple[Hands, Claimed]] = []
        self.ends: dict[int, list[Ended]] = {worker.number: [] for worker in self.crew}
        self.wholes: dict[str, Any] = {}
        self._held: dict[str, Any] = {}
        self.acts: tuple[tuple[Callable[[], object], float], ...] = (
            (self.store, 12), (self.cycle, 25), (self.end, 45), (self.wait, 10), (self.cancel, 3), (self.retry, 9),
            (self.cancel_group, 1), (self.complete, 5), (self.die, 0.7), (self.prune, 1.5), (self.go_on, 6),
        )  # fmt: skip

    def step(self) -> None:
        acts, weights = zip(*self.acts, strict=True)
        self.chance.choices(acts, weights)[0]()
        self.compare()

    def _read(self) -> Rows:
        return self.stores[0].kernel.read(Rows.read)

    # ---- what is stored

    def store(self) -> None:
        if sum(job.state < SUCCEEDED for job in self.graph.jobs.values()) >= BACKLOG:
            return
        now, store = self.clock.now(), self.chance.choice(self.stores)
        there = [str(job.id) for job in self.graph.jobs.values() if job.delete_at is None or job.delete_at > now]
        plan = Lot(self.chance, now, there).plan()
        if self.chance.random() < 0.1:
            self._store_and_undo(store, plan)
            return
        try:
            stored = store.compositions.store(plan)
        except JobNotFound:
            must_be(any(job == "999999" for job, *_ in plan.after), "after= names a job that is on record")
            self.tally["JobNotFound"] += 1
            return
        except KeyConflict:
            self.tally["KeyConflict"] += 1
            return
        if stored.found is not None:
            self.tally["found"] += 1
            must_be(plan.whole is not None and self.wholes.get(plan.whole.key) == stored.last, "another one is found")
            return
        self.tally["stored"] += 1
        if plan.whole is not None:
            self._check_key_was_free(plan.whole.key, now)
            self.wholes[plan.whole.key] = stored.last
        self.graph.add(plan, stored, now)

    def _store_and_undo(self, store: SqliteStore, plan: Any) -> None:
        try:
            with store.transactions.transaction():
                store.compositions.store(plan)
                raise RolledBack  # noqa: TRY301
        except (RolledBack, JobNotFound, KeyConflict) as error:
            self.tally[type(error).__name__] += 1

    def _check_key_was_free(self, key: str, now: float) -> None:
        held = self._held.get(key)
        if held is None:
            return
        node, scope, held_until = held
        is_there = node in self.graph.groups or (
            node in self.graph.jobs and (self.graph.jobs[node].delete_at or now + 1.0) > now
        )
        if held_until is not None:
            must_be(not is_there or held_until <= now, f"key {key} was held until {held_until}")
        else:
            kept = is_there and (scope == "kept" or not self.graph.is_over(node))
            must_be(not kept or self.graph.lags, f"key {key} was held by {node}")

    def _is_past(self, job: Job, now: float) -> bool:
        return job.delete_at is not None and job.delete_at <= now and not self.graph.is_needed(job.id)

    # ---- callers

    def _some(self, *states: int) -> Job | None:
        jobs = [job for job in self.graph.jobs.values() if not states or job.state in states]
        return self.chance.choice(jobs) if jobs else None

    def cancel(self) -> None:
        job = self._some() if self.chance.random() < 0.3 else self._some(SCHEDULED, QUEUED, WAITING, RUNNING)
        if job is None:
            return
        try:
            done = self.chance.choice(self.stores).jobs.cancel(str(job.id))
        except JobNotFound:
            must_be(self._is_past(job, self.clock.now()), f"job {job.id} is there")
            return
        alive = job.state < SUCCEEDED
        nodes = self.graph.whole(job.id)
        done_by_us = self.graph.cancel(nodes | {job.id}) or alive
        must_be(done == done_by_us or self.graph.lags, f"cancel of {job.id} returns {done}")
        self.tally["cancelled wholes" if len(nodes) > 1 else "cancelled"] += done

    def cancel_group(self) -> None:
        if self.graph.groups:
            group = self.chance.choice([*self.graph.groups])
            done = self.chance.choice(self.stores).compositions.cancel(f"g{-group}")
            must_be(done == self.graph.cancel(self._above(group)) or self.graph.lags, f"cancel of g{-group}: {done}")
            self.tally["cancelled groups"] += done

    def _above(self, node: int) -> set[int]:
        found, left = {node}, [node]
        while left:
            parents = {link.parent for link in self.graph.up(left.pop()) if link.own} - found
            found |= parents
            left += parents
        return found

    def retry(self) -> None:
        job = self._some(FAILED, FAILED, CANCELLED, EXPIRED, SCHEDULED) if self.chance.random() < 0.9 else self._some()
        if job is None:
            return
        now, refused = self.clock.now(), None
        must = self._refusal(job, now)
        try:
            left = self.chance.choice(self.stores).jobs.retry(str(job.id))
        except (JobNotFound, Unsupported, KeyConflict) as error:
            refused = type(error)
        if not self.graph.lags:
            must_be(refused is must, f"retry of {job.id}: {refused}, not {must}")
        self.tally[f"retry {refused.__name__ if refused else 'done'}"] += 1
        if refused is None:
            revived = self.graph.retry(job.id, {int(each) for each in left})
            self.tally["revived"] += len(revived)
            for each in left:
                must_be(self.graph.holder(self.graph.jobs[int(each)], now) is not None, f"the key of {each} is free")
                self.tally["left"] += 1

    def _refusal(self, job: Job, now: float) -> type[Exception] | None:
        if self._is_past(job, now):
            return JobNotFound
        if job.state in (QUEUED, RUNNING, WAITING, SUCCEEDED):
            return Unsupported
        if self.graph.holder(job, now) is not None:
            return KeyConflict
        if job.waits is None or job.state == SCHEDULED:
            return None
        parents = [link.parent for link in self.graph.up(job.id)]
        match job.waits.runs_on:
            case RunsOn.SUCCESS:
                bad = any(self.graph.is_bad(parent) for parent in parents)
            case RunsOn.FAILURE:
                bad = any(self.graph.jobs[parent].state in (SUCCEEDED, CANCELLED) for parent in parents)
            case _:
                bad = False
        return Unsupported if bad else None

    # ---- time

    def wait(self) -> None:
        self.clock.advance(round(10 ** self.chance.uniform(-2.0, 1.3), 3))

    def prune(self) -> None:
        self.tally["pruned"] += self.stores[1].maintenance.prune()

    def go_on(self) -> bool:
        """One step of what was put off, as a worker does it in its cycles and in maintenance."""
        kernel, now = self.chance.choice(self.stores).kernel, self.clock.now()
        done = kernel.writer.run(lambda db: perform(db, ends.go_on(now, Consequences())))
        self.tally["gone on"] += done
        return done

    # ---- the file beside the truth

    def compare(self, claimed: Iterable[Claimed] = (), ended: Iterable[Ended] = ()) -> None:
        """Take from the file what is left to it, and look whether all else is as it must be."""
        rows, graph, now = self._read(), self.graph, self.clock.now()
        since = min([end.at for end in ended], default=now)
        if not (graph.lags or rows.put_off):
            graph.propagate(since)
        self._expire(rows, now)
        graph.propagate(since)
        graph.lags = rows.put_off
        self._take_over(rows, {int(run.id) for run in claimed}, now)
        rows.check(graph)
        self._held = rows.held
        if rows.put_off:
            self.tally["put off"] += 1

    def _expire(self, rows: Rows, now: float) -> None:
        for number, job in self.graph.jobs.items():
            row = rows.jobs.get(number)
            if row is not None and row.state == EXPIRED and job.state < RUNNING:
                late = self.graph.lags or rows.put_off  # it may have begun in the same transaction
                is_due = job.expires_at is not None and job.expires_at <= now
                must_be(
                    is_due or (late and job.waits is not None and job.waits.expires is not None), f"{job} expires early"
                )
                self.graph.end(number, EXPIRED)
                self.tally["expired"] += 1

    def _take_over(self, rows: Rows, claimed: set[int], now: float) -> None:
        graph = self.graph
        gone = {job for job in graph.jobs if job not in rows.jobs}
        for number in gone:
            why = graph.may_be_pruned(number, now)
            must_be(why is None, f"job {number} is pruned, and {why}")
        graph.prune(gone)
        graph.drop_groups([group for group in graph.groups if group not in rows.groups])
        for number, job in graph.jobs.items():
            row = rows.jobs[number]
            if job.state == SCHEDULED and row.state in (QUEUED, RUNNING) and job.run_at <= now:
                job.state = QUEUED
            if row.state == SCHEDULED and job.state == QUEUED and job.waits is not None and job.waits.delay is None:
                job.state = SCHEDULED  # at its time, which has come since its parent ended
            if number in claimed:
                must_be(job.state == QUEUED, f"job {number} begins, and is {STATES[job.state]}")
                job.state = RUNNING
            if rows.put_off and row.state == WAITING and job.waits is not None and (job.caused or job.state < RUNNING):
                job.state, job.caused = WAITING, False  # until it is told
            must_be(row.state == job.state, f"job {number} is {STATES[row.state]}, not {STATES[job.state]}")
            job.run_at, job.expires_at, job.delete_at = row.run_at, row.expires_at, row.delete_at
            job.holds = bool(row.holds)

    # ---- the end

    def settle_down(self) -> None:
        """All that can run does, and nothing is left that waits or is kept for ever."""
        for _ in range(LAST_CYCLES):
            while self.go_on():
                self.compare()
            for worker, job in self.runs:
                self.ends[worker.number].append(Ended(job, Succeeded(b"1"), self.clock.now(), KEPT))
            self.runs.clear()
            if all(job.state >= SUCCEEDED for job in self.graph.jobs.values()):
                break
            for worker in self.crew:
                self.cycle(worker, 40)
            self.clock.advance(1.0)
        left = [job for job in self.graph.jobs.values() if job.state < SUCCEEDED]
        must_be(not left, f"never end: {left[:3]}")
        for _ in range(20):
            self.clock.advance(700.0)
            while self.stores[0].maintenance.prune():
                self.compare()
        for table in LEFT:
            rows = self.stores[0].kernel.read(lambda db: db.rows(f"SELECT * FROM {table}"))  # noqa: B023
            must_be(not rows, f"{table} outlives all jobs: {rows[:3]} {self.graph.links}")
        must_be(self.stores[0].admin.integrity() == [], "the file is damaged")


def play(seed: int, steps: int, *, over: Callable[[], bool] = lambda: False) -> Played:
    """Play a seed for so many steps, and bring it to an end. Raises `Broken`, saying what replays it."""
    folder = Path(tempfile.mkdtemp(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
    done = 0
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(quickly())
        if seed % 2:
            for module in (ends, cancels):
                stack.enter_context(mock.patch.object(module, "MOST", FEW))
            stack.enter_context(mock.patch.object(runs, "spread"))  # else none is left when a cycle has ended
        world = ComposedWorld(seed, folder)
        try:
            while done < steps and not over():
                world.step()
                done += 1
            world.settle_down()
        except KeyboardInterrupt:
            raise
        except (BaseException, Fenced) as error:
            raise Broken(f"compositions, seed {seed}, step {done}: {error!r}") from error
        finally:
            for store in world.stores:
                store.close()
    return Played(done, world.tally)
