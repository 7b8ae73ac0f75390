"""What a worker's loop is told: it waits at the listener itself, or an idle thread does in its place. Knows no job."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from litequeue.ipc.notifier import JOBS, Listener

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MISSED = b"missed"  # left to the loop by a thread whose listener may have missed something


class SharedListener:
    """One listener, at which one thread waits at a time: the loop's, or, while `listened`, an idle one.

    `missed` tells that senders may have dropped some: check everything.
    """

    def __init__(self, directory: Path, topic: str) -> None:
        self._listener = Listener(directory, topic)
        self._wakeup = threading.Lock()  # not an Event: a signal handler may release it in the thread that waits
        self._wakeup.acquire()
        self._mail: deque[bytes] = deque()  # messages that an idle thread received, and leaves to the loop
        self.missed: bool = False
        self.listened: bool = False

    # ---- the loop's side

    def pause(self, span: float) -> None:
        """Sleep until something comes, at most so long; also where the listener is broken: what has ended is kept."""
        try:
            self.wait(max(0.0, span))
        except OSError:
            time.sleep(max(0.0, span))

    def wait(self, timeout: float) -> list[bytes]:
        """Return what has come; if nothing has, sleep until something comes, a wake or the timeout (seconds)."""
        if self.listened:
            if timeout > 0 and not self._mail:
                self._wakeup.acquire(timeout=timeout)
            heard, missed = [], False
        else:
            heard = self._listener.wait(0.0 if self._mail else timeout)
            missed = self._listener.missed
        heard += [self._mail.popleft() for _ in range(len(self._mail))]
        self.missed = missed or MISSED in heard
        return heard

    def wake(self) -> None:
        """Make the wait() of now, or else the next, return promptly; from any thread or signal handler here."""
        if self.listened:
            self._wake_loop()
        if not self.listened:  # not "else": the thread may have left meanwhile, and the loop be at the listener
            self._listener.wake()

    def _wake_loop(self) -> None:
        try:
            self._wakeup.release()
        except RuntimeError:  # it is released already
            return

    def close(self) -> None:
        """Hear no more."""
        self._listener.close()

    # ---- the side of an idle thread

    def listen(self, claim: Callable[[], bytes | None], is_wanted: Callable[[], bool]) -> bool:
        """Wait in place of the loop until jobs come and `claim` has claimed some (None), or this thread `is_wanted`.

        What else is heard, and what `claim` returns, is left to the loop. False: the listener is closed, by its worker
        or by code that does not own it.
        """
        while True:
            try:
                heard = self._listener.wait(None)
            except (OSError, ValueError):
                return False
            missed = self._listener.missed
            if heard == [JOBS] and not missed:
                word = claim()
                if word is None:
                    return True
                heard = [word]
            self._mail.extend([*heard, MISSED] if missed else heard)
            self._wake_loop()
            if b"" in heard and is_wanted():  # else the wake was for the loop
                return True

    def call_away(self) -> None:
        """Have the thread that listens return."""
        self._listener.wake()

    def leave(self) -> None:
        """No thread listens any more: the loop waits at the listener itself."""
        self.listened = False
        self._wake_loop()
