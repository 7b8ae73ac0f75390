"""A signal handler of the application may run between any two lines of a call of litequeue, and make another call."""

import asyncio
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path

import pytest

import litequeue
from litequeue import Queue, StoreBusy, StoreError
from litequeue.core.background import Background
from litequeue.sqlite.commit import commit_queue

LIBRARY = str(Path(litequeue.__file__).parent)
DEADLINE = 20  # seconds


@pytest.fixture(autouse=True)
def refuse_soon(monkeypatch):
    """What a handler writes while its own thread writes is refused: here after 50 ms instead of 10 s."""
    monkeypatch.setattr(commit_queue, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(commit_queue, "LOOKS", 5)


class Signalled:
    """Calls the handler before the n-th line that this thread executes in these files, as Python calls one."""

    def __init__(self, n, handler, files):
        self.left, self.handler, self.files = n, handler, files

    def __call__(self, frame, event, _argument):
        name = frame.f_code.co_filename
        if not name.startswith(LIBRARY) or not name.endswith(self.files):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                with suppress(StoreError):  # it may be refused; it must not wait for ever
                    self.handler()
        return self


def signalled(n, act, handler, files=(".py",)):
    """Make the call in a thread, with a signal before its n-th line; return whether that came, and what was raised."""
    signal, raised = Signalled(n, handler, files), []

    def call():
        sys.settrace(signal)
        try:
            act()
        except Exception as error:
            raised.append(error)
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    if thread.is_alive():
        stack = "".join(traceback.format_stack(sys._current_frames()[thread.ident]))
        pytest.fail(f"hangs after a signal before line {n}:\n{stack}")
    return signal.left <= 0, raised


def wait(job):
    with suppress(TimeoutError):
        job.result(0.01)


def enqueue_two(task):
    async def main():
        await asyncio.gather(task.aenqueue(), task.aenqueue())

    asyncio.run(main())


CALLS = {
    "enqueue": lambda _queue, task, _job: task.enqueue(),
    "enqueue with a key": lambda _queue, task, _job: task.using(key="k").enqueue(),
    "cancel": lambda _queue, _task, job: job.cancel(),
    "counts": lambda queue, _task, _job: queue.engine.jobs.counts(),
    "look up": lambda _queue, _task, job: job.refresh(),
    "wait": lambda _queue, _task, job: wait(job),
    "enqueue on a loop": lambda _queue, task, _job: enqueue_two(task),
}
TAKING_LOCKS = ("forks.py", "guards.py", "kernel.py", "open_file.py", "background.py", "owner_process.py")
PAIRS = [
    ("counts", "counts"),
    ("look up", "look up"),
    ("wait", "look up"),
    ("enqueue", "enqueue"),
    ("enqueue with a key", "cancel"),
    ("cancel", "counts"),
    ("enqueue on a loop", "enqueue"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("act", "handler"), PAIRS, ids=lambda name: name)
@pytest.mark.parametrize("first_use", [False, True], ids=["", "first use"])
def test_a_signal_handler_that_uses_the_queue_amid_another_call_never_hangs(database, driver, act, handler, first_use):
    """Each lock of ours that is held for more than an instruction either is re-entrant, or the call is refused."""
    with Queue(database, driver=driver, durability="normal") as queue:
        task = queue.task(name="work")(lambda: None)
        n, jobs = 1, task.enqueue_many([()] * 2)
        queue.engine.jobs.counts()
        came = True
        while came:
            if first_use:
                queue.close()
            act_here, handle = (
                lambda name=name, job=job: CALLS[name](queue, task, job)
                for name, job in zip((act, handler), jobs, strict=True)
            )
            came, raised = signalled(n, act_here, handle)
            assert raised == [], f"the call that was interrupted failed, after a signal before line {n}"
            assert not any(each.busy() for each in queue.engine.kernel.listings)
            n += 7 if first_use else 3
        assert task.enqueue().refresh().status == "queued"


def test_a_read_in_a_signal_handler_sees_what_the_handler_has_stored(queue):
    task = queue.task(name="work")(lambda: None)
    task.enqueue()
    seen = []

    def look(db):
        db.script("BEGIN")
        db.rows("SELECT count(*) FROM litequeue_jobs")
        seen.append(queue.job(task.enqueue().id).status)
        db.script("ROLLBACK")

    queue.engine.kernel.read(look)
    assert seen == ["queued"]


def test_a_queue_that_a_signal_handler_closes_amid_a_read_is_closed_when_that_ends(queue):
    queue.task(name="work")(lambda: None).enqueue()

    def look(db):
        queue.close()
        return db.rows("SELECT 1")

    assert queue.engine.kernel.read(look) == [(1,)]
    assert queue.engine.kernel.look_ups.connection is None


@pytest.mark.slow
def test_a_queue_that_a_signal_handler_makes_amid_the_opening_of_another_works_or_is_refused(tmp_path, driver):
    def use():
        with Queue(tmp_path / f"other{len(made)}.db", driver=driver) as other:
            made.append(other)
            other.task(name="work")(lambda: None).enqueue()

    Queue(tmp_path / "first.db", driver=driver).close()  # a handler amid an import meets half a module
    n, came, made = 1, True, []
    while came:
        path = tmp_path / f"{n}.db"
        came, raised = signalled(n, lambda path=path: Queue(path, driver=driver).close(), use, TAKING_LOCKS)
        assert raised == []
        n += 2
    assert made


def test_a_second_connection_is_not_opened_while_the_same_thread_registers_the_first(database, driver, monkeypatch):
    """HAZARD: what is checked then, the WAL's owner, opens the file by other means."""
    from litequeue.sqlite.file import wal_owner

    queue, refused = Queue(database, driver=driver), []
    task, check = queue.task(name="work")(lambda: None), wal_owner.check

    def checking(*args, **options):
        with pytest.raises(StoreBusy, match="signal handler") as refusal:
            queue.engine.jobs.counts()
        refused.append(refusal)
        check(*args, **options)

    monkeypatch.setattr(wal_owner, "check", checking)
    task.enqueue()
    assert len(refused) == 1
    queue.close()


def test_a_call_queued_while_the_thread_for_another_is_started_is_made_by_that_thread(monkeypatch):
    background, made = Background("litequeue-test"), []
    start, done = threading.Thread.start, threading.Event()

    def starting(thread):
        if not made:
            made.append(thread)
            background.submit(done.set)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starting)
    background.submit(lambda: None)
    assert done.wait(DEADLINE)
    background.close()
