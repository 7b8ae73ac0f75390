"""ARQ on Redis: coroutines."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.peers import work
from benchmarks.peers.peer import ALWAYS, SNAPSHOTS, Place, Setting

FAST = {"worker": {"max_jobs": 100, "poll_delay": 0.01, "log_results": False}, "poll": 0.01}
SETTINGS = (
    Setting(
        name="default",
        how="polls every 0.5 s",
        concurrency="10 coroutines",
        durability=SNAPSHOTS,
        synced=False,
        jobs=500,
        drained=500,
        broker="snapshots",
        period=0.5,
        options={"worker": {}, "poll": 0.5},
    ),
    Setting(
        name="fast",
        how="polls every 10 ms",
        concurrency="100 coroutines",
        durability=SNAPSHOTS,
        synced=False,
        jobs=1_000,
        drained=1_000,
        broker="snapshots",
        options=FAST,
    ),
    Setting(
        name="fast, fsync",
        how="polls every 10 ms",
        concurrency="100 coroutines",
        durability=ALWAYS,
        synced=True,
        jobs=500,
        drained=500,
        broker="fsync",
        options=FAST,
    ),
)
PACKAGES = ("arq", "redis", "hiredis")


async def add(_context: dict[str, Any], a: int, b: int) -> int:
    """Take what ARQ hands each function first."""
    return work.add(a, b)


async def stamp(_context: dict[str, Any]) -> int:
    """Take what ARQ hands each function first."""
    return work.stamp()


class Peer:
    """A pool of connections and a loop to await them on."""

    def __init__(self, place: Place) -> None:
        from arq.connections import RedisSettings, create_pool

        self._options = place.setting.options
        self._settings = RedisSettings.from_dsn(place.redis)
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._pool = self._loop.run_until_complete(create_pool(self._settings))

    def enqueue(self, count: int) -> None:
        """Await one after the other."""
        self._loop.run_until_complete(self._enqueue(count))

    async def _enqueue(self, count: int) -> None:
        for number in range(count):
            await self._pool.enqueue_job("add", number, 2)

    def stamp(self) -> Any:
        """Enqueue the clock's reader."""
        return self._loop.run_until_complete(self._pool.enqueue_job("stamp"))

    def result(self, job: Any) -> int:
        """Poll for the result: ARQ has nothing else."""
        return int(self._loop.run_until_complete(job.result(60, poll_delay=self._options["poll"])))

    def done(self, _count: int) -> bool:
        """Whether none is left: a job stays in the queue until its result is stored."""
        return bool(self._loop.run_until_complete(self._pool.zcard("arq:queue")) == 0)

    def work(self) -> None:
        """Run as `arq` does."""
        from arq.worker import Worker

        Worker(functions=[add, stamp], redis_settings=self._settings, **self._options["worker"]).run()

    def close(self) -> None:
        """Let go of the connections."""
        self._loop.run_until_complete(self._pool.aclose())
        self._loop.close()


opened = Peer
