"""The file: illegal rows, views for any SQLite shell, migrations, and many processes that make it at once."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from contract.jobs import BOOM, FAILED, START, SUCCEEDED, Hands, new, put
from forked import Forked
from litequeue import StoreBusy, StoreError
from litequeue.sqlite.admin.health import journal_mode
from litequeue.sqlite.file import migrate
from litequeue.sqlite.file.opening import driver_module

COLUMNS = {
    "task": "'t'", "queue": "'q'", "payload": "x'5b5d'", "state": "1", "priority": "0",
    "run_at": "1.0", "created_at": "1.0",
}  # fmt: skip
RUNNING = {"state": "3", "worker": "1", "started_at": "1.0", "attempt": "1"}
ENDED = {"state": "4", "finished_at": "1.0"}


def insert(store, **columns):
    values = COLUMNS | columns
    sql = f"INSERT INTO litequeue_jobs ({', '.join(values)}) VALUES ({', '.join(values.values())})"
    store.kernel.writer.run(lambda db: db.script(sql))


LEGAL = [{}, {"state": "0"}, RUNNING, ENDED, ENDED | {"result": "x'35'", "delete_at": "1e10"}, {"state": "2"}]

ILLEGAL = {
    "a running job without a worker": {"state": "3", "started_at": "1.0", "attempt": "1"},
    "a running job without a start": {"state": "3", "worker": "1", "attempt": "1"},
    "a running job without an attempt": RUNNING | {"attempt": "0"},
    "a queued job with a worker": {"worker": "1"},
    "an ended job with a worker": ENDED | {"worker": "1"},
    "an ended job without an end": {"state": "4"},
    "a queued job with an end": {"finished_at": "1.0"},
    "a queued job with a time to be deleted": {"delete_at": "1.0"},
    "a failed job with a result": {"state": "5", "finished_at": "1.0", "result": "x'35'"},
    "a queued job with a result": {"result": "x'35'"},
    "an unknown state": {"state": "8"},
    "a priority beyond its range": {"priority": "101"},
    "a negative attempt": {"attempt": "-1"},
    "negative failures": {"failures": "-1"},
    "negative deaths": {"deaths": "-1"},
    "a queued job that cannot be claimed once more": {"attempt": "1000000000000000"},
    "a running job that cannot fail once more": RUNNING | {"failures": "1000000000000000"},
    "a running job under which no worker may die": RUNNING | {"deaths": "1000000000000000"},
    "an ended job that failed more often than counts": ENDED | {"failures": "1000000000000001"},
    "an unknown key scope": {"key": "'k'", "key_scope": "'ever'"},
    "a held key that is not the key": {"key": "'k'", "held_key": "'j'"},
    "a held key without a key": {"held_key": "'j'"},
    "a half cancelled job": {"cancel_requested": "2"},
    "text for a payload": {"payload": "'[]'"},
    "text for a time": {"run_at": "'now'"},
    "no task": {"task": "NULL"},
}


@pytest.mark.parametrize("columns", LEGAL)
def test_a_legal_row_is_taken(store, columns):
    insert(store, **columns)
    assert len(store.jobs.list()) == 1


@pytest.mark.parametrize("what", ILLEGAL)
def test_the_file_refuses(store, what):
    with pytest.raises(StoreError, match=r"constraint|cannot store"):
        insert(store, **ILLEGAL[what])
    assert store.jobs.list() == []


def test_the_file_refuses_two_jobs_that_hold_one_key(store):
    insert(store, key="'k'", held_key="'k'")
    with pytest.raises(StoreError, match="UNIQUE"):
        insert(store, key="'k'", held_key="'k'")


# Views, read by a process that knows nothing of us

SHELL = """
import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2]):
    print(*row, sep="|")
