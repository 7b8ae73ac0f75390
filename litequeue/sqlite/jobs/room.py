"""Whether there is room for more queued jobs of a task that has `max_pending=`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.stored_names import task_of
from litequeue.errors import QueueFull
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.core.records import NewJob
    from litequeue.sqlite.drivers.connection import Connection, Steps


class Room:
    """The room that one transaction finds; each task's jobs are counted once."""

    def __init__(self) -> None:
        self._queued: dict[str, int] = {}
        self._taken: dict[str, int] = {}

    def take(self, new: NewJob, calls: int = 1) -> Steps[None]:
        """Take the room for jobs that are to be stored now and could begin at once, or raise `QueueFull`."""
        task, most = task_of(new.task), new.max_pending
        if most is None or (new.run_at is not None and new.run_at > new.created_at):
            return
        if task not in self._queued:
            [(self._queued[task],)] = yield SQL["queued_of"], {"task": task, "limit": most}
        self._taken[task] = taken = self._taken.get(task, 0) + calls
        if self._queued[task] + taken > most:
            raise QueueFull(task, most, taken)


def queued_of(db: Connection, task: str, most: int) -> int:
    """Count the queued jobs of a task, at most so many."""
    [(count,)] = db.rows(SQL["queued_of"], {"task": task, "limit": most})
    return int(count)
