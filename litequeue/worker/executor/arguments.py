"""What the function of a run is called with, where that takes more than decoding the call. Knows no store or worker.

The call is of an older version or another name, its first argument is handed on, or it is made once an item.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar

from litequeue.core.interruptible import calls_the_task, interruptible
from litequeue.core.logger import about, log
from litequeue.core.slices import in_slices
from litequeue.errors import DecodeError, JobCancelled, JobNotFound, JobTimeout, LiteQueueError, StoreError
from litequeue.serialization.forms import CHUNK, LINK, FormedCall
from litequeue.serialization.upgrading import call_of, calls_of

if TYPE_CHECKING:
    from litequeue.serialization.signature import Call
    from litequeue.worker.executor.context import Run

    Function = Callable[..., Any]
    Names = tuple[str, ...] | None

T = TypeVar("T")


class Unread(Exception):
    """The file could not be read just now: the function has not begun, and the job is not to blame."""


@interruptible
def other_call(run: Run) -> Call | FormedCall:
    """Return the arguments of a call that is stored under another name: an alias of the task, or an older version."""
    options = run.task.options
    return call_of(run.job, run.task.signature, options.version, options.upgrade, _names(run))


@interruptible
async def aother_call(run: Run) -> Call | FormedCall:
    """Async twin of `other_call`; the application's `upgrade` runs on the loop."""
    options = run.task.options
    return call_of(run.job, run.task.signature, options.version, options.upgrade, await _anames(run))


@interruptible
def completed(run: Run, call: FormedCall) -> tuple[Function, Call]:
    """Return what to call, and with what, for a stored call that is not complete."""
    handed = None
    if call.form == LINK:
        found = run.job.handed
        if found is None:
            found = _read(run, lambda: run.recorder.handed_to(run.job.id))
        handed = run.task.signature.stored.handed(found)
    return _completed(run, call, handed, _names(run), _each)


@interruptible
async def acompleted(run: Run, call: FormedCall) -> tuple[Function, Call]:
    """Async twin of `completed`; the results that are handed on are decoded on the loop, in slices of its time."""
    handed: Any = None
    if call.form == LINK:
        found, decode = run.job.handed, run.task.signature.stored.handed
        if found is None:
            found = await _aread(run, run.recorder.ahanded_to(run.job.id))
        handed = [decode(each) async for each in in_slices(found)] if isinstance(found, list) else decode(found)
    return _completed(run, call, handed, await _anames(run), _aeach)


@interruptible
def _completed(run: Run, call: FormedCall, handed: Any, names: Names, each: Function) -> tuple[Function, Call]:
    task = run.task
    calls = calls_of(call, handed, run.job, task.signature, task.options.version, task.options.upgrade, names)
    if call.form != CHUNK:
        return task.function, calls[0]
    run.is_chunk = True
    return partial(each, run), ((calls,), {})


@calls_the_task
@interruptible
def _each(run: Run, calls: list[Call]) -> list[Any]:
    function, results = run.task.function, list[Any]()
    for args, kwargs in calls:
        _end_if_told(run)
        value = function(*args, **kwargs)
        results.append(awaited(value) if type(value) is CoroutineType else value)
    return results


@calls_the_task
@interruptible
async def _aeach(run: Run, calls: list[Call]) -> list[Any]:
    import asyncio

    function, results = run.task.function, list[Any]()
    for args, kwargs in calls:
        await asyncio.sleep(0)  # a call may not wait for anything: others have their turn, and a cancel arrives
        _end_if_told(run)
        results.append(await function(*args, **kwargs))
    return results


@interruptible
def _end_if_told(run: Run) -> None:
    """End a chunk between two calls, also where a call has swallowed what was to end it."""
    if run.timed_out:
        raise JobTimeout
    if run.cancelled:
        raise JobCancelled(f"job {run.id} was told to end")


@calls_the_task
@interruptible
def awaited(value: CoroutineType[Any, Any, Any]) -> Any:
    """Run the coroutine that a plain function returned: a decorator that does not say that it wraps one."""
    import asyncio

    return asyncio.run(value)


# ---- what is read of the file


@interruptible
def _names(run: Run) -> Names:
    job = run.job
    if job.version == run.task.options.version:
        return None
    return _read(run, lambda: run.recorder.parameters_of(job.task))


@interruptible
async def _anames(run: Run) -> Names:
    job = run.job
    if job.version == run.task.options.version:
        return None
    return await _aread(run, run.recorder.aparameters_of(job.task))


@interruptible
def _read(run: Run, read: Callable[[], T]) -> T:
    try:
        return read()
    except (StoreError, JobNotFound) as error:
        raise _unread(run, error) from error


@interruptible
async def _aread(run: Run, reading: Awaitable[T]) -> T:
    try:
        return await reading
    except (StoreError, JobNotFound) as error:
        raise _unread(run, error) from error


def _unread(run: Run, error: LiteQueueError) -> Unread | DecodeError:
    if isinstance(error, JobNotFound):
        return DecodeError(f"it takes the result of a job that is not on record any more: {error}")
    job = run.job
    told = job.task_name, job.id, error
    log.warning("%s[%s] is run again soon, for its arguments cannot be read: %s", *told, extra=about(job))
    return Unread(str(error))
