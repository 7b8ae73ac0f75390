"""Jobs in child processes that end, fail, crash and hang, while children and workers are killed: each ends as it is to.

`python -m tests.crash.children --jobs 1000` from the root of the repository. Two workers, each with another driver.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from litequeue import Queue, current_job
from litequeue.core.store import DEATH_LIMIT
from tests.crash.counting import say

ROOT = Path(__file__).resolve().parents[2]
DRIVERS = ("apsw", "sqlite3")
CHILDREN = 2  # of each worker
LIMIT = 0.5  # seconds for a job that hangs
LONG = 600.0
PAUSE = 0.6  # seconds between kills, at most
WORKERS_SHARE = 0.1  # of the kills
DRAIN = 240.0
DYING = 5.0  # seconds in which a killed process lets go of its lock
FEW = 8  # descriptors: those of one child more, and of a look at the file
DIED, TIMEOUT = "ChildDied", "litequeue.JobTimeout"
UNNOTED = -1
WORKER_DIED = "WorkerDied"  # told of the last death only

_never = threading.Event()


# ---- what runs in a child


@contextmanager
def _alone(n: int) -> Iterator[None]:
    """Hold a lock of the job's own, which the kernel frees with the process; note the begin and the end of the run."""
    folder = Path(os.environ["CHILDREN_FOLDER"])
    with (folder / f"{n}.running").open("a") as file:
        over = time.monotonic() + DYING
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > over:
                _note(folder, "beside itself", n)
                break
            _never.wait(0.005)
        _note(folder, "begin", n)
        yield
        _note(folder, "end", n)


def _note(folder: Path, what: str, n: int) -> None:
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(log, f"{what}\t{n}\t{current_job().attempt}\t{os.getpid()}\n".encode())
    finally:
        os.close(log)


def ends(n: int, seconds: float) -> int:
    with _alone(n):
        time.sleep(seconds)
        return n


async def ends_async(n: int, seconds: float) -> int:
    return ends(n, seconds)


def fails(n: int, seconds: float) -> int:
    with _alone(n):
        time.sleep(seconds)
        raise ValueError(n)


def fails_once(n: int, seconds: float) -> int:
    with _alone(n):
        time.sleep(seconds)
        if current_job().tries == 1:
            raise ValueError(n)
        return n


def exits_once(n: int, _seconds: float) -> int:
    """Die in the first run that begins."""
    with _alone(n):
        died = Path(os.environ["CHILDREN_FOLDER"]) / f"{n}.died"
        if not died.exists():
            died.touch()
            os._exit(3)
        return n


def crashes(n: int, _seconds: float) -> int:
    with _alone(n):
        ctypes.string_at(0)
        return n


def hangs_once(n: int, _seconds: float) -> int:
    """Hang where Python hears of nothing, in the first try."""
    with _alone(n):
        if current_job().tries == 1:
            ctypes.PyDLL(None).sleep(int(LONG))
        return n


def leaves(n: int, seconds: float) -> int:
    """Leave a process and a thread behind."""
    with _alone(n):
        if os.fork() == 0:
            time.sleep(LONG)
        threading.Thread(target=time.sleep, args=(seconds,)).start()
        return n


class Kind(NamedTuple):
    """What the jobs of a task come to by themselves. `own`: the errors that they are to have."""

    function: Any
    weight: int
    status: str = "succeeded"
    own: tuple[str, ...] = ()
    options: Mapping[str, Any] = MappingProxyType({})


KINDS = {
    kind.function.__name__: kind
    for kind in (
        Kind(ends, 10),
        Kind(ends_async, 6),
        Kind(fails, 2, "failed", ("ValueError",)),
        Kind(fails_once, 2, "succeeded", ("ValueError",), {"retries": 1, "backoff": 0}),
        Kind(exits_once, 2, "succeeded", (DIED,)),
        Kind(crashes, 1, "failed", (DIED,) * DEATH_LIMIT),
        Kind(hangs_once, 1, "succeeded", (TIMEOUT,), {"retries": 1, "backoff": 0, "timeout": LIMIT}),
        Kind(leaves, 1),
    )
}


def declare(path: Path, driver: Any) -> Queue:
    queue = Queue(path, driver=driver, durability="normal", timeout=LONG)
    for kind in KINDS.values():
        queue.task(process=True, **kind.options)(kind.function)
    return queue


def work(path: str, driver: str) -> None:
    declare(Path(path), driver).worker(threads=1, children=CHILDREN, grace=1).run()


# ---- the torture


def start(path: Path, driver: str) -> subprocess.Popen[bytes]:
    program = f"from tests.crash.children import work; work({str(path)!r}, {driver!r})"
    quiet = subprocess.DEVNULL
    environment = os.environ | {"CHILDREN_FOLDER": str(path.parent)}
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=environment, stdout=quiet, stderr=quiet)


def children_of(pid: int) -> dict[int, str]:
    """Return the state of each process that this one has started."""
    found = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found[int(name)] = fields[0]
    return found


def descriptors_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


class Run(NamedTuple):
    """One run that has begun, by what its function noted."""

    n: int
    attempt: int
    pid: int


class Figures(NamedTuple):
    """What came of it."""

    jobs: int
    runs: int
    kills: int
    workers_killed: int
    unended: int
    wrong: list[str]
    beside: int
    leaked: list[str]

    @property
    def sound(self) -> bool:
        return not (self.unended or self.wrong or self.beside or self.leaked)


