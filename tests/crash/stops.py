"""Stop programs that work, in every way there is and at random moments: no job is blamed, lost or run beside itself.

`python -m tests.crash.stops --stops 300` from the root of the repository.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from litequeue import Queue, current_job
from tests.crash.counting import counter, say

ROOT = Path(__file__).resolve().parents[2]
GRACE = 0.4  # seconds
BESIDE = 2  # programs that work at a time, beside the one that is stopped
BACKLOG = 12  # jobs
LONG = 1.5  # seconds that one job in four takes: longer than a program lives
ENDS = 30.0  # seconds in which a stopped program has to be gone
DRAIN = 120.0
MOMENT = 1.2  # seconds after which another signal is another stop
APP = "from tests.crash.stops import declare\nqueue = declare('stops.db')\n"

COMMAND = ("SIGTERM", "SIGINT", "SIGHUP", "SIGTERM SIGKILL", "SIGINT SIGKILL", "SIGHUP SIGKILL", "twice", "now")
ENDINGS = ("exit", "end", "raise")
# Who works, and how that can be stopped. In `thread` and `entered` litequeue handles no signal.
STOPS: dict[str, tuple[str, ...]] = {
    "command": COMMAND,
    "supervised": (*COMMAND, "supervisor SIGTERM", "supervisor SIGTERM SIGKILL", "supervisor SIGKILL", "one SIGTERM"),
    "embedded": ("SIGTERM", "SIGHUP", "SIGINT", "SIGTERM SIGKILL", "SIGHUP SIGKILL", "twice", "now", "leave", *ENDINGS),
    "on a loop": ("SIGTERM", "SIGHUP", "SIGINT", "SIGTERM SIGKILL", "twice", "now", "leave", *ENDINGS),
    "thread": ("SIGINT", *ENDINGS),
    "entered": ("SIGINT", *ENDINGS),
}
ALL = [(kind, stop) for kind, stops in STOPS.items() for stop in stops]
CODES = {"exit": 7, "end": 0, "leave": 0, "raise": 1, "SIGTERM": -15, "SIGHUP": -1, "SIGINT": -2}


# ---- the programs


def declare(path: str | Path) -> Queue:
    queue = Queue(path, timeout="10m")

    @queue.task(name="plain")
    def plain(n: int, seconds: float) -> None:
        with _alone(queue, n):
            over = time.monotonic() + seconds
            while time.monotonic() < over:
                time.sleep(0.01)
            with current_job().completing(n) as db:
                db.execute("INSERT INTO effects VALUES (?)", (n,))

    @queue.task(name="coroutine")
    async def coroutine(n: int, seconds: float) -> None:
        with _alone(queue, n):
            await asyncio.sleep(seconds)
            async with current_job().acompleting(n) as db:
                db.execute("INSERT INTO effects VALUES (?)", (n,))

    return queue


@contextmanager
def _alone(queue: Queue, n: int) -> Iterator[None]:
    """Hold a lock of the job's own, which the kernel frees as late as the process dies; note begin and end."""
    folder = queue.path.parent
    with (folder / f"{n}.running").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = int(file.read() or 0)
            # a process that dies lets go of its files one by one, the worker's lock before this one
            _note(folder, f"waits for the dying {holder}" if _is_dying(holder) else "beside itself", n)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        _note(folder, "begin", n)
        yield
    _note(folder, "end", n)


