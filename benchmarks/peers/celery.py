"""Celery, with Redis as its broker and for its results."""

from __future__ import annotations

from typing import Any

from benchmarks.peers import work
from benchmarks.peers.peer import LONGEST, SNAPSHOTS, Place, Setting

QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")
# Measured: faster than prefork of 2 or 4 with the same prefetch, or solo.
THREADED = ("--pool=threads", "--concurrency=4", "--prefetch-multiplier=64", *QUIET)
DEFAULT = Setting(
    how="prefork", concurrency="2 processes (1 a core)", jobs=1_000, options={"worker": ()}, durability=SNAPSHOTS
)
FAST = Setting(
    name="fast",
    how="threads, prefetch 64, no gossip",
    concurrency="4 threads",
    jobs=1_000,
    options={"worker": THREADED},
    durability=SNAPSHOTS,
)
SETTINGS = (DEFAULT, FAST, FAST.fsynced())
PREFORK = Setting(
    name="prefork",
    how="as it comes",
    concurrency="2 processes",
    jobs=1_000,
    options={"worker": ("--concurrency=2",)},
    durability=SNAPSHOTS,
)
PREFETCHING = Setting(
    name="prefork, prefetch 64",
    how="no gossip",
    concurrency="2 processes",
    jobs=1_000,
    options={"worker": ("--concurrency=2", "--prefetch-multiplier=64", *QUIET)},
    durability=SNAPSHOTS,
)
PROCESSES = (PREFORK, PREFETCHING)
PACKAGES = ("celery", "kombu", "redis")


class Peer:
    """A Celery app. Results are in a database of their own, so that counting them is one command."""

    def __init__(self, place: Place) -> None:
        from celery import Celery
        from redis import Redis

        self._options = place.setting.options["worker"]
        self._results = Redis.from_url(f"{place.redis}/1")
        self._app = Celery("bench", broker=f"{place.redis}/0", backend=f"{place.redis}/1")
        self._app.conf.broker_connection_retry_on_startup = True
        self._add = self._app.task(name="add")(work.add)
        self._stamp = self._app.task(name="stamp")(work.stamp)
        self._total = self._app.task(name="total")(work.total)

    def enqueue(self, count: int) -> None:
        """Enqueue one at a time."""
        for number in range(count):
            self._add.delay(number, 2)

    def stamp(self) -> Any:
        """Enqueue the clock's reader."""
        return self._stamp.delay()

    def result(self, job: Any) -> int:
        """Wait for the published result."""
        return int(job.get(timeout=60))

    def done(self, count: int) -> bool:
        """Whether so many results are stored."""
        return bool(self._results.dbsize() >= count)

    def group(self, count: int) -> Any:
        """Apply a group."""
        from celery import group

        return group(self._add.s(number, 2) for number in range(count)).apply_async()

    def results(self, group: Any) -> list[int]:
        """Wait for the published results."""
        return list(group.get(timeout=LONGEST))

    def chord(self, count: int) -> Any:
        """Apply a chord."""
        from celery import chord

        return chord(self._add.s(number, 2) for number in range(count))(self._total.s())

    def body(self, chord: Any) -> int:
        """Wait for the published result of the body, without a look at all members at each event, as `get()` has it."""
        return int(chord.get(timeout=LONGEST, follow_parents=False))

    def work(self) -> None:
        """Run `celery worker`."""
        self._app.worker_main(["worker", *self._options])

    def close(self) -> None:
        """Let go of the connections."""
        self._app.close()
        self._results.close()


opened = Peer
