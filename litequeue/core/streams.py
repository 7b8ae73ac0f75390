"""What running jobs emit, as values: an event, a page of events, and how much a run may emit. Knows no store."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from litequeue.errors import EmitLimit

if TYPE_CHECKING:
    from litequeue.core.records import Claimed

MOST_VALUES = 10_000  # of one run
MOST_BYTES = 1 << 20  # of these, encoded
MOST_DETAILS = 1 << 16  # bytes of those of one heartbeat

EventKind = Literal["value", "attempt"]


class StreamEvent(msgspec.Struct, frozen=True):
    """One event of a job's stream. `number` counts 1, 2, 3 over all runs of the job, without a gap.

    `kind` "value": something that run `attempt` emitted. "attempt": what follows was emitted by another run, this one,
    and `value` is None.
    """

    number: int
    kind: EventKind
    attempt: int
    value: Any
    at: datetime


class StoredEvent(NamedTuple):
    """An event as it is stored: `at` in unix seconds, `value` encoded; None: it tells of another attempt."""

    number: int
    attempt: int
    at: float
    value: bytes | None


class Events(NamedTuple):
    """The next events of a stream. `over`: there are none behind these, and the job has ended."""

    found: list[StoredEvent]
    over: bool


class Emitted:
    """How much one run has emitted. Threads of the run may share it."""

    __slots__ = ("_bytes", "_lock", "_values")

    def __init__(self) -> None:
        self._values = self._bytes = 0
        self._lock = threading.RLock()  # re-entrant: a signal handler may emit as well

    def add(self, size: int, job: Claimed) -> None:
        """Count one more value, or raise `EmitLimit`."""
        with self._lock:
            if self._values >= MOST_VALUES:
                run = f"run {job.attempt} of job {job.id}"
                raise EmitLimit(
                    f"{run} has emitted {MOST_VALUES:,} values, as many as a run may; emit several at once, as a list, "
                    f"or only every so often"
                )
            if self._bytes + size > MOST_BYTES:
                run = f"run {job.attempt} of job {job.id}"
                raise EmitLimit(
                    f"{run} has emitted {self._bytes:,} bytes, and {size:,} more would pass the {MOST_BYTES:,} of a "
                    f"run; store the data elsewhere, and emit where it lies"
                )
            self._values += 1
            self._bytes += size
