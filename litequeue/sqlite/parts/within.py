"""Statements in a transaction that the caller has open on a connection of their own: `within=`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from litequeue.core.asyncio_context import require_asyncio
from litequeue.sqlite.commit.external_connection import aiosqlite_connection_of, aperform, become_writer, connection_of
from litequeue.sqlite.commit.framework_connection import Unwrapped, aunwrapped, unwrapped
from litequeue.sqlite.drivers.connection import perform

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Steps
    from litequeue.sqlite.kernel import Kernel

T = TypeVar("T")


def in_transaction(kernel: Kernel, raw: Any, steps: Steps[T]) -> T:
    """Run them there; workers are notified after the commit, if the connection can tell of it.

    `raw`: a connection of this driver; or a session or connection of SQLAlchemy or Django around one.
    """
    _check_at_once(kernel)
    return _on(kernel, unwrapped(raw), steps)


async def ain_transaction(kernel: Kernel, raw: Any, steps: Steps[T]) -> T:
    """Async twin of `in_transaction`, also for an aiosqlite connection."""
    _check_at_once(kernel)
    require_asyncio()
    given = await aunwrapped(raw)
    adb = await aiosqlite_connection_of(kernel.file, given.raw)
    if adb is None:
        return _on(kernel, given, steps)
    await aperform(adb, become_writer(kernel.file, kernel.fence))
    value = await aperform(adb, steps)
    given.call_after_commit(kernel.notify_workers)
    return value


def _on(kernel: Kernel, given: Unwrapped, steps: Steps[T]) -> T:
    db = connection_of(kernel.file, given.raw)
    perform(db, become_writer(kernel.file, kernel.fence))
    value = perform(db, steps)
    given.call_after_commit(kernel.notify_workers)
    return value


def _check_at_once(kernel: Kernel) -> None:
    """Refuse another process's file, or a replaced one, where no commit of ours follows that would notice."""
    kernel.owner.enter()
    kernel.file.check_not_replaced()
