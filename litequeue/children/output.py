"""What a child process prints: passed on to where this process prints, and its end kept. Knows no process."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import IO

KEPT = 4096  # bytes, the last ones since the run began
AT_ONCE = 1 << 16
LAST_WAIT = 0.3  # seconds for what is still in the pipes; a process that it has started may hold them open


class Output:
    """The output of one child; two threads read its pipes, so that it never waits for anything but our own output."""

    def __init__(self, out: IO[bytes], err: IO[bytes]) -> None:
        self._tail = bytearray()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._pass_on, args=(pipe, descriptor), name="litequeue-output", daemon=True)
            for pipe, descriptor in ((out, 1), (err, 2))
        ]
        for thread in self._threads:
            thread.start()

    def begin(self) -> None:
        """Forget what was printed so far: another run begins."""
        with self._lock:
            self._tail.clear()

    def last(self) -> str:
        """Return the last lines of a child that has ended."""
        for thread in self._threads:
            thread.join(LAST_WAIT)
        with self._lock:
            cut, text = len(self._tail) > KEPT, bytes(self._tail[-KEPT:]).decode("utf-8", "replace")
        return text.partition("\n")[2].rstrip() if cut and "\n" in text else text.rstrip()

    def _pass_on(self, pipe: IO[bytes], descriptor: int) -> None:
        with pipe:
            while True:
                try:
                    printed = os.read(pipe.fileno(), AT_ONCE)
                except (OSError, ValueError):
                    return
                if not printed:
                    return
                with self._lock:
                    self._tail += printed
                    if len(self._tail) > 4 * KEPT:
                        del self._tail[: -2 * KEPT]
                with suppress(OSError):  # ours is closed, or nobody reads it: the child goes on
                    _write(descriptor, printed)


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
