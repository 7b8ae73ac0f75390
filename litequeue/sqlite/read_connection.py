"""One connection that only reads, which threads share; opened when it is first used. Knows no statement."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

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
        self._lock = threading.Lock()
        self._db: Connection | None = None
        self._opened = 0

    @property
    def connection(self) -> Connection | None:
        """The connection, if it is open."""
        return self._db

    @property
    def lock(self) -> threading.Lock:
        """Held by the one that reads, and while it is stopped."""
        return self._lock

    def read(self, look: Callable[[Connection], T]) -> T:
        """Run `look` on the connection; it must read to the end what it asks for."""
        self._enter()
        with self._lock:
            db = self._db
            if db is None:
                db = self._db = self._connect()
                self._opened += 1
                db.rows("PRAGMA query_only = on")
            db.check_files()  # what is read in a file that was deleted or replaced is no longer true
            try:
                if db.in_transaction:  # Ctrl-C fell between BEGIN and its clean-up
                    db.script("ROLLBACK")
                return look(db)
            except BaseException:
                if db.in_transaction:
                    db.script("ROLLBACK")
                raise

    def version(self) -> object:
        """Return a value that differs after every commit by any other connection, of this process or another."""
        # outside of a transaction: inside one it stands still
        return self.read(lambda db: (self._opened, db.rows("PRAGMA data_version")))

    def busy(self) -> bool:
        """Whether it is in use."""
        return self._lock.locked()

    def free_within(self, seconds: float) -> bool:
        """Wait until it is free, at most so long; return whether it was."""
        # not by acquire(timeout=): a Ctrl-C between that and what releases it would keep all others out for good
        pause = LOOK_AGAIN / 64
        while self._lock.locked():
            if seconds <= 0:
                return False
            time.sleep(pause)
            seconds, pause = seconds - pause, min(2 * pause, LOOK_AGAIN)
        return True

    def close(self) -> None:
        """Close it once no thread reads; it is opened again when it is used again."""
        with self._lock:
            self._drop()

    def close_idle(self) -> None:
        """Close it if no thread reads at this moment; never waits."""
        if self.stop(0):
            self.go_on()

    def stop(self, seconds: float) -> bool:
        """Before a fork: close it and keep readers out; False when one does not end within so many seconds."""
        if not self._lock.acquire(timeout=seconds):
            return False
        try:
            self._drop()
        except BaseException:
            self._lock.release()
            raise
        return True

    def go_on(self) -> None:
        """Let readers in again."""
        self._lock.release()

    def start_anew(self) -> Connection | None:
        """After a fork, in the child: forget what was inherited; return a connection that must never be closed here."""
        db, self._db = self._db, None
        self._lock = threading.Lock()
        return db

    def _drop(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            self._disconnect(db)
