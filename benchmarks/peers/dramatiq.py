"""Dramatiq, with Redis as its broker and for its results."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.peers import work
from benchmarks.peers.peer import LONGEST, SNAPSHOTS, Place, Setting

URL = "BENCH_DRAMATIQ_REDIS"  # its processes import this module and call `broker`
CONCURRENCY = "2 processes (1 a core) of 8 threads"  # measured: faster than 1 or 4 processes, or 2, 4 threads
DEFAULT = Setting(concurrency=CONCURRENCY, jobs=2_000, durability=SNAPSHOTS)
FAST = Setting(
    name="fast",
    how="prefetch 64",
    concurrency=CONCURRENCY,
    jobs=2_000,
    options={"prefetch": "64"},
    durability=SNAPSHOTS,
)
SETTINGS = (DEFAULT, FAST, FAST.fsynced())
PROCESSES = (
    Setting(
        name="processes",
        how="1 thread each: a limit raises in it, and kills nothing",
        concurrency="2 processes",
        jobs=1_000,
        options={"arguments": ("--processes", "2", "--threads", "1")},
        durability=SNAPSHOTS,
    ),
)
PACKAGES = ("dramatiq", "redis")


def broker() -> Any:
    """Make the broker and its actors, and have dramatiq use it."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.middleware import GroupCallbacks
    from dramatiq.rate_limits.backends import RedisBackend as Barriers
    from dramatiq.results import Results
    from dramatiq.results.backends import RedisBackend

    url = os.environ[URL]
    made = RedisBroker(url=f"{url}/0")
    made.add_middleware(Results(backend=RedisBackend(url=f"{url}/1")))
    made.add_middleware(GroupCallbacks(Barriers(url=f"{url}/0")))
    dramatiq.set_broker(made)
    for function in (work.add, work.stamp, after):
        dramatiq.actor(store_results=True, broker=made)(function)
    return made


def after() -> None:
    """The completion callback of a group, which is handed no results."""


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

    def group(self, count: int) -> Any:
        """Run a group."""
        import dramatiq

        return dramatiq.group(self._add.message(number, 2) for number in range(count)).run()

    def results(self, group: Any) -> list[int]:
        """Wait for the results, one after the other."""
        return list(group.get_results(block=True, timeout=LONGEST * 1000))

    def chord(self, count: int) -> Any:
        """Run a group with a completion callback."""
        import dramatiq

        members = dramatiq.group(self._add.message(number, 2) for number in range(count))
        body = self._broker.get_actor("after").message()
        members.add_completion_callback(body)
        members.run()
        return body

    def body(self, chord: Any) -> None:
        """Wait for the end of the callback."""
        chord.get_result(block=True, timeout=LONGEST * 1000)

    def work(self) -> None:
        """Run `dramatiq`."""
        if prefetch := self._options.get("prefetch"):
            os.environ["dramatiq_queue_prefetch"] = prefetch  # noqa: SIM112 - its name
        from dramatiq import cli

        arguments = [*self._options.get("arguments", ()), "benchmarks.peers.dramatiq:broker"]
        cli.main(cli.make_argument_parser().parse_args(arguments))

    def close(self) -> None:
        """Let go of the connections."""
        self._broker.close()
        self._results.close()


opened = Peer
