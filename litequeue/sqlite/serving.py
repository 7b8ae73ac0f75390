"""The worker's side of the store: claim, settle, rescue, prune, and what fires by itself."""

from __future__ import annotations

import itertools
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from litequeue.core.clock import SystemClock
from litequeue.core.engine import Beat
from litequeue.core.logger import later, say
from litequeue.core.outcome import Ended, Released, Succeeded
from litequeue.core.owner_process import forked_without_hooks
from litequeue.errors import JobNotFound
from litequeue.ipc.dispatch import Dispatch
from litequeue.ipc.notifier import DONE, HAND, JOBS, SCHEDULES, WORK, Notifier
from litequeue.ipc.process_lock import open_directory
from litequeue.ipc.result_waiters import ALL, ResultWaiters
from litequeue.sqlite.admin.backup import backup
from litequeue.sqlite.commit.fair_lock import FairLock
from litequeue.sqlite.commit.writer import Writer
from litequeue.sqlite.drivers.connection import BUSY_SECONDS, abandon
from litequeue.sqlite.file import forks, migrate
from litequeue.sqlite.file.opening import Driver, Durability, File, OnConnect
from litequeue.sqlite.jobs import stored_schedules, transitions
from litequeue.sqlite.jobs.user_answers import answered, at_once
from litequeue.sqlite.reader import Reader
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from litequeue.core.clock import Clock
    from litequeue.core.engine import Cycle, Demand, NewWorker, Rescued, ScheduleRecord
    from litequeue.ipc.dispatch import IdleWorker
    from litequeue.sqlite.drivers.connection import Connection, Row
    from litequeue.sqlite.jobs.user_answers import Ask

T = TypeVar("T")

LARGEST_RING = 50_000


