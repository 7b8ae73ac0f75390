"""Waits for what a job emits: by the table and the listener of those that wait for ends. Knows no file.

Who waits for events of job 41 waits under two names: "41", of which its end tells, and "+41", for what it emits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from litequeue.core.interruptible import interruptible
from litequeue.ipc.result_waiter import AsyncWaiter, Waiter, emitted_by

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from litequeue.ipc.result_waiters import ResultWaiters

T = TypeVar("T")


@interruptible
def wait_for_events(
    waiters: ResultWaiters, job_id: str, deadline: float | None, look: Callable[[], T | None]
) -> T | None:
    """Block until `look` finds something; None: the deadline has passed."""
    waiter = Waiter(job_id, emitted_by(job_id))
    try:
        waiters.add(waiter)  # arm, then read, then wait: what comes in between wakes us
        while (found := look()) is None and waiters.left(deadline) != 0:
            waiters.sleep(waiter, deadline)
        return found
    finally:
        try:
            waiters.remove(waiter)
        finally:
            waiters.remove(waiter)  # again, in case a Ctrl-C interrupted it


async def await_events(
    waiters: ResultWaiters, job_id: str, deadline: float | None, look: Callable[[], Awaitable[T | None]]
) -> T | None:
    """Async twin of `wait_for_events`."""
    waiter = AsyncWaiter(job_id, emitted_by(job_id))
    waiters.add(waiter)
    try:
        while (found := await look()) is None and waiters.left(deadline) != 0:
            await waiters.asleep(waiter, deadline)
        return found
    finally:
        waiters.remove(waiter)
