"""One measurement of `operating` in a process of its own. Needs litequeue alone, so that another release can run it."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litequeue import Queue

if TYPE_CHECKING:
    from collections.abc import Callable

SETTLING = 5.0  # seconds for all waits to begin
SECONDS = 10.0
WAITS = 10_000  # in that time; fewer are watched for less
LOOKS = 3
FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
INSERT INTO litequeue_jobs (task, queue, payload, state, priority, run_at, created_at, attempt, begun,
                            started_at, finished_at, delete_at, result)
SELECT 'task' || (i % 20), 'queue' || (i % 4), CAST('["' || hex(zeroblob(50)) || '"]' AS BLOB), {state}, 0, i, i,
       {ended}, {ended}, CASE WHEN {ended} THEN i END, CASE WHEN {ended} THEN i END, CASE WHEN {ended} THEN 4e9 + i END,
       CASE WHEN {ended} AND {state} = 4 THEN x'35' END
FROM n
"""


def idle_waits(queue: Queue, count: int) -> dict[str, float]:
    """CPU, in % of a core, while so many coroutines wait for results and nothing happens."""
    later, scale = queue.task(name="later")(lambda n: n), count / WAITS

    async def main() -> float:
        jobs = later.using(delay="1h").enqueue_many([(n,) for n in range(count)])
        waits = [asyncio.create_task(job.aresult(timeout=600)) for job in jobs]
        await asyncio.sleep(SETTLING * scale)
        used, began = time.process_time(), time.monotonic()
        await asyncio.sleep(max(0.5, SECONDS * scale))
        share = (time.process_time() - used) / (time.monotonic() - began)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        return share * 100

    return {"cpu": asyncio.run(main())}


def counts(queue: Queue, count: int) -> dict[str, float]:
    """Milliseconds of `counts()` beside so many jobs that succeeded, and of a look-up beside it."""
    first = _fill(queue, count, state=4)
    for state in (1, 5):
        _fill(queue, count // 100, state=state)
    return _timed(queue, str(first))


def backlog(queue: Queue, count: int) -> dict[str, float]:
    """The same where so many jobs are queued."""
    first = _fill(queue, count, state=1)
    return _timed(queue, str(first))


def _timed(queue: Queue, job_id: str) -> dict[str, float]:
    queue.engine.jobs.counts()
    spent = [_milliseconds(queue.engine.jobs.counts) for _ in range(LOOKS)]
    over, waited = threading.Event(), []

    def look_up() -> None:
        while not over.is_set():
            waited.append(_milliseconds(lambda: queue.job(job_id)))
            time.sleep(0.001)

    queue.job(job_id)
    thread = threading.Thread(target=look_up)
    thread.start()
    for _ in range(LOOKS):
        queue.engine.jobs.counts()
        time.sleep(0.05)
    over.set()
    thread.join()
    return {"counts": sorted(spent)[LOOKS // 2], "beside": sorted(waited)[-max(1, len(waited) // 100)]}


def _fill(queue: Queue, count: int, state: int) -> int:
    with queue.transaction() as db:
        [(last,)] = list(db.execute("SELECT coalesce(max(id), 0) FROM litequeue_jobs"))
        db.execute(FILL.format(count=max(1, count), state=state, ended=int(state >= 4)))
    return int(last) + 1


def _milliseconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def main(what: str, count: str) -> None:
    """Print what was measured as JSON."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        queue = Queue(Path(folder) / "app.db", durability="normal")
        print(json.dumps(MEASURES[what](queue, int(count))))
        queue.close()


def turnover(queue: Queue, count: int) -> dict[str, float]:
    """CPU of this process for each job that is enqueued, and for each that is drained, in microseconds."""
    add = queue.task(name="add")(_add)
    began = time.process_time()
    for number in range(count):
        add.enqueue(number, 2)
    enqueued = time.process_time()
    queue.worker(threads=1).run(until_idle=True)
    drained = time.process_time()
    return {"enqueue": (enqueued - began) / count * 1e6, "drain": (drained - enqueued) / count * 1e6}


def _add(a: int, b: int) -> int:
    return a + b


MEASURES: dict[str, Callable[[Queue, int], dict[str, float]]] = {
    "idle_waits": idle_waits,
    "counts": counts,
    "backlog": backlog,
    "turnover": turnover,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