"""


@pytest.fixture
def shell(store):
    def asking(sql):
        done = subprocess.run(
            [sys.executable, "-c", SHELL, str(store.path), sql], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return asking


def test_a_shell_reads_jobs_in_plain_words(store, shell):
    put(store, "send", payload=b'["x"]', key="k", tags=("a",))
    put(store, run_at=START + 0.5)
    hands = Hands(store, "send")
    hands.settle((hands.take(), SUCCEEDED))
    sql = "SELECT task, status, created_at, finished_at, payload, result, key FROM litequeue_jobs_view ORDER BY id"
    first, second = shell(sql)
    assert first == 'send|succeeded|2023-11-14 22:13:20.000|2023-11-14 22:13:20.000|["x"]|5|k'
    assert second == "add|scheduled|2023-11-14 22:13:20.000|None|[]|None|None"


def test_a_shell_reads_the_last_error(store, shell):
    put(store)
    hands = Hands(store)
    hands.settle((hands.take(), FAILED))
    assert shell("SELECT status, last_error FROM litequeue_jobs_view") == ["failed|ValueError: boom"]
    assert shell("SELECT attempt, type, message, traceback FROM litequeue_errors_view") == [f"1|{'|'.join(BOOM)}"]


def test_a_shell_reads_every_state(store, shell):
    for state in range(8):
        insert(
            store, **{0: {"state": "0"}, 1: {}, 2: {"state": "2"}, 3: RUNNING}.get(state, ENDED | {"state": str(state)})
        )
    words = "scheduled queued waiting running succeeded failed cancelled expired"
    assert shell("SELECT status FROM litequeue_jobs_view ORDER BY id") == words.split()


def test_a_shell_reads_workers_and_schedules(store, shell):
    from litequeue.core.schedules import ScheduleRecord

    Hands(store)
    record = {"name": "s", "task": "t", "queue": "q", "payload": b"[]", "priority": 0}
    store.schedules.put(ScheduleRecord(trigger='{"every": 60.0, "jitter": 0.0}', **record), replace=True)
    assert shell("SELECT host, pid, tasks, threads FROM litequeue_workers_view") == ['here|1|["add"]|1']
    assert shell("SELECT name, origin, status, next_at FROM litequeue_schedules_view") == [
        "s|file|active|2023-11-14 22:14:20.000"
    ]


# Migrations


def schema(connection):
    """The schema as SQLite has it, without regard to order."""
    return sorted(map(tuple, connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()))


@pytest.mark.parametrize("start", range(migrate.newest()))
def test_a_file_of_any_old_version_is_migrated_to_what_a_fresh_one_is(open_store, connect, tmp_path, start):
    fresh = open_store(path=tmp_path / "fresh.db")
    old = open_store(path=tmp_path / "old.db")

    def go_back(db):
        for kind, name in db.rows("SELECT type, name FROM sqlite_schema WHERE name LIKE 'litequeue%' AND sql NOT NULL"):
            if kind in ("table", "view"):
                db.script(f"DROP {kind} {name}")
        for number in range(1, start + 1):
            for statement in migrate.migrations()[number]:
                db.script(statement)
            db.script(f"INSERT OR REPLACE INTO litequeue_meta VALUES ('schema_version', '{number}')")

    old.kernel.writer.run(go_back)
    old.close()
    put(open_store(path=old.path))
    assert schema(connect(old.path)) == schema(connect(fresh.path))


def test_a_file_of_the_applications_own_gets_our_tables_beside_its_own(open_store, connect):
    connection = connect()
    connection.execute("CREATE TABLE mine (x)")
    put(open_store())
    names = {name for _, name, _, _ in schema(connection)}
    assert {"mine", "litequeue_jobs"} <= names


def test_a_migration_that_fails_leaves_the_file_as_it_was(open_store, connect, database, monkeypatch):
    connect().execute("CREATE TABLE mine (x)")
    monkeypatch.setattr(migrate, "migrations", lambda: {1: ["CREATE TABLE litequeue_a (x)", "CREATE TABLE mine (x)"]})
    with pytest.raises(StoreError, match="already exists"):
        open_store()
    assert [name for _, name, _, _ in schema(connect())] == ["mine"]


@pytest.fixture
def bare(database, driver):
    """Connections of our own to a file that no queue has been made in."""
    module = driver_module(driver)
    opened = []

    def opening(path=str(database)):
        opened.append(module.connect(path))
        return opened[-1]

    yield opening
    for db in opened:
        db.close()


def test_a_file_that_cannot_be_in_wal_mode_is_refused(bare):
    with pytest.raises(StoreError, match="stays in 'memory'"):
        migrate.migrate(bare(":memory:"), ":memory:")


@pytest.fixture
def read_by_another(bare):
    """A file in the mode SQLite makes it in, amid somebody's look: the switch to WAL needs it alone."""
    other = bare()
    other.script("CREATE TABLE mine (x)")
    other.script("BEGIN")
    other.rows("SELECT * FROM mine")
    return other


