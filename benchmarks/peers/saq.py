"""SAQ on Redis: coroutines."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from benchmarks.peers import work
from benchmarks.peers.peer import SNAPSHOTS, Awaited, Place, Setting

DEFAULT = Setting(concurrency="10 coroutines", jobs=1_000, durability=SNAPSHOTS)
FAST = Setting(
    name="fast",
    how="concurrency 50",
    concurrency="50 coroutines",
    jobs=1_000,
    options={"concurrency": 50},
    durability=SNAPSHOTS,
)
SETTINGS = (DEFAULT, FAST, FAST.fsynced())
PACKAGES = ("saq", "redis", "hiredis")


async def add(_context: Any, *, a: int, b: int) -> int:
    """Take what SAQ hands each function first."""
    return work.add(a, b)


async def stamp(_context: Any) -> int:
    """Take what SAQ hands each function first."""
    return work.stamp()


async def _completed(job: Any) -> Any:
    """Listen, and look every 0.5 s as `apply` does: what ends between a look and the listening is never heard of."""
    for _ in range(120):
        with contextlib.suppress(asyncio.TimeoutError):
            await job.refresh(until_complete=0.5)
        if job.completed:
            break
    return job.result


class Peer(Awaited):
    """A queue and a loop to await it on."""

    def __init__(self, place: Place) -> None:
        from saq import Queue

        super().__init__()
        self._options = place.setting.options
        self._queue = Queue.from_url(place.redis)
        # Takes the lock of the sweep, which would abort as stuck what a starting worker has just claimed (0.26.4).
        self.run(self._queue.sweep(lock=60))

    async def submit(self, number: int) -> None:
        """Enqueue one `add`."""
        await self._queue.enqueue("add", a=number, b=2)

    def stamp(self) -> Any:
        """Enqueue the clock's reader."""
        return self.run(self._queue.enqueue("stamp"))

    def result(self, job: Any) -> int:
        """Listen until the job says that it is complete."""
        return int(self.run(_completed(job)))

    def done(self, _count: int) -> bool:
        """Whether none is left."""
        return bool(self.run(self._queue.count("incomplete")) == 0)

    def work(self) -> None:
        """Run as `saq` does."""
        from saq import Worker

        worker: Any = Worker(self._queue, functions=[add, stamp], **self._options)
        self.run(worker.start())

    def close(self) -> None:
        """Let go of the connections."""
        self.run(self._queue.disconnect())
        self.loop.close()


opened = Peer
