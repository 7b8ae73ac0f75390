"""The connection that callers get in their blocks: foreign keys, on_connect, and what one leaves to the next."""

import asyncio
import contextlib
import sqlite3
import sys

import apsw
import pytest

from litequeue import JobFailed, Queue, StoreError, current_job

CONSTRAINT = (apsw.ConstraintError, sqlite3.IntegrityError)
BLOCKS = ["transaction", "atransaction", "completing", "acompleting"]

sqlite3_only = pytest.mark.parametrize("driver", ["sqlite3"], indirect=True)
apsw_only = pytest.mark.parametrize("driver", ["apsw"], indirect=True)


@pytest.fixture
def run_in(driver):
    """Run some SQL of the application's in one kind of block, and return the rows of the last one, or the error."""

    def running(queue, block, *statements):
        async def in_async(scope):
            async with scope as db:
                for sql in statements:
                    cursor = await db.execute(sql) if driver == "sqlite3" else db.execute(sql)
                    rows = await cursor.fetchall() if driver == "sqlite3" else cursor.fetchall()
            return [list(row) for row in rows]

        def in_sync(scope):
            with scope as db:
                for sql in statements:
                    rows = db.execute(sql).fetchall()
            return [list(row) for row in rows]

        if block == "transaction":
            return in_sync(queue.transaction())
        if block == "atransaction":
            return asyncio.run(in_async(queue.atransaction()))
        seen = []

        def plain():
            seen.append(in_sync(current_job().completing()))

        async def coroutine():
            seen.append(await in_async(current_job().acompleting()))

        job = queue.task(name=f"job {len(queue.tasks)}")(plain if block == "completing" else coroutine).enqueue()
        queue.worker(threads=1).run(until_idle=True)
        job.result(timeout=0)
        return seen[0]

    return running


TABLES = (
    "CREATE TABLE customer (id INTEGER PRIMARY KEY)",
    "CREATE TABLE invoice (customer INTEGER NOT NULL REFERENCES customer ON DELETE CASCADE)",
    "INSERT INTO customer VALUES (1)",
    "INSERT INTO invoice VALUES (1)",
)


@pytest.mark.parametrize("block", BLOCKS)
def test_foreign_keys_are_enforced_in_every_kind_of_block(open_queue, run_in, block):
    queue = open_queue(foreign_keys=True)
    run_in(queue, "transaction", *TABLES)
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        run_in(queue, block, "INSERT INTO invoice VALUES (4711)")
    found = run_in(queue, block, "DELETE FROM customer", "SELECT count(*) FROM invoice")
    assert found == [[0]]


def test_without_the_option_they_are_sqlites_own_default(open_queue, run_in):
    queue = open_queue()
    run_in(queue, "transaction", *TABLES)
    assert run_in(queue, "transaction", "PRAGMA foreign_keys") == [[0]]


def test_a_deferred_foreign_key_fails_the_commit_and_nothing_is_kept(open_queue, run_in):
    queue = open_queue(foreign_keys=True)
    add = queue.task(name="add")(lambda: None)
    run_in(queue, "transaction", *TABLES[:1])
    run_in(
        queue, "transaction", "CREATE TABLE late (id REFERENCES customer DEFERRABLE INITIALLY DEFERRED)"
    )  # fmt: skip
    with pytest.raises(StoreError, match=r"(?i)foreign key"), queue.transaction() as db:
        add.enqueue()
        db.execute("INSERT INTO late VALUES (4711)")
    assert queue.jobs() == []
    add.enqueue()


def test_the_options_are_checked_where_they_are_given(database):
    async def connect(db): ...

    with pytest.raises(TypeError, match="foreign_keys must be True or False"):
        Queue(database, foreign_keys="yes")
    for wrong in ("PRAGMA foreign_keys = on", connect):
        with pytest.raises(TypeError, match="on_connect must be a plain function"):
            Queue(database, on_connect=wrong)


# on_connect


@pytest.mark.parametrize("block", BLOCKS)
def test_on_connect_gets_each_connection_before_a_block_does(open_queue, run_in, driver, block):
    seen = []

    def on_connect(db):
        seen.append((type(db).__mro__[-2].__module__, db.in_transaction))
        db.execute("PRAGMA recursive_triggers = on")
        db.execute("CREATE TEMP TABLE mine (x)")

    queue = open_queue(on_connect=on_connect)
    for _ in range(2):
        assert run_in(queue, block, "INSERT INTO mine VALUES (1)", "PRAGMA recursive_triggers") == [[1]]
    assert set(seen) == {(driver, False)}
    if block == "transaction":
        assert len(seen) == 1  # what it has set is no reason to open another


