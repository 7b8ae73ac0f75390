"""Jobs that commit with the rows of an application that uses SQLAlchemy: within=session, within=connection."""

import asyncio
import threading

import pytest

from litequeue import DriverConflict, StoreBusy, StoreError, Unsupported
from litequeue.errors import JobNotFound
from litequeue.testing import ManualClock

sa = pytest.importorskip("sqlalchemy")
orm = pytest.importorskip("sqlalchemy.orm")
aio = pytest.importorskip("sqlalchemy.ext.asyncio")

sqlite3_only = pytest.mark.parametrize("driver", ["sqlite3"], indirect=True)
INSERT = sa.text("INSERT INTO mine VALUES (1)")


@pytest.fixture
def add(queue):
    @queue.task(name="add")
    def add(a=0):
        return a

    return add


def immediate(engine):
    """SQLAlchemy's own recipe, with IMMEDIATE."""

    @sa.event.listens_for(engine, "connect")
    def connect(raw, _record):
        raw.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@pytest.fixture(params=["as it is", "immediate"])
def engine(request, queue, database):
    engine = sa.create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE mine (x)"))
    if request.param == "immediate":
        immediate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def rows(engine):
    def count():
        with engine.connect() as connection:
            return connection.execute(sa.text("SELECT count(*) FROM mine")).scalar()

    return count


@sqlite3_only
def test_a_job_commits_with_the_session(queue, add, engine, rows):
    with orm.Session(engine) as session:
        session.execute(INSERT)
        job = add.using(within=session).enqueue(1)
        assert queue.jobs() == []
        session.commit()
    assert (rows(), queue.jobs()) == (1, [job])


@sqlite3_only
@pytest.mark.parametrize("end", ["rollback", "close"])
def test_a_job_goes_with_the_session_that_is_not_committed(queue, add, engine, rows, end):
    with orm.Session(engine) as session:
        session.execute(INSERT)
        job = add.using(within=session).enqueue(1)
        getattr(session, end)()
    assert (rows(), queue.jobs()) == (0, [])
    with pytest.raises(JobNotFound):
        job.refresh()


@sqlite3_only
def test_a_scoped_session_is_that_of_this_thread(queue, add, engine):
    session = orm.scoped_session(orm.sessionmaker(engine))
    job = add.using(within=session).enqueue(1)
    session.commit()
    session.remove()
    assert queue.jobs() == [job]


@sqlite3_only
def test_a_job_is_the_first_that_a_connection_does_and_is_committed_with_it(queue, add, engine):
    """SQLAlchemy has begun nothing by then: its commit() would do nothing."""
    with engine.connect() as connection:
        job = add.using(within=connection).enqueue(1)
        connection.commit()
    assert queue.jobs() == [job]
    with engine.connect() as connection:
        add.using(within=connection).enqueue(2)
    assert queue.jobs() == [job]


@sqlite3_only
@pytest.mark.parametrize("engine", ["immediate"], indirect=True)
def test_a_savepoint_that_is_rolled_back_takes_its_jobs_along(queue, add, engine, clock):
    with orm.Session(engine) as session, session.begin():
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            lost = add.using(within=session).enqueue(1)
            raise ZeroDivisionError
        clock.advance("1s")
        kept = add.using(within=session).enqueue_many([(2,), (3,)])
    assert sorted(queue.jobs(), key=lambda job: int(job.id)) == kept
    with pytest.raises(JobNotFound):
        lost.refresh()


@sqlite3_only
def test_workers_are_notified_of_a_commit_and_of_no_rollback(queue, add, engine, monkeypatch):
    told = []
    monkeypatch.setattr(queue.engine.jobs._kernel.notifier, "notify", lambda message, **_: told.append(message))
    with engine.connect() as connection:
        add.using(within=connection).enqueue(1)
        connection.rollback()
        connection.execute(INSERT)
        connection.commit()
        assert told == []
        add.using(within=connection).enqueue_many([(2,), (3,)])
        add.using(within=connection).enqueue(4)
        connection.commit()
        assert len(told) == 1
        connection.execute(INSERT)
        connection.commit()
    assert len(told) == 1


