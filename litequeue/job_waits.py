"""Stand-in until the real one is merged."""

from __future__ import annotations

from typing import Any

AsCompleted = Any


def wait_all(jobs: Any, timeout: Any = None) -> Any:
    from litequeue.errors import LiteQueueError

    for job in jobs:
        try:
            job._source.wait(job.id, timeout)
        except LiteQueueError:
            pass
    return jobs


async def await_all(jobs: Any, timeout: Any = None) -> Any:
    for job in jobs:
        try:
            await job.aresult(timeout)
        except Exception:
            pass
    return jobs


def as_completed(jobs: Any, timeout: Any = None) -> Any:
    return jobs
