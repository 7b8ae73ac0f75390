"""Fail the first call of the disk, then the second ...: each scenario, each fault, until it goes through unharmed."""

from __future__ import annotations

import logging
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

from faults.disk import HEAP, Disk, Fault, failing
from faults.scenarios import Book, Scenario
from litequeue.errors import LiteQueueError
from litequeue.sqlite.commit import fair_lock
from litequeue.sqlite.drivers import apsw_driver as driver_apsw
from litequeue.worker import loop, maintenance, reconcile

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

LENGTHS = (1, 12)  # calls that fail one after another
HEAP_STEPS = 60
SHARED_MEMORY = Path("/dev/shm")


class Point(NamedTuple):
    """One place at which a disk fails."""

    scenario: Scenario
    fault: Fault
    length: int
    first: int

    def __str__(self) -> str:
        return f"{self.scenario.name}: {self.fault.name}, calls {self.first} to {self.first + self.length - 1}"


class Harness:
    """Runs points; one at a time in a process, since the disk is the whole process's."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._folder = tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)
        self._prepared: dict[str, Path] = {}

    def run(self, point: Point) -> bool:
        """Do it, and examine what it left; return whether there was such a call at all."""
        folder = Path(self._folder.name) / "point"
        shutil.copytree(self._prepare(point.scenario), folder)
        book = Book()
        try:
            self._disk.arm(point.fault, point.first, point.length)
            try:
                point.scenario.act(folder / "app.db", book)
            except LiteQueueError as error:
                book.refused.append(error)
            finally:
                seen = self._disk.disarm()
            point.scenario.examine(folder / "app.db", book)
        finally:
            shutil.rmtree(folder)
        return point.first <= (HEAP_STEPS if HEAP in point.fault.calls else seen)

    def _prepare(self, scenario: Scenario) -> Path:
        folder = self._prepared.get(scenario.name)
        if folder is None:
            folder = self._prepared[scenario.name] = Path(self._folder.name) / scenario.name
            folder.mkdir()
            scenario.prepare(folder / "app.db")
            shutil.rmtree(folder / "app.db-litequeue", ignore_errors=True)  # sockets cannot be copied
        return folder

    def close(self) -> None:
        self._folder.cleanup()


@contextmanager
def in_haste() -> Generator[None, None, None]:
    """Keep waits short, and no log of what is meant to fail."""
    with ExitStack() as stack:
        for module, name, value in (
            (loop, "BACK_OFF", 0.01),
            (loop, "POLL", 0.05),
            (maintenance, "FIRE_AGAIN", 0.01),
            (reconcile, "EVERY", 0.05),
            (driver_apsw, "BUSY_SECONDS", 0.1),
            (fair_lock, "PATIENCE", 0.1),
        ):
            stack.enter_context(mock.patch.object(module, name, value))
        logging.disable(logging.CRITICAL)
        stack.callback(logging.disable, logging.NOTSET)
        yield


@contextmanager
def harness() -> Generator[Harness, None, None]:
    """On a disk that fails when it is told to."""
    with in_haste(), ExitStack() as stack:
        made = Harness(stack.enter_context(failing()))
        stack.callback(made.close)
        yield made


def fail_at_each(made: Harness, scenario: Scenario, fault: Fault, following: Callable[[int], int]) -> int:
    """Let the fault come at the first call, and at each `following` one until there is none; return how many."""
    tried = 0
    for length in LENGTHS:
        point = Point(scenario, fault, length, 1)
        while _ran(made, point):
            tried += 1
            point = point._replace(first=following(point.first))
    return tried


def _ran(made: Harness, point: Point) -> bool:
    try:
        return made.run(point)
    except BaseException as error:
        raise AssertionError(f"{point}: {error!r}") from error
