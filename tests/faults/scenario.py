"""What a scenario is: something that is done to a queue while its disk fails, its process dies or the power goes."""

from __future__ import annotations

import inspect
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import apsw

from litequeue import Queue, current_job
from litequeue.errors import LiteQueueError

if TYPE_CHECKING:
    from pathlib import Path

    from litequeue.sqlite.file.opening import Driver, Durability

LONG = 30.0  # seconds; a worker that has not come to an end by then never will
TABLES = "CREATE TABLE effects (n INTEGER); CREATE TABLE rows (n INTEGER)"
UNENDED = ("queued", "running", "waiting")


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
    queue = Queue(path, driver=Scenario.driver, durability=Scenario.durability)

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
            await executed(db.execute("INSERT INTO effects VALUES (?)", (n,)))

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


async def executed(made: object) -> None:
    """Await what aiosqlite makes of a statement; the other connections have run it."""
    if inspect.isawaitable(made):
        await made


def create(path: Path) -> Queue:
    queue = declare(path)
    with queue.transaction() as db:
        for statement in TABLES.split(";"):
            db.execute(statement)
    return queue


class Scenario:
    """One thing that is done to a file while something goes wrong."""

    all: ClassVar[list[Scenario]] = []
    driver: ClassVar[Driver] = "apsw"  # of every file that is opened, and its durability: for a harness to set
    durability: ClassVar[Durability] = "full"

    def __init_subclass__(cls) -> None:
        Scenario.all.append(cls())

    @property
    def name(self) -> str:
        return type(self).__name__

    def prepare(self, path: Path) -> None:
        """Make the file, with nothing going wrong yet."""
        create(path).close()

    def declare(self, path: Path) -> Queue:
        """Open the file, with the tasks that this scenario uses."""
        return declare(path)

    def act(self, path: Path, book: Book) -> None:
        """Do it. A `LiteQueueError` is a clear answer; anything else that comes out is a defect."""
        queue = self.declare(path)
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
        with self.declare(path) as queue:
            assert queue.engine.admin.integrity() == []
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
