"""Transactions of the caller's own on the file's write connection."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from litequeue.ipc.thread_interrupt import let_go
from litequeue.sqlite.commit.external_connection import aiosqlite_transaction, aperform
from litequeue.sqlite.commit.open_transaction import OpenTransaction, telling

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from litequeue.sqlite.kernel import Kernel


class Transactions:
    """Write transactions in which a caller's own rows commit with jobs."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._writer = kernel, kernel.writer

    @contextmanager
    def transaction(self) -> Generator[Any, None, None]:
        """A write transaction; yields the driver's own connection."""
        with self._writer.transaction() as held:
            yield held.require_sync().raw
        let_go()

    @asynccontextmanager
    async def atransaction(self) -> AsyncGenerator[Any, None]:
        """Async twin of `transaction`; yields an aiosqlite connection where the driver is sqlite3."""
        async with self.aheld() as held:
            yield held.adb if held.adb is not None else held.require_sync().raw

    @asynccontextmanager
    async def aheld(self) -> AsyncGenerator[OpenTransaction, None]:
        """Open a write transaction for a coroutine, on a connection of aiosqlite where the driver is sqlite3."""
        if self._kernel.file.driver.LIBRARY != "sqlite3":
            async with self._writer.atransaction() as held:
                yield held
            return
        opened: list[OpenTransaction] = []
        with telling() as committed:
            async with (
                self._writer.aexclusive(),
                aiosqlite_transaction(self._kernel.file, lambda: committed.extend(opened)) as adb,
            ):
                await aperform(adb, self._kernel.fence.steps())
                async with self._writer.aforeign(adb) as held:
                    opened.append(held)
                    yield held