class WorkerStore(Reader):
    """A reader of the file that writes it, too, on one connection a process, and rings about what it wrote."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        driver: Driver,
        durability: Durability,
        clock: Clock,
        result_ttl: float,
        failed_ttl: float,
        create: bool,
        allow_unsafe_filesystem: bool = False,
        foreign_keys: bool = False,
        on_connect: OnConnect | None = None,
    ) -> None:
        file = File(
            path,
            driver,
            durability,
            allow_unsafe_filesystem=allow_unsafe_filesystem,
            foreign_keys=foreign_keys,
            on_connect=on_connect,
        )
        super().__init__(file, create=create)
        self.clock = clock
        self._result_ttl = result_ttl
        self._ttls = {"result_ttl": result_ttl, "failed_ttl": failed_ttl}
        self._fence = migrate.Fence(self._file.path)
        self._writer = Writer(
            lambda: self._connect(lent=True),
            self._file.disconnect,
            full=durability == "full",
            monotonic=clock.monotonic,
            fair_lock=FairLock(self.path),
            check=self._fence.check,
            enter=self._owner.enter,
            keep_hooks=on_connect is not None,
        )
        self._copying = threading.Lock()  # while a backup has the file open, on a connection of its own
        self._turns = itertools.count()
        self._notifier = Notifier(self.directory, WORK, SystemClock.monotonic, private=HAND)
        self._done_notifier = Notifier(self.directory, DONE, SystemClock.monotonic)
        self._dispatch = Dispatch(self.path, self._notifier, SystemClock.monotonic)
        self._waiters = ResultWaiters(lambda: open_directory(self.path), clock.monotonic, self)
        forks.watch(self)

    def claim(
        self, worker: int, demands: Sequence[Demand], queues: tuple[str, ...] | None, ended: Sequence[Ended] = ()
    ) -> Cycle:
        """Record how runs ended and hand out jobs to start, in one transaction."""
        turn = next(self._turns)

        def work(db: Connection) -> Cycle:
            return transitions.turn(db, worker, demands, queues, ended, self.clock.now(), self._result_ttl, turn)

        # a claim alone need not survive power loss: the job is then simply queued again
        outcome = self._writer.run(work, durable=bool(ended), news=bool(ended))
        if ended:
            self._tell_ended([end.job.id for end in ended])
        if any(type(end.outcome) is Released for end in ended):
            self._notifier.ring(JOBS)  # they are for whoever is free
        return outcome

    def offer(self, taker: IdleWorker, listener: str, span: float) -> None:
        """Let a worker be given a job by whoever enqueues one, while it rests, for `span` seconds at most."""
        self._dispatch.offer(taker, listener, span)

    def withdraw(self, worker: int) -> None:
        """It rests no more."""
        self._dispatch.withdraw(worker)

    def settle(self, ended: Sequence[Ended]) -> list[Ended]:
        """Record how runs ended; return those that came too late and changed nothing."""
        lost = self._writer.run(lambda db: transitions.settle(db, ended))
        self._tell_settled(ended)
        return lost

    def _tell_settled(self, ended: Sequence[Ended]) -> None:
        self._tell_ended([end.job.id for end in ended])
        if any(type(end.outcome) is not Succeeded for end in ended):
            self._notifier.ring(JOBS)  # what comes back is for whoever is free

    def _tell_ended(self, job_ids: list[str]) -> None:
        self._waiters.ended(job_ids)
        message = " ".join(job_ids).encode()
        self._done_notifier.ring(message if len(message) < LARGEST_RING else ALL, but=self._waiters.listener)

    def rescue(self, worker: int, executing: frozenset[str] | None, *, blame: bool) -> Rescued:
        """Put a dead worker's jobs back, and take it off the record."""
        now = self.clock.now()
        rescued = self._writer.run(
            lambda db: transitions.rescue(db, worker, executing, now, **self._ttls, blame=blame)
        )  # durable, as what it ends is told
        self._notifier.ring(JOBS)
        self._tell_ended([*rescued.dead_lettered, *rescued.cancelled])
        for job_id in rescued.dead_lettered:
            with suppress(JobNotFound):  # pruned already
                job = self.look_up(job_id)
                died = "%s[%s] failed: %d worker processes died while running it; it is not run again"
                later.error(died, job.task, job.id, job.deaths)
        say()
        return rescued

    def prune(self, limit: int = transitions.CHUNK) -> int:
        """Delete at most `limit` jobs whose time has come; return how many."""
        return self._writer.run(lambda db: transitions.prune(db, self.clock.now(), limit), durable=False)

    def register(self, worker: NewWorker) -> int:
        """Enter a worker; return its number."""
        now = self.clock.now()
        return self._writer.run(lambda db: transitions.register(db, worker, now), durable=False)

    def beat(self, worker: int) -> Beat:
        """Move the worker's heartbeat; tell whether it is on record, and whether there are others to see to."""
        values = {"worker": worker, "now": self.clock.now(), "version": self._fence.version}

        def work(db: Connection) -> list[Row]:
            rows = db.rows(SQL["beat"], values)
            if not rows:
                self._fence.explain(db)
            return rows

        self._owner.enter()
        rows = self._writer.run(work, durable=False, single=True, news=False)
        return Beat(known=bool(rows), others=not rows or bool(rows[0][0]))

    def version(self) -> object:
        """What changes when there may be something new for a worker; None when that cannot be told just now.

        The beats of our own workers, and claims alone, are nothing new.
        """
        return self._writer.changes()

    # ---- schedules

    def declare(self, schedules: Sequence[ScheduleRecord], tasks: frozenset[str]) -> None:
        """Make the file's declared schedules those of the code, as far as they are of these tasks."""
        now = self.clock.now()
        answered(lambda ask: self._writer.run(lambda db: stored_schedules.declare(db, schedules, tasks, now, ask)))
        self._notifier.ring(SCHEDULES)

    def bring_near(self, tasks: frozenset[str]) -> None:
        """After the clock was set back: let these tasks' schedules fire at their next ticks by it."""
        now = self.clock.now()
        answered(lambda ask: self._writer.run(lambda db: stored_schedules.bring_near(db, tasks, now, ask)))

    def fire(self, tasks: frozenset[str]) -> float | None:
        """Enqueue what is due of these tasks' schedules; return when the next is due."""
        next_at = self.next_schedule(tasks)
        now = self.clock.now()
        if next_at is None or next_at > now:
            return next_at
        fired, next_at = answered(lambda ask: self._writer.run(lambda db: stored_schedules.fire(db, tasks, now, ask)))
        if fired:
            self._notifier.ring(JOBS)
        return next_at

    def put_schedule(self, schedule: ScheduleRecord, *, replace: bool) -> None:
        """Add a schedule, or change the one of its name."""
        now = self.clock.now()
        self._change_schedule(lambda db, ask: stored_schedules.put(db, schedule, now, ask, replace=replace))

    def remove_schedule(self, name: str) -> None:
        """Delete a schedule."""
        self._change_schedule(lambda db, _ask: stored_schedules.remove(db, name))

    def pause_schedule(self, name: str) -> None:
        """Let it fire no more until it is resumed."""
        self._change_schedule(lambda db, _ask: stored_schedules.pause(db, name))

    def resume_schedule(self, name: str) -> None:
        """Let it go on from now."""
        now = self.clock.now()
        self._change_schedule(lambda db, ask: stored_schedules.resume(db, name, now, ask))

    def trigger_schedule(self, name: str) -> str:
        """Enqueue its call at once; return the job's id."""
        return self._change_schedule(lambda db, _ask: stored_schedules.trigger_now(db, name, self.clock.now()))

    def _change_schedule(self, work: Callable[[Connection, Ask], T]) -> T:
        held = self._writer.held()
        if held is not None:
            value = self._writer.run(lambda db: work(db, at_once))
            held.after.append(lambda: self._notifier.ring(SCHEDULES))
            return value
        value = answered(lambda ask: self._writer.run(lambda db: work(db, ask)))
        self._notifier.ring(SCHEDULES)
        return value

    # ---- the file

    def tidy(self) -> None:
        """Idle work: hand free pages back in small steps, and move the WAL into the file without blocking anyone."""
        self._writer.run_outside(migrate.tidy)

    def mend(self, repair: Callable[[Connection], str]) -> str:
        """Run one of `sqlite.repair`; return what it has done."""
        return self._writer.run_outside(repair)

    def backup(self, copy: str | os.PathLike[str], *, as_it_is: bool = False) -> Path:
        """Copy the file while it is in use; in the copy no worker is on record, and what was running is queued.

        `as_it_is`: neither that nor a check, for a file that is to be mended.
        """
        self.check()
        with self._copying:
            return backup(self._file, copy, self.clock.now(), self._ttls, as_it_is=as_it_is)

    def close(self) -> None:
        """Close the connections; they are opened anew when used again."""
        if self._owner.is_another:
            raise forked_without_hooks(self._file.path)
        self._owner.forget()  # first: whichever thread opens them anew meanwhile says so again
        self._waiters.close()
        self._notifier.close()
        self._done_notifier.close()
        self._dispatch.close()
        self._writer.close()
        self.close_reader()

    def close_idle(self) -> None:
        """Close the connections that nobody is using at this moment; never waits. Another process's stay open."""
        if self._owner.is_another:
            self._keep_inherited()
            return
        self._writer.close_idle()
        if self._reading.acquire(blocking=False):
            try:
                self._drop_reader()
            finally:
                self._reading.release()

    # ---- fork

    @property
    def is_anothers(self) -> bool:
        """Whether it is open in a process that forked this one without telling Python."""
        return self._owner.is_another

    def _keep_inherited(self) -> None:
        """Let the end of this process close nothing that is open in the one that forked it."""
        for db in (self._writer.connection, self._reader):
            if db is not None:
                abandon(db)

    def before_fork(self) -> tuple[bool, bool, bool]:
        """Close what is open, so that the child inherits no lock state; tell what could be closed."""
        no_copy = self._copying.acquire(blocking=False)  # one may take minutes: too long for a fork to wait
        quiet = self._writer.quiesce()
        reading_stopped = self._reading.acquire(timeout=BUSY_SECONDS)
        if reading_stopped:
            self._drop_reader()
        return quiet, reading_stopped, no_copy

    def after_fork_in_parent(self, stopped: tuple[bool, bool, bool]) -> None:
        """Go on as before."""
        quiet, reading_stopped, no_copy = stopped
        if no_copy:
            self._copying.release()
        if reading_stopped:
            self._reading.release()
        if quiet:
            self._writer.go_on()

    def after_fork_in_child(self, stopped: tuple[bool, bool, bool]) -> list[Connection]:
        """Forget what was inherited; return connections that must never be closed here."""
        if not all(stopped):
            self._file.forsake()
        self._owner.forget()
        left = [self._writer.start_anew(), self._reader]
        self._reader = None
        self._reading, self._copying = threading.Lock(), threading.Lock()
        self._thread.start_anew()
        self._waiters.start_anew()
        self._dispatch.start_anew()
        return [db for db in left if db is not None]
