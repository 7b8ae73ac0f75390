"""`current_job().completing()`: the caller's rows and the job's success are one commit."""

import contextlib
import threading

import pytest

from crash.watching import ended
from litequeue import Queue, current_job
from litequeue.errors import Fenced


@pytest.fixture(params=["apsw", "sqlite3"])
def queue(request, database):
    with Queue(database, driver=request.param, durability="normal") as queue:
        with queue.transaction() as db:
            db.execute("CREATE TABLE paid (n)")
        yield queue


def rows(queue):
    with queue.transaction() as db:
        return [n for (n,) in db.execute("SELECT n FROM paid ORDER BY n")]


def test_the_rows_and_the_success_are_stored_together(queue):
    @queue.task
    def pay(n: int) -> str:
        with current_job().completing("receipt") as db:
            db.execute("INSERT INTO paid VALUES (?)", (n,))
        return "not stored"

    with queue.worker() as worker:
        jobs = pay.enqueue_many([(n,) for n in range(50)])
        assert {job.result(10) for job in jobs} == {"receipt"}
    assert rows(queue) == list(range(50))
    assert (worker.lost, worker.settled - worker.released) == (0, 50)


def test_a_coroutine_stores_the_rows_and_the_success_together(queue):
    sqlite3 = queue.engine.driver_name == "sqlite3"

    @queue.task
    async def pay(n: int):
        async with current_job().acompleting("receipt") as db:
            inserted = db.execute("INSERT INTO paid VALUES (?)", (n,))
            if sqlite3:
                await inserted

    with queue.worker() as worker:
        jobs = pay.enqueue_many([(n,) for n in range(20)])
        assert {job.result(10) for job in jobs} == {"receipt"}
    assert rows(queue) == list(range(20))
    assert worker.lost == 0


# what ends the transaction inside the block: the caller, and SQLite at an error
ENDS = {
    "rollback": "ROLLBACK",
    "insert or rollback": "INSERT OR ROLLBACK INTO once VALUES (1)",
    "trigger": "INSERT INTO watched VALUES (1)",
}


@pytest.fixture
def ends(queue):
    with queue.transaction() as db:
        db.execute("CREATE TABLE once (n PRIMARY KEY)")
        db.execute("INSERT INTO once VALUES (1)")
        db.execute("CREATE TABLE watched (n)")
        db.execute("CREATE TRIGGER no BEFORE INSERT ON watched BEGIN SELECT raise(ROLLBACK, 'no'); END")


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_block_that_was_rolled_back_inside_is_no_success(queue, ends, end):
    @queue.task
    def pay():
        with current_job().completing("receipt") as db:
            db.execute("INSERT INTO paid VALUES (1)")
            with contextlib.suppress(Exception):
                db.execute(end)

    job = pay.enqueue()
    queue.worker().run(until_idle=True)
    assert (job.refresh().status, rows(queue)) == ("failed", [])
    assert "ended inside the block" in job.errors[-1].message


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_coroutines_block_that_was_rolled_back_inside_is_no_success(queue, ends, end):
    @queue.task
    async def pay():
        async with current_job().acompleting("receipt") as db:
            for sql in ("INSERT INTO paid VALUES (1)", end):
                with contextlib.suppress(Exception):
                    ran = db.execute(sql)
                    if queue.engine.driver_name == "sqlite3":
                        await ran

    job = pay.enqueue()
    queue.worker().run(until_idle=True)
    assert (job.refresh().status, rows(queue)) == ("failed", [])
    assert "ended inside the block" in job.errors[-1].message


def test_an_error_inside_the_block_rolls_both_back_and_fails_the_job(queue):
    @queue.task
    def pay():
        with current_job().completing() as db:
            db.execute("INSERT INTO paid VALUES (1)")
            raise ValueError("no money")

    with queue.worker():
        record = ended(pay.enqueue())
    assert (record.status, record.errors[0].message, rows(queue)) == ("failed", "no money", [])


def test_an_error_inside_a_coroutines_block_rolls_both_back_and_fails_the_job(queue):
    sqlite3 = queue.engine.driver_name == "sqlite3"

    @queue.task
    async def pay():
        async with current_job().acompleting() as db:
            inserted = db.execute("INSERT INTO paid VALUES (1)")
            if sqlite3:
                await inserted
            raise ValueError("no money")

    with queue.worker():
        record = ended(pay.enqueue())
    assert (record.status, record.errors[0].message, rows(queue)) == ("failed", "no money", [])


