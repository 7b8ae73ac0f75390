"""Wake other processes by datagrams: a Notifier notifies every Listener of its topic. Knows no store and no job.

A notification is a hint, never the truth: it may be dropped, doubled or stray, so its receiver looks at the file.
"""

from __future__ import annotations

import errno
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from litequeue.core.interruptible import interruptible
from litequeue.core.owner_process import getpid
from litequeue.ipc.sockets import GONE, UNIX, Sender, call, listen, sleeper, unlink

LONGEST_MESSAGE = 65_536
LARGEST_DRAIN = 64
CROWDED = 8  # datagrams; Linux refuses the twelfth that waits (net.unix.max_dgram_qlen = 10)
CROWDED_BYTES = 90_000  # a sender's buffer is full at about 100 KB of payload that was not received
LOOK_EVERY = 0.005  # seconds: a notifier that has looked for listeners just now notifies those that it knows
UNHEARD = 0.006  # seconds for which a new listener may be unknown to a notifier; after them it wakes itself
SETTLING = 0.020  # seconds; longer than the tick that any file system stamps its directories by
FULL = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.ENOBUFS})

# The topics: jobs for workers, and ends of jobs for callers that wait (the message names the ids).
WORK = "work"
DONE = "done"
# The messages about work.
JOBS = b"jobs"
CANCEL = b"cancel"
SCHEDULES = b"schedules"


class Listener:
    """Receives every notification of one topic; one thread waits on it, any thread wakes it.

    `missed` tells that senders may have dropped some: check everything. So it is where the last drain took much, and
    once at the start, for notifiers look for new listeners now and then only.
    Raises `OSError` when the directory cannot be written to.
    """

    def __init__(self, directory: Path, topic: str, *, loopback: bool = UNIX < 0) -> None:
        _check_topic(topic)
        self.missed: bool = False
        self._lock = threading.RLock()  # re-entrant: a signal handler may call wake() inside wait()
        self._waiting = self._woken = self._closed = False
        self._young = True
        self._buffer = memoryview(bytearray(LONGEST_MESSAGE))  # made once: to make it again costs more than the rest
        self._pid = getpid()
        self._place = listen(directory, topic, loopback=loopback)
        self.name: str = self._place.path.name  # by which `Notifier.notify` leaves it out
        self._socket = self._place.receiver
        self._sleep = sleeper(self._socket)
        _inheritable.add(self)

    @interruptible
    def wait(self, timeout: float | None) -> list[bytes]:
        """Return what has arrived; if nothing has, sleep until a message, a wake or the timeout (seconds, or None).

        A wake(), and an empty message, is b""; one such comes by itself at the start. Raises `ValueError` when
        the listener is closed.
        """
        if self._closed:
            raise ValueError("this listener is closed; make a new one, also in a forked child")
        taken = self._take(LARGEST_DRAIN)
        if taken or (timeout is not None and timeout <= 0):
            return taken
        with self._lock:  # wake() sees that we wait, or we see that it woke us: never neither
            self._waiting = not self._woken
        short = self._young and (timeout is None or timeout > UNHEARD)
        came = not self._waiting or self._sleep(UNHEARD if short else timeout)
        if came is None and not self._closed:  # a caller that waits in a loop would spin
            raise OSError(errno.EBADF, "the notifier's descriptor was closed by code that does not own it")
        taken = self._take(1 if came else 0)  # a caller that slept is in a hurry; the next wait takes the rest
        if short and not taken:
            self._young, self.missed = False, True
            return [b""]
        return taken

    def _take(self, most: int) -> list[bytes]:
        with self._lock:
            self._waiting = False
            woken, self._woken = self._woken, False
        taken = self._drain(most)
        if woken and b"" not in taken:
            taken.append(b"")
        return taken

    @property
    def closed(self) -> bool:
        """Whether it hears no more."""
        return self._closed

    def wake(self) -> None:
        """Make the wait() of now, or else the next, return promptly; from any thread or signal handler here."""
        with self._lock:
            if self._woken:
                return
            if self._waiting:
                with suppress(OSError):
                    self._place.waker.send(self._place.password)
            self._woken = True  # at last: a Ctrl-C before the send must leave the next wake() something to do

    def close(self) -> None:
        """Stop hearing, and take the name out of the directory. May be called again."""
        if self._closed or getpid() != self._pid:  # of the process that forked this one: its name stays
            return
        with suppress(OSError):
            self._place.path.unlink()
        self._waiting = True
        self.wake()
        self._forsake()

    def _drain(self, most: int) -> list[bytes]:
        taken: list[bytes] = []
        receive, buffer = self._socket.recv_into, self._buffer
        try:  # not suppress(): on the way of a job to an idle worker each call in Python costs
            while len(taken) < most:
                taken.append(bytes(buffer[: receive(buffer)]))
        except OSError:
            pass
        self.missed = len(taken) >= CROWDED or sum(map(len, taken)) >= CROWDED_BYTES
        return self._place.genuine(taken) if self._place.password else taken

    def _forsake(self) -> None:
        if not self._closed:  # a second close would hit the file that has the descriptor's number now
            self._closed = True
            self._place.close()

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # a thread that is not here may have held it
        self._forsake()

    def __repr__(self) -> str:
        return (
            f"<Listener {self._place.path.name} {'closed' if self._closed else 'waiting' if self._waiting else 'open'}>"
        )


