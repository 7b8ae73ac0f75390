"""One measurement of `waits` in a process of its own. Needs litequeue alone, so that another release can run it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import litequeue
from litequeue import Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from litequeue import Job

WAITS = 10_000
ONE = 200  # waits for one job each, of which the median is taken


def open_queue(path: str) -> Queue:
    return Queue(path, durability="normal")


def add(a: int, b: int) -> int:
    return a + b


async def gathered(jobs: list[Job[int]]) -> None:
    await asyncio.gather(*jobs)


def one_by_one(jobs: list[Job[int]]) -> None:
    for job in jobs:
        job.result()


def all_of(jobs: list[Job[int]]) -> None:
    litequeue.wait_all(jobs)


def as_they_end(jobs: list[Job[int]]) -> None:
    for job in litequeue.as_completed(jobs):
        job.result()


WAYS: dict[str, Callable[[list[Job[int]]], Any]] = {
    "gather": lambda jobs: asyncio.run(gathered(jobs)),
    "results": one_by_one,
    "wait_all": all_of,
    "as_completed": as_they_end,
}


def ended(path: str, way: str, count: int) -> dict[str, float]:
    """Milliseconds of a wait for so many jobs that have ended, and for one."""
    with open_queue(path) as queue:
        task = queue.task(name="add")(add)
        jobs = task.enqueue_many([(number, 2) for number in range(count)])
        queue.worker(threads=4).run(until_idle=True)
        wait = WAYS[way]
        wait(jobs[:1])
        ones = sorted(_milliseconds(wait, [job]) for job in jobs[:ONE])
        return {"all": _milliseconds(wait, jobs), "one": ones[len(ones) // 2]}


def ending(path: str, way: str, count: int) -> dict[str, float]:
    """The same for jobs that a worker in another process ends meanwhile; and the wait for the last of them alone."""
    with open_queue(path) as queue, _worker(path):
        task = queue.task(name="add")(add)
        task.enqueue(1, 2).result()
        wait = WAYS[way]
        ones = sorted(_milliseconds(wait, [task.enqueue(number, 2)]) for number in range(ONE))
        calls = [(number, 2) for number in range(count)]
        last = _milliseconds(lambda: WAYS["results"](task.enqueue_many(calls)[-1:]))
        return {
            "all": _milliseconds(lambda: wait(task.enqueue_many(calls))),
            "last": last,
            "one": ones[len(ones) // 2],
        }


@contextmanager
def _worker(path: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, __file__, "work", path], stdin=subprocess.PIPE)
    try:
        yield
    finally:
        process.communicate()


def work(path: str) -> None:
    """Run jobs until the end of the input."""
    with open_queue(path) as queue:
        queue.task(name="add")(add)
        with queue.worker(threads=4):
            sys.stdin.read()


def _milliseconds(call: Callable[..., Any], *arguments: Any) -> float:
    began = time.perf_counter()
    call(*arguments)
    return (time.perf_counter() - began) * 1000


def main(what: str, way: str, count: str) -> None:
    """Print what was measured as JSON; a release that lacks this way to wait has measured nothing."""
    if way not in {"gather", "results"} and not hasattr(litequeue, way):
        print(json.dumps({}))
        return
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        print(json.dumps({"ended": ended, "ending": ending}[what](str(Path(folder) / "app.db"), way, int(count))))


if __name__ == "__main__":
    work(sys.argv[2]) if sys.argv[1] == "work" else main(*sys.argv[1:])
