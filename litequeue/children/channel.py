"""One end of the connection between a worker and a child process: whole messages, from any thread. Knows no process."""

from __future__ import annotations

import os
import pickle
import queue
import socket
import sys
import threading
import weakref
from contextlib import suppress
from multiprocessing import connection as connections
from multiprocessing.connection import Connection
from typing import Any

from litequeue.children.writable import is_writable
from litequeue.core.owner_process import getpid
from litequeue.ipc.high_descriptor import duplicated_high

IS_WINDOWS = sys.platform == "win32"
SMALL = 2048  # bytes: what fits in the system's buffer as soon as that is writable at all
OFFER_WAIT = 0.1  # seconds for another thread's message to be through


class Channel:
    """The worker's end. Sends from any thread, receives in one; raises `OSError` or `EOFError` when the other is gone.

    HAZARD: a fork of this process has it open, too, and the other end would not see that this process closes it, or is
    gone. So a copy lets go of it at once, and one of whose fork Python is not told is shut out when it is closed here.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection: Connection = connection
        self._sending = threading.Lock()
        self._stat = None if IS_WINDOWS else os.fstat(connection.fileno())
        self._pid = getpid()
        _channels.add(self)

    def send(self, message: object) -> None:
        """Send one message; waits while the other end does not read."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self._check_process()
        with self._sending:
            self._check_descriptor()
            self.connection.send_bytes(data)

    def offer(self, message: object) -> bool:
        """Send one small message, and never wait for the other end; False: it does not read just now."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self._check_process()
        if len(data) > SMALL or not self._sending.acquire(timeout=OFFER_WAIT):
            return False
        try:
            self._check_descriptor()
            if not is_writable(self.connection.fileno()):
                return False
            self.connection.send_bytes(data)
        finally:
            self._sending.release()
        return True

    def _check_process(self) -> None:
        # a copy that a job has forked would write amid the messages of its parent
        if getpid() != self._pid:
            raise OSError("only the process that was given this channel may use it, and this one was forked from it")

    def _check_descriptor(self) -> None:
        if self._stat is not None and not os.path.samestat(os.fstat(self.connection.fileno()), self._stat):
            raise OSError("the channel's descriptor was closed by code that does not own it")

    def receive(self) -> Any:
        """Wait for one message."""
        return pickle.loads(self.connection.recv_bytes())  # noqa: S301  the other end is this program

    def waits(self, seconds: float | None) -> bool:
        """Whether a message, or the end, is there within so many seconds; None: wait for it."""
        return self.connection.poll(seconds)

    def abandon(self) -> None:
        """Let go of it, in a copy of the process: the other side is to see the end of the process that it talks to."""
        with suppress(OSError):
            self._check_descriptor()
            self.connection.close()

    def close(self) -> None:
        """Close this end, which the other one sees; called once nobody receives."""
        with self._sending:
            if not IS_WINDOWS and not self.connection.closed and getpid() == self._pid:
                with suppress(OSError), socket.socket(fileno=os.dup(self.connection.fileno())) as copy:
                    copy.shutdown(socket.SHUT_RDWR)
            self.connection.close()


class ChildsChannel(Channel):
    """The child's end, with one thread that writes.

    HAZARD: a signal handler of the application, and a finalizer that runs amid any other work, may log or emit while
    their own thread is sending; and a handler that raises would cut a message in two. Handlers run in the main thread.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._unsent: queue.SimpleQueue[tuple[bytes, threading.Lock | None]] = queue.SimpleQueue()
        self._failed: OSError | None = None
        self._writer = threading.Thread(target=self._write, name="litequeue-sends", daemon=True)
        self._writer.start()

    @classmethod
    def of_descriptor(cls, number: int) -> ChildsChannel:
        """Return the end that this process was started with.

        HAZARD: if a job closes it, what is sent goes to the next file that gets its number. So the number is high: the
        system assigns the lowest; and each message is sent only where the descriptor is still ours.
        """
        kind: Any = getattr(connections, "PipeConnection", Connection)  # of a handle, on Windows
        return cls(kind(_moved_up(number)))

    def send(self, message: object, *, wait: bool = True) -> None:
        """Send one message; `wait` until it is sent, whatever happens to this process then."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self._check_process()
        sent = threading.Lock() if wait and threading.get_ident() != self._writer.ident else None
        if sent is not None:
            sent.acquire()
        self._unsent.put((data, sent))
        if sent is not None:
            sent.acquire()
        if self._failed is not None:
            raise OSError(str(self._failed)) from self._failed

    def offer(self, message: object) -> bool:
        """Send one message soon; False: the other end does not read just now."""
        if not self._unsent.empty():
            return False
        self.send(message, wait=False)
        return True

    def _write(self) -> None:
        while True:
            data, sent = self._unsent.get()
            if self._failed is None:
                try:
                    self._check_descriptor()
                    self.connection.send_bytes(data)
                except (OSError, ValueError) as error:
                    self._failed = error if isinstance(error, OSError) else OSError(str(error))
            if sent is not None:
                sent.release()


_channels: weakref.WeakSet[Channel] = weakref.WeakSet()


def _be_a_copy() -> None:
    for channel in list(_channels):
        channel.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_be_a_copy)


def _moved_up(number: int) -> int:
    high = duplicated_high(number)
    if high is None:
        if not IS_WINDOWS:
            os.set_inheritable(number, False)
        return number
    os.close(number)
    return high
