"""The stream of what a job emits, as its reader iterates over it. Knows no store and no task."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from litequeue.core.clock import SystemClock
from litequeue.core.duration import utc
from litequeue.core.interruptible import interruptible
from litequeue.core.streams import StreamEvent
from litequeue.errors import JobNotFound

if TYPE_CHECKING:
    from litequeue.core.source import Source
    from litequeue.core.streams import Events, StoredEvent


class Values(Protocol):
    """What reads the values of a job."""

    def decode_result(self, data: bytes | None, call: bytes | None = None, /) -> Any:
        """Return its result. `call`: the stored call that it is of."""

    def decode_value(self, data: bytes, /) -> Any:
        """Return a value that it has emitted."""


def checked_after(after: object) -> int:
    """Check the number of an event, behind which a stream begins."""
    if isinstance(after, bool) or not isinstance(after, int) or after < 0:
        raise ValueError(f"after must be the number of an event, or 0 for all of them, got {after!r}")
    return after


@interruptible
class Stream:
    """Iterates over the events of one job, by `for` or by `async for`; ends when the job has ended.

    It may be left at any moment, and gone on with: `number` is that of the last event that it has returned.
    """

    __slots__ = ("_events", "_found", "_id", "_left", "_over", "_source", "_timeout", "_values", "number")

    def __init__(self, job_id: str, source: Source, values: Values, after: int, timeout: float | None) -> None:
        self.number: int = after
        self._id, self._source, self._values = job_id, source, values
        self._timeout = self._left = timeout
        self._events: deque[StoredEvent] = deque()
        self._over = self._found = False

    def __iter__(self) -> Stream:
        return self

    def __aiter__(self) -> Stream:
        return self

    def __next__(self) -> StreamEvent:
        while not self._events:
            if self._over:
                raise StopIteration
            began = SystemClock.monotonic()
            try:
                self._take(self._source.events(self._id, self.number, self._left, self._timeout))
            except JobNotFound:
                if not self._found:
                    raise
                self._over = True  # it has been pruned meanwhile, so it had ended
            self._count(began)
        return self._next()

    async def __anext__(self) -> StreamEvent:
        while not self._events:
            if self._over:
                raise StopAsyncIteration
            began = SystemClock.monotonic()
            try:
                self._take(await self._source.aevents(self._id, self.number, self._left, self._timeout))
            except JobNotFound:
                if not self._found:
                    raise
                self._over = True  # it has been pruned meanwhile, so it had ended
            self._count(began)
        return self._next()

    def _take(self, events: Events) -> None:
        self._events.extend(events.found)
        self._over, self._found = events.over, True

    def _count(self, began: float) -> None:
        if self._left is not None:
            self._left = max(0.0, self._left - (SystemClock.monotonic() - began))

    def _next(self) -> StreamEvent:
        number, attempt, at, data = self._events[0]
        value = None if data is None else self._values.decode_value(data)
        self._events.popleft()
        self.number = number
        return StreamEvent(number, "attempt" if data is None else "value", attempt, value, utc(at))

    def __repr__(self) -> str:
        return f"<Stream of job {self._id} after={self.number}{' over' if self._over and not self._events else ''}>"
