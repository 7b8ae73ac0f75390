"""What is done to kept logs while the disk fails or the power goes: see `scenarios`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from faults.scenario import Book, Scenario, attempt, create, ended_within, executed, work_off
from litequeue import current_job

if TYPE_CHECKING:
    from pathlib import Path

    from litequeue import Queue

SHOP = logging.getLogger("faults.logged")
SHOP.addHandler(logging.NullHandler())
SHOP.propagate = False
HIGH = logging.CRITICAL + 1  # what the harnesses do not silence
LOOSE = "SELECT count(*) FROM litequeue_run_logs WHERE job NOT IN (SELECT id FROM litequeue_jobs)"


class Logged(Scenario):
    """Jobs log: in threads, in coroutines, in `completing()`, in another try; are followed, read, and pruned."""

    TASKS = ("logs", "alogs", "logs_twice", "logs_and_pays")

    def declare(self, path: Path) -> Queue:
        queue = super().declare(path)

        @queue.task(name="logs", job_logs="1KiB")
        def logs(n: int) -> None:
            SHOP.log(HIGH, "line %d", n)

        @queue.task(name="alogs", job_logs="1KiB")
        async def alogs(n: int) -> None:
            SHOP.log(HIGH, "line %d", n)

        @queue.task(name="logs_twice", retries=1, backoff=0, job_logs="1KiB")
        def logs_twice(n: int) -> None:
            SHOP.log(HIGH, "line %d", n)
            if current_job().attempt == 1:
                raise ValueError(n)

        @queue.task(name="logs_and_pays", retries=100, backoff=0, job_logs="1KiB")
        async def logs_and_pays(n: int) -> None:
            async with current_job().acompleting() as db:
                await executed(db.execute("INSERT INTO rows VALUES (?)", (n,)))
            SHOP.log(HIGH, "line %d", n)

        return queue

    def prepare(self, path: Path) -> None:
        with create(path), self.declare(path) as queue:
            for name in self.TASKS:
                queue.tasks[name].enqueue(3)

    def use(self, queue: Queue, book: Book) -> None:
        attempt(book, lambda: queue.source.follow_logs("1"))
        assert ended_within(lambda: attempt(book, lambda: queue.worker(threads=2).run(until_idle=True)))
        for job_id in map(str, range(1, len(self.TASKS))):
            attempt(book, lambda job_id=job_id: self.note(queue, book, job_id))

    def note(self, queue: Queue, book: Book, job_id: str) -> None:
        """Note the log of a job that has ended: it was acknowledged with its end."""
        job = queue.job(job_id)
        if job.status.finished:
            book.told.add(f"{job_id}:{job.logs()}")

    def check(self, queue: Queue, book: Book) -> None:
        work_off(queue)
        for told in book.told:
            job_id, _, text = told.partition(":")
            assert queue.job(job_id).logs() == text
            assert "line 3" in text
        for job in queue.jobs():
            assert job.status == "succeeded"
            if job.task != "logs_and_pays":  # its end is on record before its log
                assert "line 3" in job.logs(job.attempt), job
        with queue.transaction() as db:
            assert list(db.execute(LOOSE)) == [(0,)]
