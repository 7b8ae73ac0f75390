"""What is done to a queue while its disk fails or its process dies: one `Scenario` each, for every harness.

To add one: write a subclass; `prepare` makes the file, `act` does what is to be disturbed and writes down in the book
what it was told, `check` looks whether that is still true. `Scenario.examine` checks what is true of every file.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import apsw

from litequeue import Queue, Status, current_job, every
from litequeue.engine import Demand, NewWorker
from litequeue.errors import LiteQueueError
from litequeue.identity import Identity

if TYPE_CHECKING:
    from pathlib import Path

    from litequeue.sqlite.opening import Durability

LONG = 30.0  # seconds; a worker that has not come to an end by then never will
TABLES = "CREATE TABLE effects (n INTEGER); CREATE TABLE rows (n INTEGER)"
UNENDED = ("queued", "running", "waiting")
DURABILITY: Durability = "full"  # of every queue; a harness may set another


@dataclass
class Book:
    """What callers were told."""

    jobs: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)  # of the caller's own, committed with a job
    refused: list[BaseException] = field(default_factory=list)
    ended: dict[str, str] = field(default_factory=dict)  # the state in which somebody has seen a job
    told: set[str] = field(default_factory=set)  # anything else, in the words of the scenario

    def so_far(self) -> Book:
        """What it says at this moment."""
        return Book(list(self.jobs), list(self.rows), list(self.refused), dict(self.ended), set(self.told))


def declare(path: Path) -> Queue:
    """Open the file, with the tasks that the scenarios use."""
    queue = Queue(path, durability=DURABILITY)

    @queue.task(name="plain")
    def plain(n: int) -> int:
        return n

    @queue.task(name="aplain")
    async def aplain(n: int) -> int:
        return n

    @queue.task(name="effect", retries=100, backoff=0)
    def effect(n: int) -> None:
        with current_job().completing(n) as db:
            db.execute("INSERT INTO effects VALUES (?)", (n,))

    @queue.task(name="aeffect", retries=100, backoff=0)
    async def aeffect(n: int) -> None:
        async with current_job().acompleting(n) as db:
            db.execute("INSERT INTO effects VALUES (?)", (n,))

    @queue.task(name="fails_once", retries=1, backoff=0)
    def fails_once(n: int) -> int:
        if current_job().attempt == 1:
            raise ValueError(n)
        return n

    @queue.task(name="fails")
    def fails(n: int) -> None:
        raise ValueError(n)

    @queue.task(name="tick")
    def tick() -> None: ...

    return queue


def create(path: Path) -> Queue:
    queue = declare(path)
    with queue.transaction() as db:
        for statement in TABLES.split(";"):
            db.execute(statement)
    return queue


class Scenario:
    """One thing that is done to a file while something goes wrong."""

    all: ClassVar[list[Scenario]] = []

    def __init_subclass__(cls) -> None:
        Scenario.all.append(cls())

    @property
    def name(self) -> str:
        return type(self).__name__

    def prepare(self, path: Path) -> None:
        """Make the file, with nothing going wrong yet."""
        create(path).close()

    def act(self, path: Path, book: Book) -> None:
        """Do it. A `LiteQueueError` is a clear answer; anything else that comes out is a defect."""
        queue = declare(path)
        try:
            self.use(queue, book)
        finally:
            with suppress(apsw.IOError):  # of a VFS in Python; SQLite's own keeps it to itself
                queue.close()

    def use(self, queue: Queue, book: Book) -> None:
        """The same, with the queue open."""
        raise NotImplementedError

    def check(self, queue: Queue, book: Book) -> None:
        """Look at what this scenario alone can know, before the rest is worked off."""

    def examine(self, path: Path, book: Book) -> None:
        """With all well again: what was acknowledged is there, nothing is half done, and the work goes on."""
        with declare(path) as queue:
            assert queue.store.integrity() == []
            with queue.transaction() as db:
                tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
                rows = [n for (n,) in db.execute("SELECT n FROM rows")] if "rows" in tables else []
                if "effects" not in tables:
                    db.execute("CREATE TABLE effects (n INTEGER)")
            for job_id in book.jobs:
                queue.job(job_id)
            for job_id, state in book.ended.items():
                assert queue.job(job_id).status == state
            assert set(book.rows) <= set(rows)
            self.check(queue, book)
            work_off(queue)
            assert [job for state in UNENDED for job in queue.jobs(status=state)] == []
            jobs = queue.jobs(limit=10_000)
            with queue.transaction() as db:
                effects = sorted(n for (n,) in db.execute("SELECT n FROM effects"))
            told = sorted(job.result(0) for job in jobs if job.task in ("effect", "aeffect"))
            assert effects == told


def work_off(queue: Queue) -> None:
    assert ended_within(lambda: queue.worker(threads=2).run(until_idle=True)), "the worker does not come to an end"


def ended_within(work) -> bool:
    """Run it in a thread of its own, which a defect may leave behind."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(LONG)
    return not thread.is_alive()


def attempt(book: Book, work) -> bool:
    """Do it, and note a refusal."""
    try:
        work()
    except (LiteQueueError, apsw.Error) as error:  # apsw's own: of a statement that is the caller's
        book.refused.append(error)
        return False
    return True


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
                db.execute("INSERT INTO rows VALUES (2)")
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
            number = queue.store.sign_on(dead)
            queue.store.claim(number, [Demand(frozenset(queue.tasks), 3)], None, [])
            assert len(queue.jobs(status=Status.RUNNING)) == 3


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
            while queue.store.prune(limit=7):
                pass
            queue.store.tidy()

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
        schedules = queue.store.schedules()
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
        attempt(book, lambda: queue.backup(queue.path.with_name("copy.db")))

    def check(self, queue: Queue, book: Book) -> None:
        copy = queue.path.with_name("copy.db")
        assert copy.exists() != bool(book.refused)
        assert [path.name for path in copy.parent.iterdir() if ".part-" in path.name] == []
        if copy.exists():
            with declare(copy) as whole:
                assert whole.store.integrity() == []
                assert len(whole.jobs(limit=1000)) == self.JOBS
