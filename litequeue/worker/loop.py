"""A worker's loop: claims jobs, starts them, settles their ends, and lets them end when it is told to stop."""

from __future__ import annotations

import errno
import math
import os
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, cast

from litequeue.core.clock import SystemClock
from litequeue.core.duration import text
from litequeue.core.logger import log
from litequeue.errors import SchemaTooNew, StoreDamaged, StoreError, StoreReplaced
from litequeue.ipc.notifier import CANCEL, JOBS, SCHEDULES, WORK
from litequeue.ipc.process_lock import ProcessLock, open_directory
from litequeue.worker.claiming import Claiming
from litequeue.worker.executor.child_pool import Children
from litequeue.worker.executor.executor import Executor
from litequeue.worker.executor.mailbox import Mailbox
from litequeue.worker.executor.pool import Setup
from litequeue.worker.executor.shared_listener import SharedListener
from litequeue.worker.followed_logs import FollowedLogs
from litequeue.worker.idle import Idle
from litequeue.worker.limits import Limits
from litequeue.worker.maintenance import Maintenance
from litequeue.worker.quarantine import Quarantine
from litequeue.worker.reconcile import Reconciliation
from litequeue.worker.recycling import Recycling
from litequeue.worker.running_jobs import RunningJobs
from litequeue.worker.served_tasks import ServedTasks
from litequeue.worker.stop_log import StopLog
from litequeue.worker.stuck_waits import StuckWaits

if TYPE_CHECKING:
    import asyncio

    from litequeue.core.engine import Home, RunOptions
    from litequeue.core.store import Cycle, Store
    from litequeue.worker.counts import Counts
    from litequeue.worker.stop_request import StopRequest
    from litequeue.worker.watchdog import Watchdog

POLL = 1.2  # seconds between looks without a notification: with the heartbeats under one statement a second
BACK_OFF = 1.0  # seconds to wait after the store refused
CANCEL_AGAIN = 0.02  # seconds until a cancel is tried again whose job was neither in the backlog nor running
DRAIN_LOOK = 0.25  # seconds between looks while the last jobs end
LAST_PATIENCE = 0.5  # seconds for what was told to end, before it is left behind
WRONG_FILE = (StoreReplaced, StoreDamaged, SchemaTooNew)  # nothing more is written to it
LAST_SETTLE = 5.0  # seconds in which the last ends are offered to a store that refuses