class Notifier:
    """Notifies every listener of a topic in the directory, in all processes; threads and forked children may share it.

    `monotonic` tells seconds, as `Clock.monotonic` does, but always goes on: it decides when to look for new listeners.
    """

    def __init__(self, directory: Path, topic: str, monotonic: Callable[[], float]) -> None:
        self._listeners: dict[str, Sender] = {}
        self._looked: float
        _check_topic(topic)
        self._directory = directory
        self._path = os.fspath(directory)
        self._prefix = f"{topic}-"
        self._monotonic = monotonic
        self._start()
        _inheritable.add(self)

    def notify(self, message: bytes = b"", *, but: str = "") -> None:
        """Send the message (at most 60,000 bytes) to every listener but the one of that name. Never blocks or raises.

        A listener with a full buffer has a reason to wake already, and sees `missed`.
        """
        with self._lock:
            known = self._targets
            self._send(known, message, but)
            now = self._monotonic()
            if now - self._looked < LOOK_EVERY:
                return
            self._looked = now
            try:
                changed = os.stat(self._path).st_mtime_ns  # noqa: PTH116 - half the price of Path.stat
            except OSError:
                return
            if changed != self._changed or not self._settled:
                self._look(changed, now)
                self._send([target for target in self._targets if target not in known], message, but)

    def _send(self, targets: Iterable[tuple[str, Sender]], message: bytes, but: str) -> None:
        for name, target in targets:
            if name == but:
                continue
            try:
                target.sender.send(target.password + message)
            except OSError as error:
                self._failed(name, error)

    def close(self) -> None:
        """Close the sockets; a later notification opens them again."""
        with self._lock:
            self._close_sockets()

    def _start(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a signal handler may call notify() inside notify()
        self._forget_listing()

    def _forget_listing(self) -> None:
        self._note_targets()
        self._changed = -1
        self._since = 0.0
        self._looked = -math.inf
        self._settled = False

    def _note_targets(self) -> None:
        self._targets = tuple(self._listeners.items())

    def _look(self, changed: int, now: float) -> None:
        # A change within the same tick leaves the same mtime: trust it once two listings 20 ms apart, or more, saw it.
        if changed != self._changed:
            self._changed, self._since, self._settled = changed, now, False
        self._settled = now - self._since >= SETTLING
        try:
            names = {name for name in os.listdir(self._path) if name.startswith(self._prefix)}  # noqa: PTH208
        except OSError:
            names = set()
        for name in self._listeners.keys() - names:
            self._listeners.pop(name).sender.close()
        for name in names - self._listeners.keys():
            target = call(self._directory, name)
            if target is not None:
                self._listeners[name] = target
        self._note_targets()

    def _failed(self, name: str, error: OSError) -> None:
        if error.errno in FULL or error.errno == errno.EMSGSIZE:
            return
        target = self._listeners.pop(name, None)
        if target is not None:
            target.sender.close()
        self._note_targets()
        if isinstance(error, GONE):
            unlink(self._directory, name)

    def _close_sockets(self) -> None:
        for target in self._listeners.values():
            target.sender.close()
        self._listeners.clear()
        self._forget_listing()

    def _after_fork(self) -> None:
        self._close_sockets()
        self._start()

    __del__ = _close_sockets

    def __repr__(self) -> str:
        return f"<Notifier {self._prefix[:-1]} listeners={len(self._listeners)}>"


def _check_topic(topic: str) -> None:
    if not topic.isidentifier():
        raise ValueError(f"topic must be letters, digits and underscores, got {topic!r}")


_inheritable: weakref.WeakSet[Listener | Notifier] = weakref.WeakSet()


def _after_fork() -> None:
    # The child closes its copies and unlinks nothing: the names are still its parent's.
    for owner in list(_inheritable):
        owner._after_fork()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
