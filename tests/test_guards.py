"""Each hazard of HAZARDS that is refused before harm: two libraries, open(), bad places, replaced files."""

import asyncio
import io
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace

import aiosqlite
import apsw
import pytest

from contract.jobs import put
from litequeue import (
    DriverConflict,
    NotAQueue,
    Queue,
    SchemaTooNew,
    StoreError,
    StoreReplaced,
    UnsafeFilesystem,
)
from litequeue.ipc.process_lock import directory_of
from litequeue.sqlite.drivers import apsw_driver as driver_apsw
from litequeue.sqlite.file import guards, opening

apsw_only = pytest.mark.parametrize("driver", ["apsw"], indirect=True)
sqlite3_only = pytest.mark.parametrize("driver", ["sqlite3"], indirect=True)


def elsewhere(code, *arguments):
    """Run Python code in another process and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


TRY_TO_WRITE = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
try:
    db.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error)
else:
    print("wrote")
"""

COUNT = """
import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("SELECT count(*) FROM litequeue_jobs").fetchone()[0])
"""


# Two libraries


def as_path(path):
    return path


def as_relative(path):
    return os.path.relpath(path)


def as_symlink(path):
    link = path.with_name("link.db")
    link.symlink_to(path)
    return link


def as_directory_symlink(path):
    link = path.parent / "here"
    link.symlink_to(path.parent)
    return link / path.name


def as_hard_link(path):
    link = path.with_name("hard.db")
    link.hardlink_to(path)
    return link


SPELLINGS = [as_path, str, os.fsencode, as_relative, as_symlink, as_directory_symlink, as_hard_link]
URIS = [
    lambda path: f"file:{path}",
    lambda path: f"file://{path}",
    lambda path: f"file://localhost{path}?mode=ro",
    lambda path: f"file:{os.path.relpath(path)}?cache=private#x",
    lambda path: path.as_uri().replace("app", "%61pp"),
]


@apsw_only
@pytest.mark.parametrize("spell", SPELLINGS)
def test_sqlite3_is_stopped_however_the_path_is_spelled(store, spell):
    put(store)
    with pytest.raises(DriverConflict, match=r"Queue\(path, driver='sqlite3'\)"):
        sqlite3.connect(spell(store.path))


@apsw_only
@pytest.mark.parametrize("spell", URIS)
def test_sqlite3_is_stopped_when_the_path_is_a_uri(store, spell):
    put(store)
    with pytest.raises(DriverConflict):
        sqlite3.connect(spell(store.path), uri=True)


@apsw_only
def test_sqlite3_is_stopped_when_its_class_is_called(store):
    put(store)
    with pytest.raises(DriverConflict):
        sqlite3.Connection(str(store.path))


@apsw_only
def test_aiosqlite_is_stopped_too(store):
    put(store)

    async def main():
        before = set(threading.enumerate())
        with pytest.raises(DriverConflict, match="driver='sqlite3'"):
            await aiosqlite.connect(store.path)
        for its_own in set(threading.enumerate()) - before:
            await asyncio.to_thread(its_own.join, 30)

    asyncio.run(main())


@apsw_only
def test_a_stopped_connect_does_no_harm(store):
    """A connect, a select and a close would have dropped apsw's locks, and let another process write beside it."""
    put(store)
    with store.transactions.transaction() as db:
        db.execute("UPDATE litequeue_jobs SET priority = 1")
        for _ in range(3):
            with suppress(DriverConflict):
                sqlite3.connect(store.path).execute("SELECT 1").close()
            with suppress(DriverConflict):
                store.path.read_bytes()
        assert "locked" in elsewhere(TRY_TO_WRITE, store.path)
    assert elsewhere(TRY_TO_WRITE, store.path) == "wrote"
    assert (elsewhere(COUNT, store.path), store.admin.integrity()) == ("1", [])


@apsw_only
def test_other_files_are_nobodys_business(store, tmp_path):
    with closing(sqlite3.connect(tmp_path / "other.db")), closing(sqlite3.connect(":memory:")):
        (tmp_path / "text").write_text("x")
    with suppress(sqlite3.Error):
        sqlite3.connect(tmp_path / "no" / "such")