class Loop:
    """One worker at work, from its lock file to its last end. `id`: its number in the file."""

    def __init__(
        self,
        home: Home,
        store: Store,
        options: RunOptions,
        name: str,
        stop: StopRequest,
        counts: Counts,
        event_loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self._store, self._options, self._name, self._stop, self._clock = store, options, name, stop, home.clock
        self._token: str = os.urandom(16).hex()
        self.id: int = 0
        self.recycled: bool = False
        self.watchdog: Watchdog | None = None
        children = Children(options.children, options.max_jobs_per_child, options.max_memory_per_child, str(store.path))
        places: dict[str, Any] = {"threads": options.threads, "coroutines": options.coroutines, "children": children}
        declared = home.tasks, home.declared, home.limits_declared
        with ExitStack() as made:
            directory = open_directory(store.path)
            self._tasks = made.enter_context(closing(ServedTasks(*declared, stop.wake, children=options.children > 0)))
            # the lock first: no process ever sees this worker on record without it
            lock = ProcessLock(directory, self._token, options.threads + options.coroutines + options.children)
            self._process_lock = made.enter_context(closing(lock))
            self._listener = made.enter_context(closing(SharedListener(directory, WORK)))
            self.mailbox: Mailbox = Mailbox(self._listener.wake, store.runs.settle)
            setup = Setup({}, home.defaults, home.clock, store.runs, lock)
            self._executor = Executor(setup, self.mailbox, **places, loop=event_loop)
            self.runs: RunningJobs = RunningJobs(self._executor, self.mailbox, home.defaults, home.clock)
            self.runs.serve(self._tasks.tasks)
            self._compose(home, store, options, stop, counts)
            self._stop_log = StopLog(name, self.mailbox, stop, home.clock)
            stop.note_in(lock, self._listener.wake)  # may want a descriptor, too
            made.pop_all()

    def _compose(self, home: Home, store: Store, options: RunOptions, stop: StopRequest, counts: Counts) -> None:
        served = self._tasks.names, options.queues, options.offers
        self._maintenance = Maintenance(store, home.clock, self._token, *served, self._tasks.left_out)
        self._quarantine = Quarantine(self.runs, home.clock)
        self._claiming = Claiming(
            store.runs,
            options,
            counts,
            stop,
            home.clock,
            process_lock=self._process_lock,
            executor=self._executor,
            mailbox=self.mailbox,
            runs=self.runs,
            quarantine=self._quarantine,
            maintenance=self._maintenance,
        )
        self._recycling = Recycling(self._name, options, stop)
        self._claiming.serve(self._tasks.names, self._tasks.at_most_once)
        self._reconciliation = Reconciliation(
            store.runs, self.runs, self._quarantine, SystemClock(), self._listener.wake
        )
        idle = store.dispatch, self._listener, self._claiming, self._executor, self.runs
        self._idle = Idle(*idle, self._reconciliation)
        self._limits = Limits(store, self.mailbox)
        self._logs = FollowedLogs(store.run_logs, self.mailbox)
        self._stuck = StuckWaits(self._name, store.runs, self._executor, self.mailbox.running, SystemClock())
        self._wrong_file = False  # what we write goes to a wrong place
        self._confirmed: object = None  # how far all had come when nothing was left to do
        self._outdated: Exception | None = None  # a newer litequeue has migrated the file: no more than ends
        self._version, self._polled, self._cancels_at = cast("object", None), 0.0, math.inf

    def register(self) -> None:
        """Put this worker on record, and what its code declares."""
        self._register()
        self._tasks.declare(self._store)

    def _register(self) -> None:
        self.id = self.runs.worker = self._store.workers.register(self._tasks.worker(self._token, self._options))

    def _register_again(self) -> None:
        """Register again after being declared dead: our jobs were released, so those not begun are dropped."""
        log.warning("%s was declared dead while it was frozen; it registers again", self._name)
        self.runs.unbegun += len(self._executor.withdraw())  # other workers have them already
        self._quarantine.forget_unbegun()
        self._register()
        self._claiming.look_again()  # nothing was claimed for a worker that was not on record

    def close(self) -> None:
        """Deregister this worker, and close what it has open."""
        lock, once = self._process_lock, self._tasks.at_most_once
        try:
            self._executor.stop()
            if self._wrong_file or not lock.intact:
                lock.abandon(self.mailbox.begun(once if lock.intact else None))
            else:
                if self._outdated is None:
                    self._tasks.remove_undeclared(self._store)
                self._store.runs.rescue(self.id, frozenset(self.mailbox.begun()), blame=False, why="it could not write")
        except BaseException as error:
            lock.abandon(self.mailbox.begun(once))  # the worker that takes the lock releases our jobs
            if not isinstance(error, StoreError) or isinstance(error, StoreDamaged):
                raise
        finally:
            for made in (self._tasks, self._listener, lock):
                made.close()

    # ---- the loop

    def serve(self) -> None:
        """Work until told to stop, or, if asked to, until no job is ready; then end."""
        self._confirmed = None
        while not self._stop.made:
            try:
                self._feed()
                try:
                    self._cycle()
                finally:  # claims that are refused must not stop its heartbeat
                    self._process_lock.check()
                    if not self._maintenance.tick(self.id, idle=not self._executor.busy):
                        self._register_again()
                if self._is_done():
                    break
                self._wait()
            except WRONG_FILE as error:
                self._wrong_file = not isinstance(error, SchemaTooNew)
                if self._wrong_file:
                    raise
                self._outdated = error
                break
            except Exception as error:
                self._stumble(error)
        self.end()
        self._process_lock.check()
        if self._outdated is not None:
            raise self._outdated

    def _is_done(self) -> bool:
        """Whether it is to end by itself: for a new process in its place, or since nothing is left to do."""
        if self._recycling.ends(self._claiming.left) and self._has_nothing and self._quarantine.one is None:
            self._recycling.say()
            self.recycled = True
            return True
        if not (self._stop.when_idle and self._is_idle()):
            return False
        progress = self._stop.idleness.progress
        if self._confirmed != progress:  # not before a look after maintenance, which may fire
            self._confirmed = progress
            self._claiming.look_again()
        elif self._stop.idleness.all_idle(self._stop, progress):
            self._maintenance.look_for_unserved()
            return True
        return False

    def _stumble(self, error: Exception) -> None:
        """Keep ended runs to settle them again: the disk is full, the file locked for long, or no descriptor left."""
        if isinstance(error, StoreError):
            log.error("the file could not be written: %s; trying again in %s", error, text(BACK_OFF))
        elif isinstance(error, OSError) and error.errno == errno.EBADF:
            raise error  # a job has closed descriptors that are ours, the lock among them
        else:
            log.error("the worker's loop failed; trying again in %s", text(BACK_OFF), error=error)
        self._claiming.serve(self._tasks.names, self._tasks.at_most_once)  # what runs may know of more by now
        self._reconciliation.open = True
        over = self._clock.monotonic() + BACK_OFF
        while not self._stop.made and (left := over - self._clock.monotonic()) > 0:
            self._listener.wait(left)

    def _cycle(self) -> None:
        """Settle ended runs and claim jobs that can start, in one transaction."""
        self._process_lock.check()
        if self._tasks.follow(self.id, self._store, self.runs, self._maintenance, idle=self._has_nothing):
            self._claiming.serve(self._tasks.names, self._tasks.at_most_once)
        self.runs.check()
        self._reconciliation.look(self.id)
        if self._limits.look():
            self._claiming.look_again()
        ended = self.mailbox.take()
        self._claiming.note_freed(ended)
        demands = self._claiming.demands()
        if ended or demands:
            self._take_over(self._claiming.claim(demands, ended))
        if self.watchdog is not None:
            self.watchdog.begin()

    def _feed(self) -> None:
        if self.watchdog is not None:
            self.watchdog.feed()

    def _take_over(self, turn: Cycle) -> None:
        """Begin what was claimed, with care where workers died under it."""
        if not turn.registered:
            self._register_again()
            return
        if turn.claimed:
            self._executor.start(self._quarantine.pick_out(turn.claimed))
        if turn.keyless and self._limits.give_takes(turn.keyless, self._tasks.tasks):
            self._claiming.look_again()

    @property
    def _has_nothing(self) -> bool:
        """Whether no job runs or waits here, and no end is to be settled."""
        return not (self._executor.busy or self.mailbox.ended)

    def _is_idle(self) -> bool:
        """Whether there is no job here, and none is known to be ready."""
        known = self._claiming.nothing_to_claim and not self._maintenance.may_fire
        return known and self._has_nothing and not self._reconciliation.open

    def _wait(self) -> None:
        """Sleep until a notification, an end, or the next due time; at most `POLL` seconds."""
        if self._quarantine.tend():
            self._claiming.look_again()
        messages = self._listener.wait(0.0) if self._claiming.demands() else self._sleep()
        self._claiming.note_what_ran()
        self._hear(messages)
        self._poll()

    def _sleep(self) -> list[bytes]:
        self._claiming.loop_sleeps()
        try:
            if self._may_rest():
                return self._idle.sleep(self._timeout())
            return self._listener.wait(self._timeout())
        finally:
            self._claiming.loop_wakes()
            for turn in self._idle.take_left():
                self._take_over(turn)

    def _may_rest(self) -> bool:
        """Whether idle threads, and threads that enqueue, may claim in its place: not where the loop must count."""
        busy = self._stop.when_idle or self._stop.made or self._claiming.left is not None
        return not busy and self._quarantine.none and self._is_idle()

    def _hear(self, messages: list[bytes]) -> None:
        missed = self._listener.missed
        if CANCEL in messages or missed or self._clock.monotonic() >= self._cancels_at:
            self._look_for_cancels()
        if SCHEDULES in messages or missed:
            self._maintenance.schedules_changed()
        if JOBS in messages or missed:
            self._claiming.look_again()

    def _timeout(self) -> float:
        now = self._clock.now()
        looks = self._polled + POLL, self._cancels_at, self._maintenance.shrink_at
        waits = [self.runs.due_in(), min(looks) - self._clock.monotonic()]
        if self.watchdog is not None:
            waits.append(self.watchdog.due_in())
        waits.append(self._claiming.due_in())
        waits += [at - now for at in (self._maintenance.next_fire,) if at is not None]
        return max(0.0, min(waits))

    def _poll(self) -> None:
        """The safety net behind the notifier: once a second, check whether anything was written."""
        now = self._clock.monotonic()
        self._claiming.look_if_due()
        if now - self._polled < POLL:
            return
        self._polled = now
        self._recycling.look()
        self._stop.keep_short()
        self._stuck.look(self._store.directory)
        self._logs.look()
        version = self._store.maintenance.version()
        if version not in (None, self._version):
            self._version = version
            self._claiming.look_again()
            self._maintenance.schedules_changed()
            self._maintenance.jobs_changed()
            if self._executor.busy:
                self._look_for_cancels()

    def _look_for_cancels(self) -> None:
        told = [self.runs.cancel(job_id, attempt) for job_id, attempt in self._store.runs.requested_cancels(self.id)]
        self._cancels_at = math.inf if all(told) else self._clock.monotonic() + CANCEL_AGAIN

    # ---- the end

    def end(self) -> None:
        """Let running jobs end within the grace, release the rest, and settle everything."""
        if self.watchdog is not None:
            self.watchdog.stop()
        if self._outdated is not None:
            log.error("%s; %s claims no more, and stops when its jobs have ended", self._outdated, self._name)
        self._stop.say()
        self.runs.accept_no_more()
        deadline = self._clock.monotonic() + self._stop.grace
        self.runs.release(self._executor.withdraw())
        self._quarantine.release_unbegun()
        if self._stop.asks_jobs:
            self.runs.ask_all()
        while self._executor.busy and not self._stop.at_once and self._clock.monotonic() < deadline:
            self._settle(deadline)
            if self._executor.busy:
                self._stop_log.wait()
                self._listener.pause(min(DRAIN_LOOK, deadline - self._clock.monotonic()))
                self._stop.say()
                self._process_lock.check()
                self._keep_up()
        self._stop.say()
        self._stop_log.release()
        self.runs.interrupt_all()
        patience = self._clock.monotonic() + LAST_PATIENCE
        self._drain(patience)
        self.runs.write_off_all()
        self._drain(patience + LAST_PATIENCE)  # these were just ending, or beginning
        deadline = max(deadline, self._clock.monotonic() + LAST_SETTLE)
        while self.mailbox.settling and self._clock.monotonic() < deadline:
            self._listener.pause(LAST_PATIENCE / 10)
        self._settle(deadline)
        self._stop_log.end()
        self._claiming.note_what_ran()

    def _drain(self, patience: float) -> None:
        """Wait, at most so long, for the runs that were told to end."""
        while self._executor.busy and self._clock.monotonic() < patience:
            self._listener.pause(LAST_PATIENCE / 10)
            self.runs.interrupt_all()

    def _keep_up(self) -> None:
        """While ending: send heartbeats, enforce limits, obey cancels."""
        self._feed()
        self.runs.check()
        try:
            if self._outdated is None:
                self._maintenance.tick(self.id, idle=False)
                self._logs.look()
            self._look_for_cancels()
        except Exception as error:
            log.warning("maintenance failed while the worker was ending: %s", error)

    def _settle(self, deadline: float) -> None:
        """Settle the ends; if the store fails, try again until the deadline."""
        while self._process_lock.intact and not self._wrong_file and (ended := self.mailbox.take()):
            self._stop_log.note(ended)
            try:
                self._claiming.settle(ended)
            except WRONG_FILE:
                self._wrong_file = True
                raise
            except Exception as error:
                if self._stop.at_once or self._clock.monotonic() >= deadline:
                    jobs = ", ".join(f"{end.job.task_name}[{end.job.id}]" for end in self.mailbox.ended)
                    log.critical("the file could not be written: %s; these jobs will run again: %s", error, jobs)
                    return
                log.error("the file could not be written: %s; trying again in %s", error, text(BACK_OFF))
                self._listener.pause(min(BACK_OFF, deadline - self._clock.monotonic()))
