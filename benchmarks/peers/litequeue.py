"""litequeue itself, with its worker in a process of its own as the others have theirs."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.peer import SYNCED, THREADS, Place, Setting
from benchmarks.sides import LiteQueue
from litequeue import Status

SETTINGS = (
    Setting(
        name="default",
        how="durability full",
        concurrency="4 threads",
        durability=SYNCED,
        synced=True,
        jobs=2_000,
        drained=20_000,
        options={"durability": "full"},
    ),
    Setting(
        name="fast",
        how="durability normal",
        concurrency="4 threads",
        durability="fsync a checkpoint",
        synced=False,
        jobs=5_000,
        drained=20_000,
        options={"durability": "normal"},
    ),
)
PACKAGES = ("litequeue", "apsw")


class Peer:
    """A litequeue in a file of the folder."""

    def __init__(self, place: Place) -> None:
        self._side = LiteQueue(place.folder, place.setting.options["durability"])

    def enqueue(self, count: int) -> None:
        """Enqueue one at a time."""
        for number in range(count):
            self._side.enqueue(number, 2)

    def stock(self, count: int) -> None:
        """Enqueue in bulk, to have something to drain."""
        self._side.enqueue_many([(number, 2) for number in range(count)])

    def stamp(self) -> Any:
        """Enqueue the clock's reader."""
        return self._side.stamp.enqueue()

    def result(self, job: Any) -> int:
        """Wait for the ring."""
        return int(job.result(timeout=60))

    def done(self, _count: int) -> bool:
        """Whether none is left: a count reads all rows."""
        jobs = self._side.queue.jobs
        return not any(jobs(status=status, limit=1) for status in (Status.QUEUED, Status.RUNNING))

    def work(self) -> None:
        """Run as `litequeue run` does."""
        self._side.queue.worker(threads=THREADS).run()

    def close(self) -> None:
        """Close the file."""
        self._side.close()


opened = Peer
