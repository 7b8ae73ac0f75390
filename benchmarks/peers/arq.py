"""ARQ on Redis: coroutines."""

from __future__ import annotations

from typing import Any

from benchmarks.peers import work
from benchmarks.peers.peer import SNAPSHOTS, Awaited, Place, Setting

POLLING = {"max_jobs": 100, "poll_delay": 0.01, "log_results": False}
DEFAULT = Setting(
    how="polls every 0.5 s",
    concurrency="10 coroutines",
    jobs=500,
    period=0.5,
    options={"worker": {}, "poll": 0.5},
    durability=SNAPSHOTS,
)
FAST = Setting(
    name="fast",
    how="polls every 10 ms",
    concurrency="100 coroutines",
    jobs=1_000,
    options={"worker": POLLING, "poll": 0.01},
    durability=SNAPSHOTS,
)
SETTINGS = (DEFAULT, FAST, FAST.fsynced())
PACKAGES = ("arq", "redis", "hiredis")


async def add(_context: dict[str, Any], a: int, b: int) -> int:
    """Take what ARQ hands each function first."""
    return work.add(a, b)


async def stamp(_context: dict[str, Any]) -> int:
    """Take what ARQ hands each function first."""
    return work.stamp()


class Peer(Awaited):
    """A pool of connections and a loop to await them on."""

    def __init__(self, place: Place) -> None:
        from arq.connections import RedisSettings, create_pool

        super().__init__()
        self._options = place.setting.options
        self._settings = RedisSettings.from_dsn(place.redis)
        self._pool = self.run(create_pool(self._settings))

    async def submit(self, number: int) -> None:
        """Enqueue one `add`."""
        await self._pool.enqueue_job("add", number, 2)

    def stamp(self) -> Any:
        """Enqueue the clock's reader."""
        return self.run(self._pool.enqueue_job("stamp"))

    def result(self, job: Any) -> int:
        """Poll for the result: ARQ has nothing else."""
        return int(self.run(job.result(60, poll_delay=self._options["poll"])))

    def done(self, _count: int) -> bool:
        """Whether none is left: a job stays in the queue until its result is stored."""
        return bool(self.run(self._pool.zcard("arq:queue")) == 0)

    def work(self) -> None:
        """Run as `arq` does."""
        from arq.worker import Worker

        Worker(functions=[add, stamp], redis_settings=self._settings, **self._options["worker"]).run()

    def close(self) -> None:
        """Let go of the connections."""
        self.run(self._pool.aclose())
        self.loop.close()


opened = Peer
