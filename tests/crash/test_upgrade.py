"""Two releases on one file: a pretended newer one migrates it, and the older one writes nothing more."""

import asyncio
import subprocess
import sys
import threading

import pytest

from crash.newer import ADDS, OLD
from crash.program import ROOT, declare
from crash.watching import ended, running, until
from forked import run
from litequeue import SchemaTooNew, every
from litequeue.sqlite.file import migrate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL"),
]

REFUSED = rf"schema version {OLD + 1}; this litequeue knows up to {OLD}. Upgrade litequeue"


@pytest.fixture
def queue(database, driver):
    with declare(database, driver=driver) as queue:
        yield queue


@pytest.fixture
def newer(database, driver):
    """Start processes of the newer release."""
    processes = []

    def start(what="migrate"):
        command = [sys.executable, "-m", "tests.crash.newer", str(database), driver, what]
        processes.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def upgrade(database, driver):
    """Have a process of the newer release open the file, and end."""
    return lambda what="migrate": run(
        "import sys; from tests.crash.newer import main; main(*sys.argv[1:])", database, driver, what
    )


@pytest.fixture
def content(connect):
    """All that is in the file, its schema too."""
    connection = connect()

    def read():
        schema = connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()
        tables = [name for kind, name, _ in schema if kind == "table"]
        return schema, {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}

    return read


def columns(queue):
    return {name for _, name, *_ in queue.engine.kernel.read(lambda db: db.rows("PRAGMA table_info(litequeue_jobs)"))}


# The older release, afterwards

