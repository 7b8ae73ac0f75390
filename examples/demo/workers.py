"""The demo's worker processes: start, kill, stop. Knows no task."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from examples.demo import ledger as sql
from examples.demo.ledger import Ledger

STARTED_WITHIN = 30.0  # seconds


class WorkerDied(Exception):
    """A worker ended that nobody had killed."""


@dataclass
class WorkerProcess:
    """One worker: its place on the screen, its process, and its number in the queue's file."""

    place: int
    process: subprocess.Popen[bytes]
    log: Path
    number: int = 0
    killed: bool = False

    def __str__(self) -> str:
        return f"worker {self.place} (pid {self.process.pid})"

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid

    def kill(self) -> None:
        """End it as a crash would: SIGKILL, which no process can catch."""
        self.killed = True
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to finish what it runs and go; return its exit code."""
        self.process.terminate()
        return self.process.wait()

    def check(self) -> None:
        """Raise `WorkerDied` if it is gone though nobody killed it."""
        if not self.killed and self.process.poll() is not None:
            said = self.log.read_text(errors="replace").strip()[-2000:]
            raise WorkerDied(f"{self} ended with exit code {self.process.returncode}:\n{said}")


def start(place: int, folder: Path) -> WorkerProcess:
    """Start a worker whose log goes to a file of its own."""
    log = folder / f"worker-{place}.log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "examples.demo.tasks"]
        process = subprocess.Popen(command, stdout=out, stderr=out)  # noqa: S603  our own module
    return WorkerProcess(place, process, log)


def wait_until_registered(workers: list[WorkerProcess], ledger: Ledger) -> None:
    """Return once every worker is on record in the file."""
    deadline = time.monotonic() + STARTED_WITHIN
    while time.monotonic() < deadline:
        numbers = dict(ledger.rows(sql.WORKERS))
        for worker in workers:
            worker.check()
            worker.number = numbers.get(worker.pid, 0)
        if all(worker.number for worker in workers):
            return
        time.sleep(0.02)
    raise WorkerDied(f"a worker did not start within {STARTED_WITHIN:.0f} s")