class Torture:
    """One file, two workers, and the kills."""

    def __init__(self, path: Path, jobs: int, seed: int) -> None:
        self.path, self.chance = path, random.Random(seed)
        self.killed: set[int] = set()
        self.workers_killed = 0
        self.queue = declare(path, "apsw")
        weights = [kind.weight for kind in KINDS.values()]
        names = self.chance.choices([*KINDS], weights, k=jobs)
        self.jobs = {n: self.queue.enqueue(name, n, self.chance.choice([0, 0.01, 0.2])) for n, name in enumerate(names)}
        self.kinds = {n: KINDS[name] for n, name in enumerate(names)}
        self.workers = [start(path, driver) for driver in DRIVERS]

    def go(self, kills: int) -> Figures:
        try:
            made, over = 0, time.monotonic() + DRAIN
            while (left := self._unended()) and time.monotonic() < over:
                _never.wait(self.chance.uniform(0, PAUSE))
                if made < kills:
                    made += self._kill()
            leaked = self._leaked()
        finally:
            for worker in self.workers:
                worker.terminate()
            for worker in self.workers:
                worker.wait(DRAIN)
        runs, beside = self._noted()
        wrong = [each for n in self.jobs for each in self._wrong(n, [run for run in runs if run.n == n])]
        self.queue.close()
        return Figures(len(self.jobs), len(runs), len(self.killed), self.workers_killed, left, wrong, beside, leaked)

    def _unended(self) -> int:
        with self.queue.transaction() as db:
            return int(next(iter(db.execute("SELECT count(*) FROM litequeue_jobs WHERE state < 4")))[0])

    def _kill(self) -> bool:
        number = self.chance.randrange(len(self.workers))
        worker = self.workers[number]
        children = [pid for pid, state in children_of(worker.pid).items() if state not in "ZX"]
        if not children:
            return False
        if self.chance.random() < WORKERS_SHARE:
            self.killed |= {*children}
            self.workers_killed += 1
            worker.kill()
            worker.wait()
            self.workers[number] = start(self.path, DRIVERS[number])
            return True
        victim = self.chance.choice(children)
        self.killed.add(victim)
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        return True

    def _leaked(self) -> list[str]:
        """Compare each worker with a new one that has run jobs in all of its children."""
        found: list[str] = []
        over = time.monotonic() + 30
        while time.monotonic() < over:
            found = []
            for driver, worker in zip(DRIVERS, self.workers, strict=True):
                children = children_of(worker.pid)
                if len(children) > CHILDREN or "Z" in children.values():
                    found.append(f"{driver}: children {children}")
                # a child takes four: its channel, two pipes, and one by which its end is seen
                if (there := descriptors_of(worker.pid)) > self._usual() + 4 * CHILDREN + FEW:
                    found.append(f"{driver}: {there} descriptors")
            if not found:
                break
            _never.wait(0.1)
        return found

    def _usual(self) -> int:
        """Return how many descriptors a worker has without children."""
        if not hasattr(self, "_without"):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "usual.db"
                with declare(path, "sqlite3") as queue:
                    worker = start(path, "sqlite3")
                    while not queue.engine.workers.living():
                        _never.wait(0.01)
                    self._without = descriptors_of(worker.pid)
                    worker.terminate()
                    worker.wait()
        return self._without

    def _noted(self) -> tuple[list[Run], int]:
        lines = [line.split("\t") for line in (self.path.parent / "log").read_text().splitlines()]
        runs = [Run(int(n), int(attempt), int(pid)) for what, n, attempt, pid in lines if what == "begin"]
        return runs, sum(what == "beside itself" for what, *_ in lines)

    def _wrong(self, n: int, runs: list[Run]) -> list[str]:
        """Compare the record of a job with what it was to come to, and what was killed."""
        job, kind = self.jobs[n].refresh(), self.kinds[n]
        own, errors = Counter(kind.own), Counter(error.type for error in job.errors)
        told = f"job {n} ({kind.function.__name__}) {job.status} {dict(errors)} after {[*map(tuple, runs)]}: "
        began = {run.attempt: run.pid for run in runs}
        wrong = [
            f"{told}blamed for run {error.attempt}, which was not killed"
            for error in job.errors
            if error.type == DIED
            and DIED not in own
            and began.get(error.attempt, UNNOTED) not in {*self.killed, UNNOTED}
        ]
        hit = sum(run.pid in self.killed for run in runs)
        # killed between its word that it begins and the first lines of the function
        hit += sum(error.type == DIED and error.attempt not in began for error in job.errors)
        if hit == 0:  # nothing disturbed it: all is as it was to be
            wrong += [] if errors == own else [f"{told}expected the errors {dict(own)}"]
            wrong += [] if job.status == kind.status else [f"{told}expected {kind.status}"]
        elif job.status not in (kind.status, "failed" if hit >= DEATH_LIMIT - own[DIED] else kind.status):
            wrong.append(f"{told}expected {kind.status}, it was hit {hit} times")
        if errors - own - Counter({DIED: hit, WORKER_DIED: self.workers_killed and hit}):
            wrong.append(f"{told}errors of no known cause")
        if job.status == "succeeded" and job.result() != n:
            wrong.append(f"{told}its result is {job.result()}")
        return wrong


def torture(path: Path, *, jobs: int, kills: int, seed: int) -> Figures:
    return Torture(path, jobs, seed).go(kills)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "big")
    with tempfile.TemporaryDirectory() as folder:
        return say(torture(Path(folder) / "children.db", jobs=options.jobs, kills=options.kills, seed=seed), seed)


if __name__ == "__main__":
    sys.exit(main())
