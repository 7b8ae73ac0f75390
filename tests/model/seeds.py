"""Play many seeds, in several processes. Knows how to go on, and no actor."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from model import composed, limited
from model.row import Broken
from model.world import Limits, Played, play

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OF_THEIR_OWN = {2: limited.play, 4: composed.play}


class Ended(NamedTuple):
    """What came of one seed: steps, or what is broken."""

    played: Played
    broken: str = ""


def one(seed: int, steps: int, until: float, limits: Limits) -> Ended:
    """Play one seed in whichever process; `until` by the monotonic clock, which is that of the machine.

    One of five is one of limits, and one of compositions: they are played in worlds of their own.
    """
    over = lambda: time.monotonic() > until  # noqa: E731
    try:
        if seed % 5 in OF_THEIR_OWN and not limits.remote:
            return Ended(OF_THEIR_OWN[seed % 5](seed, steps, over=over))
        return Ended(play(seed, steps, limits=limits, over=over))
    except Broken as broken:
        return Ended(Played(0, Counter()), str(broken))


def all_of(seeds: Iterable[int], steps: int, until: float, processes: int, limits: Limits) -> Iterator[Ended]:
    """What came of each; until a moment of the monotonic clock no seed is cut short."""
    work = partial(one, steps=steps, until=until, limits=limits)
    if processes == 1:
        yield from map(work, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        seeds = iter(seeds)
        while batch := list(islice(seeds, 8 * processes)):
            yield from pool.imap_unordered(work, batch)
