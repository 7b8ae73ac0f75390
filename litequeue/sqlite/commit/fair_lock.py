"""Let processes write in the order in which they came. A courtesy: what keeps writers apart is SQLite's own lock.

A process that waits for that lock sleeps, longer each time, and looks again; among many that never pause it may look in
vain for seconds. A process that waits for a kernel lock is woken when it is free, first come, first served; but each
write then takes many times as long. So a process that has waited in vain for a while (`engage`) takes the kernel lock,
and the next `CROWDED` writes of all processes take it too. Then it is left aside again.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from litequeue.core.greenlets import instead_of_threads
from litequeue.errors import StoreBusy
from litequeue.ipc.file_lock import wait_lock
from litequeue.ipc.process_lock import open_shared
from litequeue.sqlite.drivers.connection import begin
from litequeue.sqlite.file.lock_holder import explained

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from litequeue.sqlite.drivers.connection import Connection

T = TypeVar("T")

if sys.platform != "win32":
    import fcntl

NAME = "fair_lock"
PATIENCE = 1.0  # seconds; a process that is in it for longer stands still, or has a long transaction open
GLANCE = 0.005  # seconds between two looks
CROWDED = 8  # writes; a byte holds 255

# Milliseconds for which SQLite waits for another process, before this one takes the kernel lock: as long as some 50
# commits take, so that of processes that never pause each stores many jobs in a row, which do not wait.
SHORT, STEP, LONGEST = 20, 20, 100
STEPS = 2500  # in a second


class FairLock:
    """This process's place among those that write; used by the holder of `lead`. Nothing in it raises an error."""

    def __init__(self, database: Path) -> None:
        self.database: Path = database
        self._opened = self._may_hold = False
        self._descriptor = -1
        # One byte that all share: how many writes are still to go through it. A change lost between two is no matter.
        self._crowd: mmap.mmap | bytearray = bytearray(1)
        self._waiting: threading.Thread | None = None  # of a caller that lost patience

    def crowded(self) -> None:
        """Have the next writes of all processes go through it."""
        self._crowd[0] = CROWDED

    def engage(self) -> None:
        """Wait for the lock, and have the other processes take it, too: called after a wait for the file in vain.

        The caller has called `enter`, and will call `leave`.
        """
        self.crowded()
        if not self._may_hold and not self._enter():
            self._wait(self._descriptor)

    def enter(self) -> None:
        """Wait for the lock; after `PATIENCE`, and where there is no such lock, go on without it.

        Called within `try`, with `leave` in its `finally`: a Ctrl-C may come when the lock is just taken.
        """
        if not self.enter_at_once():
            self._wait(self._descriptor)

    def enter_at_once(self) -> bool:
        """Enter, or go on without, unless that takes a wait: then False."""
        if not self._opened:
            self._open()
        left = self._crowd[0]
        if not left:
            return True
        self._crowd[0] = left - 1
        return self._enter()

    def _enter(self) -> bool:
        if self._descriptor < 0:
            return True
        if self._waiting is not None:
            if self._waiting.is_alive():
                return True
            self._waiting = None
        self._may_hold = True
        try:
            return _try_lock(self._descriptor)
        except OSError:
            return True

    def leave(self) -> None:
        """Let the next process in; also after `enter` went on without the lock."""
        if self._may_hold:
            _unlock(self._descriptor)
            self._may_hold = False

    def close(self) -> None:
        """Close the file; `enter` opens it again."""
        self._opened, self._crowd = False, bytearray(1)
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0 and self._waiting is None:  # else it stays open: its number must not come to be another's
            with suppress(OSError):
                os.close(descriptor)

    def __del__(self) -> None:  # its queue was dropped, as Python's own connections may be
        self.close()

    def reset_after_fork(self) -> None:
        """After a fork, in the child: closing the copy frees nothing of the parent's."""
        self._waiting, self._may_hold = None, False
        self.close()

    def _open(self) -> None:
        self._opened = True
        with suppress(OSError, ValueError):
            self._descriptor = open_shared(self.database, NAME, 1)
            self._crowd = mmap.mmap(self._descriptor, 1)

    def _wait(self, descriptor: int) -> None:
        if instead_of_threads():
            self._look_again_and_again(descriptor)
        else:
            self._wait_in_thread(descriptor)

    def _look_again_and_again(self, descriptor: int) -> None:
        """The same if one thread runs all greenlets: a wait for the lock would stop them all, without a limit."""
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
                wait_lock(descriptor)
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


class Patience:
    """How long SQLite waits for another process; then this one takes the fair lock, and tries again for `_long`."""

    def __init__(self, fair_lock: FairLock) -> None:
        self._fair_lock = fair_lock
        self._long = 0  # milliseconds: what is due, as a new connection has it
        self._set: int | None = None  # in the connection at the moment; None: not known
        self._typical = 0.0001  # seconds that a commit takes: about the median
        self._short = SHORT

    def learn(self, db: Connection) -> None:
        """Take a new connection as it is: the application may have set how long it waits."""
        [(self._long,)] = db.rows("PRAGMA busy_timeout")
        self._set = self._long

    def set(self, db: Connection, *, long: bool) -> None:
        """Have SQLite wait as long as is due; else shortly, for what is tried `again`."""
        wanted = self._long if long else self._short
        if wanted == self._set or self._long <= LONGEST:  # as short as it is, or up to a handler
            return
        self._set = None  # first: a Ctrl-C may come
        db.wait_at_most(wanted)
        self._set = wanted

    def note(self, took: float) -> None:
        """Note how many seconds a commit has taken."""
        typical = self._typical
        self._typical = typical = typical * 1.05 if took > typical else max(1e-5, typical * 0.95)
        self._short = min(LONGEST, SHORT + int(typical * STEPS) * STEP)

    def begin(self, db: Connection) -> None:
        """Begin a transaction of a caller's, in whose block the connection waits as long as is due."""
        try:
            self.set(db, long=False)
            try:
                begin(db)
            except StoreBusy as error:
                self.again(lambda: begin(db), error)
        finally:
            self.set(db, long=True)

    def again(self, act: Callable[[], T], error: StoreBusy) -> T:
        """Try again what has waited for another process in vain, and changed nothing, now behind the fair lock."""
        for _ in range(self._short, self._long, self._short):
            self._fair_lock.engage()
            try:
                return act()
            except StoreBusy as still:
                error = still
        raise explained(error, str(self._fair_lock.database)) from error.__cause__


if sys.platform == "win32":  # no lock of that system is waited for in order

    def _try_lock(descriptor: int) -> bool:  # noqa: ARG001
        return True

    def _unlock(descriptor: int) -> None: ...

else:

    def _try_lock(descriptor: int) -> bool:
        # not that of ipc/file_lock.py: where locks do not work, the caller is to go on without one, at once
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