def test_the_switch_to_wal_waits_for_who_reads(bare, read_by_another, monkeypatch):
    slept = []

    def sleep(span):
        slept.append(span)
        if len(slept) == 3:
            read_by_another.script("COMMIT")

    monkeypatch.setattr(migrate, "time", SimpleNamespace(sleep=sleep))
    db = bare()
    db.rows("PRAGMA busy_timeout = 0")
    migrate.migrate(db, "app.db")
    assert (len(slept), migrate.version(db), journal_mode(db)) == (3, migrate.newest(), "wal")


def test_the_switch_to_wal_does_not_wait_for_ever(bare, read_by_another, monkeypatch):
    monkeypatch.setattr(migrate, "time", SimpleNamespace(sleep=lambda span: None))
    db = bare()
    db.rows("PRAGMA busy_timeout = 0")
    with pytest.raises(StoreBusy):
        migrate.migrate(db, "app.db")
    assert migrate.version(db) == 0


def test_a_damaged_file_is_told_of(store, connect):
    """Two tables on one page: made by hand, for SQLite makes no such thing."""
    put(store)
    db = connect()
    db.execute("PRAGMA writable_schema = on")
    other = "(SELECT rootpage FROM sqlite_schema WHERE name = 'litequeue_results')"
    db.execute(f"UPDATE sqlite_schema SET rootpage = {other} WHERE name = 'litequeue_payloads'")
    db.execute("PRAGMA writable_schema = off")
    store.close()
    assert store.admin.integrity() != []


def test_every_statement_of_a_migration_is_found():
    text = "\n".join(statement for statements in migrate.migrations().values() for statement in statements)
    found = sum(text.count(word) for word in ("CREATE ", "ALTER ", "DROP "))
    assert found == sum(map(len, migrate.migrations().values()))


# Many processes

OPEN = """
import sys
from litequeue import Queue
print("ready", flush=True)
sys.stdin.read()
with Queue(sys.argv[1], driver=sys.argv[2]) as queue:
    queue.task(name="add")(lambda: None).enqueue()
"""

SAME_KEYS = """
import sys, random
from litequeue import Queue
print("ready", flush=True)
sys.stdin.read()
with Queue(sys.argv[1], driver=sys.argv[2]) as queue:
    @queue.task(name="add")
    def add(number): ...
    numbers = list(range(1000))
    random.shuffle(numbers)
    for number in numbers:
        print(number, add.using(key=str(number)).enqueue(number).id)
"""


def at_once(count, program, *arguments):
    """Run a program in so many processes that begin together; return what each printed."""
    processes = [Forked(program, *arguments) for _ in range(count)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.close()
    codes, printed, errors = zip(*(process.ends() for process in processes), strict=True)
    assert list(codes) == [0] * count, errors
    return printed


@pytest.mark.slow
def test_sixteen_processes_make_one_file_at_once(database, driver, open_store):
    at_once(16, OPEN, database, driver)
    store = open_store()
    assert (len(store.jobs.list()), store.admin.integrity()) == (16, [])


@pytest.mark.slow
def test_sixteen_processes_with_the_same_thousand_keys_make_a_thousand_jobs(database, driver, open_store):
    printed = at_once(16, SAME_KEYS, database, driver)
    holders = [dict(line.split() for line in output.splitlines()) for output in printed]
    assert len(holders[0]) == 1000
    assert all(held == holders[0] for held in holders)
    store = open_store()
    assert {job.key: job.id for job in store.jobs.list(limit=20_000)} == holders[0]
    assert store.admin.integrity() == []


def test_a_submission_of_many_keys_meets_another_process_halfway(store, open_store):
    other = open_store()
    mine = store.jobs.submit([new(key=str(number)) for number in range(10)])
    both = other.jobs.submit([new(key=str(number)) for number in range(5, 15)])
    assert [each.fresh for each in both] == [False] * 5 + [True] * 5
    assert [each.id for each in both[:5]] == [each.id for each in mine[5:]]


def test_each_migration_changes_the_schema_by_which_an_open_older_release_notices_it():
    for statements in migrate.migrations().values():
        assert any(statement.startswith(("CREATE ", "ALTER ", "DROP ")) for statement in statements)
