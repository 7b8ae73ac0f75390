"""Run the demo: `make demo`, or `python -m examples.demo [FOLDER]`; the folder is Python's own library unless given.

One job a file counts it; a schedule rolls the counts up. Two worker processes run them, the second is killed half-way,
and at the end this process proves that every file was counted exactly once all the same.
"""

from __future__ import annotations

import argparse
import os
import sys
import sysconfig
import tempfile
from pathlib import Path

from rich.console import Console

from examples.demo import folder, proof, show, tasks, workers
from examples.demo import ledger as sql
from examples.demo.folder import Listing, NothingToCount
from examples.demo.ledger import Ledger
from examples.demo.plot import Plot
from examples.demo.show import Show
from examples.demo.workers import WorkerDied, WorkerProcess
from litequeue import default_queue


def main() -> int:
    """Read the command line and run; return the exit code: 1 if the proof fails, 2 if there is nothing to count."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description="Count the files of a folder.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(sysconfig.get_paths()["stdlib"]))
    try:
        listing = folder.list_files(parser.parse_args().folder.resolve())
        with tempfile.TemporaryDirectory(prefix="litequeue-demo-") as place:
            return run(listing, Path(place), Console(highlight=False))
    except NothingToCount as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except WorkerDied as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def run(listing: Listing, place: Path, console: Console) -> int:
    """Count the files of a listing, with the queue's file in `place`; return 0 if the proof holds, else 1."""
    os.environ["LITEQUEUE_PATH"] = str(place / "demo.db")  # the default queue's file, here and in the workers
    team: list[WorkerProcess] = []
    with default_queue:
        with default_queue.transaction() as db:
            db.execute(tasks.TABLES)
        ledger = Ledger(default_queue.path)
        try:
            show.headline(console, _what(listing))
            team += [workers.start(number, place) for number in (1, 2)]
            workers.wait_until_registered(team, ledger)
            screen = Show(console)
            with screen.moving():
                Plot(listing, team, ledger, screen).play()
            return report(listing, team, ledger, console)
        finally:
            for worker in team:
                worker.stop()
            ledger.close()


def _what(listing: Listing) -> str:
    cut = f" ({listing.cut})" if listing.cut else ""
    return f"Counting {len(listing.files):,} files, {listing.size / 1e6:,.1f} MB, under {listing.root}{cut}"


def report(listing: Listing, team: list[WorkerProcess], ledger: Ledger, console: Console) -> int:
    """Print the tables and the proof; return the exit code."""
    names = {worker.pid: f"worker {worker.place}" for worker in team}
    console.print()
    show.by_suffix(console, ledger.rows(sql.SUMMARY))
    console.print()
    show.slowest(console, listing.root, ledger.rows(sql.SLOWEST), names)
    console.print()
    show.unread(console, [error for (error,) in ledger.rows(sql.UNREAD)])
    show.headline(console, "The proof")
    checks = proof.prove(listing, ledger)
    show.verdict(console, checks)
    return 0 if all(check.holds for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
