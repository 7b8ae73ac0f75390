"""Kill workers at random moments, and count: no job lost, none finished twice, each effect stored once.

`python -m tests.crash.torture --kills 200 --jobs 20000` from the root of the repository.
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
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from litequeue import Queue, current_job
from tests.crash.counting import counter, say

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 3
WORK = 0.004  # seconds a job takes, about
PAUSE = 0.25  # seconds between kills, at most
DRAIN = 120.0  # seconds

# Counted, not kept from happening: no UNIQUE anywhere.
TABLES = """
CREATE TABLE effects (n INTEGER);
CREATE TABLE finishes (job INTEGER);
CREATE TRIGGER finish AFTER UPDATE OF state ON litequeue_jobs WHEN NEW.state >= 4 AND OLD.state < 4
BEGIN INSERT INTO finishes VALUES (NEW.id); END
"""


class Figures(NamedTuple):
    """What came of it."""

    seconds: float
    kills: int
    jobs: int
    succeeded: int
    failed: int
    lost: int
    finished_twice: int
    effects_missing: int
    effects_doubled: int
    run_again: int
    deaths_blamed: int
    run_alone: int
    integrity: tuple[str, ...]

    @property
    def sound(self) -> bool:
        wrong = self.failed, self.lost, self.finished_twice, self.effects_missing, self.effects_doubled
        return not any(wrong) and not self.integrity and self.succeeded == self.jobs


def declare(path: str | Path) -> Queue:
    queue = Queue(path)

    @queue.task(name="effect")
    def effect(n: int) -> None:
        time.sleep(random.random() * 2 * WORK)
        with current_job().completing(n) as db:
            db.execute("INSERT INTO effects VALUES (?)", (n,))

    @queue.task(name="aeffect")
    async def aeffect(n: int) -> None:
        await asyncio.sleep(random.random() * 2 * WORK)
        async with current_job().acompleting(n) as db:
            db.execute("INSERT INTO effects VALUES (?)", (n,))

    @queue.task(name="plain")
    def plain(n: int) -> int:
        time.sleep(random.random() * 2 * WORK)
        return n

    return queue


def start(path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.crash.torture", "--worker", str(path)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def torture(path: Path, *, kills: int, jobs: int, seed: int | None = None) -> Figures:
    """Run `jobs` jobs on three worker processes and kill one of them `kills` times."""
    chance = random.Random(seed)
    queue = declare(path)
    with queue.transaction() as db:
        for statement in TABLES.split(";\n"):
            db.execute(statement if "BEGIN" not in statement else statement + ";")
    began = time.monotonic()
    with ExitStack() as stack:
        workers = [start(path) for _ in range(WORKERS)]
        stack.callback(lambda: [_end(worker) for worker in workers])
        for number in range(kills):
            _enqueue(queue, jobs * number // kills, jobs * (number + 1) // kills)
            _some_living(queue)
            time.sleep(chance.random() * PAUSE)
            _spare_suspects(queue)
            victim = chance.randrange(WORKERS)
            _end(workers[victim])
            workers[victim] = start(path)
        _drain(queue)
    return _count(queue, kills, jobs, time.monotonic() - began)


def _enqueue(queue: Queue, first: int, last: int) -> None:
    for offset, name in enumerate(("effect", "aeffect", "plain")):
        queue.tasks[name].enqueue_many([(n,) for n in range(first, last) if n % 3 == offset])


def _some_living(queue: Queue) -> None:
    """Wait until two of three are up: a kill is to hit work, not a start."""
    over = time.monotonic() + DRAIN
    while len(queue.engine.workers.living()) < WORKERS - 1 and time.monotonic() < over:
        time.sleep(0.01)


def _spare_suspects(queue: Queue) -> None:
    """Wait until no job is left that two deaths have hit: a third would rightly condemn it, though by mere chance."""
    quarantine = "SELECT count(*) FROM litequeue_jobs WHERE state < 4 AND deaths > 1"
    over = time.monotonic() + DRAIN
    while queue.engine.kernel.read(lambda db: db.rows(quarantine)) != [(0,)] and time.monotonic() < over:
        time.sleep(0.002)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def _drain(queue: Queue) -> None:
    over = time.monotonic() + DRAIN
    while any(not count.status.finished for count in queue.engine.jobs.counts()) and time.monotonic() < over:
        time.sleep(0.05)


def _count(queue: Queue, kills: int, jobs: int, seconds: float) -> Figures:
    one = counter(queue)

    def state(number: int) -> int:
        return one(f"SELECT count(*) FROM litequeue_jobs WHERE state = {number}")

    effects = sum(n % 3 != 2 for n in range(jobs))
    return Figures(
        seconds=round(seconds, 1),
        kills=kills,
        jobs=jobs,
        succeeded=state(4),
        failed=state(5),
        lost=jobs - state(4) - state(5),
        finished_twice=one("SELECT count(*) - count(DISTINCT job) FROM finishes"),
        effects_missing=effects - one("SELECT count(DISTINCT n) FROM effects"),
        effects_doubled=one("SELECT count(*) - count(DISTINCT n) FROM effects"),
        run_again=one("SELECT count(*) FROM litequeue_jobs WHERE attempt > 1"),
        deaths_blamed=one("SELECT sum(deaths) FROM litequeue_jobs"),
        run_alone=one("SELECT count(*) FROM litequeue_jobs WHERE deaths > 1"),
        integrity=tuple(queue.engine.admin.integrity()),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--worker", metavar="FILE", help="be a worker on this file")
    options: Any = parser.parse_args()
    if options.worker:
        declare(options.worker).worker(threads=4, coroutines=4).run()
        return 0
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "big")
    with tempfile.TemporaryDirectory() as folder:
        figures = torture(Path(folder) / "torture.db", kills=options.kills, jobs=options.jobs, seed=seed)
    return say(figures, seed)


if __name__ == "__main__":
    sys.exit(main())
