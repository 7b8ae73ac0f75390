"""The -wal or -shm goes from under a live process: it is told before anything more is acknowledged, and harms nobody.

What is written into a deleted WAL is seen by nobody and gone with its writer; without the -shm that others have,
there are no locks between them.
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from contract.jobs import Hands
from forked import Forked, run
from litequeue import JobTimeout, StoreReplaced, current_job
from litequeue.sqlite.commit.writer import WAITED
from litequeue.sqlite.drivers import connection
from litequeue.sqlite.file import guards
from litequeue.sqlite.file.open_file import OpenFile, file_id
from wal_program import declare

ROOT = Path(__file__).parents[1]
DEADLINE = 60  # seconds; only a defect waits so long

pytestmark = [
    pytest.mark.disk,
    pytest.mark.skipif(sys.platform == "win32", reason="there an open file cannot be removed"),
]


@pytest.fixture(scope="module", autouse=True)
def _close_what_was_given_up():
    """Close, once the files are gone, what must not be closed before: each opening in this process looks at it all."""
    given_up, keep, known = [], connection.keep_for_ever, set(guards._open_files)

    def keeping(raw):
        given_up.append(raw)
        keep(raw)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(connection, "keep_for_ever", keeping)
        yield
    for raw in given_up:
        raw.close()
    for inode in guards._open_files.keys() - known:  # each may now come again, as another file's
        del guards._open_files[inode]


def remove(path):
    path.unlink()


def replace(path):
    """Move a copy over it, as `cp` and `mv` of a restore do."""
    new = path.with_name("restored")
    subprocess.run(["cp", "-p", path, new], check=True)  # not in this process, which has it open
    new.replace(path)


def exchange_all(path):
    """What was done to the WAL was done to the -shm as well."""
    for suffix in ("-wal", "-shm"):
        replace(path.with_name(f"app.db{suffix}"))


HARMS = {
    "the -wal is removed": ("-wal", remove),
    "the -wal is replaced": ("-wal", replace),
    "the -shm is removed": ("-shm", remove),
    "the -shm is replaced": ("-shm", replace),
    "both are replaced": ("-wal", exchange_all),
}


@pytest.fixture(params=HARMS)
def harm(request, database):
    suffix, do = HARMS[request.param]
    return lambda: do(Path(f"{database}{suffix}"))


@pytest.fixture
def queue(database, driver):
    """A queue in use, by the real clock."""
    with declare(database, driver) as queue:
        queue.tasks["add"].enqueue(0)
        queue.jobs()
        yield queue


def enqueue_within(queue, connect):
    with closing(connect()) as db:
        db.execute("BEGIN IMMEDIATE")
        try:
            queue.tasks["add"].using(within=db).enqueue(1)
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise


async def enqueue_in_atransaction(queue):
    async with queue.atransaction():
        await queue.tasks["add"].aenqueue(1)


def enqueue_in_transaction(queue):
    with queue.transaction():
        queue.tasks["add"].enqueue(1)


ENQUEUES = {
    "enqueue": lambda queue, _: queue.tasks["add"].enqueue(1),
    "enqueue with a key": lambda queue, _: queue.tasks["add"].using(key="k").enqueue(1),
    "enqueue_many": lambda queue, _: queue.tasks["add"].enqueue_many([(1,), (2,)]),
    "aenqueue": lambda queue, _: asyncio.run(queue.tasks["add"].aenqueue(1)),
    "aenqueue_many": lambda queue, _: asyncio.run(queue.tasks["add"].aenqueue_many([(1,), (2,)])),
    "within": enqueue_within,
    "transaction": lambda queue, _: enqueue_in_transaction(queue),
    "atransaction": lambda queue, _: asyncio.run(enqueue_in_atransaction(queue)),
    "cancel": lambda queue, _: queue.jobs()[0].cancel(),
    "schedule": lambda queue, _: queue.schedules.trigger_now("often"),
}


@pytest.mark.parametrize("way", [way for way in ENQUEUES if way not in {"cancel", "schedule"}])
def test_the_next_enqueue_is_refused_in_each_way(queue, connect, harm, way):
    harm()
    for _ in range(2):
        with pytest.raises(StoreReplaced):
            pytest.fail(f"acknowledged: {ENQUEUES[way](queue, connect)}")


def test_what_else_would_be_acknowledged_is_refused(queue, harm):
    job = queue.tasks["add"].using(delay="1h").enqueue(1)
    harm()
    for use in (job.cancel, lambda: asyncio.run(job.acancel()), job.retry):
        with pytest.raises(StoreReplaced):
            pytest.fail(f"acknowledged: {use()}")


def test_a_transaction_in_which_it_happens_is_not_committed_as_if_nothing_had_been(queue, harm):
    with pytest.raises(StoreReplaced), queue.transaction():
        queue.tasks["add"].enqueue(1)
        harm()


def test_a_commit_that_had_to_wait_meanwhile_is_not_acknowledged_either(database, driver, harm):
    with declare(database, driver, durability="normal") as queue:
        queue.tasks["add"].enqueue(0)
        with pytest.raises(StoreReplaced):
            queue.engine.kernel.writer.run(lambda _db: harm() or threading.Event().wait(2 * WAITED))


def test_an_async_transaction_in_which_it_happens_is_not_committed_as_if_nothing_had_been(queue, harm):
    async def main():
        async with queue.atransaction():
            await queue.tasks["add"].aenqueue(1)
            harm()

    with pytest.raises(StoreReplaced):
        asyncio.run(main())


def test_a_completing_in_which_it_happens_is_told(queue, harm):
    [run] = Hands(queue.engine, "add").claim()
    with pytest.raises(StoreReplaced), queue.engine.runs.completing(run, b"5", 60.0):
        harm()


def test_a_completing_of_a_worker_in_which_it_happens_does_not_end_well_and_the_worker_ends(queue, harm):
    met, ended = [], threading.Event()

    @queue.task(name="completes")
    def completes():
        try:
            with current_job().completing():
                harm()
        except BaseException as error:
            met.append(type(error))
            raise
        finally:
            ended.set()

    completes.enqueue()
    with pytest.raises(StoreReplaced):
        queue.worker(threads=1, coroutines=1).run()
    assert ended.wait(DEADLINE)
    assert met in (
        [StoreReplaced],
        [JobTimeout],
    )  # the latter where the worker noticed it first, and interrupts all


def test_the_message_says_what_happened_and_what_to_do(queue, database):
    Path(f"{database}-wal").unlink()
    with pytest.raises(StoreReplaced, match=r"app\.db-wal.*deleted.*(?i:stop every process)"):
        queue.tasks["add"].enqueue(1)


def test_many_threads_are_all_refused(queue, harm):
    add = queue.tasks["add"]

    def use(_number):
        try:
            return add.enqueue(1).id
        except StoreReplaced:
            return "refused"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(32)))
        harm()
        assert set(pool.map(use, range(64))) == {"refused"}


def test_other_files_of_that_folder_may_come_and_go(queue, database):
    for name in ("other.db-wal", "app.db-journal", "app.db-wal.old"):
        database.with_name(name).touch()
        database.with_name(name).unlink()
    assert queue.tasks["add"].enqueue(1).id == "2"


def test_queues_that_come_and_go_in_several_threads_are_not_refused_for_the_wal_that_the_last_one_deletes(
    database, driver
):
    def come_and_go(_):
        with closing(declare(database, driver)) as queue:
            return queue.tasks["add"].enqueue(1).id

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(come_and_go, range(300)))) == 300


def test_a_look_at_the_files_beside_the_last_close_is_no_replacement(queue, database):
    queue.tasks["add"].enqueue(1)
    other = OpenFile(str(database), file_id(database), "a driver")
    other.note_beside(queue)
    other.leave_beside(queue)
    queue.close()
    queue.tasks["add"].enqueue(1)  # a -wal of another inode, maybe
    other.note_beside(queue)
    other.check()
    assert not other.is_replaced


def test_a_wal_that_was_emptied_by_a_checkpoint_is_no_other_one(queue, database, driver):
    other = "import sys, litequeue; q = litequeue.Queue(sys.argv[1], driver=sys.argv[2]); q.task(name='add')(lambda: 0)"
    for _ in range(3):
        queue.close()  # the last one to close removes both files, and they are made anew
        queue.tasks["add"].enqueue(1)
        run(f"{other}.enqueue()", database, driver)
        queue.engine.maintenance.checkpoint()
        queue.jobs()
    assert len(queue.jobs()) == 7


# A process of its own, and others that open the file anew


LIVE = """
import os, sys
from litequeue import StoreReplaced
from wal_program import declare
queue = declare(sys.argv[1], sys.argv[2])
print(queue.tasks["add"].enqueue(0).id, flush=True)
for line in sys.stdin:
    try:
        print(queue.tasks["add"].enqueue(0).id if line == "enqueue\\n" else queue.jobs()[0].id, flush=True)
    except StoreReplaced:
        print("refused", flush=True)