@sqlite3_only
def test_a_worker_begins_the_job_by_the_notification_alone(open_queue, database, monkeypatch):
    monkeypatch.setattr("litequeue.worker.loop.POLL", 3600.0)
    queue = open_queue()
    queue.clock = queue.engine.clock = ManualClock()
    begun = threading.Event()

    @queue.task(name="begin")
    def begin():
        begun.set()

    engine = sa.create_engine(f"sqlite:///{database}")
    with queue.worker(threads=1, coroutines=1) as worker, orm.Session(engine) as session:
        worker.wait_until_started()
        begin.enqueue().result(timeout=60)
        begun.clear()
        begin.using(within=session).enqueue()
        session.commit()
        assert begun.wait(60)
    engine.dispose()


@sqlite3_only
@pytest.mark.parametrize("kind", ["session", "connection"])
def test_a_job_commits_with_an_async_session_or_connection(queue, add, engine, database, kind):
    async def main():
        asynchronous = aio.create_async_engine(f"sqlite+aiosqlite:///{database}")
        opened = {"session": lambda: aio.AsyncSession(asynchronous), "connection": asynchronous.connect}
        async with opened[kind]() as given:
            kept = await add.using(within=given).aenqueue(1)
            await given.commit()
            await add.using(within=given).aenqueue(2)
            await given.rollback()
            with pytest.raises(Unsupported, match="aenqueue"):
                add.using(within=given).enqueue(3)
        await asynchronous.dispose()
        return kept

    assert [asyncio.run(main())] == queue.jobs()


@sqlite3_only
def test_a_savepoint_of_an_async_session_takes_its_jobs_along(queue, add, database):
    asynchronous = aio.create_async_engine(f"sqlite+aiosqlite:///{database}")
    immediate(asynchronous.sync_engine)

    async def main():
        async with aio.AsyncSession(asynchronous) as session, session.begin():
            with pytest.raises(ZeroDivisionError):
                async with session.begin_nested():
                    await add.using(within=session).aenqueue(1)
                    raise ZeroDivisionError
            kept = await add.using(within=session).aenqueue(2)
        await asynchronous.dispose()
        return kept

    assert [asyncio.run(main())] == queue.jobs()


@sqlite3_only
def test_a_transaction_that_has_read_and_cannot_write_any_more_says_so_and_stores_nothing(queue, add, database):
    """BEGIN without IMMEDIATE: SQLite refuses the upgrade at once, in spite of any busy timeout."""
    engine = sa.create_engine(f"sqlite:///{database}")

    @sa.event.listens_for(engine, "connect")
    def connect(raw, _record):
        raw.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("BEGIN")

    with engine.connect() as connection:
        connection.execute(sa.text("SELECT count(*) FROM litequeue_jobs")).all()
        other = add.enqueue(1)
        with pytest.raises(StoreBusy, match=r"only reads so far.*BEGIN IMMEDIATE"):
            add.using(within=connection).enqueue(2)
        connection.rollback()
        mine = add.using(within=connection).enqueue(3)
        connection.commit()
    assert queue.jobs() == [mine, other]
    engine.dispose()


@sqlite3_only
def test_an_autocommit_connection_is_refused(queue, add, database):
    engine = sa.create_engine(f"sqlite:///{database}", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, pytest.raises(StoreError, match="no transaction open"):
        add.using(within=connection).enqueue(1)
    engine.dispose()
    assert queue.jobs() == []


def test_another_file_is_refused(queue, add, tmp_path, driver):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'another.db'}")
    wrong = DriverConflict if driver == "apsw" else StoreError
    with orm.Session(engine) as session, pytest.raises(wrong, match="within="):
        add.using(within=session).enqueue(1)
    engine.dispose()
    assert queue.jobs() == []


@pytest.mark.parametrize("given", [sa.create_engine("sqlite://"), orm.sessionmaker(), 7])
def test_what_is_no_connection_is_refused(add, given):
    with pytest.raises(DriverConflict, match="SQLAlchemy"):
        add.using(within=given).enqueue(1)
