"""Load for a long time: many processes enqueue, several work, and nobody may see an error, wait for long, or grow.

`python -m tests.crash.soak --minutes 60` from the root of the repository.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from litequeue import Job, Queue

ROOT = Path(__file__).resolve().parents[2]
CALLERS, WORKERS = 32, 4
PAUSE = 0.02  # seconds between two calls of a caller, on average
REPORT = 2.0  # seconds between two lines of a child
KEPT = "20s"  # records of what has ended, so that pruning keeps the file as it is
DRAIN = 300.0  # seconds
# Promises: of a call's time (99 in 100), of the WAL, and of what a process grows by after the first third.
LONGEST, LARGEST_WAL, LARGEST_GROWTH = 0.1, 100 << 20, 24 << 20
STEP = 1.25  # between two classes of the waiting times, of which the first is 0.1 ms

TALLY = """
CREATE TABLE tally (ended INTEGER NOT NULL);
INSERT INTO tally VALUES (0);
CREATE TRIGGER count_end AFTER UPDATE OF state ON litequeue_jobs WHEN NEW.state >= 4 AND OLD.state < 4
BEGIN UPDATE tally SET ended = ended + 1; END
"""


class Line(NamedTuple):
    """What a child tells of itself, from its beginning on."""

    jobs: int
    calls: dict[str, int]  # how many took so long, by class
    errors: list[str]
    resident: int  # bytes


def declare(path: str | Path) -> Queue:
    queue = Queue(path, result_ttl=KEPT)
    queue.task(name="add")(lambda a, b: a + b)

    @queue.task(name="aadd")
    async def aadd(a: int, b: int) -> int:
        await asyncio.sleep(0.001)
        return a + b

    return queue


# ---- the children


class Caller:
    """Enqueues in every way, in turn by chance."""

    def __init__(self, path: str) -> None:
        self._queue = declare(path)
        self._number = 0
        self.jobs = 0
        self.spans: Counter[int] = Counter()
        self.errors: list[str] = []

    def run(self) -> None:
        ways = (self._one, self._one, self._one, self._coroutine, self._many, self._keyed, self._together)
        reported = time.monotonic()
        while sys.stdin not in _readable():
            self._number += 1
            self._timed(random.choice(ways))
            time.sleep(random.random() * 2 * PAUSE)
            if time.monotonic() - reported > REPORT:
                reported = time.monotonic()
                self._tell()
        self._tell()
        self._queue.close()

    def _timed(self, way: Callable[[], int]) -> None:
        began = time.monotonic()
        try:
            self.jobs += way()
        except Exception as error:
            self.errors.append(f"{way.__name__}: {error!r}")
        self.spans[span_class(time.monotonic() - began)] += 1

    def _tell(self) -> None:
        tell(Line(self.jobs, {str(number): count for number, count in self.spans.items()}, self.errors, resident()))

    def _one(self) -> int:
        self._queue.tasks["add"].enqueue(self._number, 1)
        return 1

    def _coroutine(self) -> int:
        asyncio.run(self._queue.tasks["aadd"].aenqueue(self._number, 1))
        return 1

    def _many(self) -> int:
        return len(self._queue.tasks["add"].enqueue_many([(self._number, each) for each in range(10)]))

    def _keyed(self) -> int:
        keyed = self._queue.tasks["add"].using(key=f"{os.getpid()}-{self._number}", key_scope="kept")
        first: Job[Any] = keyed.enqueue(self._number, 2)
        if keyed.enqueue(self._number, 2).id != first.id:
            raise AssertionError("the key is held, and another job was made")
        return 1

    def _together(self) -> int:
        with self._queue.transaction():
            self._queue.tasks["add"].enqueue(self._number, 3)
            self._queue.tasks["add"].enqueue(self._number, 4)
        return 2


def work(path: str) -> None:
    queue = declare(path)
    with queue.worker(threads=4, coroutines=20) as worker:
        while sys.stdin not in _readable(REPORT):
            tell(Line(worker.settled, {}, [], resident()))


def _readable(patience: float = 0.0) -> list[Any]:
    """The parent says the end by closing its end."""
    import select

    return select.select([sys.stdin], [], [], patience)[0]


def tell(line: Line) -> None:
    print(json.dumps(line), flush=True)


def resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def span_class(span: float) -> int:
    number, limit = 0, 1e-4
    while span > limit:
        number, limit = number + 1, limit * STEP
    return number


def longest_of(number: int) -> float:
    """The longest time of that class, in seconds."""
    return float(1e-4 * STEP**number)


# ---- the parent


class Child:
    """A process of this program, and its last line; the first third is for growing."""

    def __init__(self, role: str, path: Path) -> None:
        command = [sys.executable, "-m", "tests.crash.soak", "--role", role, str(path)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.line = Line(0, {}, [], 0)
        self.grown_from = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self.line = Line(*json.loads(text))

    @property
    def growth(self) -> int:
        return self.line.resident - self.grown_from if self.grown_from else 0

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = self.process.wait(DRAIN)
        self._reader.join(10)
        return code

    def clean_up(self) -> None:
        self.process.kill()
        with self.process:  # which closes what is open to it
            self._reader.join(10)


class Figures(NamedTuple):
    """What came of it."""

    seconds: float
    jobs: int
    ended: int
    left: int
    errors: list[str]
    codes: list[int]  # of the children, where one is not 0
    p50: float
    p99: float
    longest: float
    largest_wal: int
    growth: int  # of the one that grew most
    integrity: list[str]

    def broken(self, *, timed: bool) -> list[str]:
        """Which promises were not kept; those of time and size where the run was long enough to tell."""
        kept = {
            "no error reaches a caller": not self.errors,
            "no process ends by itself": not self.codes,
            "no job is lost, and none ends twice": self.ended == self.jobs and self.left == 0,
            "the file is sound": not self.integrity,
            f"99 in 100 calls take less than {LONGEST:g} s": not timed or self.p99 <= LONGEST,
            "the WAL is bounded": self.largest_wal <= LARGEST_WAL,
            "memory is flat": not timed or self.growth <= LARGEST_GROWTH,
        }
        return [promise for promise, is_kept in kept.items() if not is_kept]


def soak(path: Path, *, seconds: float, callers: int = CALLERS, workers: int = WORKERS, quiet: bool = False) -> Figures:
    queue = declare(path)
    with queue.transaction() as db:
        for statement in TALLY.strip().split(";\n"):
            db.execute(statement if "BEGIN" not in statement else statement + ";")
    began, largest_wal, said = time.monotonic(), 0, 0
    with queue, ExitStack() as stack:
        crowd = [Child("caller", path) for _ in range(callers)]
        crew = [Child("worker", path) for _ in range(workers)]
        for child in crowd + crew:
            stack.callback(child.clean_up)
        while (spent := time.monotonic() - began) < seconds:
            time.sleep(0.2)
            largest_wal = max(largest_wal, queue.engine.admin.wal_size())
            if spent > seconds / 3:
                for child in crowd + crew:
                    child.grown_from = child.grown_from or child.line.resident
            if not quiet and spent // 60 > said:
                said = int(spent // 60)
                jobs, settled = (sum(child.line.jobs for child in some) for some in (crowd, crew))
                print(f"{said:3} min  {jobs:,} enqueued, {settled:,} settled, WAL {largest_wal >> 20} MiB", flush=True)
        codes = [child.end() for child in crowd]
        _drain(queue)
        codes += [child.end() for child in crew]
        return _count(queue, crowd, crew, codes, largest_wal, time.monotonic() - began)


def _drain(queue: Queue) -> None:
    over = time.monotonic() + DRAIN
    while any(not count.status.finished for count in queue.engine.jobs.counts()) and time.monotonic() < over:
        time.sleep(0.2)


def _count(
    queue: Queue, crowd: list[Child], crew: list[Child], codes: list[int], largest_wal: int, seconds: float
) -> Figures:
    spans: Counter[int] = Counter()
    for child in crowd:
        spans.update({int(number): count for number, count in child.line.calls.items()})
    [(ended,)] = queue.engine.kernel.read(lambda db: db.rows("SELECT ended FROM tally"))
    return Figures(
        seconds=round(seconds, 1),
        jobs=sum(child.line.jobs for child in crowd),
        ended=ended,
        left=sum(count.jobs for count in queue.engine.jobs.counts() if not count.status.finished),
        errors=[error for child in crowd for error in child.line.errors],
        codes=[code for code in codes if code],
        p50=_percentile(spans, 0.5),
        p99=_percentile(spans, 0.99),
        longest=longest_of(max(spans, default=0)),
        largest_wal=largest_wal,
        growth=max(child.growth for child in crowd + crew),
        integrity=queue.engine.admin.integrity(),
    )


def _percentile(spans: Counter[int], share: float) -> float:
    wanted, seen = share * spans.total(), 0
    for number in sorted(spans):
        seen += spans[number]
        if seen >= wanted:
            return longest_of(number)
    return 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--callers", type=int, default=CALLERS)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--role", nargs=2, metavar=("ROLE", "FILE"), help="be a caller or a worker on this file")
    options: Any = parser.parse_args()
    if options.role:
        role, path = options.role
        Caller(path).run() if role == "caller" else work(path)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        figures = soak(
            Path(folder) / "soak.db",
            seconds=options.minutes * 60,
            callers=options.callers,
            workers=options.workers,
        )
    for name, value in figures._asdict().items():
        print(f"{name:12} {value}")
    broken = figures.broken(timed=True)
    print("\n".join(f"BROKEN: {promise}" for promise in broken) or "all promises kept")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
