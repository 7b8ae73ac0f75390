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

from litequeue.job import Claimed
from litequeue.liveness import open_shared

if TYPE_CHECKING:
    from litequeue.doorbell import Bell

NAME = "resting"
LONGEST_NAME = 48  # characters of an ear's name
SLOTS = 32  # workers that can be seen at rest by other processes; two whose numbers share one are seen in turn
SLOT = struct.Struct(f"<qd{LONGEST_NAME}s")  # its number, until when it rests (monotonic), its ear's name
EMPTY = bytes(SLOT.size)
NOBODY = bytes(SLOTS * SLOT.size)
LARGEST = 32_768  # bytes of a payload that is handed over; more does not fit into a datagram everywhere
HANDED = b"job "  # begins a message that hands a job over
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, Claimed]).decode
KNOWN = 256  # workers of which it is remembered what they serve


class Serves(NamedTuple):
    """What a worker takes: of these tasks, from these queues (None: all)."""

    tasks: frozenset[str]
    queues: tuple[str, ...] | None


class Taker(NamedTuple):
    """A worker at rest; `give` hands it a job that is claimed for its number, and tells whether that could be done."""

    number: int
    serves: Serves
    give: Callable[[int, Claimed], bool]


class Handover:
    """Who is at rest. `serves` says what the worker of a number takes, as it stands in the file."""

    def __init__(
        self, database: Path, bell: Bell, serves: Callable[[int], Serves | None], monotonic: Callable[[], float]
    ) -> None:
        self._database, self._bell, self._monotonic = database, bell, monotonic
        self._serves = serves
        self._known: dict[int, Serves | None] = {}
        self._near: dict[int, Taker] = {}
        self._board: mmap.mmap | bytearray | None = None

    # ---- a worker's side

    def offer(self, taker: Taker, ear: str, span: float) -> None:
        """Let this worker be given a job while it rests, for `span` seconds at most; others send it to its ear."""
        self._near[taker.number] = taker
        if len(ear) <= LONGEST_NAME:
            slot = SLOT.pack(taker.number, self._monotonic() + span, ear.encode())
            self._memory()[_place(taker.number)] = slot

    def withdraw(self, number: int) -> None:
        """It has woken up."""
        self._near.pop(number, None)
        self._strike_out(number)

    # ---- a caller's side

    def taker(self, task: str, queue: str) -> Taker | None:
        """Return a worker at rest that serves this task and queue; whoever asks next is told of another."""
        for number, taker in list(self._near.items()) if self._near else ():
            (tasks, queues) = taker.serves
            if task in tasks and (queues is None or queue in queues) and self._near.pop(number, None) is not None:
                return taker
        memory = self._board or self._memory()
        return None if memory[:] == NOBODY else self._far_taker(task, queue, bytes(memory))

    def _far_taker(self, task: str, queue: str, slots: bytes) -> Taker | None:
        now = self._monotonic()
        for number, until, name in SLOT.iter_unpack(slots):
            if not number or until < now or (serves := self._served_by(number)) is None:
                continue
            (tasks, queues) = serves
            if task in tasks and (queues is None or queue in queues):
                ear = name.rstrip(b"\0").decode("ascii", "replace")
                self._strike_out(number)
                if self._bell.reaches(ear):
                    return Taker(number, serves, partial(self._send, ear))
        return None

    def _served_by(self, number: int) -> Serves | None:
        serves = self._known.get(number)
        if serves is None:
            if len(self._known) >= KNOWN:
                self._known.clear()
            serves = self._known[number] = self._serves(number)
        return serves

    def _send(self, ear: str, number: int, job: Claimed) -> bool:
        return self._bell.ring_one(ear, HANDED + _encode((number, job)))

    # ---- the memory that processes share

    def _strike_out(self, number: int) -> None:
        memory, place = self._memory(), _place(number)
        if SLOT.unpack(memory[place])[0] == number:
            memory[place] = EMPTY

    def _memory(self) -> mmap.mmap | bytearray:
        if self._board is None:
            self._board = bytearray(len(NOBODY))  # where there is no such file, a worker is seen in its process only
            with suppress(OSError, ValueError):
                descriptor = open_shared(self._database, NAME, len(NOBODY))
                try:
                    self._board = mmap.mmap(descriptor, len(NOBODY))
                finally:
                    os.close(descriptor)
        return self._board

    def start_anew(self) -> None:
        """After a fork, in the child: the workers of this process are the parent's."""
        self._near = {}


def handed(message: bytes) -> tuple[int, Claimed] | None:
    """Return the number of the worker that is meant, and its job; None when the message hands none over."""
    if not message.startswith(HANDED):
        return None
    try:
        return _decode(message[len(HANDED) :])
    except msgspec.MsgspecError:
        return None


def _place(number: int) -> slice:
    at = number % SLOTS * SLOT.size
    return slice(at, at + SLOT.size)
