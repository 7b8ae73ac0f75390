"""A store in a process of its own, which does what it is told at the time it is told. Knows no model."""

from __future__ import annotations

import multiprocessing
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from litequeue.errors import Fenced, LiteQueueError
from litequeue.ipc.process_lock import directory_of
from litequeue.sqlite.store import SqliteStore
from litequeue.testing import ManualClock
from model.quick import quickly

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from pathlib import Path


PARTS = {"jobs", "runs", "workers", "ticks", "schedules", "maintenance", "transactions", "admin", "kernel"}


class Remote:
    """Looks like a `SqliteStore`. Closed, its process is killed; the next call starts another."""

    def __init__(self, path: Path, clock: ManualClock, **options: Any) -> None:
        self.directory = directory_of(path)
        self._path, self._clock, self._options = path, clock, options
        self._process: Any = None
        self._pipe: Any = None

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call `function(store, ...)` there."""
        if self._process is None:
            self._start()
        self._pipe.send((vars(self._clock), function, args, options))
        value, error = self._pipe.recv()
        if error is not None:
            raise error
        return value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Part(self, name) if name in PARTS else partial(self.call, _method, name)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, self._path, self._options), daemon=True)
        self._process.start()
        there.close()

    def close(self) -> None:
        """Kill it in good health, its connections open."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


class _Part:
    """Looks like one of the store's parts."""

    def __init__(self, store: Remote, name: str) -> None:
        self._store, self._name = store, name

    def __getattr__(self, name: str) -> Any:
        return partial(self._store.call, _method, f"{self._name}.{name}")


def _method(store: SqliteStore, name: str, *args: Any, **options: Any) -> Any:
    return attrgetter(name)(store)(*args, **options)


def _serve(pipe: Connection, path: Path, options: dict[str, Any]) -> None:
    clock = ManualClock()
    with quickly():
        store = SqliteStore.open(path, clock=clock, **options)
        while True:
            try:
                times, function, args, given = pipe.recv()
            except EOFError:
                return
            vars(clock).update(times)
            try:
                answer = function(store, *args, **given), None
            except (Exception, Fenced) as error:
                answer = None, error if isinstance(error, (LiteQueueError, Fenced)) else RuntimeError(repr(error))
            pipe.send(answer)
