"""What jobs emit, as server-sent events. Knows no web framework.

All that follow in a process are woken by one listener, and share one look a second whether the server stops.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import msgspec

from litequeue.errors import LiteQueueError, Unsupported
from litequeue.integrations.job_events import COMMENT, HEARTBEAT, LOOK, RETRY
from litequeue.serialization.json_codec import JsonCodec
from litequeue.worker.web_server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from litequeue.core.job_dict import JobDict
    from litequeue.core.streams import Events, StoredEvent
    from litequeue.job import Job
    from litequeue.queue import Queue

END = "-end"  # behind the number of the last event, in the id of the end


def after_of(last_event_id: str | None, after: int) -> int:
    """Return the number of the last event that a client has: as its browser says, or as its first request did."""
    number = (last_event_id or "").removesuffix(END)
    return int(number) if number.isascii() and number.isdigit() and len(number) < 19 else after


class StreamEvents:
    """The streams of one queue's jobs. `shown` makes of a job what clients see."""

    def __init__(self, queue: Queue, shown: Callable[[Job[Any]], JobDict]) -> None:
        if not isinstance(queue.codec, JsonCodec):
            raise Unsupported(
                f"streams=True sends emitted values as JSON, and those of the codec {queue.codec.name!r} may be "
                f"anything; write a route of your own, which iterates over job.stream()"
            )
        self._queue, self._shown = queue, shown
        self._stops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Stop] = WeakKeyDictionary()

    async def has_all(self, job: Job[Any], last_event_id: str | None) -> bool:
        """Whether the client was sent the end of a job that has ended: one that was retried may have emitted since."""
        if not (job.status.finished and last_event_id is not None and last_event_id.endswith(END)):
            return False
        events = await self._queue.source.aevents(job.id, after_of(last_event_id, 0), None, None)
        return events.over and not events.found

    async def follow(self, job: Job[Any], after: int) -> AsyncIterator[str]:
        """Yield the text of the events behind that number, and then of the job's end."""
        stop = self._stops.setdefault(asyncio.get_running_loop(), _Stop())
        stopped = stop.join()
        reading = self._read(job.id, after)
        try:
            yield RETRY
            while True:
                told: set[asyncio.Future[Any]] = {reading, stopped}
                await asyncio.wait(told, timeout=HEARTBEAT, return_when=asyncio.FIRST_COMPLETED)
                if stopped.done():
                    return
                if not reading.done():
                    yield COMMENT
                    continue
                events = reading.result()
                after = events.found[-1].number if events.found else after
                if events.found:
                    yield "".join([self._text(event) for event in events.found])
                if events.over:
                    yield await self._end(job, after)
                    return
                reading = self._read(job.id, after)
        except LiteQueueError:  # pruned; or it cannot be read, which the client is told when it connects again
            return
        finally:
            reading.cancel()
            stop.leave()

    def _read(self, job_id: str, after: int) -> asyncio.Future[Events]:
        return asyncio.ensure_future(self._queue.source.aevents(job_id, after, None, None))

    def _text(self, event: StoredEvent) -> str:
        if event.value is None:
            return f'event: attempt\nid: {event.number}\ndata: {{"attempt":{event.attempt}}}\n\n'
        value = msgspec.json.encode(self._queue.codec.decode(event.value)).decode()
        return f"event: value\nid: {event.number}\ndata: {value}\n\n"

    async def _end(self, job: Job[Any], last: int) -> str:
        state = json.dumps(self._shown(await job.arefresh()), separators=(",", ":"))
        return f"event: end\nid: {last}{END}\ndata: {state}\n\n"


class _Stop:
    """Looks once a second whether the server stops, while anyone on this event loop follows a stream."""

    def __init__(self) -> None:
        self._followers = 0
        self._stopped: asyncio.Future[None] | None = None

    def join(self) -> asyncio.Future[None]:
        """Return a future that is done when the server stops."""
        self._followers += 1
        if self._stopped is None or self._stopped.done():
            self._stopped = asyncio.ensure_future(self._look())
        return self._stopped

    def leave(self) -> None:
        """Another one follows no more."""
        self._followers -= 1
        if not self._followers and self._stopped is not None:
            self._stopped.cancel()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            if Server().is_stopping:
                return
