"""What a queue must do to be measured, and how each is set up. Knows no queue by name but from the list PEERS."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Broker = Literal["none", "snapshots", "fsync"]
"""Which Redis a setting runs on: none, one as it comes, or one that syncs its append-only file at each write."""

PEERS = ("litequeue", "huey", "rq", "celery", "dramatiq", "arq", "saq", "persistqueue", "dbos")

THREADS = 4


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to set a queue up. `jobs` are enqueued one at a time, `drained` are worked off."""

    name: str  # "default", "fast" ...
    how: str  # what differs from the queue as it comes
    concurrency: str
    durability: str  # what a power loss may take
    synced: bool  # each enqueue is on the disk when it returns: compared with durability="full"
    jobs: int
    drained: int
    broker: Broker = "none"
    period: float = 0.0  # seconds between its looks, over which the calls of the latency are spread
    options: Mapping[str, Any] = field(default_factory=dict)


SNAPSHOTS = "RDB snapshots, no fsync a write"
ALWAYS = "AOF, fsync a write"
SYNCED = "fsync a commit"


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
    found: Sequence[Setting] = module(peer).SETTINGS
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