"""


class Live:
    """A process that has the file in use, and does as it is told."""

    def __init__(self, path, driver):
        self.process = Forked(LIVE, path, driver)
        self.first = self.process.stdout.readline().strip()

    def asked(self, what):
        self.process.stdin.write(f"{what}\n")
        return self.process.stdout.readline().strip()

    def ends(self):
        """Let it end in good order; return its exit code."""
        return self.process.ends()[0]


@pytest.fixture
def live(database, driver):
    live = Live(database, driver)
    yield live
    live.process.close()


ANOTHER = """
import sys, json
from litequeue import StoreError
from wal_program import declare
try:
    print(json.dumps([job.id for job in declare(*sys.argv[1:3]).tasks["add"].enqueue_many([(n,) for n in range(3)])]))
except StoreError:
    print([])
"""


def enqueued_by_another(database, driver):
    """Enqueue three jobs in a process that opens the file anew; return their ids, none if it was refused."""
    return json.loads(run(ANOTHER, database, driver))


def found(database, driver):
    """Look in a process of its own: what this one finds says nothing of what others do."""
    program = (
        "import sys, json, litequeue; q = litequeue.Queue(sys.argv[1], driver=sys.argv[2]); "
        "print(json.dumps([q.engine.admin.integrity(), [job.id for job in q.jobs(limit=1000)]]))"
    )
    sound, ids = json.loads(run(program, database, driver))
    assert sound == []
    return set(ids)


@pytest.mark.slow
@pytest.mark.parametrize("noticed", [True, False], ids=["noticed", "unnoticed"])
def test_the_end_of_a_process_takes_nothing_from_those_that_opened_the_file_anew(live, database, driver, harm, noticed):
    """SQLite's close would move an old WAL into the file, and remove the new one by its name."""
    harm()
    if noticed:
        assert live.asked("enqueue") == "refused"
    ids = enqueued_by_another(database, driver)
    if noticed:
        assert live.asked("enqueue") == "refused"
    assert live.ends() == 0
    assert set(ids) <= found(database, driver)


