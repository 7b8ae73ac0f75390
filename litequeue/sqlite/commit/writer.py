"""Group commit: one write connection per process, whose callers share transactions. Knows no job."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from litequeue.core.background import Background
from litequeue.core.logger import aside, later, say, unsaid
from litequeue.errors import StoreError
from litequeue.sqlite.commit.batch import Entry, commit
from litequeue.sqlite.commit.commit_queue import CommitQueue, finish
from litequeue.sqlite.commit.open_transaction import Blocks, OpenTransaction
from litequeue.sqlite.drivers.connection import leave, left_to_its_opener, transact, transaction
from litequeue.sqlite.drivers.lent_settings import Lent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from contextlib import AbstractContextManager

    from litequeue.sqlite.commit.fair_lock import FairLock
    from litequeue.sqlite.drivers.connection import Connection, Fate

T = TypeVar("T")

LARGEST_BATCH = 500  # callers; more are split, so that no transaction grows without bound
WAITED = 0.01  # seconds: a transaction that takes so long has waited for the file, or others wait for it
JUST_NOW = 0.001  # seconds
LONG_TRANSACTION = 0.05  # seconds: others wait as long

_BLOCK = "a transaction() or completing() block"


class Writer:
    """The one write connection of this process. The first caller in commits for all who came meanwhile."""

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
        self._opened = self._news = self.commits = 0  # commits are counted when done; those of blocks are not
        self._full = self._synchronous = full
        self._thread = Background("litequeue-writer")
        self._line = CommitQueue(lambda: self._thread.submit(self._lead_if_free))
        self._looked = -math.inf  # at the file, after a commit that was synced
        self._start_blocks()
        self._keep_hooks = keep_hooks
        self._lent: Lent | None = None  # how the connection was before a caller had it
        self._rest: AbstractContextManager[None] | None = None  # the lead, held for a fork

    # -- callers

    def _start_blocks(self) -> None:
        self._blocks = blocks = Blocks()
        self.held: Callable[[], OpenTransaction | None] = blocks.held  # not a method: it is asked at each call
        self.is_copied: Callable[[], bool] = blocks.is_copied

    def run(
        self, work: Callable[[Connection], T], *, durable: bool = True, single: bool = False, news: bool = True
    ) -> T:
        """Run `work` in a write transaction and return its value once that is committed.

        `work` must touch nothing but the connection: when a neighbour in the batch fails it is run again.
        `single`: it is one statement, which SQLite makes a transaction of its own where no neighbour shares one; it
        is not checked, so it must see by itself whether this release may write.
        `news`: there may be something in it for a worker (`changes`).
        """
        if not single:  # whose callers have
            self._enter()
        if (held := self.held()) is not None:
            return work(held.require_sync())
        if self._line.free:
            return self._run_alone(work, durable=durable, single=single, news=news)
        self._blocks.refuse_to_block()
        entry = Entry(work, durable=durable)
        try:
            while self._line.wait(entry):
                self._lead()
        except BaseException:
            self._line.leave(entry)
            raise
        return entry.outcome()

    def _run_alone(self, work: Callable[[Connection], T], *, durable: bool, single: bool, news: bool) -> T:
        """With nobody else about, a caller commits by itself; those who come meanwhile line up for the lead."""
        try:
            with self._line.lead:
                return self._commit_one(work, durable=durable, single=single, news=news)
        finally:
            self._line.tell_next()
            if unsaid:
                say()

    def _commit_one(self, work: Callable[[Connection], T], *, durable: bool, single: bool, news: bool) -> T:
        try:  # apart from `with`: an error raised between the two would not be seen by either
            self._fair_lock.enter()
            return self.timed(self.ready(durable=durable, news=news), work, single=single)
        finally:
            self._fair_lock.leave()

    async def arun(
        self, work: Callable[[Connection], T], *, durable: bool = True, then: Callable[[T], object] | None = None
    ) -> T:
        """Async twin of `run`, outside a transaction: hands the work in; the loop never waits. `then`: see `Entry`."""
        self._enter()
        self._blocks.refuse_to_await()
        await self._line.wait_async(entry := Entry(work, durable=durable, then=then))
        return entry.outcome()

    @contextmanager
    def transaction(self) -> Generator[OpenTransaction, None, None]:
        """Open a write transaction for the block; others wait meanwhile."""
        self._enter()
        try:
            with self.exclusive():
                began, db = self._monotonic(), self._lend()
                try:
                    self._fair_lock.enter()
                    with transaction(db):
                        self._check(db)
                        with (
                            self._blocks.holding(OpenTransaction(db)) as held,
                            left_to_its_opener(db, self._enter, self._abandon),
                        ):
                            yield held
                    db.check_files()
                finally:
                    self._fair_lock.leave()
                    self._withdraw(db)
                    self._note_span(began, _BLOCK)
            held.tell()
        finally:
            if unsaid:
                say()

    @asynccontextmanager
    async def atransaction(self) -> AsyncGenerator[OpenTransaction, None]:
        """Async twin of `transaction`: waits, begins and commits off the loop; the block's statements run on it."""
        async with self.aexclusive():
            in_thread = self._thread.future
            began, db = self._monotonic(), await finish(in_thread(self._lend))
            scope = transaction(db)
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
                await finish(in_thread(partial(leave, scope, None)))
                db.check_files()
            finally:
                self._withdraw(db)
                self._note_span(began, _BLOCK)
        held.tell()

    @asynccontextmanager
    async def aforeign(self, adb: Any) -> AsyncGenerator[OpenTransaction, None]:
        """Hold a transaction that is open on a connection not our own; use within `aexclusive`."""
        began = self._monotonic()
        try:
            with self._blocks.holding(OpenTransaction(None, adb, is_async=True)) as held:
                yield held
        finally:
            self._note_span(began, _BLOCK)

    def _abandon(self) -> None:
        """Another process goes on with the connection."""
        self._db = self._lent = None
        self._fair_lock.start_anew()

    def _lend(self) -> Connection:
        """Return the connection for a caller's block, and note how it is now."""
        db = self.ready(durable=True)
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
            with self._line.alone():
                yield
        finally:
            if unsaid:
                say()

    @asynccontextmanager
    async def aexclusive(self) -> AsyncGenerator[None, None]:
        """Async twin of `exclusive`, for a transaction: in turn among processes."""
        import asyncio

        self._enter()
        self._blocks.refuse_nested()
        self._blocks.refuse_to_await()
        await self._line.wait_async(Entry(None))
        self._blocks.loop = asyncio.get_running_loop()
        try:
            if not self._fair_lock.enter_at_once():
                await finish(self._thread.future(self._fair_lock.enter))
            yield
        finally:
            self._fair_lock.leave()
            self._blocks.loop = None
            self._line.lead.release()
            self._released()

    def run_outside(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on the connection with no transaction open, for statements that cannot be in one."""
        self._enter()
        with self.exclusive():
            return work(self.ready(durable=False, news=False))

    def changes(self) -> tuple[int, int, int] | None:
        """What changes with each write to the file that may be news, whoever's; None while one of ours takes long."""
        self._enter()
        if not self._line.lead.acquire(timeout=LONG_TRANSACTION):
            return None
        try:
            [(others,)] = self.ready(durable=False, news=False).rows("PRAGMA data_version")
            return self._opened, others, self._news  # SQLite counts anew in each connection
        finally:
            self._line.lead.release()
            self._released()

    # -- committing

    def _lead(self) -> None:
        """Commit one batch, tell its callers, and then the next in line."""
        try:
            with self._line.lead:
                self._commit_next()
        finally:
            self._released()

    def _commit_next(self) -> None:
        """Commit the next batch, which grows until it is this process's turn."""
        try:
            self._fair_lock.enter()
            self._commit(self._line.take_batch(LARGEST_BATCH))
        finally:
            self._fair_lock.leave()

    def _commit(self, batch: list[Entry[Any]]) -> None:
        try:
            commit([entry for entry in batch if not entry.done], self)
        finally:  # also on Ctrl-C in the thread that leads
            for entry in batch:
                entry.settle()
            self._line.finish(batch)

    def timed(
        self,
        db: Connection,
        work: Callable[[Connection], T],
        *,
        single: bool = False,
        fate: Fate | None = None,
        what: object = None,
    ) -> T:
        """Run the work in a transaction, or as the one it is itself, and see to those that take long."""
        began = self._monotonic()
        value = work(db) if single else transact(db, work, self._check, fate)
        # before it is acknowledged: a sync, or a wait for the file, takes long enough for it to be replaced meanwhile
        if self._synchronous or self._monotonic() - began > WAITED:
            db.check_files()
            self._looked = began
        self.commits += 1
        self._note_span(began, what or work)
        return value

    def _note_span(self, began: float, what: Any) -> None:
        took = self._monotonic() - began
        if took > WAITED:
            self._fair_lock.crowded()
        if took > LONG_TRANSACTION:
            name = what if isinstance(what, str) else what.__qualname__.partition(".<locals>")[0]
            later.info("a write transaction took %.0f ms, waiting for the file included: %s", took * 1000, name)

    def ready(self, *, durable: bool, news: bool = True) -> Connection:
        """Return the connection, set to sync at commit or not: what nobody is told of yet need not be."""
        self._news += news  # before the commit: whoever is interrupted after it may not get to tell of it
        db = self._db
        if db is None:
            with self._blocks.opening():
                db = self._db = self._connect()
            self._opened += 1
            self._synchronous = self._full
        # a write through an old -shm goes over what others, who take longer than that to begin, have written since
        if not (durable and self._full) or self._monotonic() - self._looked > JUST_NOW:
            db.check_files()
        if db.in_transaction:  # Ctrl-C fell between BEGIN and its clean-up
            db.script("ROLLBACK")
        wanted = durable and self._full
        if wanted != self._synchronous:
            db.script(f"PRAGMA synchronous = {'full' if wanted else 'normal'}")
            self._synchronous = wanted
        return db

    def _released(self) -> None:
        """After the lead: let the next one in, and then say what was noted meanwhile."""
        self._line.tell_next()
        if unsaid:
            say()

    def _lead_if_free(self) -> None:
        if not self._line.thread_came():
            return
        with aside(0):  # others wait for this thread
            try:
                self._commit_next()
            finally:
                self._line.lead.release()
                self._released()

    @property
    def connection(self) -> Connection | None:
        """The connection, if it is open."""
        return self._db

    # -- ends

    def close(self) -> None:
        """Close the connection once nobody uses it; it is opened anew by the next caller."""
        with self.exclusive():
            self._let_go()
            self._thread.close()

    def _let_go(self) -> None:
        db, self._db, self._lent = self._db, None, None
        self._fair_lock.close()
        if db is not None:
            self._disconnect(db)

    def close_idle(self) -> None:
        """Close the connection if nobody is using it at this moment."""
        if not self._line.lead.acquire(blocking=False):
            return
        try:
            self._let_go()
        finally:
            self._line.lead.release()
            self._released()

    # -- fork

    def quiesce(self) -> bool:
        """Before a fork: close the connection and keep writers out; False when one does not end."""
        scope = self.exclusive()
        try:
            scope.__enter__()
        except StoreError:  # this caller's own transaction is open, or one that lasts
            return False
        self._rest = scope
        self._let_go()
        return True

    def go_on(self) -> None:
        """After a fork, in the parent: let writers in again."""
        scope, self._rest = self._rest, None
        if scope is not None:
            scope.__exit__(None, None, None)

    def start_anew(self) -> Connection | None:
        """After a fork, in the child: forget what was inherited; return a connection that must never be closed here."""
        db = self._db
        self._abandon()
        self._line.start_anew()
        self.go_on()
        self._start_blocks()
        self._thread.start_anew()
        return db
