"""Copies of a file that is in use."""

import stat
import subprocess
import sys
import threading
import time

import pytest

from contract.jobs import Hands
from litequeue import Queue, SchemaTooNew, StoreError, current_job
from litequeue.sqlite.admin import repair


@pytest.fixture
def add(queue):
    @queue.task(name="add")
    def add(a=0):
        return a

    return add


@pytest.fixture
def opened(driver, clock):
    """Open a copy as an application would."""
    queues = []

    def opening(path):
        queues.append(Queue(path, driver=driver))
        queues[-1].clock = queues[-1].engine.clock = clock  # by which the copied jobs are kept
        queues[-1].task(name="add")(lambda a=0: a)
        return queues[-1]

    yield opening
    for queue in queues:
        queue.close()


def test_a_copy_holds_what_was_committed_and_its_jobs_run_there(queue, add, opened, tmp_path):
    first, second = add.enqueue(1), add.enqueue(2)
    copy = opened(queue.backup(tmp_path / "copy.db"))
    add.enqueue(3)
    assert [job.id for job in copy.jobs()] == [second.id, first.id]
    copy.worker().run(until_idle=True)
    assert [job.result(0) for job in copy.jobs()] == [2, 1]
    assert {job.status for job in queue.jobs()} == {"queued"}


def test_what_was_running_is_queued_in_the_copy_and_goes_on_in_the_original(queue, add, opened, tmp_path):
    add.enqueue_many([(1,), (2,)])
    hands = Hands(queue.engine, "add")
    running = hands.take()
    copy = opened(queue.backup(tmp_path / "copy.db"))
    assert ({job.status for job in copy.jobs()}, copy.engine.workers.list()) == ({"queued"}, [])
    assert queue.job(running.id).status == "running"
    assert len(queue.engine.workers.list()) == 1
    copy.worker().run(until_idle=True)
    assert copy.job(running.id).refresh().result(0) == 1


def test_a_cancel_that_was_asked_for_is_done_in_the_copy(queue, add, opened, tmp_path):
    job = add.enqueue(1)
    Hands(queue.engine, "add").take()
    assert job.cancel()
    assert opened(queue.backup(tmp_path / "copy.db")).job(job.id).status == "cancelled"


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_a_copy_is_one_file_that_only_its_owner_may_read(queue, add, tmp_path):
    add.enqueue(1)
    (tmp_path / "copies").mkdir()
    copy = queue.backup(tmp_path / "copies" / "copy.db")
    assert list(copy.parent.iterdir()) == [copy]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_in_a_folder_the_copy_is_named_by_the_time(queue, add, clock, tmp_path):
    (tmp_path / "copies").mkdir()
    first = queue.backup(tmp_path / "copies")
    clock.advance(1)
    second = queue.backup(tmp_path / "copies")
    assert sorted((tmp_path / "copies").iterdir()) == [first, second]
    assert first.stem.startswith(f"{queue.path.stem}-2")
    assert first.suffix == queue.path.suffix


def test_nothing_is_overwritten(queue, add, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path / "notes.txt", queue.path):
        with pytest.raises(StoreError, match="already exists"):
            queue.backup(place)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(StoreError, match="create it first"):
        queue.backup(tmp_path / "nowhere" / "copy.db")


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
def test_a_copy_is_not_put_where_sqlite_has_files_of_its_own(queue, add, ending):
    add.enqueue(1)
    queue.close()
    with pytest.raises(StoreError, match="its own files"):
        queue.backup(f"{queue.path}{ending}")
    assert len(queue.jobs()) == 1


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
def test_what_another_database_of_that_name_has_left_is_not_taken_for_the_copys(queue, add, tmp_path, ending):
    (tmp_path / f"copy.db{ending}").write_text("theirs")
    with pytest.raises(StoreError, match=f"copy.db{ending} exists"):
        queue.backup(tmp_path / "copy.db")
    assert (tmp_path / f"copy.db{ending}").read_text() == "theirs"
    assert not (tmp_path / "copy.db").exists()


def test_a_name_taken_while_the_copy_was_made_is_left_alone(queue, add, tmp_path, monkeypatch):
    file = queue.engine.kernel.file
    connect = file.connect

    def meanwhile():
        (tmp_path / "copy.db").write_text("theirs")
        return connect()

    monkeypatch.setattr(file, "connect", meanwhile)
    with pytest.raises(StoreError, match="already exists"):
        queue.backup(tmp_path / "copy.db")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("copy.db")] == ["copy.db"]
    assert (tmp_path / "copy.db").read_text() == "theirs"


