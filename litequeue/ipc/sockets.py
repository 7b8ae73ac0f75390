"""How a datagram gets to another process: a socket named in a directory, or a loopback port. Knows no message.

A Unix socket where there is one and its path can hold it; elsewhere a port of the loopback, and a file that tells it.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from litequeue.core.interruptible import interruptible
from litequeue.ipc.permissions import give_to_users_of, is_shared

UNIX = int(getattr(socket, "AF_UNIX", -1))  # Windows has none that carries datagrams
LOOPBACK = "127.0.0.1"
LONGEST_ADDRESS = 103  # bytes of sun_path on macOS and the BSDs, less its NUL; Linux has 107
BUFFER = 1 << 18  # bytes; macOS gives a Unix datagram socket 2 KiB to send from and 4 KiB to receive into
GONE = (ConnectionRefusedError, ConnectionResetError)


class Place(NamedTuple):
    """The address of a listener: its name in the directory, and the socket by which it wakes itself."""

    path: Path
    receiver: socket.socket
    waker: socket.socket
    password: bytes = b""
    marker: int = -1

    def genuine(self, datagrams: list[bytes]) -> list[bytes]:
        """Return the messages that begin with the password, without it: any user can send to a loopback port."""
        return [datagram[len(self.password) :] for datagram in datagrams if datagram.startswith(self.password)]

    def close(self) -> None:
        """Close the sockets; the name stays."""
        for made in (self.receiver, self.waker):
            with suppress(OSError):  # other code has closed its descriptor
                made.close()
        if self.marker >= 0:
            with suppress(OSError):
                os.close(self.marker)


class Sender(NamedTuple):
    """A notifier's socket to one listener: with a shared one, a sleeping listener would fill the send buffer of all."""

    sender: socket.socket
    password: bytes = b""


def listen(directory: Path, prefix: str, *, loopback: bool) -> Place:
    """Make a place whose name begins like that, and with a dash."""
    directory.mkdir(mode=0o700, exist_ok=True)
    name = f"{prefix}-{os.urandom(8).hex()}"
    if not loopback:
        with suppress(OSError):  # the path is too long, or the file system cannot hold sockets
            return _listen_unix(directory, f"{name}.sock")
    return _listen_loopback(directory, name)


def _listen_unix(directory: Path, name: str) -> Place:
    path = directory / name
    # In a shared folder it gets its permissions first and its name last: a sender that is refused does not try again.
    first = directory / f".{name}" if is_shared(directory) else path
    with ExitStack() as made:
        receiver, waker = made.enter_context(_datagrams(UNIX)), made.enter_context(_datagrams(UNIX))
        with _address(directory, first.name) as address:
            receiver.bind(address)
            waker.connect(address)
        if first != path:
            made.callback(unlink, directory, first.name)
            give_to_users_of(directory, first)
            first.rename(path)
        made.pop_all()
    return Place(path, receiver, waker)


def _listen_loopback(directory: Path, name: str) -> Place:
    with ExitStack() as made:
        receiver, waker = (made.enter_context(_datagrams(socket.AF_INET)) for _ in range(2))
        receiver.bind((LOOPBACK, 0))
        waker.connect(receiver.getsockname())
        path = directory / f"{name}-{receiver.getsockname()[1]}.udp"
        # Windows removes a temporary file when its owner dies.
        marker = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_TEMPORARY", 0), 0o600)
        made.pop_all()
    return Place(path, receiver, waker, name.partition("-")[2].encode(), marker)


def call(directory: Path, name: str) -> Sender | None:
    """Connect to the listener of that name; None if there is none, or it cannot be reached."""
    with suppress(
        OSError, ValueError, OverflowError
    ):  # not a listener, or one to which we may not send, or no descriptor is left
        if name.endswith(".udp"):
            return _call_loopback(name)
        if name.endswith(".sock") and UNIX >= 0:
            return _call_unix(directory, name)
    return None


def _call_loopback(name: str) -> Sender:
    _, token, port = name.removesuffix(".udp").split("-")
    return Sender(_connected(socket.AF_INET, (LOOPBACK, int(port))), token.encode())


def _call_unix(directory: Path, name: str) -> Sender | None:
    try:
        with _address(directory, name) as address:
            return Sender(_connected(UNIX, address))
    except GONE:
        unlink(directory, name)
        return None


def _connected(family: int, address: str | tuple[str, int]) -> socket.socket:
    made = _datagrams(family)
    try:
        made.connect(address)
    except BaseException:
        made.close()
        raise
    return made


def _datagrams(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setblocking(False)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        with suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    return made


@contextmanager
def _address(directory: Path, name: str) -> Iterator[str]:
    path = str(directory / name)
    if sys.platform == "linux" and len(os.fsencode(path)) > LONGEST_ADDRESS:
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{descriptor}/{name}"
        finally:
            os.close(descriptor)
    else:
        yield path


if sys.platform == "win32":

    def sleeper(receiver: socket.socket) -> Callable[[float | None], bool | None]:
        """Return what sleeps until a datagram is there, at most so many seconds; None: the descriptor was closed."""

        @interruptible
        def sleep(timeout: float | None) -> bool:
            return bool(select.select([receiver], [], [], timeout)[0])  # raises by itself where the socket is gone

        return sleep

else:

    def sleeper(receiver: socket.socket) -> Callable[[float | None], bool | None]:
        """Return what sleeps until a datagram is there, at most so many seconds; None: the descriptor was closed."""
        poller = select.poll()
        poller.register(receiver, select.POLLIN)

        @interruptible
        def sleep(timeout: float | None) -> bool | None:
            ready = poller.poll(None if timeout is None else max(0.0, timeout * 1000))
            return None if ready and ready[0][1] & select.POLLNVAL else bool(ready)

        return sleep


def unlink(directory: Path, name: str) -> None:
    """Remove the socket of a dead listener; a file of its name that is not a socket is not ours."""
    path = directory / name
    with suppress(OSError):
        if path.is_socket() or name.endswith(".udp"):
            path.unlink()
