"""What is done to a queue while its disk fails or the power goes: one `Scenario` each, for every harness.

To add one: write a subclass; `prepare` makes the file, `act` does what is to be disturbed and writes down in the book
what it was told, `check` looks whether that is still true. `Scenario.examine` checks what is true of every file.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from faults.composed import Composed  # noqa: F401  it is one of them
from faults.logged import Logged  # noqa: F401  another one
from faults.scenario import LONG, UNENDED, Book, Scenario, attempt, create, declare, ended_within, executed, work_off
from faults.streamed import Streamed  # noqa: F401  another one
from litequeue import Queue, Status, current_job, every
from litequeue.core.store import Demand, NewWorker
from litequeue.errors import LiteQueueError
from litequeue.ipc.process_identity import Identity

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from litequeue import Task


class Opening(Scenario):
    """A fresh file is made."""

    def prepare(self, path: Path) -> None:
        pass

    def act(self, path: Path, book: Book) -> None:
        attempt(book, lambda: super(Opening, self).act(path, book))

    def use(self, queue: Queue, book: Book) -> None:
        book.jobs.append(queue.tasks["plain"].enqueue(1).id)


class Enqueue(Scenario):
    """One job at a time, one of them keyed."""

    def use(self, queue: Queue, book: Book) -> None:
        plain = queue.tasks["plain"]
        for number in range(2):
            attempt(book, lambda number=number: book.jobs.append(plain.enqueue(number).id))
        keyed = plain.using(key="k")
        for _ in range(2):
            attempt(book, lambda: book.jobs.append(keyed.enqueue(7).id))

    def check(self, queue: Queue, book: Book) -> None:
        assert len([job for job in queue.jobs() if job.key == "k"]) <= 1


class EnqueueMany(Scenario):
    """All or none of sixty jobs."""

    MANY = 60

    def use(self, queue: Queue, book: Book) -> None:
        calls = [(number,) for number in range(self.MANY)]
        attempt(book, lambda: book.jobs.extend(job.id for job in queue.tasks["plain"].enqueue_many(calls)))

    def check(self, queue: Queue, book: Book) -> None:
        assert len(queue.jobs(limit=1000)) in (0, self.MANY)


class GroupCommit(Scenario):
    """Threads and coroutines that share transactions."""

    def use(self, queue: Queue, book: Book) -> None:
        plain = queue.tasks["plain"]

        def caller(number: int) -> None:
            attempt(book, lambda: book.jobs.append(plain.enqueue(number).id))

        async def acaller(number: int) -> None:
            try:
                book.jobs.append((await plain.aenqueue(number)).id)
            except LiteQueueError as error:
                book.refused.append(error)

        async def acallers() -> None:
            await asyncio.gather(*(acaller(number) for number in range(4)))

        threads = [threading.Thread(target=caller, args=(number,)) for number in range(3)]
        threads.append(threading.Thread(target=asyncio.run, args=(acallers(),)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        assert not any(thread.is_alive() for thread in threads), "a caller waits for ever"
        assert len(book.jobs) + len(book.refused) == 7


class Transaction(Scenario):
    """A caller's own row and a job commit together, on a thread and on a loop."""

    def use(self, queue: Queue, book: Book) -> None:
        plain = queue.tasks["plain"]

        def both() -> None:
            with queue.transaction() as db:
                db.execute("INSERT INTO rows VALUES (1)")
                job = plain.enqueue(1)
            book.rows.append(1)
            book.jobs.append(job.id)

        async def aboth() -> None:
            async with queue.atransaction() as db:
                await executed(db.execute("INSERT INTO rows VALUES (2)"))
                job = await plain.aenqueue(2)
            book.rows.append(2)
            book.jobs.append(job.id)

        attempt(book, both)
        attempt(book, lambda: asyncio.run(aboth()))

    def check(self, queue: Queue, book: Book) -> None:
        with queue.transaction() as db:
            rows = sorted(n for (n,) in db.execute("SELECT n FROM rows"))
        work_off(queue)
        assert rows == sorted(job.result(0) for job in queue.jobs())


