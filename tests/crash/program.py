"""A worker process to kill, freeze and starve: `python -m tests.crash.program FILE [NAME=SECONDS ...]`.

NAME is a constant of `litequeue.worker.maintenance`, such as FROZEN_AFTER, or of another module, such as
`worker.running_jobs.LATE_GRACE`.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from litequeue import Queue, current_job
from litequeue.worker.executor import claim_size

ROOT = Path(__file__).resolve().parents[2]
WHOLE_LIFE = 60.0  # seconds; longer than any test
CHILDS_LIFE = 10.0
TABLE = "CREATE TABLE effects (n INTEGER)"
MANY = 4096  # more descriptors than are open
SPARE = 64 << 20  # bytes that may be allocated until memory is short

_continued = threading.Event()


def declare(path: str | Path, **options: Any) -> Queue:
    queue = Queue(path, **options)
    _declare_deaths(queue)
    _declare_nuisances(queue)

    @queue.task(name="pid")
    def pid() -> int:
        return os.getpid()

    @queue.task(name="hold")
    def hold() -> list[float]:
        """Run for ever at the first attempt; at the second tell when it began."""
        if current_job().attempt == 1:
            time.sleep(WHOLE_LIFE)
        return [os.getpid(), time.monotonic()]

    @queue.task(name="nap")
    def nap(seconds: float) -> int:
        time.sleep(seconds)
        return current_job().attempt

    @queue.task(name="leaves_a_child")
    def leaves_a_child() -> int:
        """Fork a child that outlives this process."""
        if current_job().attempt > 1:
            return os.getpid()
        if os.fork() == 0:
            os.closerange(0, 3)
            time.sleep(CHILDS_LIFE)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    @queue.task(name="thawed")
    def thawed() -> str:
        """At the first attempt wait until the process has stood still; whoever continues it is answered too late."""
        if current_job().attempt == 1:
            _stand_still()
            return "too late"
        return "in time"

    @queue.task(name="thawed_effect")
    def thawed_effect(n: int) -> None:
        """The same, with an effect that must happen once."""
        if current_job().attempt == 1:
            _stand_still()
        _effect(n)

    @queue.task(name="stands_still_amid_its_effect")
    def stands_still_amid_its_effect(n: int) -> None:
        with current_job().completing() as db:
            db.execute("INSERT INTO effects VALUES (?)", (n,))
            os.kill(os.getpid(), signal.SIGSTOP)

    return queue


def _stand_still() -> None:
    current_job().progress(1)
    _continued.wait(WHOLE_LIFE)


def _effect(n: int) -> None:
    with current_job().completing() as db:
        db.execute("INSERT INTO effects VALUES (?)", (n,))


def _declare_deaths(queue: Queue) -> None:
    @queue.task(name="exits")
    def exits() -> None:
        os._exit(3)

    @queue.task(name="suicide")
    def suicide() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @queue.task(name="segfaults")
    def segfaults() -> None:
        ctypes.string_at(0)

    @queue.task(name="closes_all")
    def closes_all() -> None:
        os.closerange(0, MANY)

    @queue.task(name="closes_all_once")
    def closes_all_once() -> int:
        """Close every descriptor at the first attempt, and give their numbers to files of its own."""
        if current_job().attempt == 1:
            os.closerange(0, MANY)
            while os.open(os.devnull, os.O_RDWR) < MANY // 64:
                pass
        return os.getpid()


def _declare_nuisances(queue: Queue) -> None:
    @queue.task(name="hoards")
    def hoards() -> None:
        """Take memory until there is none."""
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + SPARE, hard))
        hoard = []
        while True:
            hoard.append(bytes(SPARE // 8))

    @queue.task(name="swallows", timeout=0.1)
    def swallows() -> None:
        while True:
            try:
                time.sleep(0.005)
            except BaseException:
                continue

    @queue.task(name="forks")
    def forks(how: str) -> int:
        return _forked(how)

    @queue.task(name="aforks")
    async def aforks(how: str) -> int:
        return _forked(how)

    @queue.task(name="forks_and_both_go_on")
    def forks_and_both_go_on(n: int) -> None:
        child = _fork()
        _effect(n)
        if child:
            os.waitpid(child, 0)


def _fork() -> int:
    """Fork a child that does not live for ever, whatever becomes of it."""
    child = os.fork()
    if child == 0:
        signal.alarm(int(CHILDS_LIFE))
    return child


def _forked(how: str) -> int:
    """Fork a child that comes back from its function, in one way or another; return its exit code."""
    child = _fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if how == "exits":
        sys.exit(7)
    if how == "raises":
        raise ValueError(how)
    return 0


def start(path: Path, *settings: str, program: str = "tests.crash.program") -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-m", program, str(path), *settings]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def main(path: str, *settings: str) -> None:
    logging.basicConfig(level=logging.WARNING)
    claim_size.PATIENCE = 60.0  # a claim that a slow machine has the worker give back would count as an attempt
    for setting in settings:
        name, _, value = setting.partition("=")
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(f"litequeue.{module or 'worker.maintenance'}"), constant, float(value))
    signal.signal(signal.SIGCONT, lambda *_: _continued.set())
    threading.excepthook = lambda arguments: os.abort()
    declare(path).worker(threads=4).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
