"""A process that a measurement starts: it works, or enqueues, and answers on its standard output.

`python -m benchmarks.child worker|caller SIDE FOLDER DURABILITY [--counting] [--alone]`
"""

from __future__ import annotations

import contextlib
import itertools
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.sides import opened

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent


class Child:
    """The process as its parent sees it: one question a line, one JSON answer a line."""

    def __init__(self, *arguments: str, python: str = sys.executable, module: str = "benchmarks.child") -> None:
        command = [python, "-m", module, *arguments]
        self._command = " ".join(command)
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer()  # it is ready

    def tell(self, question: str) -> None:
        """Send a question."""
        assert self._process.stdin is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Wait for the answer to the oldest question."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._command} ended with {self._process.wait()}")
        return json.loads(line)

    def ask(self, question: str) -> Any:
        """Send a question and wait for its answer."""
        self.tell(question)
        return self.answer()

    def end(self) -> None:
        """Let the process go, and wait for that."""
        self._process.communicate(timeout=60)

    def kill(self) -> None:
        """End the process whatever it does."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def child(
    role: str, side: str, folder: str, durability: str, *, counting: bool = False, alone: bool = False
) -> Iterator[Child]:
    """Start a process for the block; a worker that is `alone` has one thread."""
    started = Child(role, side, folder, durability, *["--counting"] * counting, *["--alone"] * alone)
    try:
        yield started
    finally:
        started.end()


# ---- in the process


def main(arguments: list[str]) -> None:
    role, name, folder, durability, *flags = arguments
    side = opened(name, folder, durability, counting="--counting" in flags)
    sizes = {"threads": 1} if "--alone" in flags else {}
    scope = side.worker(**sizes) if role == "worker" else contextlib.nullcontext()
    with scope:
        say("ready")
        for line in sys.stdin:
            what, *count = line.split()
            say(usage(side) if what == "usage" else enqueues(side, numbers(what, float(count[0]))))
    side.close()


def say(answer: Any) -> None:
    print(json.dumps(answer), flush=True)


def usage(side: Any) -> dict[str, float]:
    """What this process has used: seconds of CPU, KiB of memory resident now, statements."""
    return {"cpu": time.process_time(), "memory": resident(), "statements": side.statements}


def resident() -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def numbers(what: str, size: float) -> Iterator[int]:
    """Count as far as "enqueue" asks for, or for as many seconds as "enqueue-for" does."""
    if what == "enqueue":
        yield from range(int(size))
        return
    until = time.monotonic() + size
    for number in itertools.count():
        if time.monotonic() > until:
            return
        yield number


def enqueues(side: Any, numbers: Iterator[int]) -> dict[str, Any]:
    """Enqueue a call for each number; say when all began and ended, how long each took (ns), and what went wrong."""
    spans, errors = [], []
    begun = time.monotonic_ns()
    for number in numbers:
        before = time.monotonic_ns()
        try:
            side.enqueue(number, 2)
        except Exception as error:
            errors.append(repr(error))
        spans.append(time.monotonic_ns() - before)
    return {"begun": begun, "ended": time.monotonic_ns(), "spans": spans, "errors": errors}


if __name__ == "__main__":
    main(sys.argv[1:])
