"""Store calls of a task that has `max_pending=`, once there is room for them. Knows no task and no store."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from litequeue.core.clock import SystemClock
from litequeue.core.interruptible import interruptible
from litequeue.errors import QueueFull

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from litequeue.core.source import Source
    from litequeue.options import Options

T = TypeVar("T")


def check_wait(task: str, options: Options, *, within: bool, on_commit: bool) -> None:
    """Refuse `wait_for_room=` where there is always room, or none comes."""
    if options.max_pending is None:
        raise ValueError(f"{task} has no max_pending=, so there is always room; leave out wait_for_room=")
    if within or on_commit:
        what = "within=" if within else "on_commit="
        raise ValueError(f"give wait_for_room= or {what}, not both: nothing makes room before a commit comes")


@interruptible
def store_with_room(source: Source, store: Callable[[], T], longest: float) -> T:
    """Store calls, or wait until they fit, so many seconds at most, and then raise `QueueFull`."""
    source.check_may_wait()
    deadline = SystemClock.monotonic() + longest
    while True:
        try:
            return store()
        except QueueFull as full:
            left = _left(full, deadline, longest)
            needed = full
        source.wait_for_room(needed, left)


async def astore_with_room(source: Source, store: Callable[[], Awaitable[T]], longest: float) -> T:
    """Async twin of `store_with_room`."""
    source.check_may_wait()
    deadline = SystemClock.monotonic() + longest
    while True:
        try:
            return await store()
        except QueueFull as full:
            left = _left(full, deadline, longest)
            needed = full
        await source.await_room(needed, left)


def _left(full: QueueFull, deadline: float, longest: float) -> float:
    """Return for how many seconds to wait yet, or raise the error: it is over, or no wait would help."""
    if full.calls > full.max_pending:
        raise full
    left = deadline - SystemClock.monotonic()
    if left <= 0:
        raise QueueFull(full.task, full.max_pending, full.calls, waited=longest)
    return left
