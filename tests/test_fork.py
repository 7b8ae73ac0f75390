"""A fork copies the process, and with it SQLite's belief in locks that only the parent holds: nothing may cross it."""

import gc
import multiprocessing
import os
import threading
import traceback
import warnings
from contextlib import suppress

import pytest

from contract.jobs import new, put
from litequeue import Queue, StoreError
from litequeue.sqlite import kernel

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    # Python 3.12 warns of what these tests are about: a fork while other threads run
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def forked(work):
    """Run `work` in a forked child; return its exit code: 0 when all went well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def ids(store):
    return sorted(int(job.id) for job in store.jobs.list(limit=10_000))


def test_parent_and_child_go_on_with_one_store(store):
    put(store)
    assert forked(lambda: put(store)) == 0
    put(store)
    assert (ids(store), store.admin.integrity()) == ([1, 2, 3], [])


def drop_one(database, driver):
    """Use a queue of this file, and drop it without `close()`."""
    queue = Queue(database, driver=driver)
    queue.task(name="send")(lambda: None).enqueue()
    del queue
    gc.collect()


def test_a_queue_that_was_dropped_does_not_keep_the_next_one_from_the_file(database, driver):
    drop_one(database, driver)  # its connections went with it, and with the last one the -wal
    drop_one(database, driver)
    assert forked(lambda: drop_one(database, driver)) == 0
    with Queue(database, driver=driver) as queue:
        assert len(queue.jobs()) == 3


def test_a_child_reads_what_the_parent_wrote(store):
    put(store)
    store.jobs.list()

    def child():
        assert ids(store) == [1]

    assert forked(child) == 0


def test_a_child_of_a_child_goes_on(store):
    put(store)

    def child():
        put(store)
        assert forked(lambda: put(store)) == 0

    assert forked(child) == 0
    assert (ids(store), store.admin.integrity()) == ([1, 2, 3], [])


def test_a_fork_waits_for_all_that_read_together_no_longer_than_for_one(store, monkeypatch):
    """It waited for 10 s for each connection, one after another."""
    put(store)
    monkeypatch.setattr(kernel, "BUSY_SECONDS", 0.3)
    over, patience, readers = threading.Event(), [], (store.kernel.look_ups, *store.kernel.listings)
    for reader in readers:
        monkeypatch.setattr(reader, "stop", lambda seconds, stop=reader.stop: patience.append(seconds) or stop(seconds))
        begun = threading.Event()
        look = lambda _db, begun=begun: begun.set() or over.wait(20)  # noqa: E731
        threading.Thread(target=reader.read, args=[look], daemon=True).start()
        assert begun.wait(20)
    try:
        stopped = store.kernel.before_fork()
        store.kernel.after_fork_in_parent(stopped)
    finally:
        over.set()
    assert stopped == (True, True, *[False] * len(readers))
    assert sum(patience) < 0.4


def test_a_fork_waits_for_the_transaction_of_another_thread(store):
    put(store)
    inside, go = threading.Event(), threading.Event()

    def hold():
        with store.transactions.transaction() as db:
            db.execute("UPDATE litequeue_jobs SET priority = 1")
            inside.set()
            assert go.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(30)
    timer = threading.Timer(0.1, go.set)
    timer.start()
    assert forked(lambda: put(store)) == 0
    thread.join()
    put(store)
    assert (ids(store), store.admin.integrity()) == ([1, 2, 3], [])
    assert store.jobs.look_up("1").priority == 1


def test_a_child_forked_inside_a_transaction_is_refused_and_the_parent_commits(store):
    def child():
        for use in (lambda: put(store), store.jobs.list):
            with pytest.raises(StoreError, match="forked inside a transaction"):
                use()

    with store.transactions.transaction():
        put(store)
        assert forked(child) == 0
        put(store)
    assert (ids(store), store.admin.integrity()) == ([1, 2], [])


def test_a_child_forked_while_a_look_does_not_end_is_refused_and_the_parent_goes_on(store, monkeypatch):
    monkeypatch.setattr(kernel, "BUSY_SECONDS", 0.05)
    put(store)
    looking, go = threading.Event(), threading.Event()

    def look(db):
        looking.set()
        assert go.wait(30)
        return db.rows("SELECT count(*) FROM litequeue_jobs")

    counted = []
    thread = threading.Thread(target=lambda: counted.append(store.kernel.read(look)))
    thread.start()
    assert looking.wait(30)

    def child():
        with pytest.raises(StoreError, match="forked inside a transaction"):
            store.jobs.list()

    assert forked(child) == 0
    go.set()
    thread.join(30)
    put(store)
    assert (counted, ids(store), store.admin.integrity()) == ([[(1,)]], [1, 2], [])


def test_a_child_forked_amid_a_backup_is_refused_and_the_parent_goes_on(store, tmp_path, monkeypatch):
    put(store)
    copying, go, connect = threading.Event(), threading.Event(), store.kernel.file.connect

    def slowly(**options):
        if threading.current_thread() is thread:
            copying.set()
            assert go.wait(30)
        return connect(**options)

    monkeypatch.setattr(store.kernel.file, "connect", slowly)
    thread = threading.Thread(target=store.admin.backup, args=(tmp_path / "copy.db",))
    thread.start()
    assert copying.wait(30)

    def child():
        for use in (lambda: put(store), store.jobs.list):
            with pytest.raises(StoreError, match="during a backup"):
                use()

    assert forked(child) == 0
    put(store)
    go.set()
    thread.join(30)
    assert (ids(store), store.admin.integrity()) == ([1, 2], [])
    assert forked(lambda: store.admin.backup(tmp_path / "child.db")) == 0
    assert (tmp_path / "copy.db").exists()
    assert (tmp_path / "child.db").exists()


def test_a_child_that_leaves_its_parents_transaction_commits_nothing(store):
    parent, code = os.getpid(), 1
    try:
        with store.transactions.transaction():
            put(store)
            pid = os.fork()
            if pid:
                assert os.waitpid(pid, 0)[1] == 0
    except StoreError:
        code = 0
    finally:
        if os.getpid() != parent:
            os._exit(code)
    assert (ids(store), store.admin.integrity()) == ([1], [])


def test_many_forks_beside_busy_threads_lose_nothing(store):
    stop = threading.Event()
    written = []

    def write():
        while not stop.is_set():
            written.append(put(store))

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    codes = [forked(lambda: store.jobs.submit([new("child")] * 3)) for _ in range(15)]
    stop.set()
    for thread in threads:
        thread.join(60)
    assert codes == [0] * 15
    assert len(store.jobs.list(task="child", limit=10_000)) == 45
    assert len(set(written)) == len(written) == len(store.jobs.list(task="add", limit=100_000))
    assert store.admin.integrity() == []


def test_forks_from_two_threads_at_once_do_not_block_each_other(store):
    put(store)
    codes = []
    threads = [
        threading.Thread(target=lambda: codes.extend(forked(lambda: put(store)) for _ in range(8))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert codes == [0] * 24
    assert len(ids(store)) == 25


def nothing(): ...


def enqueue_in(path, driver, count):
    from litequeue import Queue

    with Queue(path, driver=driver) as queue:
        add = queue.task(name="add")(nothing)
        for _ in range(count):
            add.enqueue()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_every_start_method_enqueue(store, driver, method):
    put(store)
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=enqueue_in, args=(str(store.path), driver, 5)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (len(ids(store)), store.admin.integrity()) == (11, [])


def test_a_parent_that_exits_first_leaves_the_child_a_sound_file(store, open_store):
    """The parent closes its last connection while the child is at work; the WAL must not go from under the child."""
    put(store)
    store.jobs.list()
    told, ready = os.pipe(), os.pipe()

    def child():
        put(store)
        os.write(ready[1], b"x")
        os.read(told[0], 1)
        put(store)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            child()
            os._exit(0)
        os._exit(1)
    os.read(ready[0], 1)
    store.close()
    os.write(told[1], b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for number in (*told, *ready):
        os.close(number)
    assert (ids(store), store.admin.integrity()) == ([1, 2, 3], [])


def test_a_fork_while_another_thread_makes_a_queue_leaves_the_file_usable_in_the_child(store):
    put(store)
    over = threading.Event()

    def make():
        while not over.is_set():
            Queue(store.path, driver=store.driver_name)

    def child():
        threading.Timer(10, os._exit, (2,)).start()  # only a defect waits so long
        put(store)

    maker = threading.Thread(target=make)
    maker.start()
    try:
        assert {forked(child) for _ in range(50)} == {0}
    finally:
        over.set()
        maker.join()
