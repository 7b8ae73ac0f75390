"""Forks as C code makes them, of which no hook of Python's is told, and what becomes of a queue in the child.

`python -m tests.c_fork PATH DRIVER USED` from the root of the repository uses a queue as USED says, then tries each
public way to use it in a child of its own, and prints what came of each as JSON.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import json
import os
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import litequeue
from litequeue import Queue, every

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGE = Path(litequeue.__file__).parent
LONG, USUAL = 600.0, 0.005  # seconds
PATIENCE = 12  # seconds; a child that takes longer hangs, and is ended by SIGALRM
KEEPING_THE_LOCK = ctypes.PyDLL(None)
WAYS_TO_USE_IT_BEFORE = ("enqueued", "read", "waited", "worker", "transaction", "asyncio")


def let_threads_wait() -> None:
    """Let no thread of this process ask another one for the interpreter's lock, before any is started.

    A child that is forked while one asks would wait, for ever, until that takes it: the interpreter's own limit.
    """
    sys.setswitchinterval(LONG)  # they ask when they have waited so long


def fork() -> int:
    """Fork by the C library's own function. The interpreter's lock is kept, so that the child has it."""
    pid = int(KEEPING_THE_LOCK.fork())
    if pid == 0:
        sys.setswitchinterval(USUAL)
    return pid


class Said(NamedTuple):
    """How a child ended: its exit code, negative for a signal; what its work returned or raised, if it came so far."""

    code: int
    value: Any


def end_if_it_hangs(seconds: int, stack: int) -> None:
    """In a child: after so long, write into the descriptor `stack` where it hangs, and end by SIGALRM.

    The parent has opened it: opening, flushing and closing a file give the interpreter's lock away, of which another
    thread may have had a part at the fork.
    """
    signal.alarm(seconds)
    faulthandler.register(signal.SIGALRM, file=stack, all_threads=False, chain=True)


def hung_in_litequeue(stack: int) -> bool:
    """Tell whether a child that hung did so in our code.

    Else in the interpreter, whose own locks another thread of the parent's may have had at the fork: one in 800.
    """
    return f'"{PACKAGE}/'.encode() in os.pread(stack, 1_000_000, 0)


def in_child(work: Callable[[], Any], tries: int = 3) -> Said:
    """Run `work` in a child of a C-level fork, which ends by `os._exit`, and wait for it."""
    with tempfile.TemporaryFile() as stack:
        said = _in_child(work, stack.fileno())
        stalled = said.code == -signal.SIGALRM and not hung_in_litequeue(stack.fileno())
    return in_child(work, tries - 1) if stalled and tries > 1 else said


def _in_child(work: Callable[[], Any], stack: int) -> Said:
    heard, told = os.pipe()
    pid = fork()
    if pid == 0:
        end_if_it_hangs(PATIENCE, stack)
        try:
            said = work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        data = json.dumps(said, default=repr).encode()
        KEEPING_THE_LOCK.write(told, data, len(data))  # as _exit does: the interpreter's lock stays ours
        KEEPING_THE_LOCK._exit(0)
    os.close(told)
    with open(heard, "rb") as pipe:
        data = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Said(code, json.loads(data) if data else None)


def declare(path: str | Path, driver: Any) -> Queue:
    queue = Queue(path, driver=driver)

    @queue.task(name="add")
    def add(a: int = 0) -> int:
        return a

    return queue


def deleted_files_held() -> list[str]:
    """Return the names of deleted files that this process has open, such as a WAL that another process removed."""
    names = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            names.append(os.readlink(f"/proc/self/fd/{number}"))
    return [name for name in names if name.endswith(" (deleted)") and "app.db" in name]


def ways_to_use(queue: Queue, path: str, driver: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield each public way to use a queue that was in use before the fork."""
    add = queue.tasks["add"]
    job = queue.jobs(limit=1)[0]
    folder = Path(path).parent
    yield "enqueue", lambda: add.enqueue(1)
    yield "enqueue with a key", lambda: add.using(key="k").enqueue(1)
    yield "enqueue_many", lambda: add.enqueue_many([(1,), (2,)])
    yield "enqueue within", lambda: _within(add, path, driver)
    yield "aenqueue", lambda: asyncio.run(add.aenqueue(1))
    yield "aenqueue_many", lambda: asyncio.run(add.aenqueue_many([(1,), (2,)]))
    yield "transaction", lambda: _enter(queue.transaction())
    yield "atransaction", lambda: asyncio.run(_aenter(queue.atransaction()))
    yield "job", lambda: queue.job(job.id)
    yield "ajob", lambda: asyncio.run(queue.ajob(job.id))
    yield "jobs", queue.jobs
    yield "ajobs", lambda: asyncio.run(queue.ajobs())
    yield "job.result", lambda: job.result(timeout=5)
    yield "job.aresult", lambda: asyncio.run(job.aresult(timeout=5))
    yield "job.refresh", job.refresh
    yield "job.arefresh", lambda: asyncio.run(job.arefresh())
    yield "job.cancel", job.cancel
    yield "job.acancel", lambda: asyncio.run(job.acancel())
    yield "job.retry", job.retry
    yield "job.aretry", lambda: asyncio.run(job.aretry())
    yield "list schedules", lambda: list(queue.schedules)
    yield "look a schedule up", lambda: queue.schedules["often"]
    yield "schedules.add", lambda: queue.schedules.add("seldom", add.s(1), every("9h"))
    yield "schedules.remove", lambda: queue.schedules.remove("often")
    yield "schedules.pause", lambda: queue.schedules.pause("often")
    yield "schedules.resume", lambda: queue.schedules.resume("often")
    yield "schedules.trigger_now", lambda: queue.schedules.trigger_now("often")
    yield "with worker", lambda: _enter(queue.worker())
    yield "async with worker", lambda: asyncio.run(_aenter(queue.worker()))
    yield "worker.run", lambda: queue.worker().run(until_idle=True)
    yield "backup", lambda: queue.backup(folder / "copy.db")
    yield "close", queue.close
    yield "with queue", lambda: _enter(queue)
    yield "another Queue on the same file", lambda: declare(path, driver).tasks["add"].enqueue(1)
    yield "another name of the same file", lambda: declare(_link(path), driver).tasks["add"].enqueue(1)
    yield "in another thread", lambda: _in_thread(lambda: add.enqueue(1))


