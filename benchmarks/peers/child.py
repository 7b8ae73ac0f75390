"""The processes of a trial: one enqueues and waits and answers on its standard output, one works until SIGTERM.

`python -m benchmarks.peers.child caller|worker PEER SETTING FOLDER REDIS`, and `... versions PEER`.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.child import say
from benchmarks.latency import rest
from benchmarks.peers.compositions import KINDS, composed
from benchmarks.peers.peer import Place, module, opened, setting, wait_for
from benchmarks.peers.usage import peak_here

if TYPE_CHECKING:
    from benchmarks.peers.peer import Peer


def main(role: str, name: str, *where: str) -> None:
    if role == "versions":
        say({package: importlib.metadata.version(package) for package in module(name).PACKAGES})
        return
    chosen, folder, redis = where
    place = Place(folder, redis, setting(name, chosen))
    if role == "worker":
        opened(name, place).work()
    else:
        answers = os.dup(1)  # what a queue prints goes elsewhere
        os.dup2(2, 1)
        sys.stdout = os.fdopen(answers, "w")
        call(opened(name, place))


def call(peer: Peer) -> None:
    """Answer one question a line."""
    first: list[Any] = []
    say("ready")
    for line in sys.stdin:
        what, *numbers = line.split()
        if what == "enqueue":
            first.append(peer.stamp())  # opens what is opened at first use; tells when the drain begins
            say(enqueue(peer, *map(int, numbers)))
        elif what == "drain":
            say(drain(peer, first[0], *map(int, numbers)))
        elif what in KINDS:
            say({**composed(peer, what, *map(int, numbers)), "memory": peak_here()})
        else:
            say(latency(peer, *map(float, numbers)))
    peer.close()


def enqueue(peer: Peer, count: int, more: int) -> float:
    """Enqueue `count` one at a time: so many a second. Then `more`, which is not measured."""
    start = time.perf_counter()
    peer.enqueue(count)
    rate = count / (time.perf_counter() - start)
    getattr(peer, "stock", peer.enqueue)(more)
    return rate


def drain(peer: Peer, first: Any, count: int) -> float:
    """Wait until the first job and `count` more have ended: so many a second since the first began."""
    wait_for(lambda: peer.done(count + 1), seconds=60)
    ended = time.monotonic_ns()
    return count / ((ended - peer.result(first)) / 1e9)


def latency(peer: Peer, samples: float, seconds: float, period: float) -> dict[str, list[float]]:
    """Measure job after job on the idle worker, at most so many and so long: milliseconds from the call."""
    pickups: list[float] = []
    round_trips: list[float] = []
    deadline = time.monotonic() + seconds
    while len(pickups) < samples and (time.monotonic() < deadline or not pickups):
        rest(max(0.030, period))
        called = time.monotonic_ns()
        began = peer.result(peer.stamp())
        round_trips.append((time.monotonic_ns() - called) / 1e6)
        pickups.append((began - called) / 1e6)
    return {"pickup": pickups, "round_trip": round_trips}


if __name__ == "__main__":
    main(*sys.argv[1:])
