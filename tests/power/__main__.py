"""Cut the power at every point: `python -m power [SCENARIO ...]`, from the folder tests."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from faults.scenarios import Scenario
from power.cuts import SETTINGS, Broken, Cut, Tally, harness, load, save


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="*", help="by name; all unless given")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--images", type=int, default=5, help="disks for each cut, where so many are different")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="examine one disk of a recording again:")
    parser.add_argument("--cut", type=int, default=0, help="its cut")
    parser.add_argument("--image", type=int, default=0, help="its image")
    options = parser.parse_args()
    try:
        if options.replay:
            with harness() as made:
                made.replay(Cut(load(options.replay), options.cut, options.image, options.seed))
            print("sound")
        else:
            table(options.scenario, options.seed, options.images)
    except Broken as broken:
        if options.replay:
            raise
        print(f"\nNOT SOUND: {broken}\n{kept(broken.cut)}")
        return 1
    return 0


def table(wanted: list[str], seed: int, images: int) -> None:
    """Print cuts and disks examined, by scenario and setting."""
    print(f"seed {seed}; {images} images a cut, where so many are different: cuts / images", flush=True)
    print(f"{'':14}" + "".join(f"{setting.durability + ', ' + str(setting.checkpoint):>18}" for setting in SETTINGS))
    began, cuts, examined = time.monotonic(), 0, 0
    with harness() as made:
        for scenario in Scenario.all:
            if wanted and scenario.name not in wanted:
                continue
            print(f"{scenario.name:14}", end="", flush=True)
            for setting in SETTINGS:
                tally = made.cut_at_each(made.record(scenario, setting), seed, images=images)
                cuts, examined = cuts + tally.cuts, examined + tally.images
                print(f"{text(tally):>18}", end="", flush=True)
            print()
    print(f"{cuts:,} cuts, {examined:,} disks in {time.monotonic() - began:.0f} s: nothing lost that was promised")


def text(tally: Tally) -> str:
    return f"{tally.cuts:,} / {tally.images:,}"


def kept(cut: Cut) -> str:
    """Keep the recording, and say how to look at that disk again."""
    path = Path(tempfile.mkdtemp(prefix="power-")) / f"{cut.recording.scenario}.pickle"
    save(cut.recording, path)
    return f"again: python -m power --replay {path} --cut {cut.number} --image {cut.image} --seed {cut.seed}"


if __name__ == "__main__":
    sys.exit(main())