@apsw_only
def test_a_closed_file_is_free_for_every_library(store):
    put(store)
    store.close()
    with closing(sqlite3.connect(store.path)) as db:
        assert db.execute("SELECT count(*) FROM litequeue_jobs").fetchone() == (1,)


@apsw_only
def test_a_file_that_is_open_by_another_library_is_not_opened(driver, database):
    with closing(sqlite3.connect(database)) as db:
        db.execute("CREATE TABLE mine (x)")
        with pytest.raises(DriverConflict, match="driver='sqlite3'"):
            Queue(database)
        db.execute("INSERT INTO mine VALUES (1)")
    with Queue(database):
        pass


@apsw_only
def test_a_file_that_the_application_has_open_through_apsw_is_opened(driver, database):
    with closing(apsw.Connection(str(database))) as db:
        db.execute("CREATE TABLE mine (x)")
        with Queue(database) as queue, queue.transaction() as inside:
            inside.execute("INSERT INTO mine VALUES (1)")
        assert db.execute("SELECT count(*) FROM mine").fetchall() == [(1,)]


@apsw_only
def test_a_connection_of_the_applications_own_may_be_busy_in_another_thread(driver, database):
    asked, go = threading.Event(), threading.Event()

    def hold():
        asked.set()
        return go.wait(30)

    with closing(apsw.Connection(str(database))) as db:
        db.create_scalar_function("hold", hold)
        thread = threading.Thread(target=lambda: db.execute("SELECT hold()").fetchall())
        thread.start()
        assert asked.wait(30)
        Queue(database).close()
        go.set()
        thread.join(30)


def test_a_connection_that_was_closed_holds_no_file(database):
    db = apsw.Connection(str(database))
    assert driver_apsw.holds(str(database))
    db.close()
    assert not driver_apsw.holds(str(database))


def test_two_queues_of_two_drivers_on_one_file_are_refused(open_store, driver):
    store = open_store()
    put(store)
    other = {"apsw": "sqlite3", "sqlite3": "apsw"}[driver]
    with pytest.raises(DriverConflict, match="one SQLite library"):
        Queue(store.path, driver=other)
    assert put(store)


def test_two_queues_of_one_driver_share_a_file(open_queue):
    one, two = open_queue(), open_queue()
    job = one.task(name="add")(lambda: None).enqueue()
    assert two.job(job.id).task == "add"


@sqlite3_only
def test_with_the_sqlite3_driver_the_same_application_code_runs(store):
    put(store)
    for spell in SPELLINGS[:5]:
        with closing(sqlite3.connect(spell(store.path))) as db:
            assert db.execute("SELECT count(*) FROM litequeue_jobs").fetchone() == (1,)

    async def main():
        async with aiosqlite.connect(store.path) as db:
            await db.execute("CREATE TABLE mine (x)")

    asyncio.run(main())
    assert store.admin.integrity() == []


# open(): closing any descriptor of the file drops the process's locks, whichever library holds them


OPENINGS = [
    lambda path: open(path, "rb"),  # noqa: SIM115
    lambda path: path.read_bytes(),
    lambda path: io.FileIO(path),
    lambda path: os.open(path, os.O_RDONLY),
    lambda path: os.open(os.fsencode(path), os.O_RDONLY),
    lambda path: shutil.copy(path, path.with_name("copy.db")),
]


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize("opening", OPENINGS)
def test_the_file_and_its_companions_cannot_be_opened_by_hand(store, opening, suffix):
    put(store)
    with pytest.raises(DriverConflict, match="backup API or VACUUM INTO"):
        opening(Path(f"{store.path}{suffix}"))


def test_what_is_not_open_can_be_read_by_hand(store):
    store.close()
    assert store.path.read_bytes().startswith(b"SQLite format 3")


def test_sizes_can_be_asked_for(store):
    put(store)
    assert store.admin.wal_size() == os.stat(f"{store.path}-wal").st_size > 0
    store.close()
    assert store.admin.wal_size() == 0


# Bad places


