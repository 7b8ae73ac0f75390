"""A named lock of a queue: one block at a time, among all processes that use the file. Knows no store."""

from __future__ import annotations

import functools
import inspect
import math
import os
import threading
import weakref
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from litequeue.core.asyncio_context import current_owner, require_asyncio, running_loop, wake
from litequeue.core.clock import SystemClock
from litequeue.core.current_run import current_run
from litequeue.core.declaration import Transparent
from litequeue.core.interruptible import interruptible
from litequeue.errors import JobCancelled, LockTimeout
from litequeue.ipc.named_lock import NamedLock, Request, named_lock
from litequeue.ipc.thread_interrupt import let_go
from litequeue.serialization.callables import calling, layers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self

P = ParamSpec("P")
R = TypeVar("R")

LOOK = 1.0  # seconds: so soon a thread that waits notices that its job is to end


class Lock:
    """A lock that `queue.lock(name)` returns: `with`, `async with`, or a decorator of plain and async functions.

    It is freed at the end of the block, and by the system if the process dies. It is not re-entrant: a thread or
    coroutine that holds it and asks again gets a `RuntimeError`, for it would wait for itself. Raises `LockTimeout` if
    it is not free in time.
    """

    def __init__(self, database: Callable[[], Path], name: str, timeout: float) -> None:
        self._held: tuple[NamedLock, Request, weakref.finalize[..., Lock]] | None = None
        self.name = name
        self._database, self._timeout = database, timeout

    @property
    def holder(self) -> str | None:
        """Who holds it now, in words: "job 41 of report in process 1234"; None if it is free."""
        return self._named().holder()

    @interruptible
    def __enter__(self) -> Self:
        lock, told = self._named(), threading.Semaphore(0)
        request = self._request(lock, lambda: _release(told))
        try:
            if not lock.ask(request, wait=self._timeout > 0):
                self._refuse_to_stop_the_loop()
                self._check(lock, request, in_time=_told(told, self._timeout))
            self._hold(lock, request)
        except BaseException:  # a time limit, Ctrl-C ...: it may have been granted just now
            lock.withdraw(request)
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        self._release()
        let_go()  # a job that takes locks again and again is found in our work at nearly every look

    async def __aenter__(self) -> Self:
        import asyncio

        loop = require_asyncio()
        lock, told = self._named(), loop.create_future()
        request = self._request(lock, lambda: wake(loop, [told]))
        try:
            if not lock.ask(request, wait=self._timeout > 0):
                await asyncio.wait([told], timeout=None if math.isinf(self._timeout) else self._timeout)
                self._check(lock, request, in_time=told.done())
            self._hold(lock, request)
        except BaseException:
            lock.withdraw(request)
            raise
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._release()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Hold the lock while the function runs, each time; on a task it stands below `@queue.task`."""
        if isinstance(function, Transparent) or not callable(function):
            raise TypeError(f"put @queue.lock({self.name!r}) on the function, below @queue.task; got {function!r}")
        if inspect.isclass(function) or any(map(_is_generator_function, layers(function))):
            raise TypeError(
                f"{function!r} runs after it has returned, when the lock is free again; take the lock inside it: "
                f"with queue.lock({self.name!r}): ..."
            )
        is_coroutine = calling(function, self.name).is_coroutine
        made = self._around_coroutine(function) if is_coroutine else self._around(function)
        functools.update_wrapper(made, function)
        vars(made)["__signature__"] = inspect.signature(function)  # it passes on all that it takes
        return cast("Callable[P, R]", made)

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @interruptible
        def holding(*args: Any, **kwargs: Any) -> Any:
            with Lock(self._database, self.name, self._timeout):
                returned = function(*args, **kwargs)
            if isinstance(returned, (CoroutineType, GeneratorType, AsyncGeneratorType)):
                raise TypeError(
                    f"what {function!r} returned would run when the lock {self.name!r} is free again; put @queue.lock "
                    f"on the `async def` or take the lock inside it"
                )
            return returned

        return holding

    def _around_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @interruptible
        async def holding(*args: Any, **kwargs: Any) -> Any:
            async with Lock(self._database, self.name, self._timeout):
                return await function(*args, **kwargs)

        return holding

    # ---- waiting

    def _named(self) -> NamedLock:
        return named_lock(self._database(), self.name)

    def _request(self, lock: NamedLock, wake: Callable[[], bool]) -> Request:
        owner = current_owner()
        if lock.is_held_by(owner):
            raise RuntimeError(f"the lock {self.name!r} is held here already, so this would wait for itself")
        return Request(_here(), owner, wake)

    def _refuse_to_stop_the_loop(self) -> None:
        if self._timeout > 0 and running_loop() is not None:
            raise RuntimeError(f"the lock {self.name!r} is taken, and to wait would stop the loop; use `async with`")

    def _check(self, lock: NamedLock, request: Request, *, in_time: bool) -> None:
        if not in_time:
            holder = lock.holder()
            by = f"is held by {holder}" if holder else "was held by others"
            late = f"the lock {self.name!r} {by}"
            late += f", and was not free within {self._timeout:g} s" if self._timeout > 0 else ""
            raise LockTimeout(late, self.name, holder)
        if request.error is not None:
            raise request.error

    def _hold(self, lock: NamedLock, request: Request) -> None:
        # for a Ctrl-C right before the block, or right after it
        freed = weakref.finalize(self, lock.withdraw_later, request)
        freed.atexit = False
        self._held = lock, request, freed

    def _release(self) -> None:
        held = self._held
        if held is None:
            return
        lock, request, freed = held
        try:
            lock.withdraw(request)
        except BaseException:  # Ctrl-C amid it
            lock.withdraw(request)
            raise
        freed.detach()
        self._held = None

    def __repr__(self) -> str:
        return f"<Lock {self.name!r} {'held' if self._held else 'not held'} here>"


def _here() -> str:
    run = current_run.get(None)
    what = f"thread {threading.current_thread().name}" if run is None else f"job {run.id} of {run.job.task_name}"
    return f"{what} in process {os.getpid()}"


def _is_generator_function(layer: Any) -> bool:
    return inspect.isgeneratorfunction(layer) or inspect.isasyncgenfunction(layer)


@interruptible
def _told(told: threading.Semaphore, timeout: float) -> bool:
    deadline = SystemClock.monotonic() + timeout
    run = current_run.get(None)
    while (left := deadline - SystemClock.monotonic()) > 0:
        if told.acquire(timeout=min(left, LOOK)):
            return True
        if run is not None and run.cancelled:
            raise JobCancelled("cancelled while it waited for a lock")
    return told.acquire(blocking=False)


def _release(told: threading.Semaphore) -> bool:
    told.release()
    return True
