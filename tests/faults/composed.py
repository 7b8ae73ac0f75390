"""What is done to compositions while the disk fails or the power goes: see `scenarios`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faults.scenario import Book, Scenario, attempt, ended_within, work_off
from litequeue import Failure, chain, group

if TYPE_CHECKING:
    from pathlib import Path

    from litequeue import Queue

NOT_AS_STORED = """
    SELECT 'members', id FROM litequeue_groups
    WHERE members <> (SELECT count(*) FROM litequeue_edges WHERE child = -id AND place >= 0)
    UNION ALL
    SELECT 'unended', node FROM litequeue_dependents
    WHERE unended <> (SELECT count(*) FROM litequeue_edges AS edge LEFT JOIN litequeue_jobs AS job ON job.id = parent
                      LEFT JOIN litequeue_dependents AS inside ON inside.node = parent AND parent < 0
                      WHERE child = litequeue_dependents.node AND (job.state < 4 OR inside.unended > 0))
    UNION ALL
    SELECT 'waits', id FROM litequeue_jobs
    WHERE state = 2 AND id NOT IN (SELECT node FROM litequeue_dependents WHERE waits = 1 AND unended > 0)"""


class Composed(Scenario):
    """Compositions: stored, counted down, cancelled by a failure and revived, called back, cancelled as a whole."""

    def declare(self, path: Path) -> Queue:
        queue = super().declare(path)

        @queue.task(name="double")
        def double(n: int) -> int:
            return 2 * n

        @queue.task(name="total")
        def total(results: list[int]) -> int:
            return sum(results)

        @queue.task(name="called")
        def called(failure: Failure) -> str:
            return failure.job_id

        return queue

    def use(self, queue: Queue, book: Book) -> None:
        tasks = queue.tasks
        double, plain = tasks["double"], tasks["plain"]

        def enqueue() -> None:
            job = (double.s(1) | group(double.s(), double.s()) | tasks["total"].s()).enqueue()
            book.jobs.append(job.id)

        def fail() -> None:
            with queue.transaction():
                job = tasks["fails"].using(on_failure=tasks["called"].s()).enqueue(1)
                after = plain.using(after=job).enqueue(2)
            book.jobs += [job.id, after.id]

        def cancel() -> None:
            job = chain(plain.using(delay="1h").s(3), plain.si(4)).enqueue()
            book.jobs.append(job.id)
            if job.cancel():
                book.ended[job.id] = "cancelled"

        attempt(book, enqueue)
        attempt(book, fail)
        assert ended_within(lambda: attempt(book, lambda: queue.worker(threads=2).run(until_idle=True)))
        attempt(book, lambda: [job.retry() for job in queue.jobs(task="fails", status="failed")])
        attempt(book, cancel)

    def check(self, queue: Queue, book: Book) -> None:
        self.look(queue)
        for job in queue.jobs(status="scheduled"):  # stored, and not cancelled yet
            job.retry()
        work_off(queue)
        self.look(queue)
        jobs = {name: queue.jobs(task=name, limit=100) for name in ("double", "total", "fails", "called", "plain")}
        assert [job.result(0) for job in jobs["total"]] in ([], [8])
        assert len(jobs["double"]) == 3 * len(jobs["total"])
        failed = [job.id for job in jobs["fails"]]
        assert [str(job.status) for job in jobs["fails"]] == ["failed"] * len(failed)
        assert [job.result(0) for job in jobs["called"]] == failed
        assert [job.reason for job in jobs["plain"] if job.reason] == [f"parent {job} failed" for job in failed]

    @staticmethod
    def look(queue: Queue) -> None:
        with queue.transaction() as db:
            assert list(db.execute(NOT_AS_STORED)) == []
