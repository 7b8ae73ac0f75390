"""Jobs that commit with the application's own rows: queue.transaction(), queue.atransaction(), within=."""

import asyncio
import contextlib
import gc
import itertools
import sqlite3
import subprocess
import sys

import aiosqlite
import pytest

from contract.jobs import Hands, put
from contract.writing import is_taken
from litequeue import DriverConflict, KeyConflict, StoreBusy, StoreError, Unsupported
from litequeue.core.records import Status
from litequeue.errors import Fenced, JobNotFound

sqlite3_only = pytest.mark.parametrize("driver", ["sqlite3"], indirect=True)


@pytest.fixture
def add(queue):
    @queue.task(name="add")
    def add(a=0): ...

    return add


@pytest.fixture
def rows(queue, connect):
    """Count the rows of an application's table, from a connection of its own."""
    connection = connect()
    connection.execute("CREATE TABLE mine (x)")
    return lambda: connection.execute("SELECT count(*) FROM mine").fetchall()[0][0]


INSERT = "INSERT INTO mine VALUES (1)"


# queue.transaction()


def test_rows_and_jobs_commit_together(queue, add, rows):
    with queue.transaction() as db:
        db.execute(INSERT)
        job = add.enqueue(1)
        assert (rows(), queue.jobs()) == (0, [])
    assert (rows(), queue.jobs()) == (1, [job])


def test_an_error_rolls_both_back(queue, add, rows):
    with pytest.raises(ZeroDivisionError), queue.transaction() as db:
        db.execute(INSERT)
        add.enqueue(1)
        raise ZeroDivisionError
    assert (rows(), queue.jobs()) == (0, [])


def conflicting(queue):
    """Calls of which the second cannot be stored, as the arguments of the key's holder are others."""

    @queue.task(name="keyed", unique="{key}")
    def keyed(key, value): ...

    keyed.enqueue("b", 1)
    return keyed, [("a", 1), ("b", 2), ("c", 3)]


def test_many_calls_one_of_which_is_refused_leave_nothing_in_a_transaction_that_goes_on(queue, add):
    keyed, calls = conflicting(queue)
    with queue.transaction():
        with pytest.raises(KeyConflict):
            keyed.enqueue_many(calls)
        add.enqueue(1)
        assert len(keyed.enqueue_many([("d", 1), ("e", 1)])) == 2
    assert sorted(job.task for job in queue.jobs()) == ["add", "keyed", "keyed", "keyed"]


def test_many_calls_one_of_which_is_refused_leave_nothing_in_a_coroutines_transaction(queue, add):
    keyed, calls = conflicting(queue)

    async def main():
        async with queue.atransaction():
            with pytest.raises(KeyConflict):
                await keyed.aenqueue_many(calls)
            await add.aenqueue(1)

    asyncio.run(main())
    assert sorted(job.task for job in queue.jobs()) == ["add", "keyed"]


def test_many_calls_one_of_which_is_refused_leave_nothing_in_a_transaction_of_ones_own(queue, connect):
    keyed, calls = conflicting(queue)
    connection = connect()
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(KeyConflict):
        keyed.using(within=connection).enqueue_many(calls)
    connection.execute("COMMIT")
    assert len(queue.jobs()) == 1


def test_the_next_caller_goes_on_after_a_rollback(queue, add):
    with contextlib.suppress(ZeroDivisionError), queue.transaction():
        raise ZeroDivisionError
    assert [add.enqueue(1)] == queue.jobs()


def test_a_transaction_in_a_transaction_is_refused_and_the_first_goes_on(queue, add, rows):
    with queue.transaction() as db:
        db.execute(INSERT)
        with pytest.raises(StoreError, match="open already here"), queue.transaction():
            pass
        add.enqueue(1)
    assert (rows(), len(queue.jobs())) == (1, 1)


@pytest.mark.parametrize("verb", ["commit", "rollback"])
def test_a_transaction_that_is_ended_inside_the_block_is_told_of(queue, add, verb):
    with pytest.raises(StoreError, match="leave commit and rollback to litequeue"), queue.transaction() as db:
        add.enqueue(1)
        db.execute(verb)
    assert len(queue.jobs()) == (1 if verb == "commit" else 0)
    add.enqueue(2)


