"""Much work on an event loop, in slices of its time. Knows nothing of what is done."""

from __future__ import annotations

from collections.abc import AsyncIterable, Collection, Iterable
from typing import TYPE_CHECKING, TypeVar

from litequeue.core.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

T = TypeVar("T")
SLICE = 0.002  # seconds for which an event loop does nothing else; others wait for two or three of them


async def in_slices(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    """Yield the items, and let the loop go on every few ms: something is done with each, which takes time.

    In the loop's own thread, for that is where the application's classes, codecs and iterables expect to be called.
    A list is taken as it is now, whatever is done to it meanwhile.
    """
    import asyncio

    monotonic = SystemClock.monotonic
    until = monotonic() + SLICE
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
            if monotonic() >= until:
                await asyncio.sleep(0)
                until = monotonic() + SLICE
        return
    for item in tuple(items) if isinstance(items, Collection) else items:
        yield item
        if monotonic() >= until:
            await asyncio.sleep(0)
            until = monotonic() + SLICE
