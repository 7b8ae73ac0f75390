"""Try every point: `python -m faults [SCENARIO ...]`, from the folder tests."""

from __future__ import annotations

import argparse
import time

from faults.disk import FAULTS
from faults.points import fail_at_each, harness
from faults.scenarios import Scenario


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="*", help="by name; all unless given")
    wanted = parser.parse_args().scenario
    scenarios = [one for one in Scenario.all if not wanted or one.name in wanted]
    print(f"{'':18}" + " ".join(f"{one.name:>12}" for one in scenarios), flush=True)
    began, tried = time.monotonic(), 0
    with harness() as made:
        for fault in FAULTS:
            print(f"{fault.name:18}", end="", flush=True)
            for scenario in scenarios:
                points = fail_at_each(made, scenario, fault, lambda first: first + 1)
                tried += points
                print(f" {points:12,}", end="", flush=True)
            print()
    print(f"{tried:,} points in {time.monotonic() - began:.0f} s: nothing lost, nothing half done")


if __name__ == "__main__":
    main()