@pytest.mark.parametrize("block", ["transaction", "atransaction", "enqueue"])
def test_an_error_of_on_connect_reaches_the_caller_as_it_is_and_nothing_is_left_open(open_queue, run_in, block):
    wrong = [LookupError("no such extension")]

    def on_connect(db):
        if wrong:
            raise wrong[0]

    queue = open_queue(on_connect=on_connect)
    add = queue.task(name="add")(lambda: None)
    call = add.enqueue if block == "enqueue" else lambda: run_in(queue, block, "SELECT 1")
    for _ in range(2):
        with pytest.raises(LookupError, match="no such extension"):
            call()
    wrong.clear()
    call()
    queue.close()
    if sys.platform == "linux":
        import os

        held = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        assert [path for path in held if path.startswith(str(queue.path))] == []


def test_on_connect_must_not_leave_a_transaction_open(open_queue, run_in):
    queue = open_queue(on_connect=lambda db: db.execute("BEGIN"))
    with pytest.raises(StoreError, match="on_connect left a transaction open"):
        run_in(queue, "transaction", "SELECT 1")


def test_on_connect_must_not_write_to_the_queue_itself(open_queue):
    queue = open_queue(on_connect=lambda db: add.enqueue())
    add = queue.task(name="add")(lambda: None)
    with pytest.raises(StoreError, match="on_connect must not write"):
        add.enqueue()


def test_durability_is_the_queues_whatever_on_connect_sets(open_queue, run_in):
    queue = open_queue(on_connect=lambda db: db.execute("PRAGMA synchronous = off"))
    for block in ("transaction", "atransaction"):
        assert run_in(queue, block, "PRAGMA synchronous") == [[2]]


# What a caller changed is not there for the next one

LOOKS = [
    "PRAGMA synchronous", "PRAGMA query_only", "PRAGMA recursive_triggers", "PRAGMA busy_timeout",
    "PRAGMA cache_size", "PRAGMA journal_size_limit", "PRAGMA wal_autocheckpoint", "PRAGMA trusted_schema",
    "PRAGMA ignore_check_constraints", "PRAGMA writable_schema", "PRAGMA read_uncommitted", "PRAGMA mmap_size",
]  # fmt: skip
LEFT = [
    *((f"{look} = 1", look) for look in LOOKS if not look.endswith(("trusted_schema", "synchronous"))),
    ("PRAGMA trusted_schema = off", "PRAGMA trusted_schema"),
    ("PRAGMA defer_foreign_keys = on", "PRAGMA defer_foreign_keys"),
    ("/* a comment */ PRAGMA case_sensitive_like = on", "SELECT 'a' LIKE 'A'"),
    ("CREATE TEMP TABLE litequeue_jobs (id)", "SELECT count(*) FROM sqlite_temp_master"),
    ("ATTACH ':memory:' AS other", "PRAGMA database_list"),
    ("PRAGMA locking_mode = exclusive", "PRAGMA locking_mode"),
]


@pytest.mark.parametrize(
    ("block", "statement", "look"),
    [*(("transaction", *left) for left in LEFT), *(("completing", *left) for left in (LEFT[0], LEFT[3], LEFT[-2]))],
)
def test_a_setting_does_not_stay_on_the_connection(open_queue, run_in, block, statement, look):
    queue = open_queue()
    before = [row for row in run_in(queue, "transaction", look) if "temp" not in row]
    for _ in range(2):  # the second time the statement was prepared before
        with contextlib.suppress(StoreError, JobFailed):  # after some nothing can be written
            run_in(queue, block, statement)
        assert [row for row in run_in(queue, "transaction", look) if "temp" not in row] == before
    job = queue.task(name="add")(lambda: None).enqueue()
    assert [str(each.status) for each in queue.jobs(task="add")] == ["queued"]
    assert queue.jobs(task="add") == [job]


