"""One measurement of `processes` in a process of its own, which may be bound to one core.

`python -m benchmarks.processes_child rate COUNT CHILDREN CORES | start | kills COUNT`; CORES 0: all.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import child_functions
from litequeue import Queue, wait_all
from litequeue.errors import LiteQueueError

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 120  # seconds for anything
WARM = 100  # jobs before the measured ones
IDLE = 0.2  # seconds until a worker that has started is at rest
LIMIT = 0.3  # seconds of a function that does not end by itself


def rate(folder: str, count: int, children: int, cores: int) -> float:
    """Return how many no-ops a second so many children run, enqueued in bulk beside them, results kept."""
    if cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])  # the children are bound as we are
    with Queue(f"{folder}/app.db", durability="normal") as queue:
        add = queue.task(name="add", process=True)(child_functions.add)
        with queue.worker(threads=1, children=children):
            wait_all(add.enqueue_many([(number, 2) for number in range(WARM)]), timeout=LONGEST)
            began = time.perf_counter()
            wait_all(add.enqueue_many([(number, 2) for number in range(count)]), timeout=LONGEST)
            return count / (time.perf_counter() - began)


def start(folder: str) -> dict[str, float]:
    """Return the ms from an enqueue beside an idle worker without a child to the first instruction of the function.

    And those of a Python that imports us.
    """
    subprocess.run([sys.executable, "-c", "import litequeue"], check=True)  # its bytecode is there
    began = time.monotonic_ns()
    subprocess.run([sys.executable, "-c", "import litequeue"], check=True)
    imported = time.monotonic_ns() - began
    with Queue(f"{folder}/app.db", durability="normal") as queue:
        stamp = queue.task(name="stamp", process=True)(child_functions.stamp)
        with queue.worker(threads=1, children=1):
            time.sleep(IDLE)
            began = time.monotonic_ns()
            child = stamp.enqueue().result(timeout=LONGEST) - began
    return {"import": imported / 1e6, "child": child / 1e6}


def kills(folder: str, count: int) -> dict[str, list[float]]:
    """Return by how many ms the end of the process, and the job's end at its caller, came after the time limit."""
    logging.getLogger("litequeue").setLevel(logging.CRITICAL)  # each kill is told as an error
    late: dict[str, list[float]] = {"process": [], "job": []}
    functions = child_functions.sleep_in_c, child_functions.sleep_with_the_lock
    with Queue(f"{folder}/app.db", durability="normal") as queue:
        tasks = [queue.task(process=True, timeout=LIMIT, retries=0)(function) for function in functions]
        with queue.worker(threads=1, children=1):
            for number in range(count):
                fifo = f"{folder}/{number}"
                os.mkfifo(fifo)
                job = tasks[number % len(tasks)].enqueue(fifo, LONGEST)
                with Path(fifo).open(encoding="ascii") as told:
                    due = int(told.readline()) / 1e9 + LIMIT
                    told.read()
                    late["process"].append((time.monotonic() - due) * 1000)
                try:
                    job.result(timeout=LONGEST)
                except LiteQueueError:
                    late["job"].append((time.monotonic() - due) * 1000)
    return late


MEASURES: dict[str, Callable[..., object]] = {"rate": rate, "start": start, "kills": kills}


def main(what: str, *numbers: str) -> None:
    """Print what was measured as JSON."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        print(json.dumps(MEASURES[what](folder, *map(int, numbers))))


if __name__ == "__main__":
    main(*sys.argv[1:])
