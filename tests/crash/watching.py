"""Wait, with a deadline, for what a job or a process is to come to."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from litequeue import Job, Queue
    from litequeue.core.records import JobRecord

DEADLINE = 20.0  # seconds
_never = threading.Event()


def ended(job: Job[Any], deadline: float = DEADLINE) -> JobRecord:
    """Wait for a job's end, whichever it is; return its record."""
    return job._source.wait(job.id, deadline)


def until(condition: Callable[[], Any], what: str = "", deadline: float = DEADLINE) -> Any:
    """Look at a condition until it holds; return what it returned."""
    over, pause = time.monotonic() + deadline, 0.001
    while not (value := condition()):
        if time.monotonic() > over:
            raise AssertionError(f"not within {deadline:g} s: {what or condition}")
        _never.wait(pause)
        pause = min(1.5 * pause, 0.01)
    return value


def status_of(job: Job[Any]) -> str:
    """Return the job's state as it is now on record."""
    return str(job.refresh().status)


def running(job: Job[Any]) -> bool:
    """Tell whether a worker has claimed it and not ended it."""
    return status_of(job) == "running"


def freeze(queue: Queue, process: subprocess.Popen[str]) -> None:
    """Stop it where it has no write transaction open: one that has would let nobody write, whoever is dead."""
    with queue.transaction():
        process.send_signal(signal.SIGSTOP)
        stopped(process)


def stopped(*processes: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """Wait until one of them stands still, and return it."""

    def look() -> list[subprocess.Popen[str]]:
        return [one for one in processes if os.WIFSTOPPED(os.waitpid(one.pid, os.WUNTRACED | os.WNOHANG)[1])]

    stopping: list[subprocess.Popen[str]] = until(look)
    return stopping[0]
