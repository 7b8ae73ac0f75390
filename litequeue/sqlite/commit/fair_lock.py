"""Let processes write in the order in which they came. A courtesy: what keeps writers apart is SQLite's own lock.

Who waits for that one sleeps, longer each time, and looks again; among many that never rest one may look in vain for
seconds. Who waits for a kernel lock is woken when it is free, first come first. That takes longer where nobody waits,
so it is done from when somebody had to wait until `CROWDED` had not.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from litequeue.core.greenlets import instead_of_threads
from litequeue.ipc.process_lock import open_shared

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform != "win32":
    import fcntl

NAME = "fair_lock"
PATIENCE = 1.0  # seconds; whoever is in it for longer stands still, or has a long transaction open
GLANCE = 0.005  # seconds between two looks
CROWDED = 255  # how many may find it free before it is left aside; what a byte holds


class FairLock:
    """This process's place among those that write; used by whoever leads here. Nothing in it raises an error."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._opened = self._may_hold = False
        self._descriptor = -1
        # One byte that all share: how many have still to find it free. A change lost between two of them is no matter.
        self._crowd: mmap.mmap | bytearray = bytearray(1)
        self._waiting: threading.Thread | None = None  # of one who lost patience

    def crowded(self) -> None:
        """Note that somebody had to wait."""
        self._crowd[0] = CROWDED

    def enter(self) -> None:
        """Wait for the turn; after `PATIENCE`, and where no such lock is to be had, go on without.

        Called within `try`, with `leave` in its `finally`: a Ctrl-C may come when the lock is just taken.
        """
        if not self.enter_at_once():
            self._wait(self._descriptor)

    def enter_at_once(self) -> bool:
        """Enter, or go on without, unless that takes a wait: then False."""
        if not self._opened:
            self._open()
        if not self._crowd[0] or self._descriptor < 0:
            return True
        if self._waiting is not None:
            if self._waiting.is_alive():
                return True
            self._waiting = None
        self._may_hold = True
        try:
            free = _try_lock(self._descriptor)
        except OSError:
            return True
        self._crowd[0] = max(0, self._crowd[0] - 1) if free else CROWDED
        return free

    def leave(self) -> None:
        """Let the next one in; also where the turn did not come."""
        if self._may_hold:
            _unlock(self._descriptor)
            self._may_hold = False

    def close(self) -> None:
        """Let go of the file; `enter` opens it anew."""
        self._opened, self._crowd = False, bytearray(1)
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0 and self._waiting is None:  # else it stays open: its number must not come to be another's
            with suppress(OSError):
                os.close(descriptor)

    def __del__(self) -> None:  # its queue was dropped, as Python's own connections may be
        self.close()

    def start_anew(self) -> None:
        """After a fork, in the child: closing the copy frees nothing of the parent's."""
        self._waiting, self._may_hold = None, False
        self.close()

    def _open(self) -> None:
        self._opened = True
        with suppress(OSError, ValueError):
            self._descriptor = open_shared(self._database, NAME, 1)
            self._crowd = mmap.mmap(self._descriptor, 1)

    def _wait(self, descriptor: int) -> None:
        if instead_of_threads():
            self._look_again_and_again(descriptor)
        else:
            self._wait_in_thread(descriptor)

    def _look_again_and_again(self, descriptor: int) -> None:
        """The same where one thread runs all greenlets: a wait for the lock would stop them all, without a limit."""
        for _ in range(int(PATIENCE / GLANCE)):
            with suppress(OSError):
                if _try_lock(descriptor):
                    return
            time.sleep(GLANCE)

    def _wait_in_thread(self, descriptor: int) -> None:
        # in a thread, for a wait for this lock knows no limit; of the two that end it, the first to say so decides
        ended: dict[str, bool] = {}
        here = threading.Event()

        def wait() -> None:
            with suppress(OSError):
                _lock(descriptor)
            if ended.setdefault("in turn", True):
                here.set()
            else:
                _unlock(descriptor)

        thread = threading.Thread(target=wait, name="litequeue-fair lock", daemon=True)
        try:
            thread.start()
            here.wait(PATIENCE)
        except RuntimeError:  # no thread can be started, or the interpreter is ending
            return
        finally:
            if not ended.setdefault("in turn", False):
                self._waiting, self._may_hold = thread, False


if sys.platform == "win32":  # no lock of that system is waited for in order

    def _try_lock(descriptor: int) -> bool:  # noqa: ARG001
        return True

    def _lock(descriptor: int) -> None: ...

    def _unlock(descriptor: int) -> None: ...

else:

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _unlock(descriptor: int) -> None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
