"""The process that has something open. Notices a fork of which Python's hooks were not told. Knows no file.

uWSGI by default, and C extensions, fork without `os.register_at_fork`: the child then holds copies of connections,
locks, sockets and threads that are its parent's, and whose state it cannot restore.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from litequeue.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

L = TypeVar("L")

getpid: Callable[[], int] = os.getpid
NOBODY = 0


class OwnerProcess:
    """The process in which a store is open; another one, made by a fork without hooks, is refused."""

    __slots__ = ("_path", "pid")

    def __init__(self, path: str) -> None:
        self._path = path
        self.pid: int = NOBODY  # nothing is open: whichever process comes first may open it

    def enter(self) -> None:
        """Note that this process opens or uses the store's file; raise `StoreError` if another process has it open."""
        pid, owner = getpid(), self.pid  # read once: another thread, or a signal handler, may come first meanwhile
        if pid != owner:
            if owner != NOBODY:
                raise forked_without_hooks(self._path)
            self.pid = pid

    @property
    def is_another(self) -> bool:
        """Whether the file is open in another process, of which this one is a copy."""
        return self.pid not in (NOBODY, getpid())

    def forget(self) -> None:
        """Note that nothing is open any more."""
        self.pid = NOBODY


def forked_without_hooks(path: str) -> StoreError:
    """Return the error of a use in a process that was forked, without hooks, while the file was open."""
    return StoreError(
        f"{path} was open when this process was forked, by a fork that Python was not told of, so SQLite cannot use it "
        f"here; nothing was done. In uWSGI set lazy-apps = true, or py-call-uwsgi-fork-hooks = true; elsewhere use the "
        f"queue only after the fork, or call queue.close() before it (docs/servers.md)"
    )


def keep_for_ever(thing: Any) -> None:
    """Keep this object from garbage collection: closing it here would act on another process's file."""
    import ctypes  # needed in a forked child only

    # apsw closes all connections that are left when the module itself goes, at the interpreter's end
    for kept in (thing, sys.modules[type(thing).__module__]):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


def lock_of_this_process(locks: dict[int, L], make: Callable[[], L]) -> L:
    """Return this process's lock: in a forked child, a new one that no thread of its parent holds."""
    pid = getpid()
    return locks.get(pid) or locks.setdefault(pid, make())