WAYS = [
    *("enqueue", "enqueue with a key", "enqueue_many", "enqueue within", "aenqueue", "aenqueue_many"),
    *("transaction", "atransaction", "job", "ajob", "jobs", "ajobs", "job.result", "job.aresult", "job.refresh"),
    *("job.arefresh", "job.cancel", "job.acancel", "job.retry", "job.aretry", "list schedules", "look a schedule up"),
    *("schedules.add", "schedules.remove", "schedules.pause", "schedules.resume", "schedules.trigger_now"),
    *("with worker", "async with worker", "worker.run", "backup", "close", "with queue"),
    *("another Queue on the same file", "another name of the same file", "in another thread"),
]


def _within(task: Any, path: str, driver: str) -> None:
    if driver == "apsw":
        import apsw

        connection: Any = apsw.Connection(path)
    else:
        import sqlite3

        connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    task.using(within=connection).enqueue(1)


def _enter(manager: Any) -> None:
    with manager:
        pass


async def _aenter(manager: Any) -> None:
    async with manager:
        pass


def _link(path: str) -> str:
    name = f"{path}.{os.getpid()}.link"
    os.symlink(path, name)
    return name


def _in_thread(work: Callable[[], Any]) -> None:
    raised: list[BaseException] = []

    def call() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(PATIENCE)
    if raised:
        raise raised[0]


def use(queue: Queue, used: str) -> Callable[[], object]:
    """Use the queue in one way, so that something of it is open; return what ends that use."""
    add = queue.tasks["add"]
    if used == "enqueued":
        add.enqueue(1)
    elif used == "read":
        queue.jobs()
    elif used == "waited":
        with suppress(TimeoutError):
            queue.jobs(limit=1)[0].result(timeout=0.01)
    elif used == "worker":
        worker = queue.worker(threads=1, coroutines=1)
        worker.__enter__()
        return lambda: worker.__exit__(None, None, None)
    elif used == "transaction":
        with queue.transaction():
            add.enqueue(1)
    elif used == "asyncio":
        asyncio.run(add.aenqueue(1))
    return lambda: None


def main(path: str, driver: str, used: str) -> None:
    let_threads_wait()
    first = declare(path, driver)  # leaves something to look at, and is out of use at the fork
    known = {first.tasks["add"].using(delay="1h").enqueue(0).id}
    first.schedules.add("often", first.tasks["add"].s(1), every("8h"))
    first.close()
    queue = declare(path, driver)
    ways = list(ways_to_use(queue, path, driver))
    queue.close()
    end_use = use(queue, used)
    came = {way: in_child(work) for way, work in ways}
    known.add(queue.tasks["add"].using(delay="1h").enqueue(2).id)
    end_use()
    print(json.dumps({"came": came, "known": sorted(known), "deleted": deleted_files_held()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
