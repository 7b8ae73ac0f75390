"""Group commit: one write connection per process, whose callers share transactions. Knows no job."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from litequeue.core.background import Background
from litequeue.core.logger import aside, say, unsaid
from litequeue.errors import StoreBusy, StoreError
from litequeue.sqlite.commit.batch import LONG_TRANSACTION, Entry, commit, note_span, told
from litequeue.sqlite.commit.commit_queue import CommitQueue, NoThread, finish
from litequeue.sqlite.commit.fair_lock import Patience
from litequeue.sqlite.commit.open_transaction import Blocks, OpenTransaction, telling
from litequeue.sqlite.drivers.connection import leave, left_to_its_opener, transact, transaction_of_block
from litequeue.sqlite.drivers.lent_settings import Lent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from contextlib import AbstractContextManager

    from litequeue.sqlite.commit.batch import Then, Work
    from litequeue.sqlite.commit.fair_lock import FairLock
    from litequeue.sqlite.drivers.connection import Connection

T = TypeVar("T")

LARGEST_BATCH = 500  # callers; more are split, so that no transaction grows without bound
BATCHES = 8  # one after the other, before others that want the connection have their chance, and records are logged
WAITED = 0.01  # seconds: a transaction that takes so long may have waited for the file
JUST_NOW = 0.001  # seconds

_BLOCK = "a transaction() or completing() block"


class Writer:
    """The one write connection of this process. A lone caller commits by itself, else the writer thread does."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        disconnect: Callable[[Connection], None],
        *,
        full: bool,
        monotonic: Callable[[], float],
        fair_lock: FairLock,
        check: Callable[[Connection], None] = lambda _db: None,
        enter: Callable[[], None] = lambda: None,
        keep_hooks: bool = False,
    ) -> None:
        self._connect, self._disconnect = connect, disconnect
        self._monotonic, self._check, self._fair_lock, self._enter = monotonic, check, fair_lock, enter
        self._db: Connection | None = None
        self._opened = self._news = 0
        self.commits: int = 0  # counted when done; those of blocks are not
        self._full, self._synchronous = full, cast("bool | None", full)  # in the connection; None: not known
        self._patience = Patience(fair_lock)
        self._thread = Background("litequeue-writer")
        self._queue = CommitQueue(lambda: self._thread.submit(self._commit_for_others))
        self._looked = -math.inf  # at the file, after a commit that was synced
        self._start_blocks()
        self._keep_hooks, self._lent = keep_hooks, cast("Lent | None", None)  # how it was before a caller had it
        self._rest: AbstractContextManager[None] | None = None  # the connection, held for a fork

    def _start_blocks(self) -> None:
        self._closing = False  # the connection is to be closed by the one that uses it, at the end
        self._blocks = blocks = Blocks()
        self.held: Callable[[], OpenTransaction | None] = blocks.held  # not a method: it is asked at each call
        self.is_copied: Callable[[], bool] = blocks.is_copied

    def run(
        self,
        work: Work[T],
        *,
        durable: bool = True,
        single: bool = False,
        news: bool = True,
        then: Then[T] = None,
        size: int = 0,
    ) -> T:
        """Run `work` in a write transaction and return its value once that is committed.

        `work` must touch nothing but the connection: when a neighbour in the batch fails it is run again. `single`: it
        is one statement, which SQLite makes a transaction of its own where no neighbour shares one; it must check by
        itself whether this release may write. `news`: it may concern a worker (`changes`). `then`, `size`: see `Entry`.
        """
        if not single:  # whose callers have
            self._enter()
        if (held := self.held()) is not None:
            return work(held.require_sync())
        if self._queue.free:
            try:  # others that come meanwhile hand their work in
                with self._queue.connection_lock:
                    value = self._commit_one(work, durable=durable, single=single, news=news)
            finally:
                self._released()
            return told(value, then)
        self._blocks.refuse_to_block()
        entry = Entry(work, durable=durable, then=then, size=size)
        try:
            self._queue.wait(entry)
        except BaseException:
            self._queue.leave(entry)
            raise
        if isinstance(entry.error, NoThread):
            with self.exclusive():
                value = self._commit_one(work, durable=durable, single=single, news=news)
            return told(value, then)
        return entry.outcome()

    def _commit_one(self, work: Work[T], *, durable: bool, single: bool, news: bool) -> T:
        try:  # apart from `with`: an error raised between the two would not be seen by either
            self._fair_lock.enter()
            return self.timed(self.ready(durable=durable, news=news), work, single=single)
        finally:
            self._end_use()

    async def arun(self, work: Work[T], *, durable: bool = True, then: Then[T] = None, size: int = 0) -> T:
        """Async twin of `run`, outside a transaction: hands the work in; the loop never waits."""
        self._enter()
        self._blocks.refuse_to_await()
        await self._queue.wait_async(entry := Entry(work, durable=durable, then=then, size=size))
        return entry.outcome()

    @contextmanager
    def transaction(self) -> Generator[OpenTransaction, None, None]:
        """Open a write transaction for the block; others wait meanwhile."""
        self._enter()
        try:
            with self.exclusive():
                began, db = self._monotonic(), self._lend()
                try:
                    self._fair_lock.enter()  # `exclusive` leaves it
                    with transaction_of_block(db, self._patience.begin):
                        self._check(db)
                        with (
                            self._blocks.holding(OpenTransaction(db)) as held,
                            left_to_its_opener(db, self._enter, self._abandon),
                        ):
                            yield held
                    db.check_files()
                finally:
                    self._withdraw(db)
                    note_span(self._monotonic() - began, _BLOCK)
            held.tell()
        finally:
            if unsaid:
                say()

    @asynccontextmanager
    async def atransaction(self) -> AsyncGenerator[OpenTransaction, None]:
        """Async twin of `transaction`: waits, begins and commits off the loop; the block's statements run on it."""
        with telling() as committed:
            async with self.aexclusive():
                in_thread = self._thread.future
                began, db = self._monotonic(), await finish(in_thread(self._lend))
                scope = transaction_of_block(db, self._patience.begin)
                try:
                    await finish(in_thread(scope.__enter__))
                    await finish(in_thread(lambda: self._check(db)))
                    with (
                        self._blocks.holding(OpenTransaction(db, is_async=True)) as held,
                        left_to_its_opener(db, self._enter, self._abandon),
                    ):
                        yield held
                except BaseException as error:
                    if self._db is not db:  # abandoned
                        raise
                    await finish(in_thread(partial(leave, scope, error)))
                    raise
                else:
                    await finish(in_thread(partial(leave, scope, None)), partial(self._note_commit, held, committed))
                finally:
                    self._withdraw(db)
                    note_span(self._monotonic() - began, _BLOCK)

    def _note_commit(self, held: OpenTransaction, committed: list[OpenTransaction]) -> None:
        if held.db is not None:
            held.db.check_files()
        committed.append(held)

    @asynccontextmanager
    async def aforeign(self, adb: Any) -> AsyncGenerator[OpenTransaction, None]:
        """Hold a transaction that is open on a connection not our own; use within `aexclusive`."""
        began = self._monotonic()
        try:
            with self._blocks.holding(OpenTransaction(None, adb, is_async=True)) as held:
                yield held
        finally:
            note_span(self._monotonic() - began, _BLOCK)

    def _abandon(self) -> None:
        """Another process goes on with the connection."""
        self._db = self._lent = None
        self._fair_lock.reset_after_fork()

    def _lend(self) -> Connection:
        """Return the connection for a caller's block, and note how it is now."""
        db = self.ready(durable=True, patient=True)
        if self._lent is None or self._lent.db is not db:
            self._lent = Lent(db, keep_hooks=self._keep_hooks)
        else:
            db.lend()
        return db

    def _withdraw(self, db: Connection) -> None:
        """A caller had it, and may have closed it or changed its settings: the next one then gets another."""
        if db is self._db and (self._lent is None or not self._lent.is_as_before()):  # a forked child has let go of it
            self._db = self._lent = None
            self._disconnect(db)

    @contextmanager
    def exclusive(self) -> Generator[None, None, None]:
        """Keep every other writer of this process out for the block, without a transaction of our own."""
        self._blocks.refuse_nested()
        self._blocks.refuse_to_block()
        try:
            with self._queue.alone():
                try:
                    yield
                finally:
                    self._end_use()
        finally:
            if unsaid:
                say()

    @asynccontextmanager
    async def aexclusive(self) -> AsyncGenerator[None, None]:
        """Async twin of `exclusive`, for a transaction: behind the fair lock."""
        import asyncio

        self._enter()
        self._blocks.refuse_nested()
        self._blocks.refuse_to_await()
        await self._queue.wait_async(Entry(None))
        self._blocks.loop = asyncio.get_running_loop()
        try:
            if not self._fair_lock.enter_at_once():
                await finish(self._thread.future(self._fair_lock.enter))
            yield
        finally:
            self._end_use()
            self._blocks.loop = None
            self._queue.connection_lock.release()
            self._released()

    def run_outside(self, work: Work[T], *, durable: bool = False) -> T:
        """Run `work` on the connection with no transaction open, for statements that cannot be in one."""
        self._enter()
        with self.exclusive():
            return work(self.ready(durable=durable, news=False, patient=True))

    def changes(self) -> tuple[int, int, int] | None:
        """What changes with each write to the file that may be news, of any process; None while ours takes long."""
        self._enter()
        if not self._queue.connection_lock.acquire(timeout=LONG_TRANSACTION):
            return None
        try:
            [(others,)] = self.ready(durable=False, news=False).rows("PRAGMA data_version")
            return self._opened, others, self._news  # SQLite counts from the start in each connection
        finally:
            self._queue.connection_lock.release()
            self._released()

    def _commit_for_others(self) -> None:
        """In the writer thread: commit what is first in the queue, batch after batch, and tell the callers."""
        if not self._queue.thread_came():
            return
        with aside(0):  # others wait for this thread
            try:
                all(self._commit_batch() for _ in range(BATCHES))
            finally:
                self._queue.connection_lock.release()
                self._released()

    def _commit_batch(self) -> bool:
        try:
            self._queue.gather()
            self._fair_lock.enter()  # the batch grows while other processes write
            commit(batch := self._queue.take_batch(LARGEST_BATCH), self)
            return self._queue.finish(batch)
        finally:
            self._end_use()

    def timed(self, db: Connection, work: Work[T], *, single: bool = False, what: object = None) -> T:
        """Run the work in a transaction, or as the one it is itself, and see to those that take long."""
        began = self._monotonic()
        try:
            value = work(db) if single else transact(db, work, self._check)
        except StoreBusy as error:
            value = self._patience.again(lambda: work(db) if single else transact(db, work, self._check), error)
        # before it is acknowledged: a sync, or a wait for the file, takes long enough for it to be replaced meanwhile
        if self._synchronous or self._monotonic() - began > WAITED:
            db.check_files()
            self._looked = began
        self.commits += 1
        note_span(took := self._monotonic() - began, what or work)
        if self._synchronous is self._full:
            self._patience.note(took)
        return value

    def ready(self, *, durable: bool, news: bool = True, patient: bool = False) -> Connection:
        """Return the connection, set to sync at commit or not; not `patient`: for what is tried again when busy."""
        self._news += news  # before the commit: a caller that is interrupted after it may not tell of it
        db = self._db
        if db is None:
            with self._blocks.opening():
                db = self._db = self._connect()
            self._opened += 1
            self._synchronous = self._full
            self._patience.learn(db)
        self._patience.set(db, long=patient)
        # a write through an old -shm overwrites what others, which take longer than that to begin, have written since
        if not (durable and self._full) or self._monotonic() - self._looked > JUST_NOW:
            db.check_files()
        if db.in_transaction:  # Ctrl-C fell between BEGIN and its clean-up
            db.script("ROLLBACK")
        wanted = durable and self._full
        if wanted != self._synchronous:
            self._synchronous = None  # first: a Ctrl-C may come
            db.script(f"PRAGMA synchronous = {'full' if wanted else 'normal'}")
            self._synchronous = wanted
        return db

    def _released(self) -> None:
        """After use of the connection: let the next caller in, and then log what was noted meanwhile."""
        self._queue.tell_next()
        if unsaid:
            say()

    @property
    def connection(self) -> Connection | None:
        """The connection, if it is open."""
        return self._db

    # -- ends

    def close(self) -> None:
        """Close the connection: now, or, where another's transaction lasts longer than callers wait, at its end."""
        self._closing = True  # first: that one closes it, should this call not come to it
        with suppress(StoreBusy), self.exclusive():
            self._let_go()
            self._thread.close()

    def _end_use(self) -> None:
        """The last act of a caller that has the connection."""
        self._fair_lock.leave()
        if self._closing:
            with suppress(StoreError):
                self._let_go()

    def _let_go(self) -> None:
        self._closing = False
        db, self._db, self._lent = self._db, None, None
        self._fair_lock.close()
        if db is not None:
            self._disconnect(db)

    def close_idle(self) -> None:
        """Close the connection if it is not in use at this moment."""
        if not self._queue.connection_lock.acquire(blocking=False):
            return
        try:
            self._let_go()
        finally:
            self._queue.connection_lock.release()
            self._released()

    # -- fork

    def quiesce(self) -> bool:
        """Before a fork: close the connection and keep writers out; False when one does not end."""
        self._rest = scope = self.exclusive()  # first: a Ctrl-C may come
        try:
            scope.__enter__()
            self._let_go()
        except BaseException as error:
            self.go_on()
            if isinstance(error, StoreError):  # this caller's own transaction is open, or one that lasts
                return False
            raise
        return True

    def go_on(self) -> None:
        """After a fork, in the parent: let writers in again."""
        scope, self._rest = self._rest, None
        if scope is not None:
            scope.gen.close()  # type: ignore[attr-defined]  # wherever it was interrupted

    def reset_after_fork(self) -> Connection | None:
        """After a fork, in the child: forget what was inherited; return a connection that must never be closed here."""
        db = self._db
        self._abandon()
        self._queue.reset_after_fork()
        self.go_on()
        self._start_blocks()
        self._thread.reset_after_fork()
        return db
