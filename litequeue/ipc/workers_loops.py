"""The event loops on which workers of this process run coroutines, where no wait may block. Knows no wait."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

_loops: list[tuple[asyncio.AbstractEventLoop, str]] = []  # each with the folder beside the worker's file


def refuse_waits(loop: asyncio.AbstractEventLoop, place: str) -> None:
    """Refuse waits for jobs of this file in the thread that runs this loop, which may have to run the job."""
    _loops.append((loop, place))


def refuse_waits_no_more(loop: asyncio.AbstractEventLoop, place: str) -> None:
    """Allow waits again: the worker has left this loop."""
    with suppress(ValueError):
        _loops.remove((loop, place))


def check_may_block(directory: Callable[[], Path]) -> None:
    """Raise `RuntimeError` in a thread that runs an event loop of a worker of the file beside that folder."""
    if not _loops:
        return
    import asyncio

    running = asyncio._get_running_loop()  # noqa: SLF001  public in all but its name; the other one raises, which costs
    if running is not None and (running, str(directory())) in _loops:
        raise RuntimeError(
            "result() would block the event loop on which this queue's worker runs coroutines, for good if the job is "
            "one of them, and so would any other wait for jobs that is not awaited; use `await job`, "
            "`await job.aresult(timeout=...)`, `await await_all(jobs)` or `async for job in as_completed(jobs)`"
        )
