"""What the runs of jobs log, as server-sent events: all that follow a job share one look a second.

Knows no web framework.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from litequeue.core.clock import SystemClock
from litequeue.core.records import Status
from litequeue.core.run_logs import FOLLOW_AGAIN, LOOK, START, Piece, Position, Tail
from litequeue.errors import LiteQueueError
from litequeue.integrations.job_events import COMMENT, HEARTBEAT, RETRY
from litequeue.worker.web_server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from litequeue.core.run_logs import RunText
    from litequeue.core.source import Source
    from litequeue.job import Job
    from litequeue.queue import Queue

END = "-end"  # behind the position, in the id of the end
_ID = re.compile(r"([0-9]{1,16})-([0-9]{1,16})(?:-end)?")
_BREAK = re.compile(r"\r\n|\r|\n")


def position_of(last_event_id: str | None) -> Position:
    """Return how far a client has come, as its browser says."""
    found = _ID.fullmatch(last_event_id or "")
    return START if found is None else Position(int(found[1]), int(found[2]))


class LogEvents:
    """The logs of one queue's jobs."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._followed: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Followed]] = WeakKeyDictionary()

    async def has_all(self, job: Job[Any], last_event_id: str | None) -> bool:
        """Whether the client was sent the end of a job that has ended: one that was retried may have logged since."""
        if not (job.status.finished and last_event_id is not None and last_event_id.endswith(END)):
            return False
        return not await self._queue.source.alogs(job.id, position_of(last_event_id))

    async def follow(self, job: Job[Any], last_event_id: str | None) -> AsyncIterator[str]:
        """Yield the text of events: what is kept, what comes, and the job's end."""
        jobs = self._followed.setdefault(asyncio.get_running_loop(), {})
        followed = jobs.get(job.id)
        if followed is None or followed.over:
            followed = jobs[job.id] = _Followed(job.id, self._queue.source)
        followed.followers += 1
        tail = Tail(position_of(last_event_id))
        try:
            yield RETRY
            while True:
                changed, over, status = followed.changed, followed.over, followed.status
                for piece in tail.news(list(followed.logs.values())):
                    yield _event(piece)
                if over:
                    if status is not None:
                        yield _end(status, tail.position)
                    return
                await asyncio.wait({changed}, timeout=HEARTBEAT)
                if not changed.done():
                    yield COMMENT
        finally:
            followed.followers -= 1
            if followed.followers == 0:
                followed.looking.cancel()
                if jobs.get(job.id) is followed:
                    del jobs[job.id]


def _event(piece: Piece) -> str:
    begun = f'event: run\nid: {piece.attempt}-0\ndata: {{"attempt":{piece.attempt}}}\n\n' if piece.begins else ""
    data = "".join(f"data: {line}\n" for line in _BREAK.split(piece.text.removesuffix("\n")))
    return f"{begun}id: {piece.attempt}-{piece.written}\n{data}\n"


def _end(status: Status, last: Position) -> str:
    return f"event: end\nid: {last.attempt}-{last.written}{END}\ndata: {json.dumps({'status': str(status)})}\n\n"


class _Followed:
    """One job whose log clients follow. `status`: how it has ended; None where that is not known."""

    def __init__(self, job_id: str, source: Source) -> None:
        self._job_id, self._source = job_id, source
        self.followers, self.over = 0, False
        self.status: Status | None = None
        self.logs: dict[int, RunText] = {}
        self.changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.looking: asyncio.Future[None] = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        try:
            await self._look_until_over()
        except LiteQueueError:  # pruned; or it cannot be read, which clients are told when they connect again
            pass
        finally:
            self.over = True
            self._tell()

    async def _look_until_over(self) -> None:
        source, follow_at, last = self._source, 0.0, START
        job = await source.alook_up(self._job_id)
        while not Server().is_stopping:
            if job.status is Status.RUNNING and SystemClock.monotonic() >= follow_at:
                await source.afollow_logs(self._job_id)
                follow_at = SystemClock.monotonic() + FOLLOW_AGAIN
            for log in await source.alogs(self._job_id, last):  # after the look at the job: its end comes with its log
                self.logs[log.attempt] = log
                last = Position(log.attempt, log.written)
            if job.status.finished:
                self.status = job.status
                return
            self._tell()
            try:
                job = await source.await_end(self._job_id, LOOK)
            except TimeoutError:
                job = await source.alook_up(self._job_id)

    def _tell(self) -> None:
        told, self.changed = self.changed, asyncio.get_running_loop().create_future()
        if not told.done():
            told.set_result(None)
