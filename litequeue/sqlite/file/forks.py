"""No SQLite connection crosses a fork, or outlives the program: close before, open anew after.

A child that opens a file of which it inherited an open connection would believe in locks that only its parent holds
(sqlite.org/howtocorrupt.html, 2.6); so the parent closes first, and waits for transactions of its other threads. Where
that cannot be done, because the fork comes from inside a transaction or amid a backup, the child is refused the file:
SQLite's own state of it, which the child has inherited, cannot be made anew. What could not be closed is abandoned,
never closed, there.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from typing import TYPE_CHECKING

from litequeue.core.owner_process import lock_of_this_process
from litequeue.sqlite.drivers.connection import BUSY_SECONDS, abandon
from litequeue.sqlite.file.guards import opening

if TYPE_CHECKING:
    from litequeue.sqlite.serving import WorkerStore

_stores: weakref.WeakSet[WorkerStore] = weakref.WeakSet()
_stopped: list[tuple[WorkerStore, tuple[bool, bool, bool]]] = []
_opening: list[threading.Lock] = []  # held for the fork: no other thread makes a queue, or is amid it

_forking: dict[int, threading.Lock] = {}  # one fork at a time: each needs every store at rest


def watch(store: WorkerStore) -> None:
    """Take care of this store whenever the process forks."""
    with lock_of_this_process(_forking):
        _stores.add(store)


def _before() -> None:
    import ctypes  # noqa: F401  for the child, where another thread's import may stand half done for ever

    lock_of_this_process(_forking).acquire()
    made = opening()
    if made.acquire(timeout=BUSY_SECONDS):  # one that was made in this very thread, as by a signal handler, is not
        _opening.append(made)
    _stopped.extend((store, store.before_fork()) for store in list(_stores) if not store.is_anothers)


def _in_parent() -> None:
    for store, stopped in _stopped:
        store.after_fork_in_parent(stopped)
    _stopped.clear()
    while _opening:
        _opening.pop().release()
    lock_of_this_process(_forking).release()


def _in_child() -> None:
    for store, stopped in _stopped:
        for db in store.after_fork_in_child(stopped):
            abandon(db)
    _stopped.clear()
    _opening.clear()


@atexit.register
def _at_exit() -> None:
    """Close what is idle, as Python closes files: a queue need not be closed by hand before the program ends."""
    for store in list(_stores):
        store.close_idle()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