def _is_dying(pid: int) -> bool:
    """Whether the process runs no code any more: see proc_pid_stat(5); 4 is PF_EXITING."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return True
    return state[0] in "ZX" or bool(int(state[6]) & 4)


def _note(folder: Path, what: str, n: int) -> None:
    job = current_job()
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(log, f"{what}\t{n}\t{job.id}\t{job.attempt}\t{os.getpid()}\n".encode())
    finally:
        os.close(log)


def work(kind: str) -> None:
    """Be a program that works until a line on stdin says how it ends."""
    queue = declare("stops.db")
    options: dict[str, Any] = {"threads": 3, "coroutines": 3, "grace": GRACE}
    if kind == "embedded":
        with queue.worker(signals=True, **options):
            end = _asked()
            if end != "leave":
                _end(end)
    elif kind == "on a loop":
        asyncio.run(_work_on_a_loop(queue, options))
    elif kind == "thread":
        threading.Thread(target=queue.worker(**options).run, daemon=True).start()
        _end(_asked())
    else:
        queue.worker(**options).__enter__()
        _end(_asked())


async def _work_on_a_loop(queue: Queue, options: dict[str, Any]) -> None:
    async with queue.worker(signals=True, **options):
        asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        threading.Thread(target=lambda: loop.call_soon_threadsafe(asked.set_result, _asked()), daemon=True).start()
        end = await asked
        if end != "leave":
            _end(end)


def _asked() -> str:
    """Wait for the word; from the descriptor, as a lock of sys.stdin would hold up the end of the interpreter."""
    return os.read(0, 100).decode().strip()


def _end(how: str) -> None:
    if how == "exit":
        sys.exit(CODES["exit"])
    if how == "raise":
        raise RuntimeError("an error in the main thread")


# ---- stopping them


@dataclass(eq=False)
class Program:
    """One that works, and how it is going to be stopped."""

    kind: str
    stop: str
    process: subprocess.Popen[bytes]
    code: int | None = None
    pids: list[int] = field(default_factory=list)

    def family(self) -> list[int]:
        """Itself, and the workers of a supervisor."""
        pid = self.process.pid
        with suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            return [pid, *map(int, children)] if self.kind == "supervised" else [pid]
        return [pid]

    def end(self, chance: random.Random) -> None:
        """Stop it in its way, and wait until all of it is gone."""
        self.pids = self.family()
        whom = self.pids
        words = self.stop.split()
        if words[0] == "supervisor":
            whom, words = self.pids[:1], words[1:]
        elif words[0] == "one":
            whom, words = self.pids[1:][:1], words[1:]
        if words[0] in {"leave", *ENDINGS}:
            assert self.process.stdin is not None
            self.process.stdin.write(f"{words[0]}\n".encode())
            self.process.stdin.flush()
        elif words[0] in {"twice", "now"}:
            _send(whom, signal.SIGTERM)
            time.sleep(chance.random() * 0.05 if words[0] == "twice" else MOMENT)
            _send(whom, signal.SIGTERM)
        else:
            _send(whom, signal.Signals[words[0]])
            if words[1:] == ["SIGKILL"]:
                time.sleep(0.25 + chance.random() / 2)  # of a signal and SIGKILL at once the process never hears
                _send(self.pids, signal.SIGKILL)
        if self.stop == "one SIGTERM":  # another takes its place
            _until(lambda: not _runs(whom[0]) if whom else True)
            _send(self.family()[:1], signal.SIGTERM)
        self.code = self.process.wait(ENDS)
        with suppress(BrokenPipeError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        _until(lambda: not any(map(_runs, self.pids)))

    @property
    def wrong_code(self) -> bool:
        """Whether it ended otherwise than such a stop says."""
        if "SIGKILL" in self.stop:
            return False
        if self.kind in ("command", "supervised"):
            return self.code not in (0, 75)
        return self.code != CODES["SIGTERM" if self.stop in ("twice", "now") else self.stop]


def _send(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _until(condition: Any, seconds: float = ENDS) -> None:
    over = time.monotonic() + seconds
    while not condition() and time.monotonic() < over:
        time.sleep(0.01)


def start(folder: Path, kind: str, stop: str) -> Program:
    if kind in ("command", "supervised"):
        command = [sys.executable, "-m", "litequeue", "run", "stops_app:queue", "-q", "--grace", f"{GRACE}s"]
        command += ["--threads", "2", "--coroutines", "2"] + (["--processes", "2"] if kind == "supervised" else [])
    else:
        command = [sys.executable, "-m", "tests.crash.stops", "--work", kind]
    with (folder / "stderr").open("ab") as stderr, heeding():
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    return Program(kind, stop, process)


@contextmanager
def heeding() -> Iterator[None]:
    """Start processes in which SIGHUP and SIGINT are not ignored, as nohup or a shell's & would have it."""
    with ExitStack() as stack:
        for number in (signal.SIGHUP, signal.SIGINT):
            if signal.getsignal(number) == signal.SIG_IGN:
                stack.callback(signal.signal, number, signal.signal(number, signal.SIG_DFL))
        yield


# ---- all of it


class Figures(NamedTuple):
    """What came of it."""

    seconds: float
    stops: int
    kinds: int
    jobs: int
    runs: int
    run_again: int
    blamed: int
    lost: int
    left_running: int
    waits_for_the_dying: int
    beside_itself: tuple[str, ...]
    effects_missing: int
    effects_doubled: int
    wrong_codes: tuple[str, ...]
    guilty: tuple[str, ...]

    @property
    def sound(self) -> bool:
        wrong = self.blamed, self.lost, self.effects_missing, self.effects_doubled
        return not any(wrong) and not self.beside_itself and not self.wrong_codes