def test_jobs_are_cancelled_and_retried_inside_a_transaction_or_not_at_all(queue, add):
    first, second = add.enqueue(1), add.enqueue(2)
    second.cancel()
    with pytest.raises(ZeroDivisionError), queue.transaction():
        assert first.cancel()
        second.retry()
        raise ZeroDivisionError
    assert (first.refresh().status, second.refresh().status) == (Status.QUEUED, Status.CANCELLED)
    with queue.transaction():
        first.cancel()
        second.retry()
    assert (first.refresh().status, second.refresh().status) == (Status.CANCELLED, Status.QUEUED)


def test_a_result_cannot_be_waited_for_inside_a_transaction(queue, add):
    with queue.transaction():
        job = add.enqueue(1)
        with pytest.raises(StoreError, match="starts only after its commit"):
            job.result(timeout=1)


def test_a_transaction_cannot_be_closed_from_inside(queue):
    with queue.transaction(), pytest.raises(StoreError, match="open already"):
        queue.close()


def test_many_jobs_inside_a_transaction_are_all_there_or_none(queue, add):
    with queue.transaction():
        add.enqueue_many([(1,), (2,), (3,)])
    assert len(queue.jobs()) == 3


def test_another_threads_enqueue_waits_for_the_transaction_and_is_not_in_it(queue, add):
    import threading

    thread = threading.Thread(target=add.enqueue)
    with contextlib.suppress(ZeroDivisionError), queue.transaction():
        thread.start()
        raise ZeroDivisionError
    thread.join(10)
    assert len(queue.jobs()) == 1


# queue.atransaction()


async def execute(db, sql):
    """Run a statement on what atransaction() yields: an aiosqlite connection, or apsw's own."""
    done = db.execute(sql)
    if hasattr(done, "__await__"):
        await done


def test_rows_and_jobs_commit_together_on_the_loop(queue, add, rows):
    async def main():
        async with queue.atransaction() as db:
            await execute(db, INSERT)
            job = await add.aenqueue(1)
            assert (rows(), queue.jobs()) == (0, [])
            return job

    assert [asyncio.run(main())] == queue.jobs()
    assert rows() == 1


