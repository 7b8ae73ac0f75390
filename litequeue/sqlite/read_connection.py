"""One connection that only reads, which threads share; opened when it is first used. Knows no statement."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.sqlite.drivers.connection import Connection

T = TypeVar("T")

LOOK_AGAIN = 0.005  # seconds between looks whether the connection is free, at most


class ReadConnection:
    """`connect` opens a connection, `disconnect` closes one, `enter` raises in a process that must not use it."""

    def __init__(
        self, connect: Callable[[], Connection], disconnect: Callable[[Connection], None], enter: Callable[[], None]
    ) -> None:
        self._connect, self._disconnect, self._enter = connect, disconnect, enter
        self._opened = 0
        self._start()

    def _start(self) -> None:
        # Two locks: the first is re-entrant, since a signal handler may read in a thread that is reading; the second is
        # held by the outermost of those reads alone.
        self._lock, self._using = threading.RLock(), threading.Lock()
        self._db: Connection | None = None
        self._closing = False

    @property
    def connection(self) -> Connection | None:
        """The connection, if it is open."""
        return self._db

    @property
    def locks(self) -> tuple[Any, ...]:
        """Held by the one that reads, and while it is stopped; to be released in this order."""
        return self._using, self._lock

    def read(self, look: Callable[[Connection], T]) -> T:
        """Run `look` on the connection; it must read to the end what it asks for."""
        self._enter()
        with self._lock:
            if self._using.locked():
                return self._read_inside(look)
            with self._using:
                try:
                    return self._read(look)
                finally:
                    if self._closing:
                        self._drop()

    def _read(self, look: Callable[[Connection], T]) -> T:
        db = self._db
        if db is None:
            db = self._db = self._open()
        db.check_files()  # what is read in a file that was deleted or replaced is no longer true
        try:
            if db.in_transaction:  # Ctrl-C fell between BEGIN and its clean-up
                db.script("ROLLBACK")
            return look(db)
        except BaseException:
            if db.in_transaction:
                db.script("ROLLBACK")
            raise

    def _open(self) -> Connection:
        self._opened += 1  # first: a Ctrl-C may come
        db = self._connect()
        try:
            db.rows("PRAGMA query_only = on")
        except BaseException:
            self._disconnect(db)
            raise
        return db

    def _read_inside(self, look: Callable[[Connection], T]) -> T:
        """For a signal handler, inside a read of the same thread: on a connection of its own.

        The other one may be in a transaction, or amid a statement, and so not see what this process has just written.
        """
        db = self._open()
        try:
            return look(db)
        finally:
            self._disconnect(db)

    def version(self) -> object:
        """Return a value that differs after every commit by any other connection, of this process or another."""
        # outside of a transaction: inside one it stands still
        return self.read(lambda db: (self._opened, db.rows("PRAGMA data_version")))

    def busy(self) -> bool:
        """Whether it is in use."""
        return self._using.locked()

    def free_within(self, seconds: float) -> bool:
        """Wait until it is free, at most so long; return whether it was."""
        # not by acquire(timeout=): a Ctrl-C between that and what releases it would keep all others out for good
        pause = LOOK_AGAIN / 64
        while self._using.locked():
            if seconds <= 0:
                return False
            time.sleep(pause)
            seconds, pause = seconds - pause, min(2 * pause, LOOK_AGAIN)
        return True

    def close(self) -> None:
        """Close it once no thread reads; it is opened again when it is used again."""
        with self._lock:
            if self._using.locked():  # by this thread, which a signal handler has interrupted: it closes it at its end
                self._closing = True
                return
            with self._using:
                self._drop()

    def close_idle(self) -> None:
        """Close it if no thread reads at this moment; never waits."""
        if self.stop(0):
            self.go_on()

    def stop(self, seconds: float) -> bool:
        """Before a fork: close it and keep readers out; False when one does not end within so many seconds."""
        if not self._lock.acquire(timeout=seconds):
            return False
        if not self._using.acquire(blocking=False):  # this very thread reads
            self._lock.release()
            return False
        try:
            self._drop()
        except BaseException:
            self.go_on()
            raise
        return True

    def go_on(self) -> None:
        """Let readers in again."""
        for lock in self.locks:
            lock.release()

    def reset_after_fork(self) -> Connection | None:
        """After a fork, in the child: forget what was inherited; return a connection that must never be closed here."""
        db = self._db
        self._start()
        return db

    def _drop(self) -> None:
        self._closing = False
        db, self._db = self._db, None
        if db is not None:
            self._disconnect(db)
