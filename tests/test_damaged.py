"""A file whose pages are damaged acknowledges nothing, and ends the worker that meets it."""

import asyncio
import signal
import subprocess
import sys
import threading
import time

import pytest

from command_line import DEADLINE, Command
from litequeue import Queue, StoreDamaged, StoreError
from litequeue.sqlite.file.opening import driver_module

OVERWRITE = """
import os, sys
path, page, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.pwrite(os.open(path, os.O_RDWR), b"\\xff" * size, (page - 1) * size)
"""


@pytest.fixture
def damage(database, connect):
    """Overwrite the first page of a table or index, as a bad disk might; whoever has the file open sees it at once."""

    def damaging(name):
        other = connect()
        until = time.monotonic() + DEADLINE
        while other.execute("PRAGMA wal_checkpoint(truncate)").fetchall()[0][0]:  # what is in the WAL hides the damage
            assert time.monotonic() < until
        [(page,)] = other.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchall()
        [(size,)] = other.execute("PRAGMA page_size").fetchall()
        # by a process of its own: closing the file here would drop SQLite's locks
        subprocess.run([sys.executable, "-S", "-c", OVERWRITE, str(database), str(page), str(size)], check=True)
        # a commit of another connection makes everybody forget the pages that they have in memory
        other.execute("INSERT OR REPLACE INTO litequeue_meta VALUES ('test', 'written')")

    return damaging


@pytest.fixture
def task(queue):
    return queue.task(name="same")(lambda number: number)


def stored(connect):
    [(count,)] = connect().execute("SELECT count(*) FROM litequeue_jobs NOT INDEXED").fetchall()
    return count


# Who enqueues


def one(_queue, task):
    task.enqueue(1)


def many(_queue, task):
    task.enqueue_many([(1,), (2,)])


def one_async(_queue, task):
    asyncio.run(task.aenqueue(1))


def in_a_transaction(queue, task):
    with queue.transaction():
        task.enqueue(1)


@pytest.mark.parametrize("name", ["litequeue_jobs_ready", "litequeue_jobs"])
@pytest.mark.parametrize("how", [one, many, one_async, in_a_transaction])
def test_what_is_enqueued_into_a_damaged_file_is_refused_and_not_stored(queue, task, damage, connect, how, name):
    task.enqueue(0)
    damage(name)
    for _ in range(2):
        with pytest.raises(StoreDamaged, match=r"damaged; run `litequeue doctor` on it and restore a backup"):
            how(queue, task)
    if name == "litequeue_jobs_ready":
        assert stored(connect) == 1


def test_neighbours_in_the_commit_of_one_that_meets_damage_are_refused_as_well(queue, task, damage, connect):
    task.enqueue(0)
    damage("litequeue_jobs_key")  # an index that only jobs with a key stand in

    async def enqueue(begin, using):
        await begin.wait()
        await using.aenqueue(1)

    async def together():
        begin = asyncio.Event()
        calls = [asyncio.create_task(enqueue(begin, task.using(key=key))) for key in (None, "k", None)]
        async with queue.atransaction():
            begin.set()
            for _ in range(10):  # they line up behind the transaction, and are committed at once after it
                await asyncio.sleep(0)
        return await asyncio.gather(*calls, return_exceptions=True)

    assert [type(told) for told in asyncio.run(together())] == [StoreDamaged] * 3
    assert stored(connect) == 1


def test_malformed_json_that_somebody_else_wrote_does_not_count_as_damage(queue, database, driver):
    db = driver_module(driver).connect(str(database))
    with pytest.raises(StoreError, match="malformed JSON") as refused:
        db.rows("SELECT json_extract('{', '$')")
    db.close()
    assert not isinstance(refused.value, StoreDamaged)


# Workers

APP = """
import sys, time
from pathlib import Path
from litequeue import Queue
queue = Queue("app.db", driver={driver!r})

@queue.task
def gated() -> None:
    sys.stderr.write("begins\\n")
    while not Path("gate").exists():
        time.sleep(0.01)
"""


@pytest.fixture
def app(database, driver):
    """A module with a queue, and a job in it that runs until there is a file `gate`."""
    (database.parent / "app.py").write_text(APP.format(driver=driver))
    with Queue(database, driver=driver) as queue:
        queue.task(name="gated")(lambda: None).enqueue()


@pytest.mark.parametrize("until_idle", [False, True])
def test_a_worker_that_meets_damage_ends_with_the_error(queue, task, damage, until_idle):
    task.enqueue(1)
    damage("litequeue_jobs_ready")
    worker, ended = queue.worker(threads=1, coroutines=1), []

    def run():
        try:
            worker.run(until_idle=until_idle)
        except StoreError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(DEADLINE)
    went_on = thread.is_alive()
    worker.stop(now=True)
    thread.join(DEADLINE)
    assert ([type(error) for error in ended], went_on) == ([StoreDamaged], False)


@pytest.mark.parametrize("until_idle", [[], ["--until-idle"]], ids=["for ever", "until idle"])
def test_run_on_a_damaged_file_exits_with_1_and_says_what_to_do(tmp_path, damage, app, until_idle):
    damage("litequeue_jobs_ready")
    ran = Command(tmp_path, "run", "app:queue", *until_idle)
    try:
        assert ran.ends() == 1, ran.output
        assert "the file is damaged; run `litequeue doctor` on it and restore a backup" in ran.output
        assert "Traceback" not in ran.output
    finally:
        ran.clean_up()


def test_a_worker_that_is_stopped_and_cannot_record_an_end_does_not_exit_with_0(tmp_path, damage, app):
    ran = Command(tmp_path, "run", "app:queue")
    try:
        ran.wait_for("begins")
        damage("litequeue_jobs")
        ran.signal(signal.SIGTERM)
        (tmp_path / "gate").touch()
        assert ran.ends() == 1, ran.output
        assert "the file is damaged" in ran.output
    finally:
        ran.clean_up()
