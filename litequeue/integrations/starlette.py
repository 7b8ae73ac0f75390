"""litequeue in a Starlette application, or any other on ASGI: a worker beside it, and jobs that commit together.

Imports nothing of Starlette. FastAPI's own forms are in `litequeue.integrations.fastapi`.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, cast

from litequeue.core.logger import log
from litequeue.errors import LockTimeout
from litequeue.options import check_known
from litequeue.task import Task
from litequeue.worker_options import WorkerOptions, run_options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from litequeue.core.records import NewJob
    from litequeue.queue import Queue

P = ParamSpec("P")

LOCK = "worker_lifespan"


def worker_lifespan(
    queue: Queue, *, one: bool = False, lifespan: Callable[[Any], AbstractAsyncContextManager[Any]] | None = None,
    **worker: Any,
) -> Callable[[Any], AbstractAsyncContextManager[Any]]:  # fmt: skip
    """Make an application's lifespan that runs a worker: `FastAPI(lifespan=worker_lifespan(queue, threads=4))`.

    `one`: of several processes of a server on one machine, only one runs a worker; when it ends or dies, another does.
    `lifespan`: your own, which is entered before the worker starts and left after it has ended; what it yields is the
    application's state. `worker`: the options of `queue.worker()`, checked here.
    """
    try:
        check_known(worker, WorkerOptions, "it")
    except TypeError as error:
        raise TypeError(f"worker_lifespan(): {error}; it takes one= and lifespan=, too") from None
    run_options(cast("WorkerOptions", worker))
    if one:
        queue.lock(LOCK)  # `Unsupported` where there is no file
    if lifespan is not None and not callable(lifespan):
        raise TypeError(f"lifespan must be a function that takes the application, got {lifespan!r}")

    @asynccontextmanager
    async def lifespan_with_worker(app: Any) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            state = await stack.enter_async_context(lifespan(app)) if lifespan is not None else None
            await stack.enter_async_context(_sole_worker(queue, worker) if one else queue.worker(**worker))
            yield state

    return lifespan_with_worker


@asynccontextmanager
async def _sole_worker(queue: Queue, options: dict[str, Any]) -> AsyncIterator[None]:
    """Run a worker once no other process does, until the end of the block."""
    ready, over = asyncio.Event(), asyncio.Event()
    waiting: list[str] = []  # for the lock

    async def work() -> None:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(queue.lock(LOCK, timeout=0))
            except LockTimeout as taken:
                log.info("one=True: no worker runs here until that of another process ends: %s", taken)
                waiting.append(LOCK)
                ready.set()
                await stack.enter_async_context(queue.lock(LOCK))
                waiting.clear()
            await stack.enter_async_context(queue.worker(**options))
            ready.set()
            await over.wait()

    def tell(ended: asyncio.Future[None]) -> None:
        error = None if ended.cancelled() else ended.exception()
        if error is not None and not over.is_set():
            log.error("one=True: the worker has ended; the application goes on without one", error=error)

    working, starting = asyncio.ensure_future(work()), asyncio.ensure_future(ready.wait())
    working.add_done_callback(tell)
    await asyncio.wait({working, starting}, return_when=asyncio.FIRST_COMPLETED)
    starting.cancel()
    if working.done():  # it could not start
        await working
    try:
        yield
    finally:
        over.set()
        if waiting:
            working.cancel()
            await asyncio.wait({working})
        else:
            await working  # not shielded: a cancel, as by a second Ctrl-C, is for the worker


class Background:
    """Collects calls of tasks, with the words of Starlette's `BackgroundTasks`; made by `background(queue)`."""

    def __init__(self, queue: Queue, plain: Callable[..., object] | None = None) -> None:
        self._queue, self._plain = queue, plain
        self._jobs: list[NewJob] = []
        self._is_over = False

    def add_task(self, task: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Add a call. It is checked now, stored with the others before the response is sent, and run by a worker.

        `task`: a task of the queue, also with options: `jobs.add_task(send.using(delay="1h"), "ada")`. Where the
        response needs the job's id, use `await task.aenqueue(...)` instead. Raises what `enqueue()` raises for the
        arguments, and `TypeError` for a function that is no task.
        """
        if self._is_over:
            raise RuntimeError("these jobs are stored already, and the response is being sent; call task.enqueue()")
        if isinstance(task, Task):
            self._jobs.append(task.new_job(self._queue, *args, **kwargs))
        elif self._plain is not None and callable(task):
            self._plain(task, *args, **kwargs)
        else:
            name = getattr(task, "__qualname__", repr(task))
            raise TypeError(
                f"add_task() takes a task, which a worker runs even after a restart, and {name} is none: "
                f"put @queue.task above it, or let FastAPI run it in this process, where a restart loses it, "
                f'with background(queue, plain="after_response")'
            )

    async def _commit(self) -> None:
        self._is_over = True
        if self._jobs:
            await self._queue.asubmit(self._jobs)

    def __repr__(self) -> str:
        return f"<Background jobs={len(self._jobs)}>"


@asynccontextmanager
async def background(queue: Queue, *, plain: Callable[..., object] | None = None) -> AsyncIterator[Background]:
    """Collect calls in an `async with` block, whose `as jobs` is a `Background`.

    They are stored at the end of the block in one transaction, on disk when it is left; none if it raises. `plain`:
    what is called with functions that are no tasks, and their arguments, such as the `add_task` of Starlette's
    `BackgroundTasks`; by default they are refused.
    """
    jobs = Background(queue, plain)
    yield jobs
    await jobs._commit()  # noqa: SLF001  of the same module
