"""What listings, counts and `status` take in a large file, beside the same in a small one."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figure, Plan, ratio, take_turns
from litequeue import Queue, Status
from litequeue.cli.report import overview

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL = 10_000
FILL = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count})
INSERT INTO litequeue_jobs (task, queue, payload, state, priority, run_at, created_at, finished_at)
SELECT
    'task' || (i % {tasks}), 'q' || (i / {tasks} % {queues}), {payload}, {state}, 0, 0, 0,
    iif({state} > 3, 0, NULL)
FROM n
"""
ERRORS = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
INSERT INTO litequeue_errors
SELECT id, i, 0, 'ValueError', 'no', printf('%.*c', 4000, 't') FROM litequeue_jobs CROSS JOIN n
"""


def measure(plan: Plan) -> list[Figure]:
    million, looks = plan.size(1_000_000, least=SMALL), plan.size(21, least=5)
    with tempfile.TemporaryDirectory(prefix="bench") as folder, contextlib.ExitStack() as stack:

        def made(count: int, *, errors: int = 0, **fields: Any) -> Queue:
            queue = Queue(f"{folder}/{len(files)}.db", durability="normal")
            files.append(queue)
            stack.callback(queue.close)
            with queue.transaction() as db:
                given = {"tasks": 1, "queues": 1, "payload": "X'5b5d'", "state": 4} | fields
                db.execute(FILL.format(count=count, **given))
                if errors:
                    db.execute(ERRORS.format(count=errors))
            return queue

        files: list[Queue] = []
        small, large = made(SMALL, state=1), made(million, state=1)
        largest, lanes = made(3 * million, state=1), made(million, state=1, tasks=200, queues=50)
        ended = made(million)
        depths = {"1,000,000 queued": large, "3,000,000 queued": largest}
        depths |= {"1,000,000 succeeded": ended, "10,000 lanes": lanes}
        return [
            *_times("jobs, no filter, 50 rows", looks, small, {"1,000,000 jobs": ended}, _newest),
            *_times("jobs, a rare task, queued", looks, small, {"1,000,000 queued": large}, _rare_queued),
            *_times("jobs, scheduled, none is", looks, small, {"1,000,000 jobs": ended}, _scheduled),
            *_times("jobs, a rare task, any status", 3, small, {"1,000,000 jobs (looks at all)": ended}, _rare),
            *_beside(looks, ended),
            *_memory(made(60), made(60, payload="zeroblob(1 << 20)"), made(60, state=5, errors=plan.size(1_000))),
            *_times("status", looks, small, depths, lambda queue: overview(queue.engine)),  # type: ignore[arg-type]
        ]


def _newest(queue: Queue) -> object:
    return queue.jobs(limit=50)


def _rare_queued(queue: Queue) -> object:
    return queue.jobs(status=Status.QUEUED, task="rare")


def _scheduled(queue: Queue) -> object:
    return queue.jobs(status=Status.SCHEDULED)


def _rare(queue: Queue) -> object:
    return queue.jobs(task="rare")


def _times(
    name: str, rounds: int, small: Queue, others: dict[str, Queue], look: Callable[[Queue], object]
) -> Iterator[Figure]:
    def timed(queue: Queue) -> Callable[[], float]:
        look(queue)
        return lambda: _milliseconds(lambda: look(queue))

    samples = take_turns(rounds, {"small": timed(small)} | {case: timed(queue) for case, queue in others.items()})
    for case in others:
        note = f"{ratio(samples, case, 'small'):.1f} x small"
        yield Figure(f"{name}, {case}", "normal", statistics.median(samples[case]), "ms", note=note)


def _milliseconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _beside(rounds: int, ended: Queue) -> Iterator[Figure]:
    """A listing and a look-up while three threads look at all jobs."""
    over = threading.Event()

    def lists() -> None:
        while not over.is_set():
            _rare(ended)

    looks = {"listing": lambda: _newest(ended), "look-up": lambda: ended.job("1")}
    alone = {name: statistics.median(_milliseconds(look) for _ in range(rounds)) for name, look in looks.items()}
    threads = [threading.Thread(target=lists) for _ in range(3)]
    for thread in threads:
        thread.start()
    beside = {name: [_milliseconds(look) for _ in range(rounds)] for name, look in looks.items()}
    over.set()
    for thread in threads:
        thread.join()
    for name, spent in beside.items():
        note = f"{statistics.median(spent) / alone[name]:.0f} x alone; longest {max(spent):.0f} ms"
        yield Figure(f"{name} beside 3 that look at all jobs", "normal", statistics.median(spent), "ms", note=note)


def _memory(small: Queue, large: Queue, failed: Queue) -> Iterator[Figure]:
    peaks = {}
    for name, queue in {"small": small, "payloads of 1 MiB": large, "1,000 errors each": failed}.items():
        queue.jobs()
        tracemalloc.start()
        queue.jobs()
        peaks[name] = tracemalloc.get_traced_memory()[1] / 1024
        tracemalloc.stop()
    for name in list(peaks)[1:]:
        note = f"{peaks[name] / peaks['small']:.1f} x small"
        yield Figure(f"memory to list 60 jobs, {name}", "normal", peaks[name], "KiB", note=note)
