"""Die at every SQL statement: `python -m crash.statements [SCENARIO ...]`, from the folder tests.

Each scenario, on both drivers, in a child that ends by SIGKILL or `os._exit` before or after its first statement, then
at its second ..., until one comes to its end unharmed. What a child was told are its last words; another child examines
the file by them.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import logging
import os
import pickle
import shutil
import tempfile
import time
import traceback
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

# What is imported and read here is not imported and read anew in each child.
import aiosqlite  # noqa: F401

from crash.failpoint import DEATHS, Death, Failpoint
from faults.scenarios import LONG, Book, Scenario
from litequeue.sqlite.admin import backup  # noqa: F401
from litequeue.sqlite.drivers import apsw_driver as driver_apsw  # noqa: F401
from litequeue.sqlite.drivers import sqlite3_driver as driver_sqlite3
from litequeue.sqlite.file.migrate import migrations
from litequeue.worker import loop, worker  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from litequeue.sqlite.file.opening import Driver

DRIVERS: tuple[Driver, ...] = ("apsw", "sqlite3")
SHARED_MEMORY = Path("/dev/shm")
LONGEST = 3 * LONG  # seconds; what a child has not done by then hangs


class Point(NamedTuple):
    """One statement at which to die."""

    scenario: Scenario
    driver: Driver
    death: Death
    number: int

    def __str__(self) -> str:
        return f"{self.scenario.name} on {self.driver}: {self.death} statement {self.number}"


class Ended(NamedTuple):
    """How a child ended, and what it wrote."""

    exit_code: int
    words: bytes


def in_child(work: Callable[[Callable[[bytes], object]], object]) -> Ended:
    """Run it in a fork of this process, which itself never opens a file; `work` is passed what writes to us."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        code = 1
        try:
            work(lambda words: os.write(writing, words))
            code = 0
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as pipe:
        words = pipe.read()
    return Ended(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), words)


class Harness:
    """Runs points, each on a copy of the file that its scenario prepares once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._prepared: set[Path] = set()

    def run(self, point: Point) -> bool:
        """Do it, and examine what it left; return whether there was such a statement at all."""
        Scenario.driver = point.driver
        folder = self._folder / "point"
        shutil.copytree(self._prepare(point), folder)
        path = folder / "app.db"
        try:
            ended = in_child(lambda tell: _act(point, path, tell))
            if ended.exit_code not in (0, point.death.exit_code):
                raise AssertionError(f"{point}: ended with {ended.exit_code}\n{ended.words.decode()}")
            book = pickle.loads(ended.words)
            examined = in_child(lambda tell: point.scenario.examine(path, book))
            if examined.exit_code != 0:
                raise AssertionError(f"{point}: {book}\n{examined.words.decode()}")
        finally:
            shutil.rmtree(folder)
        return ended.exit_code != 0

    def _prepare(self, point: Point) -> Path:
        folder = self._folder / f"{point.scenario.name}-{point.driver}"
        if folder not in self._prepared:
            folder.mkdir()
            code, words = in_child(lambda tell: point.scenario.prepare(folder / "app.db"))
            assert code == 0, words.decode()
            shutil.rmtree(folder / "app.db-litequeue", ignore_errors=True)  # sockets cannot be copied
            self._prepared.add(folder)
        return folder


def _act(point: Point, path: Path, tell: Callable[[bytes], object]) -> None:
    book = Book()

    def tell_all() -> None:
        tell(pickle.dumps(replace(book, refused=[])))

    Failpoint(point.death, point.number, tell_all).past(driver_sqlite3)
    point.scenario.act(path, book)
    tell_all()


@contextmanager
def harness() -> Generator[Harness, None, None]:
    """With waits short and no log of deaths that are meant to be; in this process and its children, to its end."""
    logging.disable(logging.CRITICAL)
    loop.BACK_OFF, loop.POLL = 0.01, 0.05
    migrations()
    gc.freeze()
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as folder:
        yield Harness(Path(folder))


def die_at_each(
    made: Harness, scenario: Scenario, driver: Driver, death: Death, following: Callable[[int], int]
) -> int:
    """Die at the first statement, and at each `following` one until there is none; return how often."""
    tried, point = 0, Point(scenario, driver, death, 1)
    while made.run(point):
        tried += 1
        point = point._replace(number=following(point.number))
    return tried


def each(number: int) -> int:
    return number + 1


def some(number: int) -> int:
    """1, 2, 4, 10, 28 ...: most of what is unlike the rest is done at the beginning."""
    return number + max(1, 2 * (number - 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="*", help="by name; all unless given")
    parser.add_argument("--part", action="store_true", help="SIGKILL alone, at statements 1, 2, 4, 10, 28 ...")
    options = parser.parse_args()
    scenarios = [one for one in Scenario.all if not options.scenario or one.name in options.scenario]
    deaths = [death for death in DEATHS if death.means == "kill" or not options.part]
    following = some if options.part else each
    print(f"{'':20}" + " ".join(f"{one.name:>12}" for one in scenarios), flush=True)
    began, total = time.monotonic(), 0
    with harness() as made:
        for driver in DRIVERS:
            for death in deaths:
                print(f"{driver + ' ' + str(death):20}", end="", flush=True)
                for scenario in scenarios:
                    points = die_at_each(made, scenario, driver, death, following)
                    total += points
                    print(f" {points:12,}", end="", flush=True)
                print()
    print(f"{total:,} points in {time.monotonic() - began:.0f} s: nothing lost, nothing half done")


if __name__ == "__main__":
    main()