@pytest.fixture
def refused(driver):
    """Open a queue at a path and return how it was refused."""

    def refusing(path, kind=StoreError, **options):
        with pytest.raises(kind) as refusal:
            Queue(path, driver=driver, **options)
        return str(refusal.value)

    return refusing


def test_a_directory_is_no_file(refused, tmp_path):
    assert "is a directory; name a file in it" in refused(tmp_path)


def test_a_missing_folder_is_not_made(refused, tmp_path):
    assert "does not exist; create it first" in refused(tmp_path / "no" / "app.db")
    assert not (tmp_path / "no").exists()


def test_a_read_only_file_is_refused(refused, database):
    database.touch(0o444)
    assert "is read-only for this user" in refused(database)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(("mode", "there"), [(0o555, False), (0o755, True)], ids=["folder", "file"])
def test_what_another_user_may_not_write_is_refused(tmp_path, mode, there):
    """Root may write anything, so this is looked at by a child that is nobody."""
    if there:
        (tmp_path / "app.db").touch(0o644)
    tmp_path.chmod(mode)
    pid = os.fork()
    if pid == 0:
        with suppress(StoreError):
            os.chdir(tmp_path)
            if os.geteuid() == 0:
                os.setuid(65534)
            elif there:
                os.chmod("app.db", 0o444)
            guards.check_place(Path("app.db"), allow_unsafe_filesystem=True)
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_NOFILE")
@pytest.mark.parametrize(("there", "why"), [(False, "cannot be created: Too many"), (True, "cannot be opened")])
def test_without_a_descriptor_left_a_queue_is_refused_and_opens_later(open_store, database, there, why):
    import resource

    if there:
        open_store().close()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(StoreError, match=why):
            open_store(create=not there)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert put(open_store())


def test_a_file_that_goes_while_it_is_opened_is_refused(database):
    with pytest.raises(StoreError, match="was deleted while it was being opened"):
        guards.register(str(database), "apsw", object(), holds=bool)


