"""`run --reload`: the files of imported modules, and whether one of them has changed. Knows no worker."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from litequeue.cli.log_output import log
from litequeue.core.clock import SystemClock

LOOK_EVERY = 0.5  # seconds
SETTLE_EVERY, SETTLE_LOOKS = 0.1, 20  # several files are often written together: the new process waits for the last
TICK = 0.02  # seconds by which the time of a file may be behind the clock

_File = tuple[int, int] | None  # when it was changed last, in ns, and its size; None: it is not there


class Change(NamedTuple):
    """What has changed."""

    path: str

    def __str__(self) -> str:
        """Return the path, below the current folder if it is there."""
        here = os.path.relpath(self.path)
        return f"{self.path if here.startswith('..') else here} has changed"


class ImportedFiles:
    """The files that were imported in this process, and those that could not be."""

    def __init__(self) -> None:
        self._seen: dict[str, _File] = {}
        self._looked = SystemClock.now()

    def add_those_of(self, error: BaseException) -> None:
        """Watch what led to this error of an import: modules that fail are not among the imported ones."""
        for path in _files_of(error):
            self._seen.setdefault(path, _stat(path))

    def change(self) -> Change | None:
        """Return a file that has changed since the last look, or since it was imported."""
        since, self._looked = self._looked, SystemClock.now()
        found = None
        for path in {*self._seen, *_imported()}:
            now = _stat(path)
            if path in self._seen:
                changed = now != self._seen[path]
            else:  # imported since the last look: is it still what was imported? Times in the future tell nothing
                changed = now is not None and since - TICK < now[0] / 1e9 <= self._looked
            if path in self._seen or now is not None:  # else inside an archive
                self._seen[path] = now
            if changed:
                found = Change(path)
        return found

    def wait(self, over: threading.Event) -> Change | None:
        """Wait for a change, and until no more follow at once; None: `over` came first."""
        change = None
        while change is None:
            if over.wait(LOOK_EVERY):
                return None
            change = self.change()
        self._settle(over)
        return change

    def _settle(self, over: threading.Event) -> None:
        for _ in range(SETTLE_LOOKS):
            if over.wait(SETTLE_EVERY) or self.change() is None:
                return

    def watch(self, on_change: Callable[[Change], object]) -> None:
        """Call that, in a thread, at the first change."""
        # the first look is here: a file that is deleted before it was seen cannot be told from one in an archive
        arguments = on_change, self.change()
        threading.Thread(target=self._watch, args=arguments, name="litequeue-reload", daemon=True).start()

    def _watch(self, on_change: Callable[[Change], object], first: Change | None) -> None:
        change = first or self.wait(threading.Event())
        if change is not None:
            on_change(change)

    def wait_for_another_try(self, over: threading.Event) -> Change | None:
        """Wait for a change after the code could not be imported."""
        self.change()  # from now on
        log.warning("the code cannot be imported; waiting for a change of it")
        change = self.wait(over)
        if change is not None:
            log.warning("%s: trying again", change)
        return change


def _imported() -> Iterator[str]:
    for module in list(sys.modules.values()):
        # past the attributes of lazy modules, which would import something
        path = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(path, str):
            yield path


def _stat(path: str) -> _File:
    try:
        found = os.stat(path)  # noqa: PTH116  a thousand files twice a second
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size


def _files_of(error: BaseException) -> Iterator[str]:
    """Name the files in the tracebacks of an error and of what led to it, and where missing modules could be."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield from (frame.filename for frame in traceback.extract_tb(link.__traceback__) if _is_file(frame.filename))
        if isinstance(link, SyntaxError) and link.filename and _is_file(link.filename):
            yield link.filename
        if isinstance(link, ImportError) and link.name:
            yield from _places_of(link.name)
        link = link.__cause__ or link.__context__


def _is_file(name: str) -> bool:
    return not name.startswith("<")


def _places_of(module: str) -> Iterator[str]:
    for folder in sys.path:
        place = Path(folder or ".").joinpath(*module.split("."))
        yield str(place.with_name(f"{place.name}.py"))
        yield from (str(place), str(place / "__init__.py"))
