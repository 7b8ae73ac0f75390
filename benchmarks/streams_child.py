"""The worker of `streams` in a process of its own, and the tasks of both. Needs litequeue alone."""

from __future__ import annotations

import random
import sys
import time
from typing import TYPE_CHECKING, Any

from litequeue import Queue, current_job

if TYPE_CHECKING:
    from litequeue import Task


def open_queue(path: str, durability: Any) -> Queue:
    return Queue(path, durability=durability)


def tasks(queue: Queue) -> tuple[Task[[int], float], Task[[int], None]]:
    """Declare a task that emits as fast as it can, and one that emits the time, now and then."""

    @queue.task(name="emit")
    def emit(values: int) -> float:
        job = current_job()
        began = time.perf_counter()
        for number in range(values):
            job.emit(number)
        return time.perf_counter() - began

    @queue.task(name="tell")
    def tell(values: int) -> None:
        for _ in range(values):
            time.sleep(random.uniform(0.005, 0.050))
            current_job().emit(time.monotonic_ns())

    return emit, tell


def latencies(path: str, durability: str, samples: int) -> list[float]:
    """Follow a job of another process; return in how many milliseconds each value came."""
    with open_queue(path, durability) as queue:
        _, tell = tasks(queue)
        return [(time.monotonic_ns() - event.value) / 1e6 for event in tell.enqueue(samples).stream()]


def main(path: str, durability: str) -> None:
    """Run jobs until the end of the input."""
    with open_queue(path, durability) as queue:
        tasks(queue)
        with queue.worker(threads=1):
            print("ready", flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