@pytest.mark.parametrize("content", [b"hello", b"x" * 5000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(refused, database, content):
    database.write_bytes(content)
    assert "not an SQLite database" in refused(database) or "damaged" in refused(database)
    assert database.read_bytes() == content


def test_a_pipe_is_refused_without_waiting_for_it(refused, database):
    os.mkfifo(database)
    assert "is not a regular file" in refused(database)


@pytest.mark.parametrize("path", [":memory:", "file:app.db", "file:app.db?mode=memory", ""])
def test_what_is_no_plain_path_is_refused(refused, path):
    refused(path, ValueError)


def test_a_path_of_bytes_is_refused(refused, database):
    assert "must be text" in refused(os.fsencode(database), ValueError)


@pytest.mark.parametrize("wrong", [{"driver": "mysql"}, {"durability": "none"}])
def test_unknown_options_are_refused_where_they_are_given(database, wrong):
    with pytest.raises(ValueError, match="must be"):
        Queue(database, **wrong)
    assert not database.exists()


def test_a_newer_schema_is_refused_and_left_as_it_is(open_store, connect, refused, database):
    open_store().close()
    connect().execute("UPDATE litequeue_meta SET value = '999' WHERE name = 'schema_version'")
    assert "schema version 999; this litequeue knows up to" in refused(database, SchemaTooNew)


def test_a_file_without_a_queue_is_not_one(open_store, connect, database):
    connect().execute("CREATE TABLE mine (x)")
    with pytest.raises(NotAQueue, match="holds none of litequeue's tables"):
        open_store(create=False)
    assert connect().execute("SELECT name FROM sqlite_schema").fetchall() == [("mine",)]


def test_a_missing_file_is_made_only_when_asked_to(open_store, database):
    with pytest.raises(StoreError, match="does not exist"):
        open_store(create=False)
    assert not database.exists()


def test_a_dangling_link_is_followed(open_store, database):
    target = database.with_name("target.db")
    database.symlink_to(target)
    put(open_store())
    assert target.exists()


# What is made, and what is left alone


def test_a_new_file_is_its_owners_alone_with_its_companions(store):
    put(store)
    for suffix in ("", "-wal", "-shm"):
        assert stat.S_IMODE(os.stat(f"{store.path}{suffix}").st_mode) == 0o600


def test_what_lies_beside_it_is_its_owners_alone(database, driver):
    with Queue(database, driver=driver) as queue, queue.worker(threads=1):
        queue.task(name="t")(lambda: None).enqueue()
        folder = directory_of(database)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir() if not path.is_socket()}
        assert {name.rpartition(".")[2] for name in modes} >= {"lock", "fair_lock"}
        assert set(modes.values()) == {0o600}


def test_a_file_of_the_applications_own_keeps_its_mode(open_store, connect, database):
    connect().execute("CREATE TABLE mine (x)")
    database.chmod(0o664)
    put(open_store())
    assert stat.S_IMODE(database.stat().st_mode) == 0o664


def test_the_settings_of_an_applications_own_file_are_left_alone(open_store, connect):
    own = ["page_size = 8192", "user_version = 7", "application_id = 42"]
    connection = connect()
    for setting in own:
        connection.execute(f"PRAGMA {setting}")
    connection.execute("CREATE TABLE mine (x)")
    store = open_store()
    put(store)
    assert store.maintenance.vacuum() == 0
    store.maintenance.checkpoint()
    for name, value in (("user_version", 7), ("application_id", 42), ("page_size", 8192), ("auto_vacuum", 0)):
        assert connection.execute(f"PRAGMA {name}").fetchall() == [(value,)]
    assert connection.execute("SELECT * FROM litequeue_meta WHERE name = 'made_by_litequeue'").fetchall() == []


def test_every_name_in_the_file_begins_with_ours(store):
    names = store.kernel.read(lambda db: db.rows("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"))
    assert names
    assert [name for (name,) in names if not name.startswith("litequeue_")] == []


# The file is replaced or deleted while it is open


def test_a_deleted_file_is_noticed(store):
    put(store)
    store.path.unlink()
    with pytest.raises(StoreReplaced, match="was deleted while it was open"):
        store.maintenance.check()


def test_a_replaced_file_is_noticed(store):
    put(store)
    store.path.with_name("new.db").touch()
    store.path.with_name("new.db").replace(store.path)
    with pytest.raises(StoreReplaced, match="was replaced by another file"):
        store.maintenance.check()


def test_a_replaced_file_is_not_opened_anew_as_the_old_one(store):
    put(store)
    store.close()
    store.path.with_name("new.db").touch()
    store.path.with_name("new.db").replace(store.path)
    with pytest.raises(StoreReplaced):
        store.jobs.list()


def ways_to_use_it(queue, job):
    add = queue.tasks["add"]
    return {
        "enqueue": lambda: add.enqueue(1),
        "aenqueue": lambda: asyncio.run(add.aenqueue(1)),
        "enqueue_many": lambda: add.enqueue_many([(1,), (2,)]),
        "transaction": lambda: queue.transaction().__enter__(),
        "refresh": job.refresh,
        "cancel": job.cancel,
        "acancel": lambda: asyncio.run(job.acancel()),
        "retry": job.retry,
        "result": job.result,
        "aresult": lambda: asyncio.run(job.aresult()),
        "jobs": queue.jobs,
    }


def test_a_file_that_was_noticed_to_be_gone_is_used_no_more_in_any_way(queue, clock):
    """What is stored there is lost, and who waits for it would wait for ever."""
    job = queue.task(name="add")(lambda a=0: a).enqueue()
    queue.engine.path.unlink()
    clock.advance(2)
    for _ in range(2):
        for way, use in ways_to_use_it(queue, job).items():
            with pytest.raises(StoreReplaced):
                pytest.fail(f"{way} went on: {use()}")


def test_a_file_in_its_place_passes_the_check(store):
    put(store)
    store.maintenance.check()


@sqlite3_only
def test_an_async_transaction_notices_a_replaced_file(store):
    put(store)
    store.path.unlink()

    async def main():
        with pytest.raises(StoreReplaced):
            async with store.transactions.atransaction():
                pass

    asyncio.run(main())


# Unsafe file systems: lines as in proc(5), mountinfo

MOUNTS = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:21 / /proc rw - proc proc rw
24 22 0:30 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw,lowerdir=a
25 22 0:31 / /app rw shared:1 master:2 - virtiofs host rw
26 25 254:0 /volumes/data /app/data rw - ext4 /dev/vda rw
27 22 0:32 / /mnt/c rw - 9p drvfs rw
28 22 0:33 / /mnt/my\040share rw - cifs //server/share rw
29 22 0:34 / /mnt/tab\011and\134back rw - nfs4 server:/x rw
30 22 0:35 / /home/me/sshfs rw - fuse.sshfs host: rw
31 22 0:36 / /twice rw - nfs server:/y rw
32 22 0:37 / /twice rw - tmpfs tmpfs rw
33 22 0:38 /sub /btrfs rw - btrfs /dev/vdb rw
34 22 0:39 /x.db /data/one.db rw - virtiofs host rw
""".strip().splitlines()


@pytest.mark.parametrize(
    ("path", "device", "expected"),
    [
        ("/x.db", "254:0", "ext4"),
        ("/var/lib/docker/overlay2/x/merged/x.db", "0:30", "overlay"),
        ("/app/x.db", "0:31", "virtiofs"),
        ("/app/data/x.db", "254:0", "ext4"),
        ("/application/x.db", "254:0", "ext4"),
        ("/mnt/c/x.db", "0:32", "9p"),
        ("/mnt/my share/x.db", "0:33", "cifs"),
        ("/mnt/tab\tand\\back/x.db", "0:34", "nfs4"),
        ("/home/me/sshfs/a/b/x.db", "0:35", "fuse.sshfs"),
        ("/twice/x.db", "0:37", "tmpfs"),
        ("/twice/x.db", "9:99", "tmpfs"),
        ("/btrfs/x.db", "0:99", "btrfs"),
        ("/data/one.db", "0:39", "virtiofs"),
        ("/data/one.db-wal", "254:0", "ext4"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_innermost_mount(path, device, expected, monkeypatch):
    place = SimpleNamespace(st_dev=os.makedev(*map(int, device.split(":"))))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "exists", lambda _: True)
        patched.setattr(Path, "stat", lambda _: place)
        found = guards.filesystem_of(Path(path), MOUNTS)
    assert found == expected


@pytest.mark.parametrize("kind", ["virtiofs", "9p", "fuse.sshfs", "fuse", "nfs", "nfs4", "cifs", "smb3", "drvfs"])
def test_shared_and_network_file_systems_are_unsafe(database, kind, monkeypatch):
    monkeypatch.setattr(guards, "filesystem_of", lambda *_: kind)
    with pytest.raises(UnsafeFilesystem, match=f"on a {kind} file system"):
        guards.check_place(database, allow_unsafe_filesystem=False)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs", "fuseblk"])
def test_local_file_systems_are_safe(database, kind, monkeypatch):
    monkeypatch.setattr(guards, "filesystem_of", lambda *_: kind)
    guards.check_place(database, allow_unsafe_filesystem=False)


def test_an_unsafe_file_system_is_refused_unless_the_risk_is_taken(database, monkeypatch):
    monkeypatch.setattr(guards, "UNSAFE", guards.UNSAFE | {guards.filesystem_of(database)})
    with pytest.raises(UnsafeFilesystem, match="allow_unsafe_filesystem=True"):
        Queue(database)
    assert not database.exists()
    Queue(database, allow_unsafe_filesystem=True).close()


def test_the_file_system_of_this_machine_is_told():
    assert guards.filesystem_of(Path("/proc/self/stat")) == "proc"
    assert guards.filesystem_of(Path("/no/such/folder/x.db")) is None


# The library


@pytest.mark.parametrize(("version", "warned"), [("3.51.2", True), ("3.40.1", True), ("3.51.3", False), ("4.0", False)])
def test_a_library_with_the_wal_reset_bug_is_warned_of(version, warned):
    class Library:
        LIBRARY = "sqlite3"

        def library_version(self):
            return version

    warning = opening.warn_of_old_library(Library())
    assert bool(warning) is warned
    if warned:  # what it is, how likely, what to do
        for words in ("may be corrupted", "It is rare", "You may go on", "SQLite 3.51.3 or newer", "the apsw driver"):
            assert words in warning
