"""A machine whose processes live and die when told to, in the place of kernel locks and /proc. Knows no store."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from unittest import mock

from litequeue.core.logger import Logger
from litequeue.ipc.process_identity import Identity
from litequeue.worker import maintenance
from model.row import Broken

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


class _Strict(Logger):
    """Raises what would be logged as a mistake of our own."""

    def error(self, message: str, *arguments: object, error: BaseException | None = None) -> None:
        raise Broken(message % arguments) from error


@dataclass
class Lock:
    """A worker's lock file: whether a process holds it, and the runs noted in it."""

    held: bool = True
    executing: set[str] = field(default_factory=set)


class DeadProcess:
    """What a death left, in the hands of the one who looks after it."""

    def __init__(self, locks: dict[str, Lock], token: str) -> None:
        self._locks, self._token = locks, token
        lock = locks.get(token)
        self.missing = lock is None
        self.told = False
        self.executing = frozenset(lock.executing if lock else ())
        if lock is not None:
            lock.held = True

    def reap(self) -> None:
        self._locks.pop(self._token, None)

    def release(self) -> None:
        if self._token in self._locks:
            self._locks[self._token].held = False


class Kernel:
    """Who runs, who holds which lock, and since which boot."""

    def __init__(self) -> None:
        self.locks: dict[str, Lock] = {}
        self.boot = 1
        self._living: set[int] = set()
        self._hidden: set[int] = set()  # in another container: nobody can tell whether they run
        self._last = 0

    def start(self, *, hidden: bool = False) -> Identity:
        self._last += 1
        self._living.add(self._last)
        if hidden:
            self._hidden.add(self._last)
        return Identity("here", self._last, "1", f"boot {self.boot}", "pid:[1]")

    def end(self, identity: Identity) -> None:
        self._living.discard(identity.pid)

    # ---- what the product asks, under the product's own names

    def tokens(self, _directory: Path) -> list[str]:
        return sorted(self.locks)

    def take(self, _directory: Path, token: str) -> DeadProcess | None:
        lock = self.locks.get(token)
        return None if lock is not None and lock.held else DeadProcess(self.locks, token)

    def noted(self, _directory: Path, token: str) -> frozenset[str]:
        lock = self.locks.get(token)
        return frozenset(lock.executing if lock else ())

    def told(self, _directory: Path, _token: str) -> bool:
        return False

    def forget(self, _directory: Path, token: str) -> None:
        self.locks.pop(token, None)

    def alive(self, identity: Identity) -> bool | None:
        if identity.boot != f"boot {self.boot}":
            return False
        return None if identity.pid in self._hidden else identity.pid in self._living

    def cpu_seconds(self, _identity: Identity) -> None:
        return None

    @contextmanager
    def in_place(self) -> Generator[None, None, None]:
        """Let maintenance see this machine; what it would log as its own mistake is one."""
        with ExitStack() as stack:
            for name in ("tokens", "take", "noted", "told", "forget", "alive", "cpu_seconds"):
                stack.enter_context(mock.patch.object(maintenance, name, getattr(self, name)))
            stack.enter_context(mock.patch.object(maintenance, "log", _Strict()))
            yield
