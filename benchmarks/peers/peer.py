"""What a queue must do to be measured, and how each is set up. Knows no queue by name but from the list PEERS."""

from __future__ import annotations

import asyncio
import importlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Broker = Literal["none", "snapshots", "fsync"]
"""Which Redis a setting runs on: none, one as it comes, or one that syncs its append-only file at each write."""

PEERS = ("litequeue", "huey", "rq", "celery", "dramatiq", "arq", "saq", "persistqueue", "dbos")

COMPOSED = ("litequeue", "huey", "celery", "dramatiq")
"""Those of PEERS that know groups, and what runs after a group."""

APART = ("litequeue", "rq", "celery", "dramatiq")
"""Those of PEERS that run functions in processes of their own: each has PROCESSES, settings of those alone."""

THREADS = 4
LONGEST = 300  # seconds that a caller waits for a composition


@dataclass(frozen=True)
class Durability:
    """What a power loss may take."""

    words: str
    synced: bool  # each enqueue is on the disk when it returns: compared with durability="full"
    broker: Broker = "none"


SYNCED = Durability("fsync a commit", synced=True)
CHECKPOINTED = Durability("fsync a checkpoint", synced=False)
SNAPSHOTS = Durability("RDB snapshots, no fsync a write", synced=False, broker="snapshots")
ALWAYS = Durability("AOF, fsync a write", synced=True, broker="fsync")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to set a queue up. `jobs` are enqueued one at a time, `drained` are worked off."""

    name: str = "default"  # or "fast" ...
    how: str = ""  # what differs from the queue as it comes
    concurrency: str
    durability: Durability
    jobs: int
    drained: int = 0  # 0: as many
    period: float = 0.0  # seconds between its looks, over which the calls of the latency are spread
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def worked_off(self) -> int:
        """How many jobs are drained."""
        return self.drained or self.jobs

    def fsynced(self, jobs: int = 500) -> Setting:
        """Return the same on a Redis that syncs each write."""
        return replace(self, name=f"{self.name}, fsync", durability=ALWAYS, jobs=jobs)


@dataclass(frozen=True)
class Place:
    """Where a queue may keep its data, and how it is set up."""

    folder: str
    redis: str  # the URL of a server that is empty at first; "" for none
    setting: Setting


class Peer(Protocol):
    """A queue, opened in the process that enqueues or in the one that works."""

    def enqueue(self, count: int) -> None:
        """Enqueue `add` so many times, one at a time."""

    def stamp(self) -> Any:
        """Enqueue `stamp`; give what `result` takes."""

    def result(self, job: Any) -> int:
        """Wait for what `stamp` returned, the way the queue's users do."""

    def done(self, count: int) -> bool:
        """Whether so many jobs have ended. It is asked every 10 ms, so it must be cheap."""

    def work(self) -> None:
        """Work, with all that the queue's own command does, until SIGTERM."""

    def close(self) -> None:
        """Let go of files and connections."""


class Composing(Peer, Protocol):
    """A queue that knows groups."""

    def group(self, count: int) -> Any:
        """Enqueue `add(number, 2)` for so many numbers as one group."""

    def results(self, group: Any) -> list[int]:
        """Wait for all results of the group, in order."""

    def chord(self, count: int) -> Any:
        """Enqueue such a group, and `total` of its results after it."""

    def body(self, chord: Any) -> int | None:
        """Wait for the result of `total`; None where what runs after a group is handed no results."""


class Awaited:
    """A queue of coroutines, which is awaited on a loop of its own, one call after the other."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.run = self.loop.run_until_complete

    def enqueue(self, count: int) -> None:
        """Await one after the other."""
        self.run(self._enqueue(count))

    async def _enqueue(self, count: int) -> None:
        for number in range(count):
            await self.submit(number)

    async def submit(self, number: int) -> None:
        """Enqueue one `add`."""
        raise NotImplementedError


class Sided:
    """A queue that the other benchmarks measure, too."""

    def __init__(self, side: Any) -> None:
        self.side = side

    def enqueue(self, count: int) -> None:
        """Enqueue one at a time."""
        for number in range(count):
            self.side.enqueue(number, 2)

    def close(self) -> None:
        """Close the file."""
        self.side.close()


class Module(Protocol):
    """What a file of this folder holds."""

    SETTINGS: Sequence[Setting]
    PACKAGES: Sequence[str]  # whose versions are told
    opened: Callable[[Place], Peer]


def module(name: str) -> Any:
    """Import the file of a queue, not yet the queue itself."""
    return importlib.import_module(f"benchmarks.peers.{name}")


def setting(peer: str, name: str) -> Setting:
    """Find a queue's setting by its name."""
    found: Sequence[Setting] = (*module(peer).SETTINGS, *getattr(module(peer), "PROCESSES", ()))
    return next(each for each in found if each.name == name)


def opened(peer: str, place: Place) -> Peer:
    """Open a queue."""
    made: Peer = module(peer).opened(place)
    return made


def wait_for(look: Callable[[], Any], seconds: float = 120, pause: float = 0.01) -> Any:
    """Look again and again until there is something other than None or False."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None or found is False:
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing after {seconds:g} s")
        time.sleep(pause)
    return found