COMMANDS = [
    *(["status"], ["jobs"], ["show", "1"], ["schedules"], ["prune"], ["doctor"], ["run", "--until-idle"]),
    *(["retry", "1"], ["cancel", "1"], ["enqueue", "pid"], ["backup"], ["schedules", "pause", "tick"]),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_refuses_a_file_of_a_newer_release_and_leaves_it_as_it_is(
    queue, upgrade, content, command, tmp_path, driver
):
    queue.tasks["pid"].enqueue()
    queue.close()
    upgrade()
    before = content()
    app = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom tests.crash.program import declare\n"
    (tmp_path / "app.py").write_text(f"{app}queue = declare({str(queue.path)!r}, driver={driver!r})\n")
    needs_app = command[0] in ("run", "enqueue")
    target = "app:queue" if needs_app else str(queue.path)
    words = [command[0], target, *command[1:]]
    words += [str(tmp_path / "copy.db")] if command == ["backup"] else []
    words += [] if needs_app else ["--driver", driver]
    done = subprocess.run(
        [sys.executable, "-m", "litequeue", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert f"schema version {OLD + 1}; this litequeue knows up to {OLD}" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert content() == before
    assert not (tmp_path / "copy.db").exists()


# The older release, with the file open meanwhile


async def within_atransaction(queue, _connection):
    async with queue.atransaction():
        await queue.tasks["pid"].aenqueue()


def within_transaction(queue, _connection):
    with queue.transaction():
        queue.tasks["pid"].enqueue()


def within_mine(queue, connection):
    connection.execute("BEGIN IMMEDIATE")
    try:
        queue.tasks["pid"].using(within=connection).enqueue()
    finally:
        connection.execute("ROLLBACK")


CALLS = {
    "enqueue": lambda queue, _: queue.tasks["pid"].enqueue(),
    "aenqueue": lambda queue, _: asyncio.run(queue.tasks["pid"].aenqueue()),
    "enqueue_many": lambda queue, _: queue.tasks["nap"].enqueue_many([(0,)] * 3),
    "key": lambda queue, _: queue.tasks["pid"].using(key="k").enqueue(),
    "transaction": within_transaction,
    "atransaction": lambda queue, _: asyncio.run(within_atransaction(queue, _)),
    "within": within_mine,
    "cancel": lambda queue, _: queue.job("1").cancel(),
    "acancel": lambda queue, _: asyncio.run(queue.job("1").acancel()),
    "retry": lambda queue, _: queue.job("2").retry(),
    "add a schedule": lambda queue, _: queue.schedules.add("tick", queue.tasks["pid"].s(), every("1h")),
    "sign on": lambda queue, _: queue.worker().run(until_idle=True),
}


@pytest.mark.parametrize("call", CALLS)
def test_whoever_has_the_file_open_writes_nothing_more_once_a_newer_release_has_migrated_it(
    queue, connect, upgrade, content, call
):
    queue.tasks["pid"].enqueue()
    queue.tasks["pid"].enqueue().cancel()
    connection = connect()
    upgrade()
    before = content()
    for _ in range(2):
        with pytest.raises(SchemaTooNew, match=REFUSED):
            CALLS[call](queue, connection)
    assert content() == before


def test_what_the_application_does_to_its_own_tables_is_no_upgrade(queue, connect):
    queue.tasks["pid"].enqueue()
    connect().execute("CREATE TABLE mine (x)")
    queue.tasks["pid"].enqueue()
    with queue.transaction() as db:
        db.execute("CREATE TABLE other (x)")
        queue.tasks["pid"].enqueue()
    assert len(queue.jobs()) == 3


def test_a_worker_of_the_older_release_claims_no_more_and_finishes_what_it_runs(queue, launch, newer):
    old = launch()
    job = queue.tasks["nap"].enqueue(4)
    until(lambda: running(job))
    newer("work")
    _, log = old.communicate(timeout=30)
    assert old.returncode == 1
    assert f"knows up to {OLD}" in log
    assert "claims no more, and stops when its jobs have ended" in log
    record = ended(job)
    assert (record.status, record.attempt, record.deaths) == ("succeeded", 1, 0)  # its end was kept


def test_where_a_newer_schema_wants_no_ends_of_the_older_its_jobs_run_again(queue, upgrade, connect):
    task = queue.task(name="waits")(lambda: go.wait(20))
    go = threading.Event()
    with pytest.raises(SchemaTooNew, match=REFUSED), queue.worker(threads=1):
        job = task.enqueue()
        until(lambda: running(job))
        upgrade()
        connect().execute("UPDATE litequeue_meta SET value = '99' WHERE name = 'ends_from'")
        go.set()
    assert job.refresh().status == "running"  # until a worker of the newer release finds the lock free


def test_a_worker_embedded_in_the_older_release_tells_whoever_started_it(queue, upgrade):
    go = threading.Event()
    task = queue.task(name="waits")(lambda: go.wait(20))
    with pytest.raises(SchemaTooNew, match=REFUSED), queue.worker(threads=1) as worker:
        job = task.enqueue()
        until(lambda: running(job))
        upgrade()
        go.set()
        until(
            lambda: f"litequeue-{worker.name}" not in {one.name for one in threading.enumerate()}, "it ends by itself"
        )
    assert job.refresh().status == "succeeded"


# Both at once

CALLER = """
import sys
from litequeue import SchemaTooNew
from tests.crash.program import declare
queue, count = declare(sys.argv[1], driver=sys.argv[2]), 0
task = queue.tasks["nap"]
print("ready", flush=True)
try:
    while count < 1_000_000:
        task.enqueue(0)
        count += 1
        task.enqueue_many([(0,)] * 3)
        count += 3
except SchemaTooNew:
    print(count)
"""


def test_what_was_acknowledged_before_the_migration_is_there_and_nothing_came_after(
    queue, upgrade, database, driver, connect
):
    pipes = {"stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    callers = [subprocess.Popen([sys.executable, "-c", CALLER, str(database), driver], **pipes) for _ in range(3)]
    for caller in callers:
        assert caller.stdout.readline() == "ready\n"
    until(lambda: len(queue.jobs(limit=100)) == 100)
    upgrade()
    told = [int(caller.communicate(timeout=30)[0]) for caller in callers]
    [(found,)] = connect().execute("SELECT count(*) FROM litequeue_jobs").fetchall()
    assert found == sum(told)
    upgrade("work off")
    [(done,)] = connect().execute("SELECT count(*) FROM litequeue_jobs WHERE state = 4").fetchall()
    assert done == found


def test_many_processes_of_the_newer_release_migrate_a_file_once(queue, newer, connect):
    queue.tasks["pid"].enqueue()
    queue.close()
    processes = [newer() for _ in range(6)]
    assert [process.wait(60) for process in processes] == [0] * 6
    version = connect().execute("SELECT value FROM litequeue_meta WHERE name = 'schema_version'").fetchall()
    assert list(map(tuple, version)) == [(str(OLD + 1),)]
    assert "note" in columns(queue)


@pytest.mark.parametrize("statement", range(1, len(ADDS) + 7))
def test_a_migration_that_is_killed_leaves_the_older_schema_whole(queue, newer, content, statement):
    queue.tasks["nap"].enqueue(0)
    before = content()
    process = newer(f"die{statement}")
    process.wait(60)
    if process.returncode == 0:
        pytest.skip("it has no more statements")
    assert process.returncode == -9
    assert content() == before
    assert queue.engine.kernel.read(migrate.version) == OLD
    assert queue.engine.admin.integrity() == []
    queue.worker(threads=1).run(until_idle=True)
    assert queue.job("1").status == "succeeded"
