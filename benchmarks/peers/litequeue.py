"""litequeue itself, with its worker in a process of its own as the others have theirs."""

from __future__ import annotations

from typing import Any

from benchmarks.peers import work
from benchmarks.peers.peer import CHECKPOINTED, LONGEST, SYNCED, THREADS, Place, Setting, Sided
from benchmarks.sides import LiteQueue
from litequeue import Status, chord, group

SETTINGS = (
    Setting(
        how="durability full",
        concurrency="4 threads",
        durability=SYNCED,
        jobs=2_000,
        drained=20_000,
        options={"durability": "full"},
    ),
    Setting(
        name="fast",
        how="durability normal",
        concurrency="4 threads",
        durability=CHECKPOINTED,
        jobs=5_000,
        drained=20_000,
        options={"durability": "normal"},
    ),
)
PROCESSES = (
    Setting(
        name="processes",
        how="process=True, durability normal",
        concurrency="2 children",
        durability=CHECKPOINTED,
        jobs=2_000,
        drained=5_000,
        options={"durability": "normal", "children": 2},
    ),
    Setting(
        name="processes, full",
        how="process=True, durability full",
        concurrency="2 children",
        durability=SYNCED,
        jobs=2_000,
        drained=5_000,
        options={"durability": "full", "children": 2},
    ),
)
PACKAGES = ("litequeue", "apsw")


class Peer(Sided):
    """A litequeue in a file of the folder."""

    def __init__(self, place: Place) -> None:
        super().__init__(LiteQueue(place.folder, place.setting.options["durability"]))
        self._children: int = place.setting.options.get("children", 0)
        if self._children:
            apart = self.side.queue.task
            self.side.add = apart(name="add in a child", process=True)(work.add)
            self.side.stamp = apart(name="stamp in a child", process=True)(work.stamp)

    def stock(self, count: int) -> None:
        """Enqueue in bulk, to have something to drain."""
        self.side.enqueue_many([(number, 2) for number in range(count)])

    def stamp(self) -> Any:
        """Enqueue the clock's reader."""
        return self.side.stamp.enqueue()

    def result(self, job: Any) -> int:
        """Wait for the ring."""
        return int(job.result(timeout=60))

    def done(self, _count: int) -> bool:
        """Whether none is left: a count reads all rows."""
        jobs = self.side.queue.jobs
        return not any(jobs(status=status, limit=1) for status in (Status.QUEUED, Status.RUNNING))

    def group(self, count: int) -> Any:
        """Enqueue a group."""
        return group(self.side.add.s(number, 2) for number in range(count)).enqueue()

    def results(self, group: Any) -> list[int]:
        """Wait for the results."""
        return list(group.results(timeout=LONGEST))

    def chord(self, count: int) -> Any:
        """Enqueue a chord."""
        members = group(self.side.add.s(number, 2) for number in range(count))
        return chord(members, self.side.total.s()).enqueue()

    def body(self, chord: Any) -> int:
        """Wait for the result of the body."""
        return int(chord.result(timeout=LONGEST))

    def work(self) -> None:
        """Run as `litequeue run` does."""
        children = {"children": self._children} if self._children else {}
        self.side.queue.worker(threads=THREADS, **children).run()


opened = Peer
