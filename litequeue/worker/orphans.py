"""Processes whose parents have ended, where this process inherits them: it has to reap them. Knows no worker.

That is a process with the number 1, as in a container without an init, and one that has asked for it (prctl). Only a
process that runs no code of users may reap them: user code waits for its own children.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

_GET_CHILD_SUBREAPER = 37  # of prctl(2)
_MOST = 1000  # at a time


def inherits_orphans() -> bool:
    """Tell whether this process is the parent of processes whose own parents have ended."""
    if not hasattr(os, "waitid"):
        return False
    return os.getpid() == 1 or _is_subreaper()


def _is_subreaper() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    answer = ctypes.c_int(0)
    try:
        asked = ctypes.CDLL(None).prctl(_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    except (OSError, AttributeError):  # a libc without it
        return False
    return asked == 0 and answer.value == 1


def reap_orphans(ours: Collection[int]) -> int:
    """Reap the ended processes but ours, for which others wait; return how many.

    HAZARD: `waitpid(-1)` would take the exit codes of our own children. So each is looked at first, and left there.
    """
    for count in range(_MOST):
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in ours:  # that one is taken soon; those behind it at the next look
                return count
            os.waitpid(ended.si_pid, os.WNOHANG)
        except ChildProcessError:
            return count
    return _MOST
