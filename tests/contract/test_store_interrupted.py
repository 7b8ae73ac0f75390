"""Ctrl-C may be raised between any two instructions of the main thread: no other writer is ever stopped by it."""

import ctypes
import linecache
import sys
import threading

import pytest

from contract.jobs import put
from contract.test_store_writer import DEADLINE, insert
from contract.writing import backlog, can_enter, crowd
from crash.watching import until
from litequeue.core import background
from litequeue.errors import StoreError
from litequeue.sqlite import read_connection
from litequeue.sqlite.commit import commit_queue, fair_lock, gathering, writer
from litequeue.sqlite.drivers import connection
from litequeue.sqlite.file import guards

TRACED = {module.__file__ for module in (connection, commit_queue, fair_lock, gathering, writer)}
MOST = 400


@pytest.fixture(autouse=True)
def look_often(monkeypatch):
    """Word that is lost is made up for at the next look."""
    monkeypatch.setattr(commit_queue, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(commit_queue, "LOOKS", 200)


@pytest.fixture(autouse=True)
def nothing_pending():
    """Up to Python 3.11 a traced call never returns while an exception raised for a thread stands that is gone."""
    with pytest.raises(KeyError):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.get_ident()), ctypes.py_object(KeyError))
        until(lambda: False)


class Interrupter:
    """Raises KeyboardInterrupt before the n-th line that this thread executes in the modules that write."""

    def __init__(self, n):
        self.left = n
        self.entered = set()

    def __call__(self, frame, event, _argument):
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line" and not self.leaves_a_with(frame):
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self

    def leaves_a_with(self, frame):
        """Python raises no signal between the end of a `with` block and its `__exit__`; a tracer could."""
        if not linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith(("with ", "async with")):
            return False
        place = id(frame), frame.f_lineno
        again = place in self.entered
        self.entered.add(place)
        return again


def interrupted(n, function):
    """Call it with a Ctrl-C before its n-th line; return whether that came."""
    before = sys.gettrace()
    interrupter = Interrupter(n)
    sys.settrace(interrupter)
    try:
        function()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return interrupter.left <= 0


def write_in_thread(store, ends):
    def work():
        try:
            ends.append(store.kernel.writer.run(insert("other")))
        except StoreError as error:
            ends.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def alone(store):
    """The main thread writes, with nobody else about."""
    return lambda: store.kernel.writer.run(insert("main")), lambda: None


def a_second_time(store):
    """The main thread writes, and is at its clean-up after a Ctrl-C amid the work."""

    def work(db):
        insert("main")(db)
        raise KeyboardInterrupt

    return lambda: store.kernel.writer.run(work), lambda: None


def with_one_in_line(store):
    """Another thread comes while the main thread writes; it must get its turn."""
    ends, threads = [], []

    def work(db):
        if not threads:
            threads.append(write_in_thread(store, ends))
            until(lambda: backlog(store.kernel.writer))
        return insert("main")(db)

    def check():
        for thread in threads:
            thread.join(DEADLINE)
            assert not thread.is_alive(), "the other writer waits for ever"
            assert ends
            assert isinstance(ends[0], str), ends

    return lambda: store.kernel.writer.run(work), check


def in_line_itself(store):
    """The main thread comes while another writes, and hands its work in, as a third does."""
    writing, go, ends = threading.Event(), threading.Event(), []
    written = [job.task for job in store.jobs.list(limit=5000)].count("other")

    def hold():
        with store.kernel.writer.exclusive():
            writing.set()
            assert go.wait(DEADLINE)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    assert writing.wait(DEADLINE)
    threads = [holder]

    def release():
        until(lambda: backlog(store.kernel.writer) or over)
        threads.append(write_in_thread(store, ends))
        until(lambda: backlog(store.kernel.writer) >= 2 - bool(over))
        go.set()

    over = []
    releaser = threading.Thread(target=release, daemon=True)
    releaser.start()

    def check():
        over.append(True)
        releaser.join(DEADLINE)
        for thread in threads:
            thread.join(DEADLINE)
            assert not thread.is_alive(), "another writer waits for ever"
        [end] = ends
        assert isinstance(end, str), end  # it was stored, once, whoever was interrupted
        assert [job.task for job in store.jobs.list(limit=5000)].count("other") == written + 1

    return lambda: store.kernel.writer.run(insert("main")), check