class Work(Scenario):
    """A worker claims, runs, retries, fails, completes and settles."""

    CALLS = (("plain", 1), ("aplain", 2), ("effect", 3), ("aeffect", 4), ("fails_once", 5), ("fails", 6), ("plain", 7))
    STATES = ("succeeded",) * 5 + ("failed", "succeeded")

    def prepare(self, path: Path) -> None:
        with create(path) as queue:
            for name, number in self.CALLS:
                queue.tasks[name].enqueue(number)

    def use(self, queue: Queue, book: Book) -> None:
        book.jobs.extend(str(number + 1) for number in range(len(self.CALLS)))
        assert ended_within(lambda: attempt(book, lambda: queue.worker(threads=2).run(until_idle=True)))
        for job_id in book.jobs:
            attempt(book, lambda job_id=job_id: self.note(queue, book, job_id))

    def note(self, queue: Queue, book: Book, job_id: str) -> None:
        job = queue.job(job_id)
        if job.status not in UNENDED:
            book.ended[job_id] = str(job.status)

    def check(self, queue: Queue, book: Book) -> None:
        work_off(queue)
        states = [str(job.status) for job in reversed(queue.jobs())]
        assert states == list(self.STATES), states


class Rescue(Work):
    """The jobs of a worker that is dead are put back, and run."""

    def prepare(self, path: Path) -> None:
        super().prepare(path)
        with declare(path) as queue:
            dead = NewWorker(
                token="dead",
                identity=dataclasses.replace(Identity.current(), started="0").to_text(),
                queues=None,
                tasks=tuple(queue.tasks),
                threads=2,
                coroutines=2,
            )
            number = queue.engine.workers.register(dead)
            queue.engine.runs.claim(number, [Demand(frozenset(queue.tasks), 3)], None, [])
            assert len(queue.jobs(status=Status.RUNNING)) == 3


class Limited(Scenario):
    """Jobs of limits: enqueued, claimed, parked and brought back, charged, tried again, left behind in their order."""

    CALLS = (("shared", "x"), ("keyed", "a"), ("keyed", "a"), ("ordered", "a"), ("ordered", "a"), ("paid", "a"))

    def declare(self, path: Path) -> Queue:
        queue = super().declare(path)
        at_once: Counter[tuple[str, str]] = Counter()

        @contextmanager
        def alone(name: str, key: str) -> Generator[None, None, None]:
            at_once[name, key] += 1
            assert at_once[name, key] == 1, f"two of {name} {key} run"
            try:
                yield
            finally:
                at_once[name, key] -= 1

        pool = queue.limit("pool", concurrency=1)

        @queue.task(name="shared", limits=[pool])
        def shared(key: str) -> None:
            with alone("pool", ""):
                pass

        @queue.task(name="keyed", concurrency=1, limit_key="{key}", limits=[pool])
        def keyed(key: str) -> None:
            with alone("pool", ""), alone("keyed", key):
                pass

        @queue.task(name="ordered", ordered=True, limit_key="{key}", retries=1, backoff=0)
        def ordered(key: str) -> None:
            with alone("ordered", key):
                if current_job().attempt == 1:
                    raise ValueError(key)

        @queue.task(
            name="paid", retries=100, backoff=0, limits=[queue.limit("tokens", rate="1000/20ms").key("{key}").cost(3)]
        )
        def paid(key: str) -> None:
            current_job().charge("tokens", 1)

        return queue

    def use(self, queue: Queue, book: Book) -> None:
        def enqueue() -> None:
            with queue.transaction():
                jobs = [queue.tasks[name].enqueue(key) for name, key in self.CALLS]
            book.jobs += [job.id for job in jobs]

        attempt(book, enqueue)
        assert ended_within(lambda: attempt(book, lambda: queue.worker(threads=2).run(until_idle=True)))
        attempt(book, lambda: queue.tasks["keyed"].enqueue("c").cancel())

    def check(self, queue: Queue, book: Book) -> None:
        for _ in range(500):  # in another boot the window begins full
            work_off(queue)
            if not queue.jobs(status="queued"):
                break
        jobs = queue.jobs(limit=1000)
        assert {str(job.status) for job in jobs} <= {"succeeded", "cancelled"}, jobs
        left = ("parked", "ordered", "left_behind")
        with queue.transaction() as db:
            assert [[*db.execute(f"SELECT * FROM litequeue_{name}")] for name in left] == [[], [], []]
            orphans = "SELECT count(*) FROM litequeue_limited WHERE job NOT IN (SELECT id FROM litequeue_jobs)"
            assert [*db.execute(orphans)] == [(0,)]


