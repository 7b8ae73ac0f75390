"""One open file of a queue: its connections, its notifiers, and what every part of the store does alike.

One connection writes, one reads single jobs by id, and up to `LISTINGS` list and count, so that these do not wait for
each other.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from litequeue.core.asyncio_context import require_asyncio
from litequeue.core.background import Background
from litequeue.core.clock import SystemClock
from litequeue.core.dispatch import Dispatch
from litequeue.core.logger import later, say
from litequeue.core.owner_process import OwnerProcess, forked_without_hooks
from litequeue.core.records import Status
from litequeue.ipc.notifier import CANCEL, DONE, JOBS, WORK, Notifier
from litequeue.ipc.process_lock import directory_of, is_held, open_directory
from litequeue.ipc.result_waiter import emitted_by
from litequeue.ipc.result_waiters import ALL, ResultWaiters
from litequeue.ipc.room_waiters import RoomWaiters
from litequeue.sqlite.commit.external_connection import perform_held
from litequeue.sqlite.commit.fair_lock import FairLock
from litequeue.sqlite.commit.writer import Writer
from litequeue.sqlite.drivers.connection import BUSY_SECONDS, abandon, perform
from litequeue.sqlite.file import forks, guards, migrate
from litequeue.sqlite.file.opening import File, warn_of_old_library
from litequeue.sqlite.jobs import why
from litequeue.sqlite.jobs.lanes import Turns
from litequeue.sqlite.jobs.room import queued_of
from litequeue.sqlite.limits.rules import KnownRules
from litequeue.sqlite.read_connection import ReadConnection
from litequeue.sqlite.result_reads import ResultReads
from litequeue.sqlite.streams.emitter import Emitter

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from litequeue.core.clock import Clock
    from litequeue.core.records import JobRecord
    from litequeue.sqlite.commit.open_transaction import OpenTransaction
    from litequeue.sqlite.compose.consequences import Consequences
    from litequeue.sqlite.drivers.connection import Connection, Steps
    from litequeue.sqlite.jobs.control import Was

T = TypeVar("T")

LARGEST_MESSAGE = 50_000  # bytes
LISTINGS = 4  # connections; each is opened when those before it are in use
PAUSE = 0.001  # seconds

_release = methodcaller("release")

_warned: set[str] = set()


class Retention(NamedTuple):
    """Seconds for which ended jobs are kept."""

    result_ttl: float
    failed_ttl: float


class Kernel:
    """One file, open in this process. Safe for threads, event loops and forks."""

    def __init__(self, file: File, clock: Clock, retention: Retention, *, create: bool, keep_hooks: bool) -> None:
        self.file: File = file
        self.clock: Clock = clock
        self.retention: Retention = retention
        self.path: Path = Path(file.path)
        self.owner: OwnerProcess = OwnerProcess(file.path)
        given = self._connect, file.disconnect, self.owner.enter
        self.look_ups: ReadConnection = ReadConnection(*given)
        self.listings: tuple[ReadConnection, ...] = tuple(ReadConnection(*given) for _ in range(LISTINGS))
        self._listing_turns: Iterator[int] = itertools.count()
        self._reads = self.look_ups, *self.listings
        # in which coroutines have them read
        self._thread, self._listing_thread = Background("litequeue-reader"), Background("litequeue-listing")
        try:
            with guards.opening():
                self._prepare(create=create)
        finally:
            say()
        self.fence: migrate.Fence = migrate.Fence(file.path)
        self.writer: Writer = Writer(
            lambda: self._connect(lent=True),
            file.disconnect,
            full=file.durability == "full",
            monotonic=clock.monotonic,
            fair_lock=FairLock(self.path),
            check=self._check,
            enter=self.owner.enter,
            keep_hooks=keep_hooks,
        )
        self.emitter: Emitter = Emitter(self.writer, self.tell_emitted)
        self.copying: threading.Lock = threading.Lock()  # while a backup has the file open, on a connection of its own
        self.turns: Turns = Turns()
        self.known_rules: KnownRules = KnownRules(clock)
        self.notifier: Notifier = Notifier(self.directory, WORK, SystemClock.monotonic)
        self.done_notifier: Notifier = Notifier(self.directory, DONE, SystemClock.monotonic)
        self.idle: Dispatch = Dispatch()
        self.reads: ResultReads = ResultReads(self.look_ups, self._thread, self.path, self.now, self.doing)
        self.waiters: ResultWaiters = ResultWaiters(lambda: open_directory(self.path), clock.monotonic, self.reads)
        self.rooms: RoomWaiters = RoomWaiters(self.count_queued, self.reads.file_version)
        self._notified = 0  # up to which of the writer's commits
        forks.watch(self)

    def _prepare(self, *, create: bool) -> None:
        """Make or check the tables, and leave nothing open: a server may fork between this and the first use."""
        db = self.file.connect(create=create)
        try:
            if create:
                migrate.migrate(db, self.file.path)
                self.file.give_next_id(db)
            else:
                migrate.check(db, self.file.path)
        finally:
            self.file.disconnect(db)
        warning = warn_of_old_library(self.file.driver)
        if warning and warning not in _warned:
            _warned.add(warning)
            later.warning(warning)

    @property
    def directory(self) -> Path:
        """The folder beside the file, for locks and sockets; made by the first process that needs it."""
        return directory_of(self.path)

    def now(self) -> float:
        """The time, in unix seconds; the clock may be another one by then."""
        return self.clock.now()

    def lives(self, token: str) -> bool:
        """Whether the worker of that token holds its lock."""
        return is_held(self.directory, token)

    def doing(self, db: Connection, record: JobRecord) -> str:
        """Return in words the state of an unfinished job, and what it waits for."""
        return why.doing(db, record, self.clock, self.lives)

    # ---- reading

    def _connect(self, *, lent: bool = False) -> Connection:
        self.owner.enter()  # again, beside a close() in another thread
        return self.file.connect_to_queue(lent=lent)

    def read(self, look: Callable[[Connection], T]) -> T:
        """Run `look` on the connection for look-ups: it takes little time, and reads to the end what it asks for."""
        return self.look_ups.read(look)

    def read_listing(self, look: Callable[[Connection], T]) -> T:
        """The same on a connection for listings: one that is free, if any is."""
        free = next((each for each in self.listings if not each.busy()), None)
        return (free or self.listings[next(self._listing_turns) % LISTINGS]).read(look)

    def let_others_list(self) -> None:
        """Between two reads of one listing, where all connections are in use: a thread may wait for one."""
        if all(each.busy() for each in self.listings[1:]):  # a lock that is released and acquired at once lets none in
            time.sleep(PAUSE)

    def count_queued(self, task: str, most: int) -> int:
        """Count the queued jobs of a task, at most so many."""
        return self.read(lambda db: queued_of(db, task, most))

    async def aread(self, look: Callable[[Connection], T]) -> T:
        """Async twin of `read`."""
        return await self.soon(partial(self.read, look))

    def soon(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Make a call that reads in a thread of our own, for a coroutine; return its future."""
        return self._thread.future(call)

    def listed_soon(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """The same for a call that lists."""
        return self._listing_thread.future(call)

    # ---- writing

    async def arun(
        self,
        steps: Callable[[], Steps[T]],
        then: Callable[[OpenTransaction | None], object] = lambda _held: None,
        *,
        durable: bool = True,
    ) -> T:
        """Run statements in the transaction that is open here, or in one of their own; `then` tells of it.

        `then` is called by the thread that commits: the caller may be cancelled by then.
        """
        held = self.writer.held()
        if held is None:
            return await self.writer.arun(
                lambda db: perform(db, steps()), durable=durable, then=lambda _value: then(None)
            )
        require_asyncio()  # else it is seen where the caller hands its work in
        value = await perform_held(held, steps())
        then(held)
        return value

    def announce(self, held: OpenTransaction | None) -> None:
        """Notify workers of jobs now, or when the transaction that is open here has been committed."""
        if held is None:
            commits = self.writer.commits
            if commits != self._notified:  # else another thread has notified them of the same commit
                self._notified = commits
                self.notify_workers()
        elif self.notify_workers not in held.after:
            held.after.append(self.notify_workers)

    def notify_workers(self) -> None:
        """Tell workers, in this process and others, that jobs are there."""
        self.notifier.notify(JOBS)

    def tell_cancelled(self, held: OpenTransaction | None, was: dict[str, Was]) -> None:
        """Notify of cancelled jobs, given with what they were, once for all of the transaction that is open here."""
        if held is not None:
            if was and not held.cancelled:
                held.after.append(partial(self.tell_cancelled, None, held.cancelled))
            held.cancelled.update(was)
            return
        self.rooms.stir()
        ended = [job_id for job_id, each in was.items() if each.status is not Status.RUNNING]
        if len(ended) < len(was):
            self.notifier.notify(CANCEL)
        if any(each.frees for each in was.values()):
            self.notify_workers()
        if ended:
            self.tell_ended(ended)

    def tell(self, then: Consequences) -> None:
        """Tell of what an end has brought with it."""
        if then.ended:
            self.tell_ended(then.ended)
        if then.begun or then.put_off:
            self.notify_workers()

    def tell_ended(self, job_ids: list[str]) -> None:
        """Notify all that wait for these jobs, here and in other processes."""
        self._tell_waiters(job_ids)

    def tell_emitted(self, job_ids: list[str]) -> None:
        """Notify all that follow these jobs: there is more to read."""
        self._tell_waiters(list(map(emitted_by, job_ids)))

    def _tell_waiters(self, names: list[str]) -> None:
        self.waiters.ended(names)
        message = " ".join(names).encode()
        self.done_notifier.notify(message if len(message) < LARGEST_MESSAGE else ALL, but=self.waiters.listener)

    def _check(self, db: Connection) -> None:
        """Before all else in each write transaction."""
        self.fence.check(db)
        if not self.emitter.pending.is_empty:
            perform(db, self.emitter.pending.steps())

    def check_ends(self, db: Connection) -> None:
        """The same before ends of runs alone, in a file that a newer litequeue has migrated."""
        self.fence.check_ends(db)
        perform(db, self.emitter.pending.steps())

    # ---- closing

    def close(self) -> None:
        """Close the connections, one inside a transaction at its end; they are opened again when they are needed."""
        if self.owner.is_another:
            raise forked_without_hooks(self.file.path)
        self.emitter.close()
        self.owner.forget()  # first: a thread that opens them again meanwhile says so again
        self.waiters.close()
        self.notifier.close()
        self.done_notifier.close()
        try:
            self.writer.close()
        finally:
            self._thread.close()
            self._listing_thread.close()
            for each in self._reads:
                each.close()
            if self.writer.connection is not None:  # inside a transaction
                self.owner.enter()

    def close_idle(self) -> None:
        """Close the connections that are not in use at this moment; never waits. Another process's stay open."""
        if self.owner.is_another:
            self._keep_inherited()
            return
        self.writer.close_idle()
        for each in self._reads:
            each.close_idle()

    # ---- fork

    @property
    def is_anothers(self) -> bool:
        """Whether it is open in a process that forked this one without telling Python."""
        return self.owner.is_another

    def _keep_inherited(self) -> None:
        """Let the end of this process close nothing that is open in the one that forked it."""
        for db in (self.writer.connection, *(each.connection for each in self._reads)):
            if db is not None:
                abandon(db)

    def before_fork(self) -> tuple[bool, ...]:
        """Close what is open, so that the child inherits no lock state; tell what could be closed."""
        quiet = no_copy = False
        stopped = [False] * len(self._reads)
        try:
            no_copy = self.copying.acquire(blocking=False)  # one may take minutes: too long for a fork to wait
            quiet = self.writer.quiesce()
            latest = SystemClock.monotonic() + BUSY_SECONDS  # for all readers together
            for place, each in enumerate(self._reads):
                stopped[place] = each.stop(max(0.0, latest - SystemClock.monotonic()))
        except BaseException as error:  # perhaps a Ctrl-C: Python prints it and forks all the same
            # without the error itself, whose traceback keeps what was interrupted, and so its locks
            later.error("%s while a fork was prepared; the child is refused the file", type(error).__name__)
        return quiet, no_copy, *stopped

    def after_fork_in_parent(self, stopped: tuple[bool, ...]) -> None:
        """Go on as before."""
        quiet, no_copy, *readers_stopped = stopped
        taken: list[Any] = [self.copying] if no_copy else []
        taken += [
            lock
            for each, is_stopped in zip(self._reads, readers_stopped, strict=True)
            if is_stopped
            for lock in each.locks
        ]
        try:
            if quiet:
                self.writer.go_on()
        finally:  # in one call in C: a Ctrl-C may come between any two of Python's
            deque(map(_release, taken), maxlen=0)

    def after_fork_in_child(self, stopped: tuple[bool, ...]) -> list[Connection]:
        """Forget what was inherited; return connections that must never be closed here."""
        if not all(stopped):
            self.file.forsake()
        self.owner.forget()
        left = [self.writer.reset_after_fork(), *(each.reset_after_fork() for each in self._reads)]
        self.copying = threading.Lock()
        self._thread.reset_after_fork()
        self.reads.reset_after_fork()
        self._listing_thread.reset_after_fork()
        self.emitter.reset_after_fork()
        self.waiters.reset_after_fork()
        self.idle.reset_after_fork()
        self.rooms.reset_after_fork()
        return [db for db in left if db is not None]
