"""A lock beside the file that one process at a time holds, for a role of which there is to be one. Knows no worker."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

from litequeue.ipc.file_lock import try_lock
from litequeue.ipc.process_lock import open_shared

if TYPE_CHECKING:
    from pathlib import Path


class SoleProcess:
    """The lock of that name beside the database. The kernel frees it however its holder ends."""

    def __init__(self, database: Path, name: str) -> None:
        self._database, self._name = database, name
        self._descriptor: int | None = None

    def enter(self) -> bool:
        """Take the lock unless another has it; return whether it is ours now. Does not wait."""
        descriptor = open_shared(self._database, self._name, 0)
        if not try_lock(descriptor):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        _held.add(self)
        return True

    def leave(self) -> None:
        """Free the lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


_held: weakref.WeakSet[SoleProcess] = weakref.WeakSet()


def _in_child() -> None:
    # HAZARD: a child that keeps the descriptor keeps the lock, though the process that took it is dead
    for lock in list(_held):
        lock.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
