"""Dramatiq, with Redis as its broker and for its results."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.peers import work
from benchmarks.peers.peer import ALWAYS, SNAPSHOTS, Place, Setting

URL = "BENCH_DRAMATIQ_REDIS"  # its processes import this module and call `broker`
FAST = {"worker": (), "prefetch": "64"}  # measured: faster than 1 or 4 processes, or 2, 4 threads
SETTINGS = (
    Setting(
        name="default",
        how="",
        concurrency="2 processes (1 a core) of 8 threads",
        durability=SNAPSHOTS,
        synced=False,
        jobs=2_000,
        drained=2_000,
        broker="snapshots",
        options={"worker": ()},
    ),
    Setting(
        name="fast",
        how="prefetch 64",
        concurrency="2 processes (1 a core) of 8 threads",
        durability=SNAPSHOTS,
        synced=False,
        jobs=2_000,
        drained=2_000,
        broker="snapshots",
        options=FAST,
    ),
    Setting(
        name="fast, fsync",
        how="prefetch 64",
        concurrency="2 processes (1 a core) of 8 threads",
        durability=ALWAYS,
        synced=True,
        jobs=500,
        drained=500,
        broker="fsync",
        options=FAST,
    ),
)
PACKAGES = ("dramatiq", "redis")


def broker() -> Any:
    """Make the broker and its actors, and have dramatiq use it."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.results import Results
    from dramatiq.results.backends import RedisBackend

    url = os.environ[URL]
    made = RedisBroker(url=f"{url}/0")
    made.add_middleware(Results(backend=RedisBackend(url=f"{url}/1")))
    dramatiq.set_broker(made)
    for function in (work.add, work.stamp):
        dramatiq.actor(store_results=True, broker=made)(function)
    return made


class Peer:
    """A broker with results in a database of their own, so that counting them is one command."""

    def __init__(self, place: Place) -> None:
        from redis import Redis

        os.environ[URL] = place.redis
        self._options = place.setting.options
        self._results = Redis.from_url(f"{place.redis}/1")
        self._broker = broker()
        self._add, self._stamp = self._broker.get_actor("add"), self._broker.get_actor("stamp")

    def enqueue(self, count: int) -> None:
        """Enqueue one at a time."""
        for number in range(count):
            self._add.send(number, 2)

    def stamp(self) -> Any:
        """Enqueue the clock's reader."""
        return self._stamp.send()

    def result(self, job: Any) -> int:
        """Wait for the result on its list."""
        return int(job.get_result(block=True, timeout=60_000))

    def done(self, count: int) -> bool:
        """Whether so many results are stored."""
        return bool(self._results.dbsize() >= count)

    def work(self) -> None:
        """Run `dramatiq`."""
        if prefetch := self._options.get("prefetch"):
            os.environ["dramatiq_queue_prefetch"] = prefetch  # noqa: SIM112 - its name
        from dramatiq import cli

        arguments = ["benchmarks.peers.dramatiq:broker", *self._options["worker"]]
        cli.main(cli.make_argument_parser().parse_args(arguments))

    def close(self) -> None:
        """Let go of the connections."""
        self._broker.close()
        self._results.close()


opened = Peer
