"""Play seeds: `python -m model [--seconds 60] [--seed 7 --steps 123] [--remote]`, from the folder tests."""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count, takewhile

from model.seeds import all_of
from model.world import Limits

STEPS = 2000  # a seed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each seed ({STEPS})")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on with further seeds (60)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="that play at once")
    parser.add_argument("--remote", action="store_true", help="each worker's store in a real process of its own")
    options = parser.parse_args()
    limits = Limits(remote=options.remote)
    began = time.monotonic()
    seeds: Iterator[int]
    if options.seed is not None:
        seeds, until = iter([options.seed]), float("inf")
    else:
        first, until = int.from_bytes(os.urandom(3), "big") * 1000, began + options.seconds
        seeds = takewhile(lambda _: time.monotonic() < until, count(first))
    played, steps, tally = 0, 0, Counter[str]()
    processes = 1 if options.seed is not None or options.remote else options.processes
    for ended in all_of(seeds, options.steps, until, processes, limits):
        if ended.broken:
            print(f"BROKEN: {ended.broken}\nreplay: the same command with that --seed and --steps")
            return 1
        played, steps, tally = played + 1, steps + ended.played.steps, tally + ended.played.tally
    took = time.monotonic() - began
    print(", ".join(f"{number:,} {what}" for what, number in sorted(tally.items())))
    print(f"{steps:,} steps of {played:,} seeds in {took:.0f} s, {steps / took:,.0f} steps/s: all as it must be")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
