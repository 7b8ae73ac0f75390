"""What lies beside the file: datagrams on the notifiers' sockets, names in the folder, lock files."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from fuzz import hostile
from fuzz.targets import Target
from litequeue.ipc import process_lock as liveness
from litequeue.ipc.notifier import WORK, Listener, Notifier
from litequeue.ipc.result_waiters import ResultWaiters, Waiter
from litequeue.ipc.sockets import LOOPBACK, UNIX

if TYPE_CHECKING:
    from collections.abc import Callable

SOON = 1.0  # seconds


messages = (
    hostile.blobs
    | st.binary(max_size=40)
    | st.sampled_from([b"cancel", b"schedules", b"1 2", b"x" * 60_000, b"9" * 5000])
)
names = st.sampled_from(
    ["work-.sock", "work-a.sock", "work-a.udp", "work-a-b.udp", "work-a-1-2.udp", "work-a-99999.udp",
    "work-a--1.udp", "work-a-0.udp",
     "work-a-٣.udp", "work-", "work-a", "done-a.sock", "a.lock", "a.tmp", ".lock", "é.lock", "a b.lock",
     "a.lock.lock", "-.lock"]
) | st.text("abworkdone-.socklktmpud0123", min_size=1, max_size=20)  # fmt: skip


def _file(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _sparse(path: Path, _: bytes) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _socket(path: Path, _: bytes) -> None:
    with closing(socket.socket(UNIX, socket.SOCK_DGRAM)) as made:
        made.bind(str(path))


KINDS: tuple[Callable[[Path, bytes], object], ...] = (
    _file,
    _sparse,
    lambda path, _: path.mkdir(),
    lambda path, _: path.symlink_to(path.name),
    lambda path, _: path.symlink_to("/dev/zero"),
    lambda path, _: path.symlink_to("../beyond"),
    *([lambda path, _: os.mkfifo(path)] if hasattr(os, "mkfifo") else []),
    *([_socket] if UNIX >= 0 else []),
)
things = st.tuples(names, st.integers(0, len(KINDS) - 1), hostile.blobs | st.binary(min_size=40, max_size=100))


class NothingEnded:
    """What the waits of `ring` read."""

    def free_within(self, _seconds: float) -> bool:
        return True

    def file_version(self) -> int:
        return 0

    def ended_among(self, _job_ids: list[str]) -> list[str]:
        return []


def ring(case: tuple[list[bytes], bool]) -> None:
    """Whatever is sent to a listener is bytes to its owner, and a wait ends."""
    sent, loopback = case
    with tempfile.TemporaryDirectory() as folder, closing(Listener(Path(folder), WORK, loopback=loopback)) as listener:
        marker = Path(folder) / listener.name
        family, address = socket.AF_UNIX, str(marker)
        if marker.suffix == ".udp":
            family, address = socket.AF_INET, ("127.0.0.1", int(marker.stem.rpartition("-")[2]))
        with closing(socket.socket(family, socket.SOCK_DGRAM)) as stranger:
            stranger.setblocking(False)
            for message in sent:
                with suppress(OSError):  # full, or too long
                    stranger.sendto(message, address)
        heard = listener.wait(0.0)
        if loopback and LOOPBACK:
            assert heard == [], "a stranger was heard"
        else:
            assert all(any(one.startswith(message) for one in sent) for message in heard)  # a long one is cut
        waiters = ResultWaiters(lambda: Path(folder), time.monotonic, NothingEnded())
        waiters.add(Waiter("1"))
        waiters.heard(listener, heard)
        waiters.close()
        listener.wake()
        assert b"" in listener.wait(SOON)


def meet(case: list[tuple[str, int, bytes]]) -> None:
    """Names that are not what they seem stop neither notifier nor listener nor reaping, and nothing else is touched."""
    with tempfile.TemporaryDirectory() as above:
        beyond, folder = Path(above) / "beyond", Path(above) / "beside"
        beyond.write_bytes(b"not ours")
        folder.mkdir()
        for name, kind, data in case:
            if not os.path.lexists(folder / name):
                KINDS[kind](folder / name, data)
        with closing(Notifier(folder, WORK, time.monotonic)) as notifier, closing(Listener(folder, WORK)) as listener:
            notifier.notify(b"x")
            notifier.notify(b"y")
            assert set(listener.wait(SOON)) <= {b"x", b"y"}
        line = liveness.ProcessLock(folder, "f" * 32, 2)
        line.enter(0, "1:1")
        for token in [*liveness.tokens(folder), *(name for name, _, _ in case), "../beyond", "/etc/passwd", "\0", ""]:
            assert token == line.token or _took(folder, token)
        assert liveness.noted(folder, line.token) == {"1:1"}
        assert liveness.take(folder, line.token) is None
        line.close()
        assert beyond.read_bytes() == b"not ours"


def _took(folder: Path, token: str) -> bool:
    with suppress(ValueError):  # no name of a file
        liveness.noted(folder, token)
    dead_process = liveness.take(folder, token)
    if dead_process is not None:
        assert all(isinstance(run, str) for run in dead_process.executing)
        dead_process.reap()
    return True


TARGETS = (
    Target("datagrams", st.tuples(st.lists(messages, max_size=12), st.booleans()), ring),
    Target("files beside", st.lists(things, max_size=6), meet),
)
