"""Runs one coroutine on an event loop of its own, as `asyncio.run` does, whatever else is raised on that loop."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from litequeue.core.logger import log

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

EXITS = (SystemExit, KeyboardInterrupt)  # what a task may raise through its loop


def run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end, and close the loop; it goes on where another task raises SystemExit, or stops the loop."""
    try:
        asyncio.set_event_loop(loop)
        main = loop.create_task(work)
        main.add_done_callback(lambda _: loop.stop())
        while not main.done():
            try:
                loop.run_forever()
            except EXITS as error:
                log.log(
                    logging.WARNING, "%r was raised on the loop of a child process, which goes on", error, error=error
                )
        return main.result()
    finally:
        _close(loop)


def _close(loop: asyncio.AbstractEventLoop) -> None:
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        for end in (_ended(left), loop.shutdown_asyncgens(), loop.shutdown_default_executor()):
            with suppress(RuntimeError, *EXITS):  # it was stopped from within once more
                loop.run_until_complete(end)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tasks)
