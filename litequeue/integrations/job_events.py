"""Follows jobs for server-sent events: all that follow in a process share one look a second. Knows no web framework."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from litequeue.errors import LiteQueueError
from litequeue.worker.web_server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from litequeue.core.job_dict import JobDict
    from litequeue.job import Job
    from litequeue.queue import Queue

LOOK = 1.0  # seconds between looks for what changes while jobs run; an end is told of at once
HEARTBEAT = 15.0  # seconds without news after which a comment is sent: proxies would close, and who has gone is noticed
RETRY = "retry: 1000\n\n"  # milliseconds after which a browser whose connection was cut connects again
COMMENT = ":\n\n"


class Event:
    """A job's state as a server-sent event. Its id names the state, so that no client is sent what it has."""

    def __init__(self, shown: JobDict, *, ended: bool) -> None:
        data = json.dumps(shown, separators=(",", ":"))
        self.id: str = hashlib.blake2b(data.encode(), digest_size=8).hexdigest()
        self.ended = ended
        self.text: str = ("event: end\n" if ended else "") + f"id: {self.id}\ndata: {data}\n\n"


class JobEvents:
    """The events of one queue's jobs. `shown` makes of a job what clients see."""

    def __init__(self, queue: Queue, shown: Callable[[Job[Any]], JobDict]) -> None:
        self.queue: Queue = queue
        self._shown = shown
        self._followed: WeakKeyDictionary[asyncio.AbstractEventLoop, _Jobs] = WeakKeyDictionary()

    def event(self, job: Job[Any]) -> Event:
        """Return the event that tells of a job's state."""
        return Event(self._shown(job), ended=job.status.finished)

    async def read(self, job_id: str) -> Event:
        """Return the event that tells of a job's present state."""
        return self.event(await self.queue.ajob(job_id))

    async def follow(self, job: Job[Any], last: str | None) -> AsyncIterator[str]:
        """Yield the text of events from the job's present state to its end; `last`: the id of one the client has."""
        jobs = self._followed.setdefault(asyncio.get_running_loop(), _Jobs(self))
        followed = jobs.join(job.id, self.event(job))
        try:
            yield RETRY
            while True:
                changed, event, over = followed.changed, followed.event, followed.over
                if event.id != last:
                    last = event.id
                    yield event.text
                if over:
                    return
                await asyncio.wait({changed}, timeout=HEARTBEAT)
                if not changed.done():
                    yield COMMENT
        finally:
            jobs.leave(followed)


class _Followed:
    """One job that clients follow."""

    def __init__(self, events: JobEvents, job_id: str, event: Event) -> None:
        self._events, self.job_id, self.event = events, job_id, event
        self.followers, self.over, self.changed = 0, event.ended, asyncio.get_running_loop().create_future()
        self.ending = asyncio.ensure_future(self._tell_end())

    async def look(self) -> None:
        """Tell the followers if the job's state is another one by now."""
        try:
            event = await self._events.read(self.job_id)
        except LiteQueueError:  # pruned; or the file cannot be read, which they are told when they connect again
            self.close()
            return
        if event.id != self.event.id and not self.over:
            self.event, self.over = event, event.ended
            self._tell()

    def close(self) -> None:
        """End the followers' streams."""
        self.over = True
        self._tell()

    def _tell(self) -> None:
        told, self.changed = self.changed, asyncio.get_running_loop().create_future()
        told.set_result(None)

    async def _tell_end(self) -> None:
        try:
            await self._events.queue.source.await_end(self.job_id, None)
        except LiteQueueError:
            self.close()
        else:
            await self.look()


class _Jobs:
    """The jobs that are followed on one event loop."""

    def __init__(self, events: JobEvents) -> None:
        self._events = events
        self._jobs: dict[str, _Followed] = {}
        self._looking: asyncio.Future[None] | None = None

    def join(self, job_id: str, event: Event) -> _Followed:
        """Follow a job, which is in this state now."""
        followed = self._jobs.get(job_id)
        if followed is None or followed.over:
            followed = self._jobs[job_id] = _Followed(self._events, job_id, event)
        followed.followers += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())
        return followed

    def leave(self, followed: _Followed) -> None:
        """Follow it no more."""
        followed.followers -= 1
        if followed.followers == 0:
            followed.ending.cancel()
            if self._jobs.get(followed.job_id) is followed:
                del self._jobs[followed.job_id]

    async def _look(self) -> None:
        while self._jobs:
            await asyncio.sleep(LOOK)
            stopping = Server().is_stopping
            for followed in list(self._jobs.values()):
                if stopping:
                    followed.close()
                else:
                    await followed.look()
