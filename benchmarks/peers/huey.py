"""SqliteHuey: the same kind of queue, in one SQLite file."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.peer import SYNCED, Durability, Place, Setting, Sided
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
)
PACKAGES = ("huey",)


class Peer(Sided):
    """A SqliteHuey in a file of the folder."""

    def __init__(self, place: Place) -> None:
        options = place.setting.options
        self._polling = options.get("polling")
        super().__init__(Huey(place.folder, options["durability"], polling=self._polling))

    def stamp(self) -> Any:
        """Enqueue the clock's reader."""
        return self.side.stamp()

    def result(self, job: Any) -> int:
        """Poll as huey does: every 0.1 to 1 s, or as often as its consumer."""
        claim_size = {} if self._polling is None else {"backoff": 1.0, "max_delay": self._polling}
        return int(job.get(blocking=True, timeout=60, **claim_size))

    def done(self, count: int) -> bool:
        """Whether so many results are stored."""
        return bool(self.side.huey.storage.result_store_size() >= count)

    def work(self) -> None:
        """Run as `huey_consumer` does."""
        self.side.consumer().run()


opened = Peer
