"""Kill workers that start jobs under limits, while clocks jump and limits change, and check what the functions record.

`python -m tests.crash.limits --jobs 2000` from the root of the repository: each kind of limit by itself, on a new file.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from litequeue import Queue, current_job
from litequeue.core.clock import SystemClock
from tests.crash.counting import counter
from tests.crash.limits_record import Job, Kind, Record, Starts, read_moves
from tests.crash.torture import _drain as drain
from tests.crash.torture import _end as end
from tests.crash.torture import _some_living as some_living
from tests.crash.torture import _spare_suspects as spare_suspects

ROOT = Path(__file__).resolve().parents[2]
WORKERS, THREADS = 3, 12  # two workers have as many threads as any limit here has places
PAUSE = 1.5  # seconds between kills, at most
JUMP = 30.0  # seconds by which a wall clock jumps, at most
NOW = "(julianday('now') - 2440587.5) * 86400"  # the machine's own clock, which does not jump
LEAST_USE = 0.95

KINDS = (
    Kind("concurrency", 24, (12, 24, 6), seconds=0.1),
    Kind("shared", 24, (10, 24), seconds=0.1),
    Kind("by_key", 4, (2, 4), seconds=0.1, keys=6),
    Kind("ordered", 1, (), seconds=0.1, keys=24),
    Kind("rate", 400, (200, 400), window=1.0),
    Kind("smooth", 200, (100, 200), window=1.0, smooth=True),
    Kind("rate_by_key", 40, (20, 40), window=1.0, keys=10),
    Kind("costs", 1200, (800, 1200), window=1.0, most_cost=5),
)

# Every change of a job's state, in order; and what a limit was changed to, among them.
MOVES = "CREATE TABLE moves (seq INTEGER PRIMARY KEY, at REAL, job INTEGER, attempt INTEGER, old, new, name TEXT)"
NOTE = f"INSERT INTO moves (at, job, attempt, old, new) VALUES ({NOW},"
TABLES = (
    MOVES,
    f"CREATE TRIGGER stored AFTER INSERT ON litequeue_jobs BEGIN {NOTE} NEW.id, 0, 0, NEW.state); END",
    f"""CREATE TRIGGER moved AFTER UPDATE OF state ON litequeue_jobs WHEN NEW.state <> OLD.state
    BEGIN {NOTE} NEW.id, NEW.attempt, OLD.state, NEW.state); END""",
    f"""CREATE TRIGGER changed AFTER UPDATE OF operator ON litequeue_limits BEGIN
    INSERT INTO moves (at, new, name)
    SELECT {NOW}, coalesce(json_extract(NEW.operator, '$.concurrency'),
           json_extract(NEW.operator, '$.rate.count')), NEW.name;
    END""",
)


class Figures(NamedTuple):
    """What came of one kind."""

    kind: str
    seconds: float
    jobs: int
    kills: int
    changes: int
    run_again: int
    not_ended: int
    exceeded_by_rows: int  # starts that were one too many, by the states on record
    exceeded: int  # by the functions' own record
    out_of_order: int
    left_parked: int
    use: float  # of the places, or of the rate, while jobs waited
    held: float  # the same by the states on record
    integrity: tuple[str, ...]

    def wrong(self, *, timed: bool) -> list[str]:
        """Name what must not be; `timed`: also that less than 95 % was used, as a busy machine may do."""
        names = "not_ended", "exceeded_by_rows", "exceeded", "out_of_order", "left_parked", "integrity"
        found = [name for name in names if getattr(self, name)]
        return [*found, "use"] if timed and self.use < LEAST_USE else found


# ---- in the workers


class JumpingClock(SystemClock):
    """The wall clock jumps every now and then; each thread remembers when it last asked for the other one."""

    def __init__(self, seed: int) -> None:
        self._chance, self._offset, self._next = random.Random(seed), 0.0, 0.0
        self.asked = threading.local()

    def now(self) -> float:  # type: ignore[override]
        """Return a time that is off by up to half a minute."""
        if time.monotonic() > self._next:
            self._offset, self._next = self._chance.uniform(-JUMP, JUMP), time.monotonic() + self._chance.random()
        return time.time() + self._offset

    def monotonic(self) -> float:  # type: ignore[override]
        """Return the time, and note it."""
        now = time.monotonic()
        self.asked.last = getattr(self.asked, "now", now), now
        self.asked.now = now
        return now


class Marks:
    """What functions write: one line each when they begin and end, which several processes append."""

    def __init__(self, path: Path, clock: JumpingClock | None) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._clock = clock

    def begin(self, kind: Kind) -> None:
        """Note that the function of the current job was called; of a rate, when it was found not to be too late."""
        at = current_job().started
        if kind.window and self._clock is not None and getattr(self._clock.asked, "last", (0, 0))[1] == at:
            at = self._clock.asked.last[0]
        self._write("begin", at)

    def end(self) -> None:
        """Note that it returns."""
        self._write("end", time.monotonic())

    def charged(self, used: int) -> None:
        """Note what it has used."""
        self._write("charged", used)

    def _write(self, what: str, value: float) -> None:
        job = current_job()
        os.write(self._file, f"{what} {job.id} {job.attempt} {value!r} {os.getpid()}\n".encode())


def declare(path: Path, clock: JumpingClock | None = None) -> Queue:
    queue = Queue(path, result_ttl=None, durability="normal")
    marks = Marks(path.with_suffix(".marks"), clock)
    work = {kind.name: _function(kind, marks) for kind in KINDS}
    kind = {kind.name: kind for kind in KINDS}
    queue.task(name="concurrency", concurrency=kind["concurrency"].most)(work["concurrency"])
    shared = queue.limit("shared", concurrency=kind["shared"].most)
    queue.task(name="shared1", limits=[shared])(work["shared"])
    queue.task(name="shared2", limits=[shared], queue="other")(work["shared"])
    queue.task(name="by_key", limit_key="{key}", concurrency=kind["by_key"].most)(work["by_key"])
    queue.task(name="ordered", limit_key="{key}", ordered=True)(work["ordered"])
    queue.task(name="rate", rate=f"{kind['rate'].most}/s")(work["rate"])
    queue.task(name="smooth", rate=f"{kind['smooth'].most}/s", smooth=True)(work["smooth"])
    queue.task(name="rate_by_key", limit_key="{key}", rate=f"{kind['rate_by_key'].most}/s")(work["rate_by_key"])
    costs = queue.limit("costs", rate=f"{kind['costs'].most}/s").cost("{cost}")
    queue.task(name="costs1", limits=[costs])(work["costs"])
    return queue


def _function(kind: Kind, marks: Marks) -> Any:
    def work(key: int, cost: int) -> None:
        marks.begin(kind)
        if kind.seconds:
            time.sleep(kind.seconds * random.uniform(0.8, 1.2))
        if kind.most_cost > 1:
            used = random.randint(0, kind.most_cost)
            current_job().charge(kind.name, used)
            marks.charged(used)
        marks.end()

    return work


def be_a_worker(path: Path, seed: int) -> None:
    from litequeue import queue as module

    clock = JumpingClock(seed)
    module.SystemClock = lambda: clock  # type: ignore[assignment, misc]
    declare(path, clock).worker(threads=THREADS).run()


# ---- in the program


def torture(path: Path, kinds: tuple[Kind, ...], *, jobs: int, kills: int, seed: int | None = None) -> list[Figures]:
    """Run so many jobs of each of these kinds on three worker processes, and kill one of them so often."""
    chance = random.Random(seed)
    queue = declare(path)
    with queue.transaction() as db:
        for statement in TABLES:
            db.execute(statement)
    stored = _enqueue(queue, kinds, jobs, chance)
    deaths: dict[int, float] = {}  # by process, of the monotonic clock
    began = time.monotonic()
    with ExitStack() as stack:
        workers = [_start(path, chance) for _ in range(WORKERS)]
        stack.callback(lambda: [end(worker) for worker in workers])
        for number in range(kills):
            some_living(queue)
            time.sleep(chance.random() * PAUSE)
            spare_suspects(queue)
            for kind in kinds:
                if kind.changes and kind.name in queue.limits:
                    _change(queue, kind, kind.changes[number % len(kind.changes)])
            victim = chance.randrange(WORKERS)
            deaths[workers[victim].pid] = time.monotonic()
            end(workers[victim])
            workers[victim] = _start(path, chance)
        drain(queue)
    seconds = time.monotonic() - began
    starts = Starts.read(path.with_suffix(".marks"), deaths)
    moves, changes = read_moves(queue)
    return [_figures(queue, Record(kind, stored[kind.name], moves, changes, starts), kills, seconds) for kind in kinds]


def _start(path: Path, chance: random.Random) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "tests.crash.limits",
        "--worker",
        str(path),
        "--seed",
        str(chance.randrange(2**32)),
    ]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def _enqueue(queue: Queue, kinds: tuple[Kind, ...], jobs: int, chance: random.Random) -> dict[str, dict[int, Job]]:
    stored: dict[str, dict[int, Job]] = {}
    for kind in kinds:
        calls = [(chance.randrange(kind.keys), chance.randint(1, kind.most_cost)) for _ in range(jobs)]
        names = [name for name in queue.tasks if name.rstrip("12") == kind.name]
        stored[kind.name] = {}
        for number, name in enumerate(names):
            mine = calls[number :: len(names)]
            for call, job in zip(mine, queue.tasks[name].enqueue_many(mine), strict=True):
                stored[kind.name][int(job.id)] = Job(str(call[0]) if kind.keys > 1 else "", call[1])
    return stored


def _change(queue: Queue, kind: Kind, most: int) -> None:
    if kind.window:
        queue.limits[kind.name].set(rate=f"{most}/s", smooth=kind.smooth)
    else:
        queue.limits[kind.name].set(concurrency=most)


def _figures(queue: Queue, record: Record, kills: int, seconds: float) -> Figures:
    one = counter(queue)
    return Figures(
        kind=record.kind.name,
        seconds=round(seconds, 1),
        jobs=len(record.jobs),
        kills=kills,
        changes=len(record.changes) - 1,
        run_again=record.run_again(),
        not_ended=record.not_ended(),
        exceeded_by_rows=record.exceeded_by_rows(),
        exceeded=record.exceeded(),
        out_of_order=record.out_of_order() if record.kind.name == "ordered" else 0,
        left_parked=one("SELECT count(*) FROM litequeue_parked") + one("SELECT count(*) FROM litequeue_ordered"),
        use=round(record.use(), 3),
        held=round(record.use(held=True), 3),
        integrity=tuple(queue.engine.admin.integrity()),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", help=f"which, of {', '.join(kind.name for kind in KINDS)}; all")
    parser.add_argument("--jobs", type=int, default=2_000, help="of each kind")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--worker", metavar="FILE", help="be a worker on this file")
    options: Any = parser.parse_args()
    if options.worker:
        be_a_worker(Path(options.worker), options.seed)
        return 0
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "big")
    sound = True
    for kind in KINDS:
        if options.kinds and kind.name not in options.kinds:
            continue
        with tempfile.TemporaryDirectory() as folder:
            [figures] = torture(Path(folder) / "limits.db", (kind,), jobs=options.jobs, kills=options.kills, seed=seed)
        wrong = figures.wrong(timed=True)
        print(" ".join(f"{name}={value}" for name, value in figures._asdict().items() if name != "integrity"))
        print("sound" if not wrong else f"NOT SOUND (--seed {seed}): {', '.join(wrong)}", flush=True)
        sound = sound and not wrong
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
