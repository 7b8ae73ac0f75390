"""No SQLite connection crosses a fork: close before, open anew after.

A child that opens a file of which it inherited an open connection would believe in locks that only its parent holds
(sqlite.org/howtocorrupt.html, 2.6); so the parent closes first, if it is not at that moment in a transaction.
What could not be closed is abandoned in the child, and never closed there.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import TYPE_CHECKING, Any

from litequeue.sqlite import guards

if TYPE_CHECKING:
    from litequeue.sqlite.store import SqliteStore

_stores: weakref.WeakSet[SqliteStore] = weakref.WeakSet()
_stopped: list[tuple[SqliteStore, tuple[bool, bool]]] = []


def watch(store: SqliteStore) -> None:
    """Take care of this store whenever the process forks."""
    _stores.add(store)


def _before() -> None:
    _stopped[:] = [(store, store.before_fork()) for store in list(_stores)]


def _in_parent() -> None:
    for store, stopped in _stopped:
        store.after_fork_in_parent(stopped)
    _stopped.clear()


def _in_child() -> None:
    guards.start_anew()
    for store, _ in _stopped:
        for db in store.after_fork_in_child():
            _keep_for_ever(db.raw)
    _stopped.clear()


def _keep_for_ever(raw: Any) -> None:
    """Let no collector ever close this handle: closing it here would act on the parent's file."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(raw))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
