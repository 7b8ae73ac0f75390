"""Workers at rest, and the job that is handed to one by whoever enqueues it, claimed as it is stored. Knows no store.

A worker at rest is known to its own process by an entry here, and to others by a slot of shared memory. Either is a
hint, never the truth: that it has nothing to do, and is the only one to be given the job, is decided in the file.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from litequeue.ipc.process_lock import open_shared
from litequeue.job import Claimed

if TYPE_CHECKING:
    from litequeue.ipc.notifier import Notifier

NAME = "resting"
LONGEST_NAME = 48  # characters of a listener's name
LONGEST_REST = 10.0  # seconds; what says more was written before a reboot, or by a foreign hand
SLOTS = 32  # workers that can be seen at rest by other processes; two whose numbers share one are seen in turn
SLOT = struct.Struct(f"<qd{LONGEST_NAME}s")  # its number, until when it rests (monotonic), its listener's name
VACANT = bytes(SLOT.size)
NOBODY = bytes(SLOTS * SLOT.size)
LARGEST = 32_768  # bytes of a payload that is handed over; more does not fit into a datagram everywhere
HANDED = b"job "  # begins a message that hands a job over
KNOWN = 256  # workers of which it is remembered what they serve

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, Claimed]).decode


class Serves(NamedTuple):
    """What a worker takes: of these tasks, from these queues (None: all)."""

    tasks: frozenset[str]
    queues: tuple[str, ...] | None


class IdleWorker(NamedTuple):
    """A worker at rest. `give` hands it a job that is claimed for its number; False when it could not be reached."""

    number: int
    serves: Serves
    give: Callable[[Claimed], bool]


class Dispatch:
    """Who is at rest."""

    def __init__(self, database: Path, notifier: Notifier, monotonic: Callable[[], float]) -> None:
        self._database, self._notifier, self._monotonic = database, notifier, monotonic
        self._known: dict[int, Serves] = {}
        self._near: dict[int, IdleWorker] = {}
        self._board: mmap.mmap | bytearray | None = None

    # ---- a worker's side

    def offer(self, taker: IdleWorker, listener: str, span: float) -> None:
        """Let this worker be given a job while it rests, for `span` seconds at most; others send it to its listener."""
        self._near[taker.number] = taker
        if len(listener) <= LONGEST_NAME:
            slot = SLOT.pack(taker.number, self._monotonic() + span, listener.encode())
            self._memory()[_place(taker.number)] = slot

    def withdraw(self, number: int) -> None:
        """It has woken up."""
        self._near.pop(number, None)
        self._strike_out(number)

    # ---- a caller's side

    def strangers(self) -> list[int]:
        """Workers at rest in other processes of which it is not known yet what they serve: see `introduce`."""
        if self._near:
            return []
        memory = self._board or self._memory()
        return [] if memory[:] == NOBODY else [number for number, _ in self._in_sight() if number not in self._known]

    def introduce(self, number: int, serves: Serves | None) -> None:
        """Say what that worker takes, as it stands in the file; None: it is not on record."""
        if serves is None:
            self._strike_out(number)
            return
        if len(self._known) >= KNOWN:
            self._known.clear()
        self._known[number] = serves

    def taker(self, task: str, queue: str) -> IdleWorker | None:
        """Return a worker at rest that serves this task and queue; whoever asks next is told of another."""
        for number, taker in list(self._near.items()) if self._near else ():
            if _takes(taker.serves, task, queue) and self._near.pop(number, None) is not None:
                return taker
        memory = self._board or self._memory()
        return None if memory[:] == NOBODY else self._far_taker(task, queue)

    def _far_taker(self, task: str, queue: str) -> IdleWorker | None:
        for number, listener in self._in_sight():
            serves = self._known.get(number)
            if serves is not None and _takes(serves, task, queue):
                self._strike_out(number)
                if self._notifier.reaches(listener):
                    return IdleWorker(number, serves, partial(self._send, listener, number))
        return None

    def _in_sight(self) -> list[tuple[int, str]]:
        now = self._monotonic()
        return [
            (number, name.rstrip(b"\0").decode("ascii", "replace"))
            for number, until, name in SLOT.iter_unpack(bytes(self._memory()))
            if number and now < until < now + LONGEST_REST
        ]

    def _send(self, listener: str, number: int, job: Claimed) -> bool:
        return self._notifier.ring_one(listener, HANDED + _encode((number, job)))

    # ---- the memory that processes share

    def _strike_out(self, number: int) -> None:
        memory, place = self._memory(), _place(number)
        if SLOT.unpack(memory[place])[0] == number:
            memory[place] = VACANT

    def _memory(self) -> mmap.mmap | bytearray:
        board = self._board  # close() may take it away at any time
        if board is None:
            board = bytearray(len(NOBODY))  # where there is no such file, a worker is seen in its process only
            with suppress(OSError, ValueError):
                descriptor = open_shared(self._database, NAME, len(NOBODY))
                try:
                    board = mmap.mmap(descriptor, len(NOBODY))
                finally:
                    os.close(descriptor)
            self._board = board
        return board

    def close(self) -> None:
        """Let go of that memory; it is opened anew when it is needed."""
        self._board = None

    def start_anew(self) -> None:
        """After a fork, in the child: the workers of this process are the parent's."""
        self._near = {}


def handed(message: bytes) -> tuple[int, Claimed] | None:
    """Return the number of the worker that is meant, and its job; None when the message hands none over."""
    if not message.startswith(HANDED):
        return None
    try:
        number, job = _decode(message[len(HANDED) :])
        int(job.id)
    except (msgspec.MsgspecError, ValueError):  # a foreign hand's
        return None
    return number, job


def _takes(serves: Serves, task: str, queue: str) -> bool:
    tasks, queues = serves
    return task in tasks and (queues is None or queue in queues)


def _place(number: int) -> slice:
    at = number % SLOTS * SLOT.size
    return slice(at, at + SLOT.size)
