"""The event loop and the asyncio task that run in this thread, and how a thread wakes a coroutine. Knows no store."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from litequeue.errors import Unsupported

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

_NEEDS_ASYNCIO = (
    "the async methods (aenqueue, aresult, atransaction, async with queue.worker() ...) must be awaited in a task of "
    "asyncio, and none runs here; nothing was done. Under trio call the sync ones in a thread: "
    "await trio.to_thread.run_sync(task.enqueue, ...), and in Twisted deferToThread(task.enqueue, ...)"
)


def current_owner() -> object:
    """Return what distinguishes threads, and tasks of one loop: a context is copied to both."""
    return current_task() or threading.get_ident()


def current_task() -> Any:
    """The task of asyncio that runs in this thread, or None."""
    # no loop runs here if asyncio was not imported yet, or is being imported by another thread
    task = getattr(sys.modules.get("asyncio"), "current_task", None)
    try:
        return task and task()
    except RuntimeError:
        return None


def running_loop() -> Any:
    """The event loop of asyncio that runs in this thread, or None."""
    get_running_loop = getattr(sys.modules.get("asyncio"), "get_running_loop", None)
    try:
        return get_running_loop and get_running_loop()
    except RuntimeError:
        return None


def require_asyncio() -> Any:
    """Return the loop that runs here; raise `Unsupported` in a coroutine that is not run by asyncio."""
    asyncio = sys.modules.get("asyncio")
    try:
        if asyncio is not None:
            loop = asyncio.get_running_loop()
            if asyncio.current_task(loop) is not None:  # trio may run as a guest on the loop, in no task of it
                return loop
    except (AttributeError, RuntimeError):  # another thread is about to import it; no loop runs here
        pass
    raise Unsupported(_NEEDS_ASYNCIO)


def wake(loop: asyncio.AbstractEventLoop, futures: Sequence[asyncio.Future[None]]) -> bool:
    """Let the coroutines that await these futures look again, from any thread; False when their loop is closed."""
    try:
        loop.call_soon_threadsafe(_resolve, futures)
    except RuntimeError:
        return False
    return True


def _resolve(futures: Sequence[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