def test_an_error_rolls_both_back_on_the_loop(queue, add, rows):
    async def main():
        async with queue.atransaction() as db:
            await execute(db, INSERT)
            await add.aenqueue(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
    assert (rows(), queue.jobs()) == (0, [])


def test_everything_works_inside_atransaction(queue, add):
    first, second = add.enqueue(1), add.enqueue(2)
    second.cancel()

    async def main():
        async with queue.atransaction():
            assert await first.acancel()
            await second.aretry()
            await add.using(key="k").aenqueue(3)
            return await add.using(key="k").aenqueue(3), await add.aenqueue_many([(4,), (5,)])

    keyed, _ = asyncio.run(main())
    assert [str(job.refresh().status) for job in (first, second, keyed)] == ["cancelled", "queued", "queued"]
    assert len(queue.jobs()) == 5


def test_an_atransaction_in_an_atransaction_is_refused_and_the_first_goes_on(queue, add):
    async def main():
        async with queue.atransaction():
            with pytest.raises(StoreError, match="open already here"):
                async with queue.atransaction():
                    pass
            await add.aenqueue(1)

    asyncio.run(main())
    assert len(queue.jobs()) == 1


@pytest.mark.parametrize("verb", ["commit", "rollback"])
def test_an_atransaction_that_is_ended_inside_the_block_is_told_of(queue, add, verb):
    async def main():
        async with queue.atransaction() as db:
            await add.aenqueue(1)
            await execute(db, verb)

    with pytest.raises(StoreError, match="leave commit and rollback to litequeue"):
        asyncio.run(main())
    assert len(queue.jobs()) == (1 if verb == "commit" else 0)
    add.enqueue(2)


def test_a_cancelled_atransaction_leaves_the_file_unlocked_and_nothing_in_it(queue, add, rows):
    async def main():
        inside = asyncio.Event()

        async def work():
            async with queue.atransaction() as db:
                await execute(db, INSERT)
                await add.aenqueue(1)
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (rows(), queue.jobs()) == (0, [])
    assert [add.enqueue(2)] == queue.jobs()


def test_of_calls_cancelled_while_they_are_stored_inside_an_atransaction_all_or_none_are(queue, add):
    async def main():
        async with queue.atransaction():
            asyncio.get_running_loop().call_later(0.01, asyncio.current_task().cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await add.aenqueue_many([(number,) for number in range(400)])
                await asyncio.sleep(5)

    asyncio.run(main())
    assert len(queue.jobs(limit=1000)) in {0, 400}


def test_an_atransaction_cancelled_while_it_waits_to_begin_leaves_the_file_unlocked(queue, add, connect):
    other = connect()

    async def main():
        other.execute("BEGIN IMMEDIATE")
        task = asyncio.create_task(use(queue))
        await until(lambda: is_taken(queue.engine.kernel.writer))
        task.cancel()
        other.execute("COMMIT")
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [add.enqueue(1)] == queue.jobs()
    other.execute("BEGIN IMMEDIATE")
    other.execute("COMMIT")


def test_an_atransaction_cancelled_at_any_step_leaves_no_connection_behind(queue, add):
    """Python 3.13 and newer warn of a connection that nobody closed."""

    async def main():
        for steps in range(60):
            task = asyncio.create_task(use(queue))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(main())
    gc.collect()
    assert [add.enqueue(2)] == queue.jobs()


@pytest.mark.parametrize("way", ["aenqueue", "atransaction"])
def test_a_job_whose_caller_was_cancelled_at_any_step_is_news_to_the_workers_here(queue, add, connect, way):
    """A caller that is cancelled between the commit and the notification never notifies."""
    other, kept = connect(), []

    async def enqueue():
        if way == "aenqueue":
            await add.aenqueue(1)
        else:
            async with queue.atransaction():
                await add.aenqueue(1)

    async def main(steps, busy):
        if busy:
            other.execute("BEGIN IMMEDIATE")
        task = asyncio.create_task(enqueue())
        for _ in range(steps * steps):
            await asyncio.sleep(0)
        task.cancel()
        if busy:
            other.execute("COMMIT")
        with contextlib.suppress(asyncio.CancelledError):
            await task

    for steps in itertools.takewhile(lambda steps: steps < 40 or not kept, itertools.count()):
        before, jobs = queue.engine.maintenance.version(), len(queue.jobs(limit=1000))
        asyncio.run(main(steps, busy=steps % 2))
        with queue.engine.kernel.writer.exclusive():
            pass  # whatever was handed in is through
        if len(queue.jobs(limit=1000)) > jobs:
            kept.append(steps)
            assert queue.engine.maintenance.version() != before, steps


async def use(queue):
    async with queue.atransaction():
        pass


async def until(true):
    """Let the loop turn until `true()`."""
    async with asyncio.timeout(10) if sys.version_info >= (3, 11) else contextlib.AsyncExitStack():
        while not true():
            await asyncio.sleep(0)


def test_a_task_made_inside_atransaction_is_not_in_it(queue, add):
    async def main():
        async with queue.atransaction():
            child = asyncio.create_task(add.aenqueue(1))
            await asyncio.sleep(0)
            await add.aenqueue(2)
            assert not child.done()
        return await child

    asyncio.run(main())
    assert len(queue.jobs()) == 2


def test_a_task_made_inside_an_atransaction_that_fails_still_enqueues(queue, add):
    async def main():
        with contextlib.suppress(ZeroDivisionError):
            async with queue.atransaction():
                child = asyncio.create_task(add.aenqueue(1))
                await asyncio.sleep(0)
                raise ZeroDivisionError
        return await child

    assert [asyncio.run(main())] == queue.jobs()


@sqlite3_only
def test_with_aiosqlite_the_sync_methods_say_which_ones_work(queue, add):
    async def main():
        async with queue.atransaction():
            with pytest.raises(StoreError, match="only the async methods work"):
                add.enqueue(1)

    asyncio.run(main())


def test_threads_go_on_after_an_atransaction(queue, add):
    asyncio.run(use(queue))
    asyncio.run(use(queue))
    assert [add.enqueue(1)] == queue.jobs()


# acompleting


@pytest.fixture
def job(queue, add):
    put(queue.engine)
    return Hands(queue.engine).take()


def test_acompleting_commits_the_callers_rows_and_the_success_together(queue, job, rows):
    async def main():
        async with queue.engine.runs.acompleting(job, b"5", 60.0) as db:
            await execute(db, INSERT)

    asyncio.run(main())
    assert (rows(), queue.engine.jobs.look_up(job.id).result) == (1, b"5")


def test_a_cancel_amid_the_commit_of_acompleting_leaves_the_success_told(queue, job, rows, monkeypatch):
    """What is not told of it would be settled a second time, and logged as too late."""
    told, cancel = [], []

    def watch(plain):
        def watched(first, sql, *rest):
            if sql == "COMMIT":
                cancel[0]()
            return plain(first, sql, *rest)

        return watched

    async def complete():
        async with queue.engine.runs.acompleting(job, b"5", 60.0, lambda: told.append(job.id)) as db:
            await execute(db, INSERT)

    async def main():
        task = asyncio.create_task(complete())
        loop = asyncio.get_running_loop()
        cancel.append(lambda: loop.call_soon_threadsafe(task.cancel))
        if queue.engine.driver_name == "apsw":
            kind = type(queue.engine.kernel.writer.ready(durable=True))
            monkeypatch.setattr(kind, "script", watch(kind.script))
        else:
            cancel[0] = task.cancel
            monkeypatch.setattr(aiosqlite.Connection, "execute_fetchall", watch(aiosqlite.Connection.execute_fetchall))
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert told == [job.id]
    assert (rows(), queue.engine.jobs.look_up(job.id).result) == (1, b"5")


@pytest.mark.parametrize("ended", ["COMMIT", "ROLLBACK"])
def test_a_transaction_that_is_ended_in_its_block_and_another_begun_is_refused(queue, add, rows, ended):
    def use():
        with queue.transaction() as db:
            db.execute(ended)
            db.execute("BEGIN IMMEDIATE")
            db.execute(INSERT)
            add.enqueue(1)

    with pytest.raises(StoreError, match="was ended inside the block"):
        use()
    assert (rows(), queue.jobs()) == (0, [])
    with queue.transaction() as db:
        db.execute(INSERT)
        add.enqueue(2)
    assert (rows(), len(queue.jobs())) == (1, 1)


def test_an_atransaction_that_is_ended_in_its_block_and_another_begun_is_refused(queue, add, rows):
    async def main():
        async with queue.atransaction() as db:
            await execute(db, "COMMIT")
            await execute(db, "BEGIN IMMEDIATE")
            await execute(db, INSERT)
            await add.aenqueue(1)

    with pytest.raises(StoreError, match="was ended inside the block"):
        asyncio.run(main())
    assert (rows(), queue.jobs()) == (0, [])
    assert [add.enqueue(1)] == queue.jobs()


def test_an_error_inside_acompleting_leaves_neither_rows_nor_success(queue, job, rows):
    async def main():
        async with queue.engine.runs.acompleting(job, b"5", 60.0) as db:
            await execute(db, INSERT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
    assert (rows(), queue.job(job.id).status) == (0, Status.RUNNING)


def test_acompleting_is_refused_to_a_late_worker(queue, job, rows):
    queue.engine.runs.rescue(int(queue.engine.jobs.look_up(job.id).worker), None, blame=False)

    async def main():
        with pytest.raises(Fenced):
            async with queue.engine.runs.acompleting(job, b"5", 60.0):
                pytest.fail("the block must not be entered")

    asyncio.run(main())
    assert queue.job(job.id).status is Status.QUEUED


# within=


@pytest.fixture
def within(connect, driver, rows):
    """A connection of the application's own with a transaction open."""
    connection = connect()
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_a_job_enqueued_within_commits_with_the_callers_transaction(queue, add, within, rows):
    within.execute(INSERT)
    job = add.using(within=within).enqueue(1)
    assert queue.jobs() == []
    within.execute("COMMIT")
    assert (queue.jobs(), rows()) == ([job], 1)


def test_a_job_enqueued_within_is_rolled_back_with_the_callers_transaction(queue, add, within):
    add.using(within=within).enqueue(1)
    within.execute("ROLLBACK")
    assert queue.jobs() == []


def test_many_jobs_and_keys_work_within(queue, add, within):
    first = add.using(within=within, key="k").enqueue(1)
    assert add.using(within=within, key="k").enqueue(1) == first
    add.using(within=within).enqueue_many([(2,), (3,)])
    within.execute("COMMIT")
    assert len(queue.jobs()) == 3


def test_the_async_methods_take_a_plain_connection_too(queue, add, within):
    job = asyncio.run(add.using(within=within).aenqueue(1))
    within.execute("COMMIT")
    assert queue.jobs() == [job]


def test_within_without_a_transaction_is_refused(queue, add, connect):
    with pytest.raises(StoreError, match="no transaction open; begin one first"):
        add.using(within=connect()).enqueue(1)
    assert queue.jobs() == []


def test_within_a_connection_to_another_file_is_refused(queue, add, connect, tmp_path):
    for place in (tmp_path / "other.db", ":memory:"):
        other = connect(place)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="but the queue's file is"):
            add.using(within=other).enqueue(1)
        other.execute("ROLLBACK")


def test_within_a_connection_of_another_library_is_refused(queue, add, driver):
    import apsw

    with contextlib.closing(sqlite3.connect(":memory:") if driver == "apsw" else apsw.Connection(":memory:")) as other:
        with pytest.raises(DriverConflict, match=r"driver='sqlite3'\) it takes connections of sqlite3 and aiosqlite"):
            add.using(within=other).enqueue(1)
        with pytest.raises(DriverConflict):
            asyncio.run(add.using(within=other).aenqueue(1))


def test_within_what_is_no_connection_is_refused(queue, add):
    with pytest.raises(DriverConflict, match="got builtins"):
        add.using(within="app.db").enqueue(1)


def test_within_what_is_no_connection_is_refused_also_where_aiosqlite_was_never_imported(queue, add, monkeypatch):
    monkeypatch.delitem(sys.modules, "aiosqlite")
    with pytest.raises(DriverConflict, match="got builtins"):
        add.using(within="app.db").enqueue(1)


def as_dict(cursor, row):
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def as_apsw_dict(cursor, row):
    return dict(zip([column[0] for column in cursor.get_description()], row, strict=True))


def test_a_row_factory_of_the_callers_is_no_hindrance(queue, add, within, driver):
    if driver == "apsw":
        within.row_trace = as_apsw_dict
    else:
        within.row_factory = as_dict
    first = add.using(within=within, key="k").enqueue(1)
    assert add.using(within=within, key="k").enqueue(1).id == first.id == "1"
    within.execute("COMMIT")
    assert queue.jobs() == [first]


@sqlite3_only
@pytest.mark.parametrize("level", ["", "IMMEDIATE"])
def test_a_sqlite3_connection_that_begins_by_itself_is_begun(queue, add, connect, level):
    connection = connect(isolation_level=level)
    job = add.using(within=connection).enqueue(1)
    assert queue.jobs() == []
    connection.commit()
    assert queue.jobs() == [job]


@sqlite3_only
@pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has autocommit= since 3.12")
@pytest.mark.parametrize("autocommit", [True, False])
def test_a_sqlite3_connection_with_autocommit_keeps_to_its_kind(queue, add, connect, autocommit):
    connection = connect(autocommit=autocommit, isolation_level="IMMEDIATE")
    if autocommit:  # its commit() does nothing: a transaction begun by us would stay open
        with pytest.raises(StoreError, match="no transaction open"):
            add.using(within=connection).enqueue(1)
    else:
        add.using(within=connection).enqueue(1)
        connection.commit()
    assert len(queue.jobs()) == (0 if autocommit else 1)


@sqlite3_only
@pytest.mark.parametrize("verb", ["commit", "rollback"])
@pytest.mark.parametrize("level", [None, ""])
@pytest.mark.parametrize("factory", [None, as_dict, sqlite3.Row])
def test_a_job_enqueued_within_an_aiosqlite_connection_shares_its_fate(queue, add, verb, level, factory):
    async def main():
        async with aiosqlite.connect(queue.path, isolation_level=level) as db:
            db.row_factory = factory
            if level is None:
                await db.execute("BEGIN IMMEDIATE")
            job = await add.using(within=db, key="k").aenqueue(1)
            assert await add.using(within=db, key="k").aenqueue(1) == job
            await getattr(db, verb)()

    asyncio.run(main())
    assert len(queue.jobs()) == (1 if verb == "commit" else 0)


@sqlite3_only
def test_an_aiosqlite_connection_without_a_transaction_is_refused(queue, add):
    async def main():
        async with aiosqlite.connect(queue.path, isolation_level=None) as db:
            with pytest.raises(StoreError, match="no transaction open"):
                await add.using(within=db).aenqueue(1)

    asyncio.run(main())


@sqlite3_only
def test_an_aiosqlite_connection_to_another_file_is_refused(queue, add, tmp_path):
    async def main():
        async with aiosqlite.connect(tmp_path / "other.db") as db:
            with pytest.raises(StoreError, match="but the queue's file is"):
                await add.using(within=db).aenqueue(1)

    asyncio.run(main())


def test_an_aiosqlite_connection_is_for_the_async_methods_and_the_sqlite3_driver(queue, add, driver):
    async def main():
        async with aiosqlite.connect(":memory:") as db:
            with pytest.raises(Unsupported, match="use aenqueue"):
                add.using(within=db).enqueue(1)
            if driver == "apsw":
                with pytest.raises(DriverConflict, match="got aiosqlite"):
                    await add.using(within=db).aenqueue(1)

    asyncio.run(main())


@sqlite3_only
def test_errors_on_the_callers_connection_come_as_ours(queue, add):
    async def main():
        async with aiosqlite.connect(queue.path, isolation_level=None) as db:
            await db.execute("BEGIN IMMEDIATE")
            await db.execute("DROP TABLE litequeue_jobs")
            with pytest.raises(StoreError, match="no such table"):
                await add.using(within=db).aenqueue(1)
            await db.rollback()

    asyncio.run(main())


# What a block leaves behind


def rolled_back(queue, add):
    with contextlib.suppress(ZeroDivisionError), queue.transaction():
        lost = add.enqueue(1)
        raise ZeroDivisionError
    return lost


def test_the_handle_of_a_job_that_was_rolled_back_is_no_other_jobs(queue, add, clock):
    lost = rolled_back(queue, add)
    clock.advance(1)
    other = add.using(delay=60).enqueue(2)
    assert other.id == lost.id  # SQLite gives the number again
    for act in (lost.cancel, lost.retry, lost.refresh, lambda: lost.result(0.1)):
        with pytest.raises(JobNotFound):
            act()
    for aact in (lost.acancel, lost.aretry, lost.arefresh, lambda: lost.aresult(0.1)):
        with pytest.raises(JobNotFound):
            asyncio.run(aact())
    assert other.refresh().status == "scheduled"


def test_a_job_can_be_cancelled_inside_the_block_that_enqueued_it_and_after(queue, add):
    with queue.transaction():
        inside, after = add.enqueue(1), add.enqueue(2)
        assert inside.cancel()
    assert after.cancel()
    assert [inside.refresh().status, after.refresh().status] == ["cancelled", "cancelled"]


def spoil(db, driver):
    if driver == "apsw":
        db.row_trace = lambda cursor, row: dict(zip([d[0] for d in cursor.get_description()], row, strict=True))
    else:
        db.row_factory = sqlite3.Row
        db.text_factory = bytes


def test_what_a_caller_does_to_the_rows_of_the_connection_is_no_business_of_ours(queue, add, driver, store):
    with queue.transaction() as db:
        spoil(db, driver)
        inside = add.enqueue(1)
    later = add.enqueue(2)
    assert {inside.refresh().status, later.refresh().status} == {"queued"}
    assert len(Hands(queue.engine, "add").claim(5)) == 2


def test_a_caller_who_closes_the_connection_loses_the_block_and_nothing_else(queue, add):
    with pytest.raises(StoreError, match="ended inside the block"), queue.transaction() as db:
        add.enqueue(1)
        db.close()
    assert [add.enqueue(2)] == queue.jobs()
    with queue.transaction():
        add.enqueue(3)
    assert len(queue.jobs()) == 2


@pytest.mark.parametrize(
    "write",
    [
        lambda add, old: add.enqueue(2),
        lambda add, old: add.enqueue_many([(2,), (3,)]),
        lambda add, old: add.using(key="k").enqueue(2),
        lambda add, old: old.cancel(),
    ],
    ids=["enqueue", "enqueue_many", "key", "cancel"],
)
@pytest.mark.parametrize("verb", ["rollback", "commit", "close"])
def test_after_an_end_inside_the_block_nothing_more_is_stored(queue, add, rows, verb, write):
    """Each statement would be a transaction of its own, and stay though the block raises."""
    old = add.enqueue(1)
    with pytest.raises(StoreError, match="ended inside the block"), queue.transaction() as db:
        db.execute(INSERT)
        db.close() if verb == "close" else db.execute(verb)
        write(add, old)
    assert (rows(), queue.jobs(), old.refresh().status) == (verb == "commit", [old], "queued")


@pytest.mark.parametrize(
    "write",
    [
        lambda add, old: add.aenqueue(2),
        lambda add, old: add.aenqueue_many([(2,), (3,)]),
        lambda add, old: old.acancel(),
    ],
    ids=["aenqueue", "aenqueue_many", "acancel"],
)
@pytest.mark.parametrize("verb", ["rollback", "commit"])
def test_after_an_end_inside_the_block_nothing_more_is_stored_from_a_loop(queue, add, rows, verb, write):
    old = add.enqueue(1)

    async def main():
        async with queue.atransaction() as db:
            await execute(db, INSERT)
            await execute(db, verb)
            await write(add, old)

    with pytest.raises(StoreError, match="ended inside the block"):
        asyncio.run(main())
    assert (rows(), queue.jobs(), old.refresh().status) == (verb == "commit", [old], "queued")


# a wait for this process's own transaction


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/locks")
@pytest.mark.parametrize("ask", ["enqueue", "transaction", "within"])
def test_a_wait_for_a_transaction_of_this_very_process_is_told_as_that(open_queue, connect, ask):
    queue = open_queue(on_connect=lambda db: db.execute("PRAGMA busy_timeout = 1"))
    add = queue.task(name="add")(lambda: None)
    mine, other = connect(), connect()
    mine.execute("BEGIN IMMEDIATE")
    other.execute("PRAGMA busy_timeout = 1")
    if ask == "within":
        other.execute("BEGIN")
    with pytest.raises(StoreBusy, match=r"this process itself.*within="):
        if ask == "transaction":
            with queue.transaction():
                pass
        else:
            (add if ask == "enqueue" else add.using(within=other)).enqueue()
    mine.execute("ROLLBACK")
    assert queue.jobs() == []


HOLDS = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_wait_for_another_process_is_told_as_that_of_another_writer(open_queue):
    queue = open_queue(on_connect=lambda db: db.execute("PRAGMA busy_timeout = 1"))
    add = queue.task(name="add")(lambda: None)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(queue.path)], **pipes) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StoreBusy, match=r"^the file was locked .* by another writer"):
            add.enqueue()
        other.stdin.close()
