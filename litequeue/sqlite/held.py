"""The write transaction that a caller has open, and who that is."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from litequeue.errors import StoreError
from litequeue.sqlite.connection import check_open

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.sqlite.connection import Connection


class Held:
    """The write transaction that a caller's block has open: on our connection `db`, or on an aiosqlite one, `adb`."""

    def __init__(self, db: Connection | None, adb: Any = None) -> None:
        self.db = db
        self.adb = adb
        self.owner: object = current_owner()
        self.scope = threading.Lock()  # held by `with` for the block's time: a Ctrl-C cannot leave it open
        self.after: list[Callable[[], None]] = []

    def require_sync(self) -> Connection:
        """Return our connection, which a block on aiosqlite does not have.

        HAZARD: once the caller's block has been rolled back, each statement of ours would be committed by itself.
        """
        if self.db is None:
            raise StoreError(
                "inside atransaction() with driver='sqlite3' only the async methods work (aenqueue, acancel ...)"
            )
        check_open(self.db)
        return self.db

    def require_async(self) -> Any:
        """Return the aiosqlite connection of the block, or None where it is on ours. The same hazard."""
        if self.adb is not None:
            check_open(self.adb)
        return self.adb


def current_owner() -> object:
    """Tell apart threads, and tasks of one loop: a context is copied to both."""
    # where nobody has imported it, or another thread is about to, no loop runs here
    current_task = getattr(sys.modules.get("asyncio"), "current_task", None)
    try:
        task = current_task and current_task()
    except RuntimeError:
        task = None
    return task or threading.get_ident()


def running_loop() -> Any:
    """The event loop that runs in this thread, or None."""
    get_running_loop = getattr(sys.modules.get("asyncio"), "get_running_loop", None)
    try:
        return get_running_loop and get_running_loop()
    except RuntimeError:
        return None
