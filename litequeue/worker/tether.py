"""A worker process's end of its connection to the supervisor, and the words that are said there. Knows no worker."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress

READY, ALIVE = b"+", b"."  # of the worker process: it has registered; its loop goes on
STOP, STOP_NOW, STACKS = b"s", b"n", b"d"  # of the supervisor
WINDOWS = sys.platform == "win32"


class Tether:
    """A child's end of the connection: reports that the child has started and goes on, and receives stops.

    It replaces stdin, so that no process that a task starts can read from it. `every`: see `Watcher`.
    """

    def __init__(self, every: float) -> None:
        self.every: float = every
        self._descriptor = os.dup(0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        self._socket = None if WINDOWS else socket.socket(fileno=self._descriptor)

    def say_ready(self) -> None:
        """Tell the supervisor that this process has registered."""
        self._say(READY)

    def claims(self, status: str) -> None:  # noqa: ARG002
        """See `Watcher`."""
        self._say(ALIVE)

    def goes_on(self, status: str) -> None:  # noqa: ARG002
        """See `Watcher`."""
        self._say(ALIVE)

    def stops(self, status: str) -> None:
        """See `Watcher`: the supervisor knows."""

    def _say(self, word: bytes) -> None:
        if self._socket is not None:
            with suppress(OSError):  # also where nobody reads: the worker's loop must not wait for that
                self._socket.send(word, 0 if word == READY else socket.MSG_DONTWAIT)

    def hear(self) -> bytes:
        """Wait for STOP, STOP_NOW or STACKS from the supervisor; empty: it has closed its end, or has ended."""
        with suppress(OSError):
            return os.read(self._descriptor, 1)
        return b""