def test_a_setting_that_a_failed_block_left_does_not_stay_either(open_queue, run_in):
    queue = open_queue()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), queue.transaction() as db:
            db.execute("PRAGMA query_only = on")
            raise ZeroDivisionError
        assert run_in(queue, "transaction", "PRAGMA query_only") == [[0]]


def test_what_a_cursor_sets_does_not_stay_either(open_queue, run_in):
    queue = open_queue()
    with queue.transaction() as db:
        db.execute("SELECT 1").execute("PRAGMA cache_size = 7")
    assert run_in(queue, "transaction", "PRAGMA cache_size") != [[7]]
    with queue.transaction() as db:
        db.cursor().execute("PRAGMA cache_size = 7")
    assert run_in(queue, "transaction", "PRAGMA cache_size") != [[7]]


def test_row_factories_do_not_stay(open_queue, driver):
    queue = open_queue()
    with queue.transaction() as db:
        name = "row_factory" if driver == "sqlite3" else "row_trace"
        before = getattr(db, name)
        setattr(db, name, lambda cursor, row: {"a": row})
    with queue.transaction() as db:
        assert getattr(db, name) is before


@sqlite3_only
@pytest.mark.parametrize(("name", "value"), [("isolation_level", "DEFERRED"), ("text_factory", bytes)])
def test_attributes_of_sqlite3_do_not_stay(open_queue, name, value):
    queue = open_queue()
    with queue.transaction() as db:
        before = getattr(db, name)
        setattr(db, name, value)
    with queue.transaction() as db:
        assert getattr(db, name) == before


def test_hooks_do_not_stay(open_queue, driver):
    queue = open_queue()
    called = []
    with queue.transaction() as db:
        if driver == "apsw":
            db.set_commit_hook(lambda: called.append("commit") or False)
            db.set_busy_timeout(1)
            db.wal_autocheckpoint(0)
            db.exec_trace = lambda *_: called.append("exec") or True
        else:
            db.set_trace_callback(called.append)
            db.set_progress_handler(lambda: called.append("progress"), 1)
    called.clear()
    with queue.transaction() as db:
        db.execute("CREATE TABLE mine (x)")
        assert db.execute("PRAGMA busy_timeout").fetchall() == [(10_000,)]
        assert db.execute("PRAGMA wal_autocheckpoint").fetchall() == [(1000,)]
    assert called == []


def test_a_block_that_changes_nothing_keeps_the_connection(open_queue, run_in):
    opened = []
    queue = open_queue(on_connect=opened.append)
    run_in(queue, "transaction", *TABLES)
    for _ in range(3):
        run_in(queue, "transaction", "INSERT INTO invoice VALUES (1)", "PRAGMA foreign_keys = on", "SELECT 1")
        run_in(queue, "completing", "CREATE TABLE IF NOT EXISTS other (x)", "PRAGMA table_info('other')")
    assert len(opened) == 1


def test_a_connection_that_was_closed_in_the_block_is_replaced(open_queue, run_in):
    queue = open_queue()
    for _ in range(2):
        with pytest.raises(StoreError, match="ended inside the block"), queue.transaction() as db:
            db.close()
    assert run_in(queue, "transaction", "SELECT 1") == [[1]]


def test_a_worker_process_honours_the_options_of_its_queue(tmp_path):
    import subprocess
    from pathlib import Path

    (tmp_path / "app.py").write_text(
        "from litequeue import Queue, current_job\n"
        "queue = Queue('app.db', foreign_keys=True)\n"
        "with queue.transaction() as db:\n"
        "    db.execute('CREATE TABLE IF NOT EXISTS customer (id INTEGER PRIMARY KEY)')\n"
        "    db.execute('CREATE TABLE IF NOT EXISTS invoice (customer REFERENCES customer)')\n"
        "@queue.task\n"
        "def bill():\n"
        "    with current_job().completing() as db:\n"
        "        db.execute('INSERT INTO invoice VALUES (4711)')\n"
        "if __name__ == '__main__':\n"
        "    bill.enqueue()\n"
    )
    command = Path(sys.executable).with_name("litequeue")
    for program in ([sys.executable, "app.py"], [command, "run", "app:queue", "--until-idle"]):
        subprocess.run(program, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    [job] = Queue(tmp_path / "app.db").jobs()
    assert str(job.status) == "failed"
    assert "foreign key" in job.errors[0].message.lower()
