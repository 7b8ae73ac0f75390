"""What is done to streams while the disk fails or the power goes: see `scenarios`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faults.scenario import Book, Scenario, attempt, create, ended_within, executed, work_off
from litequeue import current_job

if TYPE_CHECKING:
    from pathlib import Path

    from litequeue import Queue

NUMBERED = "SELECT job, count(*), max(number) FROM litequeue_streams GROUP BY job HAVING count(*) <> max(number)"


class Streamed(Scenario):
    """Jobs emit: in threads, in coroutines, in `completing()`, in another try; and are read."""

    TASKS = ("says", "asays", "says_twice", "pays", "apays")

    def declare(self, path: Path) -> Queue:
        queue = super().declare(path)

        @queue.task(name="says")
        def says(n: int) -> None:
            for number in range(n):
                current_job().emit(number)

        @queue.task(name="asays")
        async def asays(n: int) -> None:
            for number in range(n):
                current_job().emit(number)

        @queue.task(name="says_twice", retries=1, backoff=0)
        def says_twice(n: int) -> None:
            for number in range(n):
                current_job().emit(number)
            if current_job().attempt == 1:
                raise ValueError(n)

        @queue.task(name="pays", retries=100, backoff=0)
        def pays(n: int) -> None:
            current_job().emit(0)
            with current_job().completing() as db:
                db.execute("INSERT INTO rows VALUES (?)", (n,))
                for number in range(1, n):
                    current_job().emit(number)

        @queue.task(name="apays", retries=100, backoff=0)
        async def apays(n: int) -> None:
            current_job().emit(0)
            async with current_job().acompleting() as db:
                await executed(db.execute("INSERT INTO rows VALUES (?)", (n,)))
                for number in range(1, n):
                    current_job().emit(number)

        return queue

    def prepare(self, path: Path) -> None:
        with create(path), self.declare(path) as queue:
            for name in self.TASKS:
                queue.tasks[name].enqueue(3)

    def use(self, queue: Queue, book: Book) -> None:
        assert ended_within(lambda: attempt(book, lambda: queue.worker(threads=2).run(until_idle=True)))
        for job_id in map(str, range(1, len(self.TASKS) + 1)):
            attempt(book, lambda job_id=job_id: self.note(queue, book, job_id))

    def note(self, queue: Queue, book: Book, job_id: str) -> None:
        """Note what a reader has seen of a job that has ended: it was acknowledged with its end."""
        if queue.job(job_id).status.finished:
            book.told.update(f"{job_id}:{event.number}:{event.value}" for event in queue.job(job_id).stream())

    def check(self, queue: Queue, book: Book) -> None:
        work_off(queue)
        with queue.transaction() as db:
            assert list(db.execute(NUMBERED)) == []
        found: set[str] = set()
        for job in queue.jobs():
            events = list(job.stream())
            assert [event.number for event in events] == list(range(1, 1 + len(events)))
            last = [event.value for event in events if event.attempt == events[-1].attempt and event.kind == "value"]
            assert job.status == "succeeded"
            assert last == [0, 1, 2], events  # those of the run that has ended it, whole
            found.update(f"{job.id}:{event.number}:{event.value}" for event in events)
        assert book.told <= found