@pytest.mark.slow
def test_what_the_next_processes_acknowledge_is_kept(live, database, driver, harm):
    harm()
    assert live.asked("enqueue") == "refused"
    live.ends()
    ids = [job for _ in range(3) for job in enqueued_by_another(database, driver)]
    assert set(ids) <= found(database, driver)
    assert len(set(ids)) == 9


APP = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from wal_program import declare
queue = declare("app.db", {driver!r})
@queue.task
def waits() -> None:
    Path("runs").touch()
    while not Path("go").exists():
        time.sleep(0.01)
"""


@pytest.fixture
def worker(database, driver):
    """`litequeue run`, in the folder of the file."""
    (database.parent / "app.py").write_text(APP.format(tests=str(ROOT / "tests"), driver=driver))
    process = subprocess.Popen(
        [sys.executable, "-m", "litequeue", "run", "app:queue"],
        cwd=database.parent, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("busy", [False, True], ids=["at rest", "busy"])
def test_a_worker_process_ends_with_an_error(worker, database, driver, harm, busy):
    from crash.watching import until

    until(lambda: database.exists() and Path(f"{database}-shm").exists(), "the worker has the file open", DEADLINE)
    with declare(database, driver) as queue:
        queue.task(name="waits")(lambda: None)
        job = queue.tasks["waits" if busy else "add"].enqueue()
        if busy:
            until(lambda: (database.parent / "runs").exists(), "the job runs", DEADLINE)
        else:
            job.result(timeout=DEADLINE)
    harm()
    (database.parent / "go").touch()
    error = worker.communicate(timeout=DEADLINE)[1]
    assert worker.returncode not in {0, None}
    assert "stop every process" in error.lower()
    ids = enqueued_by_another(database, driver)
    assert set(ids) <= found(database, driver)
