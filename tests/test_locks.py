"""`queue.lock(name)`: one block at a time, whoever the holders are and however they end."""

import asyncio
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress

import pytest

from litequeue import JobCancelled, JobFailed, Lock, LockTimeout, Queue
from litequeue.ipc.process_lock import directory_of

DEADLINE = 30
COUNT = """
import sys, time
from pathlib import Path
from litequeue import Queue
queue, counter = Queue(sys.argv[1]), Path(sys.argv[2])
for _ in range(40):
    with queue.lock("counter"):
        number = int(counter.read_text())
        time.sleep(0.0005)
        counter.write_text(str(number + 1))
"""
HOLD = """
import os, sys
from litequeue import Queue
queue = Queue(sys.argv[1])
with queue.lock("held"):
    if sys.argv[2] == "fork" and os.fork() == 0:
        os.write(1, b"held\\n"); sys.stdin.read(); os._exit(0)
    if sys.argv[2] == "stay":
        os.write(1, b"held\\n")
    sys.stdin.read()
"""

WAIT_AND_FORK = """
import os, sys, threading, time
from litequeue import Queue
from litequeue.ipc.named_lock import named_lock
queue, gate = Queue(sys.argv[1]), threading.Event()
def wait():
    with queue.lock("held"):
        os.write(1, b"got it\\n")
        gate.wait()
thread = threading.Thread(target=wait, daemon=True)
thread.start()
while not named_lock(queue.path, "held")._open_here:  # what it waits with: the child has a copy from here on
    time.sleep(0.001)
if os.fork() == 0:
    sys.stdin.read(); os._exit(0)  # the test's end of the pipe is closed last
os.write(1, b"forked\\n")
threading.Event().wait()
"""


@pytest.fixture
def queue(tmp_path):
    with Queue(tmp_path / "app.db") as queue:
        yield queue


def holder(queue, how="stay"):
    """Start a process that holds the lock "held"."""
    command = [sys.executable, "-c", HOLD, str(queue.path), how]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


def end(process):
    process.kill()
    process.wait(DEADLINE)
    process.stdin.close()
    process.stdout.close()


def test_one_process_at_a_time_holds_a_lock(queue, tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, "-c", COUNT, str(queue.path), str(counter)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(DEADLINE) for process in processes] == [0, 0, 0]
    assert counter.read_text() == "120"


def test_one_thread_or_coroutine_at_a_time_holds_a_lock(queue):
    inside, most = 0, 0

    def enter():
        nonlocal inside, most
        inside += 1
        most = max(most, inside)

    def leave():
        nonlocal inside
        inside -= 1

    def plain():
        for _ in range(20):
            with queue.lock("a", timeout=DEADLINE):
                enter()
                threading.Event().wait(0.0005)
                leave()

    async def coroutine():
        for _ in range(20):
            async with queue.lock("a", timeout=DEADLINE):
                enter()
                await asyncio.sleep(0.0005)
                leave()

    async def coroutines():
        await asyncio.gather(*(coroutine() for _ in range(4)))

    threads = [threading.Thread(target=plain) for _ in range(4)]
    threads.append(threading.Thread(target=lambda: asyncio.run(coroutines())))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert (inside, most) == (0, 1)
    assert list(directory_of(queue.path).glob("*.named")) == []


@pytest.mark.parametrize("how", ["stay", "fork"])
def test_a_lock_is_free_when_its_holder_is_killed_though_a_forked_child_lives(queue, how):
    process = holder(queue, how)
    try:
        with pytest.raises(LockTimeout):
            queue.lock("held", timeout=0).__enter__()
        lock = queue.lock("held", timeout=DEADLINE)
        waiting = threading.Thread(target=lock.__enter__)
        waiting.start()
        process.send_signal(signal.SIGKILL)
        waiting.join(DEADLINE)
        assert not waiting.is_alive()
        assert f"process {os.getpid()}" in queue.lock("held").holder
    finally:
        end(process)


def test_a_child_of_a_process_that_waited_for_a_lock_does_not_hold_it(queue):
    first = holder(queue)
    command = [sys.executable, "-c", WAIT_AND_FORK, str(queue.path)]
    second = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert second.stdout.readline() == b"forked\n"
        first.kill()
        assert second.stdout.readline() == b"got it\n"
        second.kill()  # its child lives
        second.wait(DEADLINE)
        with queue.lock("held", timeout=DEADLINE / 2):
            pass
    finally:
        end(first)
        end(second)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_of_a_fork_that_leaves_its_parents_block_frees_nothing(queue):
    def in_child():
        inherited.__exit__(None, None, None)
        taken = queue.lock("a", timeout=0)
        try:
            taken.__enter__()
        except LockTimeout:
            return 0
        return 1

    with queue.lock("a") as inherited:
        child = os.fork()
        if child == 0:
            os._exit(in_child())
        assert os.waitpid(child, 0)[1] == 0


def test_who_holds_a_lock_is_told_when_the_time_is_over(queue):
    process = holder(queue)
    try:
        with pytest.raises(
            LockTimeout, match=f"'held' is held by thread MainThread in process {process.pid}"
        ) as raised:
            queue.lock("held", timeout="50ms").__enter__()
        assert (raised.value.name, isinstance(raised.value, TimeoutError)) == ("held", True)
        assert pickle.loads(pickle.dumps(raised.value)).holder == raised.value.holder

        async def late():
            async with queue.lock("held", timeout=0.05):
                pass

        with pytest.raises(LockTimeout, match=r"was not free within 0.05 s"):
            asyncio.run(late())
        with pytest.raises(LockTimeout, match=rf"in process {process.pid}$"):
            queue.lock("held", timeout=0).__enter__()
        with queue.lock("another", timeout=0):
            assert queue.lock("another").holder is not None
        assert queue.lock("another").holder is None
    finally:
        end(process)