class AtMostOnce(Scenario):
    """A function that may not be called twice for a job is not, whatever of its end was lost."""

    JOBS = 2

    def prepare(self, path: Path) -> None:
        with create(path) as queue:
            self.once(queue, set()).enqueue_many([(number,) for number in range(self.JOBS)])

    def once(self, queue: Queue, called: set[str]) -> Task[[int], None]:
        @queue.task(name="once", delivery="at_most_once")
        def once(n: int) -> None:
            called.add(str(n))

        return once

    def use(self, queue: Queue, book: Book) -> None:
        self.once(queue, book.told)
        assert ended_within(lambda: attempt(book, lambda: queue.worker(threads=2).run(until_idle=True)))

    def check(self, queue: Queue, book: Book) -> None:
        called: set[str] = set()
        self.once(queue, called)
        work_off(queue)
        assert self.durability == "normal" or not called & book.told  # else power loss may undo the claim
        for job in queue.jobs():
            assert job.status == "succeeded" or [error.type for error in job.errors] == ["Interrupted"]
        assert len(called | book.told) <= self.JOBS


class Prune(Scenario):
    """Ended jobs whose time has come are deleted with their errors, in small transactions."""

    def prepare(self, path: Path) -> None:
        with create(path) as queue:
            queue.tasks["fails"].enqueue_many([(number,) for number in range(20)])
            work_off(queue)
            with queue.transaction() as db:
                db.execute("UPDATE litequeue_jobs SET delete_at = ?", (time.time() - 1,))

    def use(self, queue: Queue, book: Book) -> None:
        def prune() -> None:
            while queue.engine.maintenance.prune(limit=7):
                pass
            queue.engine.maintenance.vacuum()
            queue.engine.maintenance.checkpoint()

        attempt(book, prune)

    def check(self, queue: Queue, book: Book) -> None:
        with queue.transaction() as db:
            orphans = "SELECT count(*) FROM litequeue_errors WHERE job NOT IN (SELECT id FROM litequeue_jobs)"
            assert list(db.execute(orphans)) == [(0,)]


class Schedule(Scenario):
    """A tick that is due is fired once, and a schedule is added, paused and removed."""

    def prepare(self, path: Path) -> None:
        with create(path) as queue:
            queue.schedules.add("due", queue.tasks["tick"].s(), every("1h"))
            with queue.transaction() as db:
                db.execute("UPDATE litequeue_schedules SET next_at = ?", (time.time() - 1,))

    def use(self, queue: Queue, book: Book) -> None:
        tick = queue.tasks["tick"]
        assert ended_within(lambda: attempt(book, lambda: queue.worker(threads=1).run(until_idle=True)))
        if attempt(book, lambda: queue.schedules.add("more", tick.s(), every("1h"))):
            book.told.add("added")
            attempt(book, lambda: queue.schedules.pause("more"))
            book.told.remove("added")  # from here on it may be gone
            if attempt(book, lambda: queue.schedules.remove("more")):
                book.told.add("removed")

    def check(self, queue: Queue, book: Book) -> None:
        work_off(queue)
        assert len(queue.jobs(task="tick")) == 1
        schedules = queue.engine.schedules.list()
        assert all(schedule.next_at is None or schedule.next_at > time.time() for schedule in schedules)
        more = any(schedule.name == "more" for schedule in schedules)
        assert not book.told & {"removed" if more else "added"}


class Change(Scenario):
    """Jobs are cancelled, and tried again."""

    def prepare(self, path: Path) -> None:
        with create(path) as queue:
            queue.tasks["fails"].enqueue(1)
            work_off(queue)
            queue.tasks["plain"].enqueue(2)

    def use(self, queue: Queue, book: Book) -> None:
        attempt(book, lambda: queue.job("2").cancel() and book.ended.update({"2": "cancelled"}))
        if attempt(book, lambda: queue.job("1").retry()):
            book.told.add("retried")
        book.jobs += ["1", "2"]

    def check(self, queue: Queue, book: Book) -> None:
        job = queue.job("1")
        assert "retried" not in book.told or job.status != "failed" or job.attempt > 1


class Backup(Scenario):
    """A copy is made: whole, or not at all."""

    JOBS = 40

    def prepare(self, path: Path) -> None:
        with create(path) as queue:
            queue.tasks["plain"].enqueue_many([(number,) for number in range(self.JOBS)])

    def use(self, queue: Queue, book: Book) -> None:
        if attempt(book, lambda: queue.backup(queue.path.with_name("copy.db"))):
            book.told.add("copied")

    def check(self, queue: Queue, book: Book) -> None:
        copy = queue.path.with_name("copy.db")
        assert not book.told or copy.exists()
        assert not book.refused or not copy.exists()
        if book.told or book.refused:  # else it was not come to an end
            left = {path.name for path in copy.parent.iterdir() if ".part-" in path.name}
            assert all(name.endswith("-journal") for name in left)  # an empty one may come back after a power cut
        if copy.exists():
            with declare(copy) as whole:
                assert whole.engine.admin.integrity() == []
                assert len(whole.jobs(limit=1000)) == self.JOBS
