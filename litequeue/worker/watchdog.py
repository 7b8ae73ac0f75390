"""READY=1, STATUS, WATCHDOG=1 and STOPPING=1 for systemd, or the same for the supervisor. Knows neither.

It is called by the loop that claims, so that a loop that hangs is silent.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

from litequeue.core.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.ipc.service_manager import ServiceManager

STATUS_EVERY = 10.0  # seconds, where nobody wants to hear from us more often


class Watcher(Protocol):
    """The process that watches."""

    @property
    def every(self) -> float:
        """How often to tell it, in seconds."""

    def claims(self, status: str) -> None:
        """Tell it that the worker claims jobs: it has started."""

    def goes_on(self, status: str) -> None:
        """Tell it that the loop goes on."""

    def stops(self, status: str) -> None:
        """Tell it that the worker has begun to stop."""


class Watchdog:
    """The worker's side. `status`: what it is at, in a few words."""

    def __init__(self, watcher: Watcher, status: Callable[[], str]) -> None:
        self._watcher, self._status = watcher, status
        self._told = -math.inf  # when it was last told, by the monotonic clock
        self._stops = False

    def begin(self) -> None:
        """Tell once that the worker claims; called after each cycle that went well."""
        if self._told == -math.inf:
            self._told = SystemClock.monotonic()
            self._watcher.claims(self._status())

    def feed(self) -> None:
        """Tell that the loop goes on, if that is due; called in each cycle, also where one fails."""
        if self.due_in() <= 0.0:
            self._told = SystemClock.monotonic()
            (self._watcher.stops if self._stops else self._watcher.goes_on)(self._status())

    def due_in(self) -> float:
        """Return the seconds until it is due."""
        return math.inf if self._told == -math.inf else self._told + self._watcher.every - SystemClock.monotonic()

    def stop(self) -> None:
        """Tell that the worker has begun to stop."""
        if not self._stops:
            self._stops, self._told = True, SystemClock.monotonic()
            self._watcher.stops(self._status())


class Manager(NamedTuple):
    """A service manager as a watcher."""

    manager: ServiceManager

    @property
    def every(self) -> float:
        """Half of the time within which it wants to hear from us."""
        return min(STATUS_EVERY, self.manager.watchdog / 2 or STATUS_EVERY)

    def claims(self, status: str) -> None:
        """See `Watcher`."""
        self.manager.tell("READY=1", *self._alive(status))

    def goes_on(self, status: str) -> None:
        """See `Watcher`."""
        self.manager.tell(*self._alive(status))

    def stops(self, status: str) -> None:
        """See `Watcher`."""
        self.manager.tell("STOPPING=1", *self._alive(f"stopping: {status}"))

    def _alive(self, status: str) -> list[str]:
        return [f"STATUS={status}", *(["WATCHDOG=1"] if self.manager.watchdog else [])]
