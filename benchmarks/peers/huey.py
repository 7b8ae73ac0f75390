"""Huey: SqliteHuey, the same kind of queue in one SQLite file, and RedisHuey."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.peer import LONGEST, SNAPSHOTS, SYNCED, Durability, Place, Setting, Sided
from benchmarks.sides import Huey

SETTINGS = (
    Setting(
        how="polls every 0.1 to 10 s",
        concurrency="4 threads",
        durability=SYNCED,
        jobs=400,
        period=0.1,
        options={"durability": "full"},
    ),
    Setting(
        name="fast",
        how="fsync=False, polls every 10 ms",
        concurrency="4 threads",
        durability=Durability("no fsync: may corrupt", synced=False),
        jobs=2_000,
        options={"durability": "off", "polling": 0.01},
    ),
    Setting(
        name="redis",
        how="RedisHuey, notify_result",
        concurrency="4 threads",
        durability=SNAPSHOTS,
        jobs=2_000,
        options={"durability": "off"},
    ),
)
PACKAGES = ("huey",)


class Peer(Sided):
    """A SqliteHuey in a file of the folder, or a RedisHuey."""

    def __init__(self, place: Place) -> None:
        options = place.setting.options
        self._polling = options.get("polling")
        super().__init__(Huey(place.folder, options["durability"], polling=self._polling, redis=place.redis))

    def stamp(self) -> Any:
        """Enqueue the clock's reader."""
        return self.side.stamp()

    def result(self, job: Any) -> int:
        """Poll as huey does: every 0.1 to 1 s, or as often as its consumer."""
        return int(job.get(blocking=True, timeout=60, **self._looks()))

    def _looks(self) -> dict[str, float]:
        return {} if self._polling is None else {"backoff": 1.0, "max_delay": self._polling}

    def done(self, count: int) -> bool:
        """Whether so many results are stored."""
        return bool(self.side.huey.storage.result_store_size() >= count)

    def group(self, count: int) -> Any:
        """Enqueue a group."""
        from huey.api import group

        return self.side.huey.enqueue(group([self.side.add.s(number, 2) for number in range(count)]))

    def results(self, group: Any) -> list[int]:
        """Wait for the results, one after the other."""
        return list(group.get(blocking=True, timeout=LONGEST, **self._looks()))

    def chord(self, count: int) -> Any:
        """Enqueue a chord."""
        from huey.api import chord

        members = [self.side.add.s(number, 2) for number in range(count)]
        return self.side.huey.enqueue(chord(members, self.side.total.s()))

    def body(self, chord: Any) -> int:
        """Wait for the result of the callback."""
        return int(chord.get(blocking=True, timeout=LONGEST, **self._looks()))

    def work(self) -> None:
        """Run as `huey_consumer` does."""
        self.side.consumer().run()


opened = Peer
