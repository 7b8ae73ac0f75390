"""Where the threads of this process are. Knows no thread of ours."""

from __future__ import annotations

import gc
import os
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_lock = threading.RLock()  # re-entrant: a signal handler may look, too
_is_paused = False  # garbage is not collected, by us


def current_frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread, by its number.

    HAZARD: Python looks for them under the lock by which threads come and go. In 3.11, before 3.11.9, garbage may be
    collected amid that, and waits for the same lock where it frees a `threading.local`: the program stands still for
    good (github.com/python/cpython/issues/106883).
    """
    global _is_paused  # noqa: PLW0603
    with _lock:
        collects = gc.isenabled() or _is_paused  # paused: a Ctrl-C came before it could go on
        try:
            _is_paused = collects
            gc.disable()
            return sys._current_frames()  # noqa: SLF001  the documented way to see another thread's stack
        finally:
            if collects:
                gc.enable()
                _is_paused = False


def _after_fork() -> None:
    """In the child: another thread, which is not here, may have been amid it."""
    global _lock, _is_paused  # noqa: PLW0603
    _lock = threading.RLock()
    if _is_paused:
        gc.enable()
        _is_paused = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
