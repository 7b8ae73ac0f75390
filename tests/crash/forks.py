"""Fork in C at random moments under load, and count: each job that was told is in the file, each refusal was told.

`python -m tests.crash.forks --forks 200` from the root of the repository. Threads of a parent enqueue, a worker in
another process works off, and each child of a fork of which Python is not told tries to enqueue, too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from litequeue import Queue, StoreError
from tests.c_fork import KEEPING_THE_LOCK, end_if_it_hangs, fork, hung_in_litequeue, let_threads_wait

ROOT = Path(__file__).resolve().parents[2]
THREADS = 3
TRIES = 3  # of each child
PAUSE = 0.02  # seconds between forks, at most
DRAIN = 120.0  # seconds
PATIENCE = 20  # seconds until a child that hangs is ended by SIGALRM
ENDS = ("sys.exit", "_exit", "killed")


class Figures(NamedTuple):
    """What came of it."""

    seconds: float
    forks: int
    told_by_parent: int
    told_by_children: int
    refused: int
    hung: int  # in our code
    stalled: int  # in the interpreter's own: see `hung_in_litequeue`
    strange: int
    lost: int
    unfinished: int
    deleted_held: int
    integrity: tuple[str, ...]

    def wrong(self) -> list[str]:
        """Name what must not be."""
        names = [name for name in ("hung", "strange", "lost", "unfinished", "deleted_held") if getattr(self, name)]
        names += ["integrity"] if self.integrity else []
        names += ["stalled"] if self.stalled > 1 + self.forks // 50 else []
        # every child has one answer for each of its tries, but for those that are killed amid them
        return names if self.refused and self.told_by_parent else [*names, "nothing was tried"]


def declare(path: str | Path, driver: Any) -> Queue:
    queue = Queue(path, driver=driver, durability="normal", result_ttl=None)

    @queue.task(name="add")
    def add(n: int) -> int:
        return n

    return queue


class Parent:
    """The process that forks; it has the file in use by several threads."""

    def __init__(self, path: str, driver: str, forks: int, seed: int) -> None:
        let_threads_wait()
        self.queue = declare(path, driver)
        self.forks, self.chance = forks, random.Random(seed)
        self.told: list[str] = []
        self.stop = threading.Event()

    def run(self) -> None:
        # daemons: a child that ends by sys.exit() would wait for threads that are not there
        work = [*(self._enqueue for _ in range(THREADS - 1)), self._aenqueue, self._read]
        threads = [threading.Thread(target=each, daemon=True) for each in work]
        for thread in threads:
            thread.start()
        while not self.told:
            time.sleep(0.001)
        children = [self._fork_one(ENDS[number % len(ENDS)]) for number in range(self.forks)]
        for child in children:
            self._await(*child)
        self.stop.set()
        for thread in threads:
            thread.join(PATIENCE)
        print("parent", *self.told)
        print("deleted", *_deleted(self.queue.path.name), flush=True)

    def _enqueue(self) -> None:
        add = self.queue.tasks["add"]
        while not self.stop.is_set():
            self.told.append(add.enqueue(1).id)
            self.stop.wait(0.002)

    def _aenqueue(self) -> None:
        async def main() -> None:
            while not self.stop.is_set():
                self.told.append((await self.queue.tasks["add"].aenqueue(1)).id)
                await asyncio.sleep(0.002)

        asyncio.run(main())

    def _read(self) -> None:
        while not self.stop.is_set():
            self.queue.jobs(limit=5)
            self.stop.wait(0.002)

    def _fork_one(self, end: str) -> tuple[int, str, int]:
        time.sleep(self.chance.random() * PAUSE)
        wait = self.chance.random() * 0.01
        stack = os.memfd_create("stack")
        pid = fork()
        if pid == 0:
            end_if_it_hangs(PATIENCE, stack)
            self._be_a_child(end)
        if end == "killed":
            time.sleep(wait)
            os.kill(pid, signal.SIGKILL)
        return pid, end, stack

    def _be_a_child(self, end: str) -> None:
        for _ in range(TRIES):
            try:
                said = f"child {self.queue.tasks['add'].enqueue(2).id}"
            except StoreError as error:
                said = "refused" if "lazy-apps" in str(error) else f"strange {error}"
            except BaseException as error:
                said = f"strange {error!r}"
            line = f"{said}\n".encode()  # print() may have another thread's lock
            KEEPING_THE_LOCK.write(1, line, len(line))
        if end == "sys.exit":
            with suppress(StoreError):
                self.queue.close()
            sys.exit(0)
        KEEPING_THE_LOCK._exit(0)

    @staticmethod
    def _await(pid: int, end: str, stack: int) -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == -signal.SIGALRM:
            print("hung" if hung_in_litequeue(stack) else "stalled", flush=True)
        elif code not in {0, -signal.SIGKILL if end == "killed" else 0}:
            print(f"strange exit code {code} of {end}", flush=True)
        os.close(stack)


def _deleted(name: str) -> list[str]:
    held = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            held.append(os.readlink(f"/proc/self/fd/{number}"))
    return [path for path in held if name in path and path.endswith("(deleted)")]


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.crash.forks", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def torture(path: Path, *, forks: int, driver: str, seed: int) -> Figures:
    """Fork so many times under load, then work off the rest, and count."""
    began = time.monotonic()
    worker = start("--worker", path, "--driver", driver)
    try:
        parent = start("--parent", path, "--driver", driver, "--forks", forks, "--seed", seed)
        output = parent.communicate(timeout=DRAIN + 2 * forks)[0]
        said = [line.split(" ") for line in output.splitlines()]
        if parent.returncode:
            said.append(["strange", f"exit code {parent.returncode} of the parent"])
        for words in said:
            if words[0] == "strange":
                print(*words, file=sys.stderr)
        by = {word: [each for words in said if words[0] == word for each in words[1:]] for word in ("parent", "child")}
        return _count(path, driver, worker, said, by, forks, began)
    finally:
        worker.kill()
        worker.communicate()


def _count(
    path: Path,
    driver: str,
    worker: subprocess.Popen[str],
    said: list[list[str]],
    by: dict[str, list[str]],
    forks: int,
    began: float,
) -> Figures:
    queue = declare(path, driver)
    over = time.monotonic() + DRAIN
    while queue.jobs(status="queued", limit=1) or queue.jobs(status="running", limit=1):
        if time.monotonic() > over:
            break
        time.sleep(0.05)
    worker.terminate()
    worker.wait(DRAIN)
    ended = {
        str(row[0])
        for row in queue.engine.kernel.read(lambda db: db.rows("SELECT id FROM litequeue_jobs WHERE state = 4"))
    }
    there = {str(row[0]) for row in queue.engine.kernel.read(lambda db: db.rows("SELECT id FROM litequeue_jobs"))}
    told = {*by["parent"], *by["child"]}
    counted = {word: sum(words[0] == word for words in said) for word in ("refused", "hung", "stalled", "strange")}
    return Figures(
        seconds=round(time.monotonic() - began, 1),
        forks=forks,
        told_by_parent=len(by["parent"]),
        told_by_children=len(by["child"]),
        **counted,
        lost=len(told - there),
        unfinished=len(told - ended),
        deleted_held=sum(len(words) - 1 for words in said if words[0] == "deleted"),
        integrity=tuple(queue.engine.admin.integrity()),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--driver", choices=["apsw", "sqlite3"], default=None, help="both, one after the other")
    parser.add_argument("--worker", metavar="FILE", help="be a worker on this file")
    parser.add_argument("--parent", metavar="FILE", help="be the process that forks")
    options: Any = parser.parse_args()
    if options.worker:
        declare(options.worker, options.driver).worker(threads=2, coroutines=1).run()
        return 0
    if options.parent:
        Parent(options.parent, options.driver, options.forks, options.seed).run()
        return 0
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "big")
    sound = True
    for driver in [options.driver] if options.driver else ["apsw", "sqlite3"]:
        with tempfile.TemporaryDirectory() as folder:
            figures = torture(Path(folder) / "forks.db", forks=options.forks, driver=driver, seed=seed)
        for name, value in {"driver": driver, **figures._asdict()}.items():
            print(f"{name:16} {value}")
        wrong = figures.wrong()
        print("sound" if not wrong else f"NOT SOUND (--seed {seed}): {', '.join(wrong)}")
        sound = sound and not wrong
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
