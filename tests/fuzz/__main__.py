"""Fuzz whatever reads what others write: `python -m fuzz [TARGET ...]`, from the folder tests."""

from __future__ import annotations

import argparse
import logging
import os
import time

from fuzz.all import TARGETS
from fuzz.corpus import KNOWN
from fuzz.targets import attempt, attempt_for

SECONDS = 220.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [one.name for one in TARGETS]
    parser.add_argument("target", nargs="*", help=f"all unless given: {'; '.join(names)}")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="for all targets together (default: %(default)s)"
    )
    parser.add_argument("--examples", type=int, help="so many inputs a target, however long it takes")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"), help="of the first batch")
    given = parser.parse_args()
    if unknown := set(given.target) - set(names):
        parser.error(f"no target is named {', '.join(sorted(unknown))}")
    targets = [one for one in TARGETS if not given.target or one.name in given.target]
    logging.disable(logging.CRITICAL)
    print(f"seed {given.seed}\n{'':28}{'inputs':>10}{'seconds':>10}", flush=True)
    began, inputs, weight = time.monotonic(), 0, sum(one.share for one in targets)
    for one in targets:
        if given.examples:
            tried = attempt(one, given.seed, given.examples, KNOWN.get(one.name, ()))
        else:
            span = given.seconds * one.share / weight
            tried = attempt_for(one, given.seed, span, KNOWN.get(one.name, ()))
        inputs += tried.inputs
        print(f"{one.name:28}{tried.inputs:10,}{tried.seconds:10.0f}", flush=True)
    print(f"{inputs:,} inputs in {time.monotonic() - began:.0f} s: refused or read, none run, nothing lost")


if __name__ == "__main__":
    main()
