"""Kill workers that run chains, chords and any DAG, while jobs fail, are retried and cancelled, and check the record.

`python -m tests.crash.compositions` from the root of the repository: on each driver a chord of 10,000, a chain of 1,000
and a DAG of 5,000 in one file.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from litequeue import JobNotFound, Queue, Status, Unsupported, chain, current_job, group
from tests.crash.compositions_record import MOVES, Graph, Record, Runs
from tests.crash.counting import counter, say
from tests.crash.torture import _end as end
from tests.crash.torture import _some_living as some_living
from tests.crash.torture import _spare_suspects as spare_suspects

if TYPE_CHECKING:
    from litequeue import Job, JobGroup
    from litequeue.sqlite.file.opening import Driver

ROOT = Path(__file__).resolve().parents[2]
WORKERS, THREADS = 3, 4
PAUSE = 1.0  # seconds between kills, at most
DRAIN = 60.0  # seconds after the last kill
FAILS = 0.01  # of the runs of a DAG
BACK = 100  # jobs before a job of the DAG, among which its parents are
CANCELS = 40  # of the DAG, in all


class Size(NamedTuple):
    """How many jobs there are of each kind."""

    chord: int = 10_000
    chain: int = 1_000
    dag: int = 5_000


class Figures(NamedTuple):
    """What came of it."""

    driver: str
    seconds: float
    jobs: int
    kills: int
    retried: int
    revived: int
    cancelled: int
    run_again: int  # after a death
    not_ended: int
    ended_wrong: int  # not as its parents allow
    let_begin_early: int  # by the states on record
    begun_early: int  # by the functions' own record
    run_twice: int  # and none of the two was killed, or without another claim
    succeeded_twice: int
    succeeded_unrun: int
    wrong_results: int
    left_over: int
    integrity: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return not any(self[self._fields.index("not_ended") :])


def declare(path: Path, driver: Driver) -> Queue:
    queue = Queue(path, driver=driver, result_ttl=None, failed_ttl=None, durability="normal")
    file = os.open(path.with_suffix(".runs"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(what: str) -> None:
        job = current_job()
        os.write(file, f"{what} {job.id} {job.attempt} {os.getpid()}\n".encode())

    @queue.task(name="member")
    def member(n: int) -> int:
        note("begin")
        note("ok")
        return n

    @queue.task(name="body")
    def body(results: list[int]) -> int:
        note("begin")
        note("ok")
        return sum(results)

    @queue.task(name="link")
    def link(before: int) -> int:
        note("begin")
        note("ok")
        return before + 1

    @queue.task(name="node")
    def node(n: int) -> int:
        note("begin")
        if random.random() < FAILS:
            note("failed")
            raise ValueError(n)
        note("ok")
        return n

    @queue.task(name="callback")
    def callback() -> None:
        note("begin")
        note("ok")

    return queue


def be_a_worker(path: Path, driver: Driver) -> None:
    declare(path, driver).worker(threads=THREADS).run()


# ---- in the program


def torture(path: Path, driver: Driver, size: Size, *, kills: int, seed: int | None = None) -> Figures:
    """Store all of it, run it on three worker processes, and kill one of them so often."""
    chance = random.Random(seed)
    queue = declare(path, driver)
    with queue.transaction() as db:
        for statement in MOVES:
            db.execute(statement)
    chord, last = _enqueue(queue, size, chance)
    graph = queue.engine.kernel.read(Graph.read)
    began, dead, acts = time.monotonic(), set[int](), _Acts(queue, chance)
    with ExitStack() as stack:
        workers = [_start(path, driver) for _ in range(WORKERS)]
        stack.callback(lambda: [end(worker) for worker in workers])
        for _ in range(kills):
            some_living(queue)
            time.sleep(chance.random() * PAUSE)
            acts.retry_some()
            acts.cancel_some(CANCELS // kills)
            spare_suspects(queue)
            victim = chance.randrange(WORKERS)
            dead.add(workers[victim].pid)
            end(workers[victim])
            workers[victim] = _start(path, driver)
        acts.drain()
    seconds = time.monotonic() - began
    runs = Runs.read(path.with_suffix(".runs"), dead)
    record = queue.engine.kernel.read(lambda db: Record.read(db, graph, runs, acts.cancelled))
    return _figures(queue, driver, record, acts, kills, seconds, _wrong_results(size, chord, last))


def _start(path: Path, driver: Driver) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.crash.compositions", "--worker", str(path), "--driver", driver]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def _enqueue(queue: Queue, size: Size, chance: random.Random) -> tuple[Job[int], Job[int] | JobGroup[int]]:
    tasks = queue.tasks
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that 10,000 jobs are one transaction
        chord = (group(tasks["member"].s(n) for n in range(size.chord)) | tasks["body"].s()).enqueue()
    last = chain(tasks["link"].s(0), *(tasks["link"].s() for _ in range(size.chain - 1))).enqueue()
    node, called = tasks["node"], tasks["callback"].si()
    nodes: list[str] = []
    with queue.transaction():
        for n in range(size.dag):
            parents = chance.sample(nodes[-BACK:], min(len(nodes[-BACK:]), chance.randint(0, 3)))
            options: dict[str, Any] = {"after": parents} if parents else {}
            if parents and chance.random() < 0.2:
                options["after_failed"] = "run"
            if chance.random() < 0.05:
                options["on_failure"] = called
            nodes.append((node.using(**options) if options else node).enqueue(n).id)
    return chord, last


class _Acts:
    """What callers do meanwhile."""

    def __init__(self, queue: Queue, chance: random.Random) -> None:
        self._queue, self._chance = queue, chance
        self.retried = 0
        self.cancelled: set[int] = set()

    def retry_some(self) -> bool:
        """Retry what has failed; return whether there was any."""
        failed = self._queue.jobs(status=Status.FAILED, task="node", limit=200)
        for job in failed:
            try:
                job.retry()
            except Unsupported:  # one of its parents has failed by now
                continue
            self.retried += 1
        return bool(failed)

    def cancel_some(self, count: int) -> None:
        for status in (Status.WAITING, Status.QUEUED):
            jobs = self._queue.jobs(status=status, task="node", limit=500)
            for job in self._chance.sample(jobs, min(len(jobs), count)):
                try:
                    if job.cancel():
                        self.cancelled.add(int(job.id))
                except JobNotFound:
                    continue

    def drain(self) -> None:
        """Until nothing is to come, and nothing is left to retry."""
        over = time.monotonic() + DRAIN
        while time.monotonic() < over:
            again = self.retry_some()
            if not again and all(count.status.finished for count in self._queue.engine.jobs.counts()):
                return
            time.sleep(0.05)


def _wrong_results(size: Size, chord: Job[int], last: Any) -> int:
    wanted = (chord, sum(range(size.chord))), (last, size.chain)
    return sum(job.refresh().status != "succeeded" or job.result(0) != value for job, value in wanted)


def _figures(
    queue: Queue, driver: str, record: Record, acts: _Acts, kills: int, seconds: float, wrong_results: int
) -> Figures:
    one = counter(queue)
    left = (
        "SELECT (SELECT count(*) FROM litequeue_unspread) + (SELECT count(*) FROM litequeue_dependents WHERE waits = 1)"
    )
    return Figures(
        driver=driver,
        seconds=round(seconds, 1),
        jobs=len(record.graph.jobs),
        kills=kills,
        retried=acts.retried,
        revived=record.revived,
        cancelled=len(acts.cancelled),
        run_again=record.run_again(),
        not_ended=record.not_ended(),
        ended_wrong=record.ended_wrong(),
        let_begin_early=record.let_begin_early,
        begun_early=record.begun_early(),
        run_twice=record.run_twice(),
        succeeded_twice=record.succeeded_twice(),
        succeeded_unrun=record.succeeded_unrun(),
        wrong_results=wrong_results,
        left_over=one(left) + one("SELECT count(*) FROM litequeue_dependents WHERE unended > 0"),
        integrity=tuple(queue.engine.admin.integrity()),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chord", type=int, default=Size().chord)
    parser.add_argument("--chain", type=int, default=Size().chain)
    parser.add_argument("--dag", type=int, default=Size().dag)
    parser.add_argument("--kills", type=int, default=25, help="on each driver")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--driver", choices=("apsw", "sqlite3"), help="this one alone")
    parser.add_argument("--worker", metavar="FILE", help="be a worker on this file")
    options: Any = parser.parse_args()
    if options.worker:
        be_a_worker(Path(options.worker), options.driver)
        return 0
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "big")
    size, code = Size(options.chord, options.chain, options.dag), 0
    drivers: tuple[Driver, ...] = (options.driver,) if options.driver else ("apsw", "sqlite3")
    for driver in drivers:
        with tempfile.TemporaryDirectory() as folder:
            figures = torture(Path(folder) / "compositions.db", driver, size, kills=options.kills, seed=seed)
        code = say(figures, seed) or code
    return code


if __name__ == "__main__":
    sys.exit(main())
