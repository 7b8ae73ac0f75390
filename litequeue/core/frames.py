"""Where the threads of this process are. Knows no thread of ours."""

from __future__ import annotations

import gc
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_lock = threading.RLock()  # re-entrant: a signal handler may look, too


def current_frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread, by its number.

    HAZARD: Python looks for them under the lock by which threads come and go. Before 3.11.8 and 3.12.1 a collection of
    garbage that begins amid that waits for the same lock, where it frees a `threading.local`: the program stands still.
    """
    with _lock:
        collects = gc.isenabled()
        try:
            gc.disable()
            return sys._current_frames()  # noqa: SLF001  the documented way to see another thread's stack
        finally:
            if collects:
                gc.enable()