def stop_all(folder: Path, *, stops: int, seed: int | None = None, seconds: float = 3600.0) -> Figures:
    """Stop so many programs, each of them amid jobs; a third works on while one is stopped."""
    chance = random.Random(seed)
    (folder / "stops_app.py").write_text(APP)
    (folder / "log").touch()
    queue = declare(folder / "stops.db")
    with queue.transaction() as db:
        db.execute("CREATE TABLE effects (n INTEGER)")
    began, jobs, ended = time.monotonic(), 0, list[Program]()
    planned = _planned(stops, chance)
    with ExitStack() as stack:
        programs: list[Program] = []
        stack.callback(lambda: [_send(program.family(), signal.SIGKILL) for program in programs])
        while planned or programs:
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"{len(ended)} of {stops} stops within {seconds:g} s")
            while planned and len(programs) <= BESIDE:
                programs.append(start(folder, *planned.pop()))
            jobs = _enqueue(queue, jobs, chance)
            victim = programs[0]
            _until(lambda victim=victim: _works(queue, victim))  # type: ignore[misc]
            time.sleep(chance.random() * 0.3)
            victim.end(chance)
            ended.append(programs.pop(0))
        with queue.worker(threads=8):
            _until(lambda: all(count.status.finished for count in queue.engine.jobs.counts()), DRAIN)
    return _count(queue, folder, jobs, ended, time.monotonic() - began)


def _planned(stops: int, chance: random.Random) -> list[tuple[str, str]]:
    """Each way as often as any other."""
    planned: list[tuple[str, str]] = []
    while len(planned) < stops:
        planned += chance.sample(ALL, len(ALL))
    return planned[:stops]


def _enqueue(queue: Queue, jobs: int, chance: random.Random) -> int:
    unfinished = sum(count.jobs for count in queue.engine.jobs.counts() if not count.status.finished)
    for n in range(jobs, jobs + max(0, BACKLOG - unfinished)):
        seconds = LONG if chance.random() < 1 / 4 else chance.random() * 0.3
        queue.tasks[chance.choice(("plain", "coroutine"))].enqueue(n, seconds)
        jobs = n + 1
    return jobs


def _works(queue: Queue, program: Program) -> bool:
    """Whether all its workers are on record: it can be stopped amid a job, or just before one."""
    if program.process.poll() is not None:
        return True
    known = {json.loads(worker.identity)["pid"] for worker in queue.engine.workers.living()}
    wanted = program.family()[1:] if program.kind == "supervised" else program.family()
    return len(wanted) == (2 if program.kind == "supervised" else 1) and known >= set(wanted)


def _count(queue: Queue, folder: Path, jobs: int, ended: list[Program], seconds: float) -> Figures:
    one = counter(queue)
    notes = [line.split("\t") for line in (folder / "log").read_text().splitlines()]
    # one that does not stop within half a second of being told is left running, as the guide says, and says so
    left = set(re.findall(r"\[(\d+)\] does not stop", (folder / "stderr").read_text(errors="replace")))
    what = Counter(note[0] for note in notes)
    blamed = queue.engine.kernel.read(lambda db: db.rows("SELECT payload FROM litequeue_jobs WHERE deaths > 0"))
    by_pid = {pid: f"{program.kind}: {program.stop}" for program in ended for pid in program.pids}
    numbers = {str(row[0]).strip("b'[").split(",")[0] for row in blamed}
    return Figures(
        seconds=round(seconds, 1),
        stops=len(ended),
        kinds=len({(program.kind, program.stop) for program in ended}),
        jobs=jobs,
        runs=what["begin"],
        run_again=one("SELECT count(*) FROM litequeue_jobs WHERE attempt > 1"),
        blamed=len(blamed),
        lost=jobs - one("SELECT count(*) FROM litequeue_jobs WHERE state = 4"),
        left_running=len(left),
        waits_for_the_dying=sum(count for kind, count in what.items() if kind.startswith("waits")),
        beside_itself=tuple(
            f"{n}: " + ", ".join(f"{note[0]} in {by_pid.get(int(note[4]))}" for note in notes if note[2] == job)
            for kind, n, job, *_ in notes
            if kind == "beside itself" and job not in left
        ),
        effects_missing=jobs - one("SELECT count(DISTINCT n) FROM effects"),
        effects_doubled=one("SELECT count(*) - count(DISTINCT n) FROM effects"),
        wrong_codes=tuple(f"{one.kind}: {one.stop}: {one.code}" for one in ended if one.wrong_code),
        guilty=tuple(f"{n}: {by_pid.get(int(pid))}" for _, n, _, _, pid in notes if n in numbers),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stops", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=1200.0, help="give up after so long")
    parser.add_argument("--work", metavar="KIND", help="be a program that works in this folder")
    options: Any = parser.parse_args()
    if options.work:
        work(options.work)
        return 0
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "big")
    with tempfile.TemporaryDirectory() as folder:
        figures = stop_all(Path(folder), stops=options.stops, seed=seed, seconds=options.seconds)
        if not figures.sound:
            print((Path(folder) / "stderr").read_text(errors="replace")[-20_000:])
    return say(figures, seed)


if __name__ == "__main__":
    sys.exit(main())