def in_a_transaction(store):
    """The main thread holds a transaction of its own."""

    def transaction():
        with store.transactions.transaction():
            put(store, task="main")

    return transaction, lambda: None


@pytest.mark.parametrize("scenario", [alone, a_second_time, with_one_in_line, in_line_itself, in_a_transaction])
def test_a_ctrl_c_anywhere_leaves_no_writer_waiting_and_no_transaction_open(store, scenario):
    put(store)
    for n in range(1, MOST):
        crowd(store.path)
        act, check = scenario(store)
        came = interrupted(n, act)
        check()
        ends = []
        write_in_thread(store, ends).join(DEADLINE)
        assert ends, f"writers wait for ever after a Ctrl-C before line {n}"
        assert isinstance(ends[0], str), (n, ends)
        assert not store.kernel.writer.connection.in_transaction
        until(
            lambda: can_enter(store.path),
            "the writer thread has left the fair lock, which is after it told its callers",
        )
        assert ends[0] in {job.id for job in store.jobs.list(limit=5000)}
        if not came:
            return
    pytest.fail("no run went through without a Ctrl-C")


def test_a_ctrl_c_anywhere_leaves_no_job_that_the_workers_of_this_process_are_not_told_of(store):
    """Workers are notified after the commit, so a caller that is interrupted between the two never notifies them."""
    put(store)
    for n in range(1, MOST):
        version, jobs = store.maintenance.version(), len(store.jobs.list(limit=5000))
        came = interrupted(n, lambda: put(store))
        if len(store.jobs.list(limit=5000)) > jobs:
            assert store.maintenance.version() != version, f"after a Ctrl-C before line {n}"
        if not came:
            return
    pytest.fail("no run went through without a Ctrl-C")


def test_a_ctrl_c_as_a_connection_is_opened_hides_no_later_change(store, monkeypatch):
    """SQLite counts changes from the start in each connection, so a new one must be told from the last."""
    monkeypatch.setitem(globals(), "TRACED", {read_connection.__file__})
    for n in range(1, MOST):
        version = store.kernel.reads.file_version()
        store.kernel.look_ups.close()
        came = interrupted(n, store.kernel.reads.file_version)
        assert store.kernel.reads.file_version() != version, f"after a Ctrl-C before line {n}"
        if not came:
            return
    pytest.fail("no run went through without a Ctrl-C")


def test_a_ctrl_c_as_a_file_is_opened_leaves_it_to_be_opened_by_others(store, monkeypatch):
    monkeypatch.setitem(globals(), "TRACED", {guards.__file__})
    for n in range(1, MOST):
        store.kernel.look_ups.close()
        came = interrupted(n, store.kernel.reads.file_version)
        store.kernel.look_ups.close()
        store.kernel.reads.file_version()  # once raised StoreBusy from here on
        if not came:
            return
    pytest.fail("no run went through without a Ctrl-C")


def test_a_ctrl_c_as_a_thread_of_calls_is_started_leaves_the_next_call_to_start_it(monkeypatch):
    monkeypatch.setitem(globals(), "TRACED", {background.__file__})
    for n in range(1, MOST):
        calls, called = background.Background("litequeue-tested"), threading.Event()
        came = interrupted(n, lambda calls=calls: calls.submit(int))
        calls.submit(called.set)
        assert called.wait(DEADLINE), f"no thread is started after a Ctrl-C before line {n}"
        calls.close()
        if not came:
            return
    pytest.fail("no run went through without a Ctrl-C")