def test_an_error_inside_the_block_is_tried_again_as_any_other(queue):
    @queue.task(retries=1, backoff=0)
    def pay():
        with current_job().completing() as db:
            db.execute("INSERT INTO paid VALUES (1)")
            if current_job().attempt == 1:
                raise OSError

    with queue.worker():
        assert ended(pay.enqueue()).status == "succeeded"
    assert rows(queue) == [1]


def test_an_error_after_the_block_cannot_undo_the_success(queue):
    @queue.task
    def pay():
        with current_job().completing("paid") as db:
            db.execute("INSERT INTO paid VALUES (1)")
        raise ValueError("too late")

    with queue.worker() as worker:
        assert pay.enqueue().result(10) == "paid"
    assert (rows(queue), worker.lost) == ([1], 0)


def test_what_is_enqueued_inside_the_block_is_stored_with_it(queue):
    @queue.task
    def after():
        return "after"

    @queue.task
    def pay():
        with current_job().completing():
            after.using(key="once").enqueue()

    with queue.worker():
        pay.enqueue().result(10)
        assert queue.jobs(task=after)[0].result(10) == "after"


def test_nothing_is_kept_of_a_job_that_was_given_to_another_worker(queue, database):
    begun, taken = threading.Event(), threading.Event()
    fenced: list[BaseException] = []

    @queue.task
    def pay():
        if current_job().attempt > 1:
            return "second"
        begun.set()
        assert taken.wait(10)
        try:
            with current_job().completing("first") as db:
                db.execute("INSERT INTO paid VALUES (1)")
        except Fenced as error:
            fenced.append(error)
            raise

    with queue.worker(threads=2) as worker:
        job = pay.enqueue()
        assert begun.wait(10)
        with Queue(database, driver=queue.engine.driver_name) as other:
            other.engine.runs.rescue(worker.id, None, blame=False)
        taken.set()
        assert job.result(10) == "second"
    assert (rows(queue), len(fenced), worker.lost) == ([], 1, 1)


def test_a_coroutine_tells_its_progress_inside_the_block(queue):
    sqlite3 = queue.engine.driver_name == "sqlite3"

    @queue.task
    async def pay():
        async with current_job().acompleting("receipt") as db:
            inserted = db.execute("INSERT INTO paid VALUES (1)")
            if sqlite3:
                await inserted
            await current_job().aprogress(1, 2)

    with queue.worker():
        job = pay.enqueue()
        assert job.result(10) == "receipt"
    assert (rows(queue), job.refresh().progress.done) == ([1], 1)


def test_a_function_tells_its_progress_inside_the_block(queue):
    @queue.task
    def pay():
        with current_job().completing("receipt"):
            current_job().progress(1, 2)

    with queue.worker():
        job = pay.enqueue()
        assert job.result(10) == "receipt"
    assert job.refresh().progress.done == 1


def test_a_run_that_loses_its_job_inside_the_block_keeps_nothing(queue):
    stopped = []

    @queue.task(timeout=None)
    def pay(n: int) -> None:
        try:
            with current_job().completing() as db:
                db.execute("INSERT INTO paid VALUES (?)", (n,))
                if not stopped:  # as a rescue in the block itself would
                    db.execute("UPDATE litequeue_jobs SET attempt = attempt + 1")
        except Fenced:
            stopped.append(n)
            raise

    with queue.worker():
        job = ended(pay.enqueue(7))
    assert (rows(queue), stopped, job.status, job.attempt) == ([], [7], "failed", 1)


def test_a_run_that_uses_another_jobs_handle_fails_and_does_not_come_back_for_ever(queue):
    first = []

    @queue.task
    def work(n: int) -> None:
        first.append(current_job())
        first[0].progress(n, 10)

    @queue.task
    async def awork(n: int) -> None:
        first.append(current_job())
        await first[0].aprogress(n, 10)

    with queue.worker(threads=1):
        for task in (work, awork):
            first.clear()
            assert ended(task.enqueue(1)).status == "succeeded"
            job = ended(task.enqueue(10))
            assert (job.status, job.tries, job.errors[0].type) == ("failed", 1, "litequeue.Fenced")
