"""Raise an error in another thread, but never inside our own work. Knows no job and no store."""

from __future__ import annotations

import threading
from contextlib import suppress

from litequeue.core.frames import current_frames
from litequeue.core.interruptible import is_protected

_held_back: dict[int, type[BaseException]] = {}


def interrupt(ident: int, error: type[BaseException]) -> bool:
    """Raise `error` in the thread with that number; False: it is held back for now, call `insist` soon.

    A thread inside a C call gets it when that call returns. A greenlet that stands in for a thread (gevent) never does:
    Python knows no thread of its number.
    """
    if _amid_ours(ident):
        _held_back[ident] = error
        return False
    _raise_in_thread(ident, error)
    if not _amid_ours(ident):
        return True
    _raise_in_thread(ident, None)  # it went on between the look and the raise
    _held_back[ident] = error
    return False


def insist(ident: int) -> bool:
    """Raise the held back error in that thread; True: it has been raised by now."""
    error = _held_back.pop(ident, None)
    return error is None or interrupt(ident, error)


class _InItsPlace(BaseException):
    """Replaces an error that must not be raised any more."""


def withdraw() -> None:
    """Withdraw an error that has not yet been raised in this thread.

    HAZARD: up to Python 3.11 what is only taken away leaves the interpreter's flag for it set, and then a function
    that is traced, by a debugger or for coverage, never begins. So another error takes its place, and is caught here.
    """
    ident = threading.get_ident()
    _held_back.pop(ident, None)
    with suppress(_InItsPlace):
        while _raise_in_thread(ident, _InItsPlace):  # until it is raised, which is at once; never in a greenlet
            pass


def let_go() -> None:
    """Raise the error that was held back during our work; called where that work is done."""
    if _held_back:
        error = _held_back.pop(threading.get_ident(), None)
        if error is not None:
            raise error


def _raise_in_thread(ident: int, error: type[BaseException] | None) -> bool:
    """Make the thread raise this error next; None withdraws a pending one. False: there is no such thread."""
    import ctypes  # here: a process that only enqueues interrupts no thread

    value = ctypes.py_object() if error is None else ctypes.py_object(error)
    return bool(ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), value))


def _amid_ours(ident: int) -> bool:
    # Left half done, our work would stop every writer of the process, or take the error for one of a value it encodes.
    return is_protected(current_frames().get(ident))
