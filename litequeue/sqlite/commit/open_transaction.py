"""The write transaction that a caller has open, and which caller that is."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from litequeue.core.asyncio_context import current_owner, running_loop
from litequeue.core.logger import enter_block, leave_block, log
from litequeue.errors import StoreError
from litequeue.sqlite.drivers.connection import check_open

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextvars import Token

    from litequeue.sqlite.drivers.connection import Connection
    from litequeue.sqlite.jobs.control import Was

_ON_ITS_LOOP = "another coroutine of this loop has a transaction open; use the async method (aenqueue, acancel ...)"
_COPIED = (
    "this call runs in a copy of the context in which a transaction on this queue is open, as a child task, a callback "
    "or copy_context().run() does. So it is not part of that transaction, and cannot wait here for its end. Call it in "
    "the block itself, after the block, or in another thread; to be part of it, pass the block's connection: "
    "task.using(within=db)"
)
_IN_ITS_THREAD = (
    "the main thread has a transaction on this queue open, and this call in it is no part of that, as a callback of an "
    "event loop is none. It cannot wait here for an end that comes when it has returned. Call it after the block, or "
    "in another thread; to be part of the transaction, pass the block's connection: task.using(within=db)"
)
_OPENING = "on_connect must not write to the queue: its connection is only being opened"

_probe: ContextVar[None] = ContextVar("litequeue_probe", default=None)


class OpenTransaction:
    """The write transaction that a caller's block has open: on our connection `db`, or on an aiosqlite one, `adb`.

    Made in the block's own thread, task and context.
    """

    def __init__(self, db: Connection | None, adb: Any = None, *, is_async: bool = False) -> None:
        self.db = db
        self.adb = adb
        self.is_async = is_async
        self.scope: threading.Lock = (
            threading.Lock()
        )  # held by `with` for the block's time: a Ctrl-C cannot leave it open
        self.after: list[Callable[[], None]] = []
        self.cancelled: dict[str, Was] = {}  # in it, of which workers and waiters are told together
        self.thread: int = threading.get_ident()
        self.loop: Any = running_loop()
        self._owner = current_owner()
        self._token: Token[None] | None = _probe.set(None)

    def is_here(self) -> bool:
        """Whether this very caller is inside the block: its thread or task, in its own context and no copy of that.

        A child task of trio, a function that Twisted goes on with and a callback inherit a copy, in the same thread.
        HAZARD: what is enqueued by such a one is acknowledged, and would be lost with the block's rollback. A token of
        a context variable can be reset in no other context than the one it was made in.
        """
        token = self._token
        if token is None or not self.scope.locked() or self._owner != current_owner():
            return False
        fresh = _probe.set(None)  # before the other is used up: a Ctrl-C in between leaves that one good
        try:
            _probe.reset(token)
        except (ValueError, RuntimeError):  # of another context; or used up, by a look that a Ctrl-C interrupted
            _probe.reset(fresh)
            return False
        self._token = fresh
        return True

    def end(self) -> None:
        """Drop the context, which refers back to this."""
        self._token = None

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

    def tell(self) -> None:
        """After the commit: tell of what was stored. What goes wrong there changes nothing of that."""
        for call in self.after:
            try:
                call()
            except Exception as error:
                log.error("committed, but workers and waiters were not notified; they look again soon", error=error)


@contextmanager
def telling() -> Generator[list[OpenTransaction], None, None]:
    """Yield a list; tell of what the block puts in it when it was committed, also where the block ends by a cancel."""
    committed: list[OpenTransaction] = []
    try:
        yield committed
    finally:
        for held in committed:
            held.tell()


class Blocks:
    """The callers' blocks on one writer: which is open, which calls are in it, and which would wait for it for ever."""

    def __init__(self) -> None:
        self.loop: Any = None  # whose coroutine has a transaction open, or is about to
        self._last: OpenTransaction | None = None  # open while its scope is locked
        self._opener = 0  # the thread in which the application's own `on_connect` runs
        self._held: ContextVar[OpenTransaction | None] = ContextVar("litequeue_held", default=None)

    def held(self) -> OpenTransaction | None:
        """The transaction this very caller has open, if any."""
        held = self._held.get()
        return held if held is not None and held.is_here() else None

    @contextmanager
    def holding(self, held: OpenTransaction) -> Generator[OpenTransaction, None, None]:
        """Let the caller be in that transaction for the block."""
        self._last = held
        try:
            enter_block(held.thread)
            with held.scope:
                self._held.set(held)
                yield held
        finally:
            leave_block(held.thread)
            held.end()
            if self._held.get() is held:  # a generator may be closed in another context than it was begun in
                self._held.set(None)

    @contextmanager
    def opening(self) -> Generator[None, None, None]:
        """Refuse what this thread would write meanwhile: it holds the connection, and would wait for itself."""
        self._opener = threading.get_ident()
        try:
            yield
        finally:
            self._opener = 0

    def refuse_nested(self) -> None:
        """Raise `StoreError` inside the block itself."""
        if self.held() is not None:
            raise StoreError(
                "a transaction on this queue is open already here; use it instead of opening another in it"
            )

    def refuse_to_block(self) -> None:
        """Raise where this thread, or this loop, would wait for ever for a block that only goes on by it."""
        last = self._last
        if self.loop is not None and self.loop is running_loop():
            raise StoreError(_ON_ITS_LOOP)
        if self._opener and self._opener == threading.get_ident():
            raise StoreError(_OPENING)
        if last is None or not last.scope.locked() or last.thread != threading.get_ident():
            return
        if self._held.get() is last:
            raise StoreError(_COPIED)
        if last.loop is not None and last.loop is running_loop():
            raise StoreError(_ON_ITS_LOOP)
        # other threads may be a pool's, where the function that opened the block has ended and another ends the block
        if last.thread == threading.main_thread().ident:
            raise StoreError(_IN_ITS_THREAD)

    def refuse_to_await(self) -> None:
        """The same for a coroutine: its loop runs inside a plain block, as by asyncio.run()."""
        last = self._last
        if last is not None and last.scope.locked() and self.is_copied() and last.loop is not running_loop():
            raise StoreError(_COPIED)

    def is_copied(self) -> bool:
        """Whether this runs in a copy of the context of a block that is open in this very thread."""
        last = self._held.get()
        if last is None or not last.scope.locked() or last.thread != threading.get_ident():
            return False
        return not last.is_here()
