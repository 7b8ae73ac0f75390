"""Cut the power at every point: `python -m power [SCENARIO ...]`, from the folder tests."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from faults.scenarios import Scenario
from power.cuts import SETTINGS, Broken, Cut, Harness, Recording, Tally, harness, load, save

AGAIN_EACH = 4  # cuts of a second run that are made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="*", help="by name; all unless given")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--images", type=int, default=6, help="disks for each cut, where so many are different")
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
    titles = [f"{setting.durability} {setting.checkpoint}" for setting in SETTINGS]
    print(f"{'':11}" + "".join(f"{title:>14}" for title in (*titles, "cut twice")), flush=True)
    began, tallies = time.monotonic(), []
    with harness() as made:
        for scenario in Scenario.all:
            if wanted and scenario.name not in wanted:
                continue
            print(f"{scenario.name:11}", end="", flush=True)
            recordings = [made.record(scenario, setting) for setting in SETTINGS]
            row = [shown(made.cut_at_each(recording, seed, images=images)) for recording in recordings]
            row.append(shown(cut_twice(made, recordings, seed, images)))
            tallies += row
            print()
    cuts, disks = sum(tally.cuts for tally in tallies), sum(tally.images for tally in tallies)
    print(f"{cuts:,} cuts, {disks:,} disks in {time.monotonic() - began:.0f} s: nothing lost that was promised")


def cut_twice(made: Harness, recordings: list[Recording], seed: int, images: int) -> Tally:
    """Of one disk that each recording may leave, cut the power again while it is put right."""
    chance, total = Random(seed), Tally()
    for recording in recordings:
        cut = Cut(recording, chance.randrange(len(recording.moments)), chance.randrange(images), seed)
        tally = made.cut_at_each(made.record_again(cut), seed, images=images, step=AGAIN_EACH)
        total = Tally(total.cuts + tally.cuts, total.images + tally.images)
    return total


def shown(tally: Tally) -> Tally:
    print(f"{f'{tally.cuts:,} / {tally.images:,}':>14}", end="", flush=True)
    return tally


def kept(cut: Cut) -> str:
    """Keep the recording, and say how to look at that disk again."""
    path = Path(tempfile.mkdtemp(prefix="power-")) / f"{cut.recording.scenario.name}.pickle"
    save(cut.recording, path)
    return f"again: python -m power --replay {path} --cut {cut.number} --image {cut.image} --seed {cut.seed}"


if __name__ == "__main__":
    sys.exit(main())