def test_who_holds_a_lock_cannot_ask_for_it_again(queue):
    with queue.lock("a"), pytest.raises(RuntimeError, match="would wait for itself"):
        queue.lock("a").__enter__()

    async def twice():
        async with queue.lock("a"), queue.lock("a"):
            pass

    with pytest.raises(RuntimeError, match="would wait for itself"):
        asyncio.run(twice())
    with queue.lock("a", timeout=0):
        pass


def test_a_taken_lock_must_not_stop_the_loop(queue):
    async def held_by_another():
        async with queue.lock("a"):
            await asyncio.create_task(plain())

    async def plain():
        with pytest.raises(RuntimeError, match="use `async with`"):
            queue.lock("a").__enter__()
        with pytest.raises(LockTimeout):
            queue.lock("a", timeout=0).__enter__()

    asyncio.run(held_by_another())


def test_a_cancelled_waiter_takes_nothing_with_it(queue):
    async def main():
        async with queue.lock("a"):
            waiting = [asyncio.create_task(queue.lock("a").__aenter__()) for _ in range(3)]
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        async with queue.lock("a", timeout=DEADLINE):
            pass

    asyncio.run(main())


def test_a_lock_decorates_plain_and_async_functions_and_tasks(queue):
    lock = queue.lock("report")

    @queue.task
    @lock
    def plain(n: int) -> str | None:
        return f"{n} {queue.lock('report').holder is not None}"

    @queue.task
    @lock
    def named() -> str | None:
        return queue.lock("report").holder

    @queue.task
    @lock
    async def coroutine(n: int) -> str:
        return f"{n} {queue.lock('report').holder is not None}"

    with pytest.raises(TypeError, match="'n'"):
        plain.enqueue()
    assert isinstance(lock, Lock)
    assert plain(1) == "1 True"
    assert asyncio.run(coroutine(2)) == "2 True"
    assert lock.holder is None
    with queue.worker():
        jobs = [plain.enqueue(3), coroutine.enqueue(4)]
        assert [job.result(timeout=DEADLINE) for job in jobs] == ["3 True", "4 True"]
        job = named.enqueue()
        assert job.result(timeout=DEADLINE) == f"job {job.id} of {named.name} in process {os.getpid()}"
    with pytest.raises(TypeError, match=r"below @queue.task"):
        lock(plain)


def test_what_would_run_without_the_lock_is_refused(queue):
    def generator():
        yield 1

    async def asynchronous():
        yield 1

    for function in (generator, asynchronous, contextmanager(generator), Queue):
        with pytest.raises(TypeError, match="take the lock inside it"):
            queue.lock("a")(function)

    async def coroutine(): ...

    @queue.lock("a")
    def plain():
        return made

    made = coroutine()
    with pytest.raises(TypeError, match="on the `async def`"):
        plain()
    made.close()


def test_an_object_with_an_async_call_holds_the_lock(queue):
    class Report:
        async def __call__(self):
            return queue.lock("a").holder

    assert asyncio.run(queue.lock("a")(Report())()) is not None
    assert queue.lock("a").holder is None


def test_a_file_of_another_holder_is_not_removed(queue):
    with queue.lock("held", timeout=0):
        shutil.rmtree(directory_of(queue.path))
        process = holder(queue)
    try:
        with pytest.raises(LockTimeout):
            queue.lock("held", timeout=0).__enter__()
    finally:
        end(process)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # one that comes in a finalizer
def test_ctrl_c_leaves_no_lock_held(queue):
    def interrupt(*_):
        if armed:
            raise KeyboardInterrupt

    armed, before = False, signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(300):
            with suppress(KeyboardInterrupt):
                armed = True
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + number % 60 * 8e-6)
                with queue.lock("a", timeout=DEADLINE):
                    pass
                armed = False
            armed = False
        with queue.lock("a", timeout=DEADLINE):
            pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_cancelled_job_does_not_go_on_waiting_for_a_lock(queue):
    asking = threading.Event()

    @queue.task
    def waits() -> None:
        asking.set()
        with queue.lock("a"):
            pass

    with queue.lock("a"), queue.worker(threads=1):
        job = waits.enqueue()
        asking.wait(DEADLINE)
        job.cancel()
        with pytest.raises(JobCancelled):
            job.result(timeout=DEADLINE)


def test_a_job_that_waits_for_a_lock_ends_at_its_time_limit(queue):
    @queue.task(timeout="200ms")
    @queue.lock("a")
    def late() -> None: ...

    with queue.worker(threads=1):
        with queue.lock("a"), pytest.raises(JobFailed, match="JobTimeout"):
            late.enqueue().result(timeout=DEADLINE)
        with queue.lock("a", timeout=DEADLINE):
            pass


def test_bad_names_and_times_are_refused_at_once(queue):
    with pytest.raises(ValueError, match="a lock's name"):
        queue.lock("")
    with pytest.raises(ValueError, match="timeout"):
        queue.lock("a", timeout=-1)
