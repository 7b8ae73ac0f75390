"""A database that was put in the place of another, beside the -wal and -shm that the other has left."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_line import ended
from litequeue import Queue, StoreReplaced

pytestmark = pytest.mark.disk

TESTS = Path(__file__).resolve().parent
PROGRAM = """
import os, signal, sys
from litequeue import Queue

def enqueue(path, driver, first, last):
    queue = Queue(path, driver=driver, durability="normal")
    task = queue.task(name="same")(lambda number: number)
    for number in range(int(first), int(last)):
        task.using(tags=[str(number)]).enqueue(number)
"""
WAITS = """
enqueue(*sys.argv[1:])
print("open", flush=True)
sys.stdin.read()
"""
DIES = """
for line in sys.stdin:  # each by a process of its own, which is killed
    pid = os.fork()
    if pid == 0:
        enqueue(*line.rstrip("\\n").split("\\t"))
        os.kill(os.getpid(), signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def killed():
    """Enqueue numbers in a process that is killed: its WAL stays, and holds what it has enqueued."""
    command = [sys.executable, "-c", PROGRAM + DIES]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def enqueue(database, driver, numbers):
            process.stdin.write(f"{database}\t{driver}\t{numbers.start}\t{numbers.stop}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{-signal.SIGKILL}\n"
            assert wal(database).stat().st_size > 0

        yield enqueue
        process.stdin.close()


def numbers_in(database, driver):
    with Queue(database, driver=driver) as queue:
        return sorted(int(job.tags[0]) for job in queue.jobs(limit=1000))


def wal(database):
    return Path(f"{database}-wal")


def shm(database):
    return Path(f"{database}-shm")


def note_of(database):
    return Path(f"{database}-litequeue") / "file.json"


def contents(database):
    return {path.name: path.read_bytes() for path in database.parent.iterdir() if path.is_file()}


@pytest.fixture
def copy(database, driver, killed):
    """A backup that holds job 0; the file itself then gets 1 and 2, the latter by a process that is killed."""
    with Queue(database, driver=driver, durability="normal") as queue:
        task = queue.task(name="same")(lambda number: number)
        task.using(tags=["0"]).enqueue(0)
        made = queue.backup(database.parent / "copy.db")
        task.using(tags=["1"]).enqueue(1)
    killed(database, driver, range(2, 3))
    return made


def move(source, target):
    source.replace(target)


def copy_over(source, target):
    inode = target.stat().st_ino
    shutil.copyfile(source, target)
    assert target.stat().st_ino == inode


# A foreign WAL is refused


@pytest.mark.parametrize("put", [move, copy_over])
def test_a_backup_put_beside_the_old_wal_is_refused_and_nothing_is_changed(copy, database, driver, put):
    put(copy, database)
    before = contents(database)
    with pytest.raises(StoreReplaced) as refused:
        Queue(database, driver=driver)
    assert f"delete {database}-wal and {database}-shm" in str(refused.value)
    assert contents(database) == before


@pytest.mark.parametrize("put", [move, copy_over])
def test_it_is_used_once_what_the_message_names_was_deleted(copy, database, driver, put):
    put(copy, database)
    wal(database).unlink()
    with pytest.raises(StoreReplaced, match=f"{shm(database)} is left by another file"):
        Queue(database, driver=driver)
    shm(database).unlink()
    assert numbers_in(database, driver) == [0]


def test_a_plain_copy_of_the_same_database_moved_beside_the_old_wal_is_refused(database, driver, killed):
    with Queue(database, driver=driver) as queue:
        queue.task(name="same")(lambda number: number).enqueue(0)
    plain = shutil.copyfile(database, database.parent / "plain.db")
    killed(database, driver, range(1, 2))
    move(plain, database)
    with pytest.raises(StoreReplaced, match="left by another file"):
        Queue(database, driver=driver)


@pytest.mark.parametrize("put", [move, copy_over])
def test_a_copy_by_vacuum_into_put_beside_the_old_wal_is_refused(database, driver, killed, connect, put):
    with Queue(database, driver=driver) as queue:
        queue.task(name="same")(lambda number: number).enqueue(0)
    connect().execute("VACUUM INTO ?", (str(database.parent / "copy.db"),))
    killed(database, driver, range(1, 2))
    put(database.parent / "copy.db", database)
    shutil.rmtree(note_of(database).parent)  # the file itself says that it owns no WAL
    before = contents(database)
    with pytest.raises(StoreReplaced, match=f"{wal(database)} .* left by another file"):
        Queue(database, driver=driver)
    assert contents(database) == before


def restore(copy, database):
    for left in (wal(database), shm(database)):
        left.unlink(missing_ok=True)
    copy_over(copy, database)


def test_the_same_backup_copied_over_again_and_again_beside_the_wal_is_refused(copy, database, driver, killed):
    restore(copy, database)
    for number in range(1, 4):
        killed(database, driver, range(number, number + 1))
        copy_over(copy, database)
        with pytest.raises(StoreReplaced, match="left by another file"):
            Queue(database, driver=driver)
        restore(copy, database)
    assert numbers_in(database, driver) == [0]


def test_the_same_backup_copied_to_a_new_place_and_over_it_again_is_refused(copy, database, driver, killed):
    place = database.parent / "place.db"
    shutil.copyfile(copy, place)
    killed(place, driver, range(1, 2))
    copy_over(copy, place)
    with pytest.raises(StoreReplaced, match="left by another file"):
        Queue(place, driver=driver)


def test_while_an_old_process_has_the_old_file_open_the_new_one_is_refused(copy, database, driver):
    command = [sys.executable, "-c", PROGRAM + WAITS, str(database), driver, "3", "4"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as old:
        try:
            assert old.stdout.readline() == b"open\n"
            move(copy, database)
            with pytest.raises(StoreReplaced, match="left by another file"):
                Queue(database, driver=driver)
        finally:
            old.kill()


def test_a_new_file_is_not_made_beside_the_wal_of_one_that_is_gone(copy, database, driver):
    database.unlink()
    before = contents(database)
    with pytest.raises(StoreReplaced, match=f"delete {database}-wal and {database}-shm"):
        Queue(database, driver=driver)
    assert contents(database) == before
    wal(database).unlink()
    shm(database).unlink()
    assert numbers_in(database, driver) == []


# What belongs together is never refused


def test_after_a_kill_the_file_is_opened_with_its_wal(copy, database, driver):
    assert numbers_in(database, driver) == [0, 1, 2]


def test_a_file_that_was_never_closed_in_good_order_is_opened_with_its_wal(database, driver, killed):
    for number in range(3):
        killed(database, driver, range(number, number + 1))
    assert numbers_in(database, driver) == [0, 1, 2]


def test_a_restored_file_whose_process_is_killed_is_opened_with_its_wal(copy, database, driver, killed):
    for left in (wal(database), shm(database)):
        left.unlink()
    move(copy, database)
    killed(database, driver, range(7, 8))
    assert numbers_in(database, driver) == [0, 7]


@pytest.fixture
def reading(connect):
    """Begin to read a file, so that its WAL cannot be moved into it."""

    def read(database):
        db = connect(database)
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM litequeue_jobs").fetchall()
        return db

    return read


def test_a_restored_file_that_others_read_at_its_first_open_is_opened_with_its_wal(
    copy, database, driver, killed, reading
):
    for left in (wal(database), shm(database)):
        move(left, Path(f"{left}.old"))  # not deleted: a new file might get the same inode
    copy_over(copy, database)
    db = reading(database)
    for number in range(1, 3):
        killed(database, driver, range(number, number + 1))
    db.execute("COMMIT")
    killed(database, driver, range(3, 4))
    saved = shutil.copyfile(database, database.parent / "saved.db")
    copy_over(copy, database)
    with pytest.raises(StoreReplaced, match="left by another file"):
        Queue(database, driver=driver)
    copy_over(saved, database)
    assert numbers_in(database, driver) == [0, 1, 2, 3]


@pytest.mark.parametrize("journal_mode", ["delete", "persist", "truncate"])
def test_a_file_of_the_application_that_gets_into_wal_mode_is_opened_with_its_wal(
    database, driver, killed, connect, journal_mode
):
    db = connect(database)
    db.execute(f"PRAGMA journal_mode = {journal_mode}")
    db.execute("CREATE TABLE theirs (id)")
    db.close()
    for number in range(2):
        killed(database, driver, range(number, number + 1))
    assert numbers_in(database, driver) == [0, 1]


def test_a_copy_by_vacuum_into_is_opened_beside_an_empty_wal(database, driver, connect):
    with Queue(database, driver=driver) as queue:
        queue.task(name="same")(lambda number: number).using(tags=["0"]).enqueue(0)
    db = connect(database)
    db.execute("VACUUM INTO ?", (str(database.parent / "copy.db"),))
    db.close()
    move(database.parent / "copy.db", database)
    wal(database).touch()
    assert numbers_in(database, driver) == [0]


MODES = """
import sys
driver, path = sys.argv[1:]
if driver == "apsw":
    import apsw
    run = apsw.Connection(path).execute
else:
    import sqlite3
    run = sqlite3.connect(path, isolation_level=None).execute
print("begins", flush=True)
while True:
    for mode in ("wal", "delete"):
        assert run(f"PRAGMA journal_mode = {mode}").fetchall() == [(mode,)]
        run("REPLACE INTO theirs VALUES (1, randomblob(9000))").fetchall()
"""


@pytest.mark.slow
def test_a_file_whose_journal_mode_changes_at_the_moment_of_a_kill_is_never_refused(database, driver, connect):
    Queue(database, driver=driver).close()
    db = connect(database)
    db.execute("CREATE TABLE theirs (id INTEGER PRIMARY KEY, data)")
    db.close()
    for number in range(60):
        command = [sys.executable, "-c", MODES, driver, str(database)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"begins\n"
            time.sleep(number % 20 / 1000)  # any moment will do
            process.kill()
        Queue(database, driver=driver).close()


def test_a_folder_that_was_copied_as_a_whole_is_opened_with_its_wal(copy, database, driver):
    elsewhere = database.parent.parent / f"{database.parent.name} elsewhere"
    shutil.copytree(database.parent, elsewhere)
    assert numbers_in(elsewhere / database.name, driver) == [0, 1, 2]


def test_a_folder_that_came_back_from_another_disk_is_opened_with_its_wal(copy, database, driver):
    folder = database.parent
    elsewhere = folder.parent / f"{folder.name} elsewhere"
    shutil.copytree(folder, elsewhere)
    shutil.rmtree(folder)
    shutil.copytree(elsewhere, folder)
    assert numbers_in(database, driver) == [0, 1, 2]


def test_a_file_that_was_replaced_together_with_its_wal_is_opened(copy, database, driver, killed):
    snapshot = database.with_name("snapshot")
    snapshot.mkdir()
    for path in (database, wal(database)):
        shutil.copyfile(path, snapshot / path.name)
    killed(database, driver, range(3, 4))
    for path in (database, wal(database)):
        beside = shutil.copyfile(snapshot / path.name, path.with_name("new"))
        beside.replace(path)
    shm(database).unlink()
    assert numbers_in(database, driver) == [0, 1, 2]


def test_a_file_that_was_moved_away_and_put_back_is_opened_with_its_wal(copy, database, driver):
    move(database, database.parent / "away.db")
    move(database.parent / "away.db", database)
    assert numbers_in(database, driver) == [0, 1, 2]


def test_a_file_that_was_renamed_with_all_that_lies_beside_it_is_opened(copy, database, driver):
    renamed = database.parent / "renamed.db"
    for ending in ("", "-wal", "-shm", "-litequeue"):
        move(Path(f"{database}{ending}"), Path(f"{renamed}{ending}"))
    assert numbers_in(renamed, driver) == [0, 1, 2]


@pytest.mark.parametrize("note", [b"{", b'{"inode": 1}', b"\xff" * 300, None])
def test_where_nothing_is_known_nothing_is_refused(copy, database, driver, note):
    if note is None:
        shutil.rmtree(note_of(database).parent)
    else:
        note_of(database).write_bytes(note)
    assert numbers_in(database, driver) == [0, 1, 2]


def test_a_link_in_the_place_of_the_note_is_not_followed(copy, database, driver, tmp_path_factory):
    victim = tmp_path_factory.mktemp("victim") / "victim"
    victim.write_bytes(note_of(database).read_bytes())
    before = victim.read_bytes()
    note_of(database).unlink()
    note_of(database).symlink_to(victim)
    assert numbers_in(database, driver) == [0, 1, 2]
    assert victim.read_bytes() == before


def test_processes_that_open_a_restored_file_at_once_are_none_of_them_refused(copy, database, driver):
    for left in (wal(database), shm(database)):
        left.unlink()
    move(copy, database)
    command = [sys.executable, "-c", PROGRAM + DIES]
    crowd = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for number, process in enumerate(crowd, 10):
        process.stdin.write(f"{database}\t{driver}\t{number}\t{number + 1}\n")
        process.stdin.flush()
    told = [process.communicate(timeout=60)[0] for process in crowd]
    assert told == [f"{-signal.SIGKILL}\n"] * len(crowd)
    assert numbers_in(database, driver) == [0, 10, 11, 12, 13]


DEATHS = """
import aiosqlite, apsw, gc, os, shutil, signal, sys  # what is imported and read here is not anew in each child
from crash.failpoint import Death, Failpoint
from litequeue import Queue, StoreReplaced
from litequeue.sqlite import store
from litequeue.sqlite.drivers import apsw_driver, sqlite3_driver as driver_sqlite3
from litequeue.sqlite.file.migrate import migrations
path, driver, put, after = sys.argv[1:]
migrations()
gc.freeze()

def forked(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def enqueue(number, dies_at=0):
    if dies_at:
        point = Failpoint(Death("kill", after == "after"), dies_at, lambda: None)
        point.past(driver_sqlite3)
        def hook(event, arguments):
            if event in ("open", "os.rename", "os.remove", "os.mkdir", "sqlite3.connect"):
                point.reached()
        sys.addaudithook(hook)
    queue = Queue(path, driver=driver)
    queue.task(name="same")(lambda number: number).using(tags=[str(number)]).enqueue(number)
    if dies_at:
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)

def refused():
    try:
        Queue(path, driver=driver)
    except StoreReplaced:
        os._exit(0)

def look():
    queue = Queue(path, driver=driver)
    print(dies_at, ended, sorted(int(job.tags[0]) for job in queue.jobs()), flush=True)
    os._exit(0)

def restore():
    if put == "copy_over":
        shutil.copyfile(path + ".copy", path)
    else:
        shutil.copyfile(path + ".copy", path + ".new")
        os.replace(path + ".new", path)

for dies_at in range(1, 1000):
    for ending in ("-wal", "-shm"):
        if os.path.exists(path + ending):
            os.unlink(path + ending)
    restore()  # as told, beside the note of the last
    ended = forked(lambda: enqueue(7, dies_at))
    for number in (8, 9):
        assert forked(lambda: enqueue(number)) == -signal.SIGKILL, (dies_at, number)
    os.link(path, path + ".kept") if put == "move" else shutil.copyfile(path, path + ".kept")
    restore()
    assert forked(refused) == 0, dies_at
    os.replace(path + ".kept", path) if put == "move" else shutil.copyfile(path + ".kept", path)
    assert forked(look) == 0, dies_at
    if ended == 0:
        break
"""


@pytest.mark.slow
@pytest.mark.parametrize(("put", "moment"), [("move", "before"), ("copy_over", "after")])
def test_whenever_the_process_dies_that_opens_a_restored_file_the_next_one_opens_it(
    copy, database, driver, put, moment
):
    """At each statement, and at each moment at which a file is opened, renamed or removed on the way."""
    move(copy, database.parent / "app.db.copy")
    command = [sys.executable, "-c", DEATHS, str(database), driver, put, moment]
    paths = os.pathsep.join(map(str, (TESTS, TESTS.parent)))
    ended = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.returncode == 0, ended.stderr
    *died, last = [line.split(" ", 2) for line in ended.stdout.splitlines()]
    assert len(died) > 20
    assert {(code, jobs) for _, code, jobs in died} <= {("-9", "[0, 8, 9]"), ("-9", "[0, 7, 8, 9]")}
    assert last[1:] == ["0", "[0, 7, 8, 9]"]


# The id in the file


def file_id(connect, path):
    [(found,)] = connect(path).execute("SELECT value FROM litequeue_meta WHERE name = 'file_id'").fetchall()
    return found


def test_a_backup_is_another_file_than_its_original(queue, database, connect):
    copies = [queue.backup(database.parent / f"{number}.db") for number in range(2)]
    assert len({file_id(connect, path) for path in (database, *copies)}) == 3


def test_a_restored_file_is_another_one_than_its_copy_and_keeps_its_id(copy, database, driver, connect):
    given = [file_id(connect, copy)]
    for _ in range(2):
        restore(copy, database)
        Queue(database, driver=driver).close()
        given.append(file_id(connect, database))
        Queue(database, driver=driver).close()
        assert file_id(connect, database) == given[-1]
    assert len(set(given)) == 3


def test_a_new_file_keeps_the_id_that_it_was_made_with(database, driver, connect):
    Queue(database, driver=driver).close()
    given = file_id(connect, database)
    assert numbers_in(database, driver) == []
    assert file_id(connect, database) == given


def test_a_file_of_an_older_release_gets_an_id_which_it_keeps(queue, database, driver, connect):
    connect().execute("DELETE FROM litequeue_meta WHERE name = 'file_id'")
    Queue(database, driver=driver).close()
    given = file_id(connect, database)
    Queue(database, driver=driver).close()
    assert (len(given), file_id(connect, database)) == (32, given)


# What the commands say


@pytest.mark.parametrize("driver", ["apsw"])  # the command's own
def test_doctor_fails_on_a_foreign_wal_names_both_files_and_changes_nothing(copy, database):
    move(copy, database)
    before, note = contents(database), note_of(database).read_bytes()
    told = ended(database.parent, "doctor", database, "--json")
    failed = [found["text"] for found in json.loads(told.stdout) if found["level"] == "fail"]
    assert (told.returncode, len(failed)) == (1, 1)
    assert f"delete {database}-wal and {database}-shm" in failed[0]
    assert (contents(database), note_of(database).read_bytes()) == (before, note)


@pytest.mark.parametrize("arguments", [["status"], ["run"]], ids=" ".join)
def test_a_command_on_a_file_with_a_foreign_wal_exits_with_1_and_says_what_to_do(copy, database, driver, arguments):
    move(copy, database)
    app = f"from litequeue import Queue\nqueue = Queue({str(database)!r}, driver={driver!r})\n"
    (database.parent / "app.py").write_text(app)
    told = ended(database.parent, *arguments, "app:queue" if arguments == ["run"] else database)
    assert told.returncode == 1
    assert f"delete {database}-wal and {database}-shm" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_worker_whose_file_is_replaced_says_what_to_do_with_the_wal(queue, database):
    task = queue.task(name="same")(lambda number: number)
    task.enqueue(1)
    copy = queue.backup(database.parent / "copy.db")
    move(copy, database)
    queue.clock.advance("2s")
    with pytest.raises(StoreReplaced, match=f"delete {database}-wal and {database}-shm"):
        task.enqueue(2)
