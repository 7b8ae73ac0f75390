"""What a child process prints: passed on to where this process prints, and its end kept. Knows no process."""

from __future__ import annotations

import heapq
import os
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import IO

from litequeue.children.writable import is_writable

KEPT = 4096  # bytes, the last ones since the run began
AT_ONCE = 1 << 16
LAST_WAIT = 0.3  # seconds for what is still in the pipes; a process that it has started may hold them open


class Output:
    """The output of one child; two threads read its pipes, so that it never waits for anything but our own output."""

    def __init__(self, out: IO[bytes], err: IO[bytes]) -> None:
        self._tail = _Tail()
        self._lock = threading.Lock()
        self._pipes = {1: out, 2: err}  # those that no thread reads
        self._threads: list[threading.Thread] = []

    def follow(self) -> None:
        """Read from now on. Raises `RuntimeError` where the system gives no thread."""
        for descriptor, pipe in list(self._pipes.items()):
            passed_to = descriptor if _is_ours(descriptor) else None
            thread = threading.Thread(
                target=self._pass_on, args=(pipe, descriptor, passed_to), name="litequeue-output", daemon=True
            )
            thread.start()
            self._threads.append(thread)
            del self._pipes[descriptor]

    def begin(self) -> None:
        """Forget what was printed so far: another run begins."""
        with self._lock:
            self._tail.clear()

    def last(self) -> str:
        """Return the last lines of a child that has ended; nothing more is read that nobody follows."""
        for pipe in self._pipes.values():
            pipe.close()
        for thread in self._threads:
            thread.join(LAST_WAIT)
        with self._lock:
            return self._tail.text()

    def _pass_on(self, pipe: IO[bytes], descriptor: int, passed_to: int | None) -> None:
        with pipe:
            while True:
                try:
                    printed = os.read(pipe.fileno(), AT_ONCE)
                except (OSError, ValueError):
                    return
                if not printed:
                    return
                with self._lock:
                    self._tail.add(descriptor, printed)
                with suppress(OSError):  # ours is closed, or nobody reads it: the child goes on
                    _write(passed_to, printed)


class _Tail:
    """The last bytes of the two streams, as they came; where both print much, half of the room is each one's.

    So what a crash has printed on stderr is there, however much of stdout is read after it.
    """

    def __init__(self) -> None:
        self._parts: dict[int, deque[tuple[int, bytes]]] = {1: deque(), 2: deque()}
        self.clear()

    def clear(self) -> None:
        for parts in self._parts.values():
            parts.clear()
        self._sizes = {1: 0, 2: 0}
        self._count = 0

    def add(self, descriptor: int, printed: bytes) -> None:
        self._count += 1
        self._parts[descriptor].append((self._count, printed))
        self._sizes[descriptor] += len(printed)
        while (excess := sum(self._sizes.values()) - KEPT) > 0:
            longer = max(self._sizes, key=self._sizes.__getitem__)
            ahead = 2 * self._sizes[longer] - sum(self._sizes.values())
            number, first = self._parts[longer].popleft()
            dropped = min(excess, len(first), max(ahead, (excess + 1) // 2))
            left = _from_next_line(first[dropped:])
            if left:
                self._parts[longer].appendleft((number, left))
            self._sizes[longer] -= len(first) - len(left)

    def text(self) -> str:
        """Return it."""
        return b"".join(data for _, data in heapq.merge(*self._parts.values())).decode("utf-8", "replace").rstrip()


def _from_next_line(cut: bytes) -> bytes:
    """Leave out the rest of a line whose beginning is gone, unless that is all there is."""
    return cut.partition(b"\n")[2] or cut


def _is_ours(descriptor: int) -> bool:
    """Whether this is where the program prints.

    HAZARD: in a program that was started without it, the number is that of the first file which was opened then.
    """
    stream = sys.__stdout__ if descriptor == 1 else sys.__stderr__
    return stream is not None and not stream.closed


def _write(descriptor: int | None, data: bytes) -> None:
    left = memoryview(data)
    while left and descriptor is not None:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:  # the program has said that it does not wait; this thread does
            is_writable(descriptor, None)
