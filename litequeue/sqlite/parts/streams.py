"""Streams: what a running job emits is taken in, and its readers wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.asyncio_context import require_asyncio
from litequeue.core.interruptible import interruptible
from litequeue.core.streams import Events
from litequeue.core.why import wait_timed_out
from litequeue.errors import JobNotFound
from litequeue.ipc.look_ups import NotReadError, within
from litequeue.ipc.result_waiters import LOOK
from litequeue.ipc.stream_waits import await_events, wait_for_events
from litequeue.sqlite.jobs import row_values
from litequeue.sqlite.streams.reading import events

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.sqlite.drivers.connection import Connection
    from litequeue.sqlite.kernel import Kernel


class Streams:
    """Reads the streams of one file's jobs."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._writer = kernel, kernel.writer

    def check_streams(self) -> None:
        """The file keeps what jobs emit."""

    @interruptible
    def events(self, job_id: str, after: int, left: float | None, timeout: float | None) -> Events:
        """Return the next events of a job behind that number; block until there are any, or it has ended."""
        kernel = self._kernel
        found = self._page(job_id, after)
        if found is None:
            self.check_may_wait(blocking=True)
            deadline = None if left is None else kernel.clock.monotonic() + left
            found = wait_for_events(kernel.waiters, job_id, deadline, lambda: self._page_or_end(job_id, after))
        if found is None:
            raise kernel.read(lambda db: self._late(db, job_id, timeout))
        return found

    async def aevents(self, job_id: str, after: int, left: float | None, timeout: float | None) -> Events:
        """Async twin of `events`; the time limit also covers reads, which are made in another thread."""
        kernel = self._kernel
        require_asyncio()
        kernel.owner.enter()
        deadline = None if left is None else kernel.clock.monotonic() + left

        async def read(page: Callable[[str, int], Events | None]) -> Events | None:
            rest = kernel.waiters.left(deadline)
            try:
                soon = kernel.listed_soon(lambda: page(job_id, after))
                return await within(soon, None if rest is None else rest + LOOK)
            except NotReadError:
                return None

        found = await read(self._page)
        if found is None:
            self.check_may_wait()
            found = await await_events(kernel.waiters, job_id, deadline, lambda: read(self._page_or_end))
        if found is None:
            raise await kernel.aread(lambda db: self._late(db, job_id, timeout))
        return found

    def check_may_wait(self, *, blocking: bool = False) -> None:
        """Raise where no wait can end."""
        raise NotImplementedError

    def _page(self, job_id: str, after: int) -> Events | None:
        return self._kernel.read_listing(lambda db: events(db, job_id, after, self._kernel.clock.now()))

    def _page_or_end(self, job_id: str, after: int) -> Events | None:
        """Return the same of a job that was there when the wait began: it may be deleted as soon as it has ended."""
        try:
            return self._page(job_id, after)
        except JobNotFound:
            return Events([], over=True)

    def _late(self, db: Connection, job_id: str, timeout: float | None) -> TimeoutError:
        record = row_values.look_up(db, job_id, self._kernel.clock.now())
        return wait_timed_out(record, timeout, self._kernel.doing(db, record))
