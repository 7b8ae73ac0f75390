"""Threads of litequeue that make blocking calls for coroutines. Knows no store and no queue.

Not asyncio's default executor, which the application may keep busy; nor `concurrent.futures`, whose threads take no
more work once the main thread has ended, though the application's other threads may go on. Daemon threads: none of
them keeps the program from ending.
"""

from __future__ import annotations

import os
import queue
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from litequeue.core.asyncio_context import require_asyncio
from litequeue.core.logger import log

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

T = TypeVar("T")

IDLE = 10.0  # seconds after which a thread with nothing to do ends


class Background:
    """One thread that makes calls, one after another. It starts when it is needed and ends when it is not.

    It ends with its owner: only the queued calls refer to this object, the thread does not.
    """

    _let_go: weakref.finalize[..., Background] | None = None

    def __init__(self, name: str) -> None:
        self._name = name
        self.reset_after_fork()

    def submit(self, call: Callable[[], object]) -> None:
        """Queue a call, from any thread. Raises `RuntimeError` where no thread can be started."""
        if self._pid != os.getpid():  # forked, and Python was not told: the thread is the parent's
            self.reset_after_fork()
        self._calls.put(call)

    def future(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Queue a call, and return a future of the running loop for its result.

        A call whose future is cancelled, or has a result, before the call begins is not made.
        """
        return self.future_on(require_asyncio(), call)

    def future_on(self, loop: asyncio.AbstractEventLoop, call: Callable[[], T]) -> asyncio.Future[T]:
        """The same for what runs on a loop in no task of it."""
        future: asyncio.Future[T] = loop.create_future()
        self.submit(_Call(call, loop, future))
        return future

    def close(self) -> None:
        """End the thread once it has made the queued calls; a later call starts another."""
        self._calls.end()

    def reset_after_fork(self) -> None:
        """Start without a thread; also after a fork, in the child: thread, lock and calls are the parent's."""
        if self._let_go is not None:
            self._let_go.detach()
        self._calls = _Calls(self._name)
        self._pid = os.getpid()  # last: another thread that sees it uses the new calls
        self._let_go = weakref.finalize(self, self._calls.end)
        self._let_go.atexit = False


def in_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """Make one call, which may take long, in a new thread; return its future."""
    thread = Background("litequeue-call")
    future = thread.future(call)
    thread.close()
    return future


class _Calls:
    """The queued calls, and the thread that makes them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queued: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lock = threading.RLock()  # re-entrant: a signal handler may call put() inside put()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()  # held while the thread is started

    def put(self, call: Callable[[], object]) -> None:
        with self._lock:
            if not self._starting.locked() and (self._thread is None or not self._thread.is_alive()):
                self._start()
            self._queued.put(call)

    def _start(self) -> None:
        with self._starting:
            thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            thread.start()
            self._thread = thread

    def end(self) -> None:
        if self._thread is not None:
            self._queued.put(None)  # without the lock: a finalizer may run inside put(), in the same thread

    def _serve(self) -> None:
        while True:
            try:
                call = self._queued.get(timeout=IDLE)
            except queue.Empty:
                call = None
            if call is not None:
                try:
                    call()
                except BaseException as error:
                    log.error("a call in a background thread failed", error=error)
                del call  # it may refer to the owner, which could otherwise not be collected while this thread waits
                continue
            with self._lock:
                if self._queued.empty():
                    self._thread = None
                    return


class _Call:
    """A call for a coroutine, and the future that receives its result."""

    __slots__ = ("_call", "_future", "_loop")

    def __init__(self, call: Callable[[], T], loop: asyncio.AbstractEventLoop, future: asyncio.Future[T]) -> None:
        self._call: Callable[[], Any] | None = call
        self._loop, self._future = loop, future

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is None or self._future.done():
            return
        value: Any = None
        error: BaseException | None = None
        try:
            value = call()
        except BaseException as raised:  # raised where the future is awaited
            error = raised
        del call  # first: the awaiting coroutine may drop the queue, which must then have no other owner
        with suppress(RuntimeError):  # the loop is closed, so the future is not awaited any more
            self._loop.call_soon_threadsafe(_resolve, self._future, value, error)
        del error  # its traceback holds this frame


def _resolve(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
