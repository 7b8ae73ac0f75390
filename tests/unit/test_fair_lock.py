import asyncio
import fcntl
import gc
import os
import signal
import subprocess
import sys
import threading
import types

import pytest

from contract.writing import crowd
from crash.watching import until
from litequeue import Queue
from litequeue.ipc.process_lock import open_directory
from litequeue.sqlite.commit import fair_lock
from litequeue.sqlite.commit.fair_lock import NAME, FairLock

PASSES = """
import sys
from pathlib import Path
from litequeue.sqlite.commit.fair_lock import FairLock
one = FairLock(Path(sys.argv[1]))
one.enter()
one.crowded()
one.enter()
print("in", flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it is left aside there")


@pytest.fixture
def database(tmp_path):
    (tmp_path / "app.db").touch()
    return tmp_path / "app.db"


@pytest.fixture
def make(database):
    made = []

    def make(*, crowded=True):
        one = FairLock(database)
        one.enter()
        one.leave()
        if crowded:
            one.crowded()
        made.append(one)
        return one

    yield make
    for one in made:
        one.leave()
        one.close()


@pytest.fixture
def path(database):
    return open_directory(database) / NAME


@pytest.fixture
def hold(path):
    """Hold the lock, as another process does."""
    held = []

    def take():
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        held.append(descriptor)
        return descriptor

    yield take
    for descriptor in held:
        os.close(descriptor)


def is_free(path):
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def entering(one):
    """Enter in a thread; return the thread, and whether it is in."""
    is_in = threading.Event()

    def enter():
        one.enter()
        is_in.set()

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    return thread, is_in


def waits():
    """Whether a thread of ours waits for the lock: the kernel lists it below the one who has it."""
    with open("/proc/locks") as lines:
        return any(f"-> FLOCK  ADVISORY  WRITE {os.getpid()} " in line for line in lines)


def test_it_is_left_aside_until_somebody_has_waited_in_vain(make, path):
    one = make(crowded=False)
    one.enter()
    assert is_free(path)
    one.crowded()
    one.enter()
    assert not is_free(path)
    one.leave()
    assert is_free(path)


def test_all_who_share_the_file_hear_that_somebody_has_waited_in_vain(make, path):
    one, other = make(crowded=False), make(crowded=False)
    other.crowded()
    one.enter()
    assert not is_free(path)


def test_a_process_that_has_waited_in_vain_has_the_turn_with_the_others_behind_it(make, path):
    one, other = make(crowded=False), make(crowded=False)
    one.enter()
    other.enter()
    one.engage()
    assert not is_free(path)
    other.leave()
    assert not other.enter_at_once()
    one.engage()  # again, for the file is still locked
    one.leave()
    other.leave()
    assert is_free(path)


def test_it_is_left_aside_again_when_a_few_writes_have_gone_through(make, path):
    one = make()
    for _ in range(fair_lock.CROWDED):
        one.enter()
        assert not is_free(path)
        one.leave()
    one.enter()
    assert is_free(path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists who waits")
def test_who_comes_while_another_is_in_waits_for_its_end(make, hold, monkeypatch):
    monkeypatch.setattr(fair_lock, "PATIENCE", 60.0)
    one, other = make(), hold()
    thread, is_in = entering(one)
    until(waits)
    assert not is_in.is_set()
    fcntl.flock(other, fcntl.LOCK_UN)
    thread.join(10)
    assert is_in.is_set()


def test_a_loop_that_must_not_wait_is_told_whether_it_would(make, hold, path):
    one = make()
    assert one.enter_at_once()
    assert not is_free(path)
    one.leave()
    other = hold()
    assert not one.enter_at_once()
    one.leave()
    fcntl.flock(other, fcntl.LOCK_UN)
    assert is_free(path)


def test_who_has_waited_long_enough_goes_on_without_and_leaves_one_thread_that_ends_with_the_wait(
    make, hold, path, monkeypatch
):
    monkeypatch.setattr(fair_lock, "PATIENCE", 0.01)
    one, other = make(), hold()
    for _ in range(10):
        one.enter()
        one.leave()
    [waiting] = [thread for thread in threading.enumerate() if thread.name == "litequeue-fair lock"]
    fcntl.flock(other, fcntl.LOCK_UN)
    waiting.join(10)
    assert not waiting.is_alive()
    assert is_free(path)
    one.crowded()
    one.enter()
    assert not is_free(path)


def test_one_closed_while_its_thread_waits_takes_no_turn_later(make, hold, path, monkeypatch):
    monkeypatch.setattr(fair_lock, "PATIENCE", 0.01)
    one, other = make(), hold()
    one.enter()
    one.leave()
    one.close()
    os.close(os.open(path, os.O_RDONLY))  # who comes by that number next must not be what the thread unlocks
    [waiting] = [thread for thread in threading.enumerate() if thread.name == "litequeue-fair lock"]
    fcntl.flock(other, fcntl.LOCK_UN)
    waiting.join(10)
    assert not waiting.is_alive()
    assert is_free(path)
    one.enter()
    one.crowded()
    one.enter()
    one.leave()
    assert is_free(path)


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_dies_in_it_keeps_nobody_waiting(make, database, path, death):
    one = make()
    process = subprocess.Popen(
        [sys.executable, "-c", PASSES, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "in\n"
    assert not is_free(path)
    process.send_signal(death)
    process.communicate()
    one.enter()
    assert not is_free(path)
    one.leave()
    assert is_free(path)


def test_a_child_by_fork_lets_go_of_nothing_of_its_parents_and_has_a_place_of_its_own(make, path):
    one = make()
    one.enter()
    child = os.fork()
    if child == 0:
        one.reset_after_fork()
        os._exit(1 if is_free(path) else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not is_free(path)
    one.leave()
    assert is_free(path)


@pytest.mark.parametrize("kind", ["folder", "gone"])
def test_where_no_such_file_can_be_everybody_writes_without(tmp_path, kind):
    with Queue(tmp_path / "app.db") as queue:
        path = open_directory(queue.path) / NAME
        path.unlink(missing_ok=True)
        if kind == "folder":
            path.mkdir()
        task = queue.task(name="t")(lambda: None)
        queue.close()
        task.enqueue()
        if kind == "gone":
            path.unlink()
        with queue.transaction():
            task.enqueue()
        assert len(queue.jobs()) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists what is open")
def test_a_queue_that_is_dropped_leaves_no_descriptor_open(tmp_path):
    def use():
        Queue(tmp_path / "app.db").task(name="t")(lambda: None).enqueue()
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    assert use() == use()


def test_what_it_cannot_open_is_not_tried_at_each_write(database, path, monkeypatch):
    path.mkdir()
    one = FairLock(database)
    one.enter()
    monkeypatch.setattr(os, "open", None)
    one.crowded()
    one.enter()
    one.leave()


def test_while_no_thread_can_be_started_it_is_done_without(make, hold, monkeypatch):
    one, _ = make(), hold()

    def start(_self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    one.enter()
    one.leave()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists who waits")
@pytest.mark.parametrize("driver", ["apsw", "sqlite3"])
@pytest.mark.parametrize("cancelled", [False, True])
def test_a_loop_goes_on_while_a_transaction_waits_for_its_turn(tmp_path, hold, path, monkeypatch, driver, cancelled):
    monkeypatch.setattr(fair_lock, "PATIENCE", 60.0)

    async def main(queue, other):
        task = queue.task(name="t")(lambda: None)

        async def write():
            async with queue.atransaction():
                await task.aenqueue()

        writing = asyncio.ensure_future(write())
        while not waits():
            await asyncio.sleep(0.01)
        if cancelled:
            writing.cancel()
        fcntl.flock(other, fcntl.LOCK_UN)
        await asyncio.gather(writing, return_exceptions=True)
        await task.aenqueue()
        assert len(queue.jobs()) == 2 - cancelled
        until(lambda: is_free(path), "the thread that wrote has told us before it left")

    with Queue(tmp_path / "app.db", driver=driver) as queue:
        queue.engine.maintenance.prune()
        crowd(queue.path)
        asyncio.run(main(queue, hold()))


def test_among_greenlets_it_is_looked_at_again_and_again_and_no_thread_is_blocked(make, hold, path, monkeypatch):
    library = types.SimpleNamespace(is_module_patched=lambda name: name == "threading")
    monkeypatch.setitem(sys.modules, "gevent.monkey", library)
    monkeypatch.setattr(fair_lock, "PATIENCE", 0.05)
    one, threads = make(), set(threading.enumerate())
    descriptor = hold()
    one.enter()  # goes on without
    one.leave()
    assert set(threading.enumerate()) <= threads  # those that earlier tests have left may end meanwhile
    monkeypatch.setattr(fair_lock, "PATIENCE", 60.0)
    threading.Timer(0.05, fcntl.flock, (descriptor, fcntl.LOCK_UN)).start()
    one.crowded()
    one.enter()
    assert not is_free(path)
    one.leave()
    assert is_free(path)
