"""A Ctrl-C, or another error of the application's, at a moment at which it once cost a job, a connection or a lock."""

import os
import signal
import sys
import threading

import pytest

from contract.writing import until_backlog
from crash.watching import ended, until
from litequeue import Queue
from litequeue.core.dispatch import IdleWorker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="interval timers, fork")


@pytest.fixture
def interrupt_soon():
    """Raise KeyboardInterrupt in the main thread after so many seconds; at once, from another thread, for 0."""
    before, main = signal.signal(signal.SIGALRM, signal.default_int_handler), threading.main_thread().ident

    def interrupt(seconds):
        if seconds:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        else:
            signal.pthread_kill(main, signal.SIGALRM)

    yield interrupt
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_what_follows_a_commit_is_done_by_the_thread_that_commits_though_its_caller_was_interrupted(
    queue, connect, interrupt_soon
):
    """A job that was dispatched so was claimed, and nobody told: it stood as running for ever."""
    work, writer = queue.task(name="work")(lambda: None), queue.engine.kernel.writer
    work.enqueue()
    dispatched, taken = [], threading.Event()
    idle = IdleWorker(1, frozenset({frozenset({"work"})}), None, lambda *told: dispatched.append(told), lambda: None)
    queue.engine.dispatch.offer(idle)
    other = connect()

    def busy():
        with writer.exclusive():
            taken.set()
            until_backlog(writer, 1)
            other.execute("BEGIN IMMEDIATE")
        until_backlog(writer, 0)  # its work is begun, and waits for the file
        interrupt_soon(0)

    thread = threading.Thread(target=busy)
    thread.start()
    assert taken.wait(20)
    with pytest.raises(KeyboardInterrupt):
        work.enqueue()
    thread.join(20)
    assert dispatched == []
    other.execute("COMMIT")
    until(lambda: dispatched)
    assert len(dispatched) == 1


def test_an_error_of_on_connect_while_a_run_is_settled_costs_neither_the_run_nor_the_thread(database, driver):
    failing, begun, go = [], threading.Event(), threading.Event()

    def on_connect(_db):
        if failing:
            failing.pop()
            raise ValueError("for a moment")

    with Queue(database, driver=driver, on_connect=on_connect) as queue:

        @queue.task
        def work():
            begun.set()
            assert go.wait(20)

        with queue.worker(threads=1):
            job = work.enqueue()
            assert begun.wait(20)
            queue.close()
            failing.append(1)
            go.set()
            record = ended(job)
            assert (record.status, record.attempt) == ("succeeded", 1)
            assert queue.task(name="next")(lambda: 5).enqueue().result(20) == 5


def test_a_read_transaction_that_an_interrupt_left_open_is_ended_by_the_next_reader(open_queue):
    queue = open_queue()
    task = queue.task(name="work")(lambda: None)
    task.enqueue_many([()] * 3)
    queue.jobs()
    queue.engine.kernel.listings[0].connection.script("BEGIN")  # as by a Ctrl-C just after it
    assert len(queue.jobs()) == 3
    task.enqueue()
    assert len(queue.jobs()) == 4
    assert sum(count.jobs for count in queue.engine.jobs.counts()) == 4


def test_an_error_in_a_listing_leaves_no_transaction_open(open_queue):
    queue = open_queue()

    def look(db):
        db.script("BEGIN")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        queue.engine.kernel.read_listing(look)
    assert not queue.engine.kernel.listings[0].connection.in_transaction


def test_a_ctrl_c_while_a_fork_waits_for_a_listing_locks_nobody_out(database, driver, interrupt_soon):
    with Queue(database, driver=driver) as queue:
        work = queue.task(name="work")(lambda: None)
        work.enqueue()
        reading, go = threading.Event(), threading.Event()

        def look(_db):
            reading.set()
            go.wait(20)

        thread = threading.Thread(target=lambda: queue.engine.kernel.read_listing(look))
        thread.start()
        assert reading.wait(20)
        interrupt_soon(0.2)
        threading.Timer(0.5, go.set).start()
        child = os.fork()  # Python prints what a hook raises, and forks all the same
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        thread.join(20)
        kernel = queue.engine.kernel
        held = kernel.copying.locked(), kernel.writer.changes() is None, any(each.busy() for each in kernel.listings)
        assert held == (False, False, False)
        work.enqueue()
        assert len(queue.jobs()) == 2


def test_a_signal_handler_may_cancel_a_job_while_a_wait_begins(database, driver, monkeypatch):
    from litequeue.ipc import result_waiters

    queue = Queue(database, driver=driver)
    work = queue.task(name="work")(lambda: None)
    awaited, other = work.enqueue_many([(), ()])
    plain = result_waiters.Listener

    def listener(*args, **options):
        signal.raise_signal(signal.SIGUSR1)
        return plain(*args, **options)

    monkeypatch.setattr(result_waiters, "Listener", listener)
    before = signal.signal(signal.SIGUSR1, lambda *_: other.cancel())
    try:
        with pytest.raises(TimeoutError):
            awaited.result(0.05)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert other.refresh().status == "cancelled"
    queue.close()


def test_after_a_ctrl_c_at_the_pragma_durable_commits_are_synced(open_queue, monkeypatch):
    queue = open_queue(durability="full")
    work = queue.task(name="work")(lambda: None)
    work.enqueue()
    kind = type(queue.engine.kernel.writer.connection)
    plain = kind.script

    def script(self, sql):
        plain(self, sql)
        if sql == "PRAGMA synchronous = normal":
            raise KeyboardInterrupt

    monkeypatch.setattr(kind, "script", script)
    with pytest.raises(KeyboardInterrupt):
        queue.engine.maintenance.prune(10)
    monkeypatch.undo()
    work.enqueue()
    assert queue.engine.kernel.writer.connection.rows("PRAGMA synchronous") == [(2,)]