def test_a_damaged_file_gives_no_copy_and_leaves_nothing(queue, add, tmp_path):
    add.enqueue_many([(number,) for number in range(200)])
    queue.close()
    with queue.path.open("r+b") as file:  # closed: nobody has a lock to lose
        file.seek(4096 * 9)
        file.write(b"\xa5" * 4096 * 4)
    (tmp_path / "copies").mkdir()
    with pytest.raises(StoreError, match="damaged"):
        queue.backup(tmp_path / "copies" / "copy.db")
    assert list((tmp_path / "copies").iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_copy_that_cannot_be_completed_is_no_copy(queue, add, tmp_path, opened):
    """What was running is queued in the copy, for which it grows; a limit on files' sizes is a disk that is full."""
    import resource

    add.enqueue_many([(number,) for number in range(3000)])
    Hands(queue.engine, "add").claim(3000)
    queue.engine.admin.repair(lambda db: db.script("VACUUM") or repair.checkpoint(db))
    limits, size = resource.getrlimit(resource.RLIMIT_FSIZE), queue.path.stat().st_size
    outcomes = set()
    for pages in range(0, 40, 2):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + pages * 4096, limits[1]))
        try:
            copy = queue.backup(tmp_path / f"copy{pages}.db")
        except StoreError:
            outcomes.add("refused")
        else:
            outcomes.add("whole")
            whole = opened(copy)
            assert (whole.engine.admin.integrity(), {job.status for job in whole.jobs(limit=9999)}) == ([], {"queued"})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert outcomes == {"refused", "whole"}
    assert not [path for path in tmp_path.iterdir() if ".part-" in path.name]


def test_a_name_that_is_not_utf_8_is_refused(queue, tmp_path):
    with pytest.raises(StoreError, match="whose names are UTF-8"):
        queue.backup(tmp_path / "copy\udcff.db")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("copy")]


def test_what_a_killed_backup_left_is_in_nobodys_way(queue, add, tmp_path):
    script = "import os, sys; os.fsync = lambda _: os.kill(os.getpid(), 9)\n"
    script += "from litequeue import Queue; Queue(sys.argv[1]).backup(sys.argv[2])"
    command = [sys.executable, "-c", script, str(queue.path), str(tmp_path / "copy.db")]
    assert subprocess.run(command, check=False).returncode == -9
    left = {path for path in tmp_path.iterdir() if ".part-" in path.name}
    queue.backup(tmp_path / "copy.db")
    assert left == {path for path in tmp_path.iterdir() if ".part-" in path.name} != set()


def test_a_file_that_a_newer_release_has_migrated_meanwhile_is_not_copied(queue, add, tmp_path):
    add.enqueue(1)
    Hands(queue.engine, "add").take()
    with queue.transaction() as db:
        db.execute("UPDATE litequeue_meta SET value = '99' WHERE name = 'schema_version'")
    with pytest.raises(SchemaTooNew):
        queue.backup(tmp_path / "copy.db")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("copy.db")]


def test_a_transaction_that_is_open_is_not_in_the_copy(queue, add, opened, tmp_path):
    with queue.transaction():
        add.enqueue(1)
        copy = queue.backup(tmp_path / "copy.db")
    assert (opened(copy).jobs(), len(queue.jobs())) == ([], 1)


@pytest.mark.slow
def test_copies_taken_under_load_are_whole_and_can_be_worked_off(driver, tmp_path):
    """Three callers and a worker go on; each copy has all that was acknowledged before, and no effect is half done."""

    def declare(queue):
        @queue.task(name="effect")
        def effect(n: int) -> None:
            with current_job().completing(n) as db:
                db.execute("INSERT INTO effects VALUES (?)", (n,))

        return effect

    queue = Queue(tmp_path / "app.db", driver=driver, durability="normal")
    with queue.transaction() as db:
        db.execute("CREATE TABLE effects (n INTEGER)")
    effect = declare(queue)
    acknowledged: list[str] = []
    over = threading.Event()

    def calls():
        number = 0
        while not over.is_set():
            acknowledged.append(effect.enqueue(number := number + 1).id)

    callers = [threading.Thread(target=calls) for _ in range(3)]
    copies = []
    with queue.worker(threads=2):
        for caller in callers:
            caller.start()
        for number in range(5):
            time.sleep(0.1)
            known = list(acknowledged)
            copies.append((known, queue.backup(tmp_path / f"copy{number}.db")))
        over.set()
        for caller in callers:
            caller.join(30)
    queue.close()
    assert len(copies[-1][0]) > len(copies[0][0]) > 0
    for known, path in copies:
        with Queue(path, driver=driver) as copy:
            declare(copy)
            assert copy.engine.admin.integrity() == []
            for job_id in known:
                copy.job(job_id)
            copy.worker().run(until_idle=True)
            with copy.transaction() as db:
                [(effects,)] = db.execute("SELECT count(*) FROM effects")
                [(jobs, succeeded)] = db.execute("SELECT count(*), sum(state = 4) FROM litequeue_jobs")
            assert effects == jobs == succeeded >= len(known)
