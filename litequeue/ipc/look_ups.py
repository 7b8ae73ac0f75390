"""Look-ups of jobs by coroutines: those that are asked for in one turn of a loop are read together. Knows no file."""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")
V = TypeVar("V")

CHUNK = 500  # look-ups in one call of the thread that reads; others come between two


class NotReadError(Exception):
    """There was no time for a read. No cancel: that would be taken for one of the caller's."""


async def within(future: asyncio.Future[T], seconds: float | None) -> T:
    """Wait for what is read in another thread; raise `NotReadError` if that takes longer."""
    if seconds is None:
        return await future
    import asyncio

    timer = asyncio.get_running_loop().call_later(seconds, _give_up, future)
    try:
        return await future
    finally:
        timer.cancel()


def _give_up(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(NotReadError())


class _Hop(Protocol):
    """Make a call in another thread; return a future of this loop for its result."""

    def __call__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], V], /) -> asyncio.Future[V]: ...


class _Asked(Generic[T]):
    """What the coroutines of one loop have asked for, in the order in which they did."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: deque[tuple[str, asyncio.Future[T]]] = deque()


class LookUps(Generic[T]):
    """Read by `read`, which is called in the thread of `hop` with ids, and says something of each."""

    def __init__(self, read: Callable[[Sequence[str]], Mapping[str, T]], hop: _Hop) -> None:
        self._read, self._hop = read, hop
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start with nothing asked for; also after a fork, in the child."""
        self._local = threading.local()  # at most one loop runs in a thread

    def ask(self, job_id: str) -> asyncio.Future[T]:
        """Return a future of the running loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        asked: _Asked[T] | None = getattr(self._local, "asked", None)
        if asked is None or asked.loop is not loop:
            asked = self._local.asked = _Asked(loop)
            loop.call_soon(self._go_on, asked)  # all that this turn of the loop asks for comes before it
        future: asyncio.Future[T] = loop.create_future()
        asked.waiting.append((job_id, future))
        return future

    def _go_on(self, asked: _Asked[T]) -> None:
        """Have the next ones read; what is asked for meanwhile is read after them."""
        chunk: list[tuple[str, asyncio.Future[T]]] = []
        while asked.waiting and len(chunk) < CHUNK:
            chunk.append(asked.waiting.popleft())
        if not chunk:
            self._local.asked = None
            return
        try:
            read = self._hop(asked.loop, partial(self._read_for, chunk))
        except RuntimeError as error:  # no thread can be started
            read = asked.loop.create_future()
            read.set_exception(error)
        read.add_done_callback(partial(self._answer, asked, chunk))

    def _read_for(self, chunk: list[tuple[str, asyncio.Future[T]]]) -> Mapping[str, T]:
        ids = [job_id for job_id, future in chunk if not future.done()]
        return self._read(ids) if ids else {}

    def _answer(
        self,
        asked: _Asked[T],
        chunk: list[tuple[str, asyncio.Future[T]]],
        read: asyncio.Future[Mapping[str, T]],
    ) -> None:
        error = read.exception()
        for job_id, future in chunk:
            if future.done():  # its coroutine has been cancelled, or has no time left
                continue
            if error is None:
                future.set_result(read.result()[job_id])
            else:
                future.set_exception(error)
        self._go_on(asked)
