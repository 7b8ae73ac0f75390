"""No SQLite connection crosses a fork, or outlives the program: close before, open again after.

A child that opens a file of which it inherited an open connection would rely on locks that only its parent holds
(sqlite.org/howtocorrupt.html, 2.6); so the parent closes first, and waits for transactions of its other threads. If
that is not possible, because the fork comes from inside a transaction or a backup, the child is refused the file:
SQLite's own state of it, which the child has inherited, cannot be reset. Connections that could not be closed are
abandoned there, never closed.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Protocol

from litequeue.core.owner_process import lock_of_this_process
from litequeue.sqlite.drivers.connection import BUSY_SECONDS, abandon
from litequeue.sqlite.file.guards import opening

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection


class Closable(Protocol):
    """What must not be open across a fork."""

    @property
    def is_anothers(self) -> bool:
        """Whether it is open in a process that forked this one without telling Python."""

    def close_idle(self) -> None:
        """Close what is not in use at this moment; never waits."""

    def before_fork(self) -> tuple[bool, ...]:
        """Close what is open; tell what could be closed."""

    def after_fork_in_parent(self, stopped: tuple[bool, ...]) -> None:
        """Go on as before."""

    def after_fork_in_child(self, stopped: tuple[bool, ...]) -> list[Connection]:
        """Forget what was inherited; return connections that must never be closed here."""


_stores: weakref.WeakSet[Closable] = weakref.WeakSet()
_stopped: list[tuple[Closable, tuple[bool, ...]]] = []
_held: list[Any] = []  # locks that are held for the fork: no other thread makes a queue meanwhile

_forking: dict[int, threading.Lock] = {}  # one fork at a time: each needs every store idle
_watching: dict[int, threading.RLock] = {}  # re-entrant: a signal handler may make a queue inside watch()


def watch(store: Closable) -> None:
    """Close and reopen this store whenever the process forks."""
    with lock_of_this_process(_watching, threading.RLock):
        _stores.add(store)


def _before() -> None:
    import ctypes  # noqa: F401  for the child, where another thread's import may stand half done for ever

    lock_of_this_process(_forking, threading.Lock).acquire()
    watching, made = lock_of_this_process(_watching, threading.RLock), opening()
    watching.acquire()
    _held.append(watching)
    if made.acquire(timeout=BUSY_SECONDS):
        _held.append(made)
    _stopped.extend((store, store.before_fork()) for store in list(_stores) if not store.is_anothers)


def _in_parent() -> None:
    locks = [*_held, lock_of_this_process(_forking, threading.Lock)]
    try:
        _go_on(list(_stopped))
    finally:  # in one call in C: a Ctrl-C may come between any two of Python's
        _stopped.clear()
        _held.clear()
        deque(map(methodcaller("release"), locks), maxlen=0)


def _go_on(stopped: list[tuple[Closable, tuple[bool, ...]]]) -> None:
    if stopped:
        try:
            stopped[0][0].after_fork_in_parent(stopped[0][1])
        finally:
            _go_on(stopped[1:])


def _in_child() -> None:
    for store, stopped in _stopped:
        for db in store.after_fork_in_child(stopped):
            abandon(db)
    _stopped.clear()
    _held.clear()


@atexit.register
def _at_exit() -> None:
    """Close idle connections, as Python closes files: a queue need not be closed before the program ends."""
    for store in list(_stores):
        store.close_idle()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
