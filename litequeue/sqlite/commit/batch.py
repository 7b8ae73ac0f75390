"""What callers want written, and how a batch of it is committed: together, or each by itself where one fails."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from litequeue.core.asyncio_context import wake
from litequeue.core.logger import later
from litequeue.errors import Fenced, StoreBusy, StoreDamaged, StoreReplaced

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from litequeue.sqlite.drivers.connection import Connection

T = TypeVar("T")

Work = Callable[["Connection"], T]
Then = Callable[[T], object] | None

LONG_TRANSACTION = 0.05  # seconds: others wait as long


class Entry(Generic[T]):
    """One caller's work, and what became of it. `work` None asks for the connection itself. `size`: bytes it writes.

    `then` is called with what the work returned once that is committed, in the thread that did so, also for a caller
    that does not wait any more; it must be quick, and raise nothing.
    """

    __slots__ = ("done", "durable", "error", "future", "lock", "size", "then", "timer", "value", "work")

    def __init__(
        self,
        work: Work[T] | None,
        *,
        durable: bool = True,
        then: Then[T] = None,
        size: int = 0,
    ) -> None:
        self.size: int = size
        self.work: Work[T] | None = work
        self.durable: bool = durable
        self.then: Then[T] = then
        self.value: T | None = None
        self.error: BaseException | None = None
        self.done: bool = False
        self.lock: Any = None
        self.future: asyncio.Future[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    def fail(self, error: BaseException) -> None:
        """Note that the work is over, and why nothing came of it."""
        self.error, self.done = error, True

    def tell(self) -> bool:
        """Let the caller look again; False when it cannot be told, because its loop is closed."""
        if self.future is not None:
            return wake(self.future.get_loop(), [self.future])
        if self.lock.locked():
            with suppress(RuntimeError):  # a signal handler has told it in between
                self.lock.release()
        return True

    def outcome(self) -> T:
        """Return what the work returned, or raise what it raised."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


class Connected(Protocol):
    """A writer's connection, as a batch uses it."""

    def ready(self, *, durable: bool) -> Connection:
        """Return it, set to sync at commit or not."""

    def timed(self, db: Connection, work: Callable[[Connection], T], *, what: object) -> T:
        """Run the work in a transaction."""


def commit(batch: Sequence[Entry[Any]], writer: Connected) -> None:
    """Commit all in one transaction, or, when one of them fails, each by itself; those whose work fails have its error.

    Raises nothing: each caller waits for this thread, and has its own work's error raised in its own.
    """
    if not batch:
        return
    try:
        db = writer.ready(durable=any(entry.durable for entry in batch))
    except BaseException as error:  # of the application's `on_connect`, it may be anything
        _fail_all(batch, error)
        return
    if len(batch) > 1 and _commit_together(db, batch, writer):
        return
    for entry in batch:
        try:
            _commit(db, [entry], writer)
        except BaseException as error:
            entry.fail(error)


def _commit_together(db: Connection, batch: Sequence[Entry[Any]], writer: Connected) -> bool:
    try:
        _commit(db, batch, writer)
    except (StoreBusy, StoreDamaged, StoreReplaced) as error:  # each would wait as long again, or be lost as well
        _fail_all(batch, error)
    except (Exception, Fenced):
        return False
    except BaseException as error:  # Ctrl-C, where this thread is a greenlet of the main one: it may be stored, or not
        _fail_all(batch, error)
    return True


def _commit(db: Connection, batch: Sequence[Entry[Any]], writer: Connected) -> None:
    def work(db: Connection) -> None:
        for entry in batch:
            entry.value = entry.work(db)  # type: ignore[misc]

    what = batch[0].work if len(batch) == 1 else f"of {len(batch)} callers together"
    writer.timed(db, work, what=what)
    for entry in batch:
        entry.done = True


def _fail_all(batch: Sequence[Entry[Any]], error: BaseException) -> None:
    for entry in batch:
        entry.fail(error)


def told(value: T, then: Callable[[T], object] | None) -> T:
    """Return what was committed, once `then` knows of it."""
    if then is not None:
        then(value)
    return value


def note_span(took: float, what: Any) -> None:
    """Note in the log a transaction that took long, in seconds. `what`: its name, or the function that was run."""
    if took > LONG_TRANSACTION:
        name = what if isinstance(what, str) else what.__qualname__.partition(".<locals>")[0]
        later.info("a write transaction took %.0f ms, including the wait for the file: %s", took * 1000, name)
