"""The worker: its loop claims jobs, starts them, settles their ends, and stops."""

from __future__ import annotations

import errno
import math
import os
import time
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, cast

from litequeue.core.clock import SystemClock
from litequeue.core.duration import text
from litequeue.core.logger import log
from litequeue.core.outcome import Released
from litequeue.core.store import Demand, NewWorker
from litequeue.errors import SchemaTooNew, StoreDamaged, StoreError, StoreReplaced
from litequeue.ipc.notifier import CANCEL, JOBS, SCHEDULES, WORK
from litequeue.ipc.process_identity import Identity
from litequeue.ipc.process_lock import ProcessLock, open_directory
from litequeue.worker.executor.inbox import Inbox
from litequeue.worker.idle import Calls, Claim, Idle
from litequeue.worker.lifecycle import Lifecycle
from litequeue.worker.maintenance import Maintenance
from litequeue.worker.quarantine import Quarantine
from litequeue.worker.reconcile import Reconciliation
from litequeue.worker.running_jobs import RunningJobs
from litequeue.worker.served_tasks import ServedTasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litequeue.core.engine import Home, RunOptions
    from litequeue.core.outcome import Ended
    from litequeue.core.store import Cycle, Store

POLL = 1.2  # seconds between looks without a notification: with the heartbeats under one statement a second
BACK_OFF = 1.0  # seconds to wait after the store refused
CANCEL_AGAIN = 0.02  # seconds until a cancel is tried again whose job was neither in the backlog nor running
DRAIN_LOOK = 0.25  # seconds between looks while the last jobs end
LAST_PATIENCE = 0.5  # seconds for what was told to end, before it is left behind
WRONG_FILE = (StoreReplaced, StoreDamaged, SchemaTooNew)  # nothing more is written to it
LAST_SETTLE = 5.0  # seconds in which the last ends are offered to a store that refuses


class Worker(Lifecycle):
    """Runs jobs of one queue's file: plain functions in threads, coroutines on a loop, together.

    Use it as a context manager, sync or async: it then runs beside your code and ends with the block. Running jobs are
    finished, and jobs that have not begun stay queued. Or call `run()`, which blocks and handles signals.
    """

    def __init__(self, home: Home, store: Store, options: RunOptions) -> None:
        super().__init__(options.name, options.grace, signals=options.signals)
        self.queue: Home = home
        self._store, self._clock = store, home.clock
        self.threads: int = options.threads
        self.coroutines: int = options.coroutines
        self.queues: tuple[str, ...] | None = options.queues
        self.claimed: int = 0
        self.settled: int = 0
        self.lost: int = 0
        self.released: int = 0
        self.id: int = 0

    def _check_process(self) -> None:
        self._store.check_process()

    def _open(self) -> None:
        self._token = os.urandom(16).hex()
        self._tasks, directory = ServedTasks(self.queue.tasks, self._wake), open_directory(self._store.path)
        # the lock first: no process ever sees this worker on record without it
        with ExitStack() as made:
            made.enter_context(closing(self._tasks))
            self._process_lock = made.enter_context(
                closing(ProcessLock(directory, self._token, self.threads + self.coroutines))
            )
            self._listener = made.enter_context(closing(Inbox(directory, WORK)))
            self._runs = RunningJobs(
                self._tasks.tasks,
                self.queue.defaults,
                threads=self.threads,
                coroutines=self.coroutines,
                loop=self._loop,
                clock=self._clock,
                recorder=self._store.runs,
                process_lock=self._process_lock,
                wake=self._listener.wake,
                settle=self._settle_at_once,
            )
            self._notice.note_in(self._process_lock, stopping=self._stopping)  # may want a descriptor, too
            made.pop_all()
        self._note_tasks()
        self._next_at: float | None = None
        self._quarantine = Quarantine(self._runs, self._clock)
        self._reconciliation = Reconciliation(self._store.runs, self._runs, self._quarantine, SystemClock())
        calls = Calls(self._claim_all, self._take_over, self._reconcile)
        self._idle = Idle(self._store, self._runs, self._listener, lambda: self._kinds, self.queues, calls)
        self._wrong_file = self._sure = False  # _wrong_file: what we write goes to a wrong place
        self._version, self._polled, self._cancels_at = cast("object", None), 0.0, math.inf
        self._maintenance = Maintenance(self._store, self._clock, self._token, self._tasks.names)

    def _note_tasks(self) -> None:
        names, plain = self._tasks.names, self._runs.plain
        self._kinds = frozenset(kind for kind in (plain, names - plain) if kind)
        self._maybe_ready = set(self._kinds)  # kinds of tasks of which there may be ready jobs

    def _register(self) -> None:
        who, tasks = Identity.current().to_text(), tuple(sorted(self._tasks.names))
        places = {"threads": self.threads, "coroutines": self.coroutines}
        new = NewWorker(token=self._token, identity=who, queues=self.queues, tasks=tasks, **places)
        self.id = self._runs.worker = self._store.workers.register(new)

    def _register_again(self) -> None:
        """Register again after being declared dead: our jobs were released, so those not begun are dropped."""
        log.warning("%s was declared dead while it was frozen; it registers again", self.name)
        self._runs.forget_backlog()
        self._quarantine.forget_unbegun()
        self._register()

    def _close(self) -> None:
        try:
            self._runs.stop()
            if self._wrong_file or not self._process_lock.intact:
                self._process_lock.abandon(() if self._process_lock.intact else self._runs.begun())
            else:
                self._store.runs.rescue(self.id, None, blame=False)
        except BaseException as error:
            self._process_lock.abandon()  # the worker that takes the lock releases our jobs
            if not isinstance(error, StoreError) or isinstance(error, StoreDamaged):
                raise
        finally:
            for made in (self._tasks, self._listener, self._process_lock):
                made.close()

    def _wake(self) -> None:
        if self._notice.noted:
            self._listener.wake()

    @property
    def left_running(self) -> int:
        """How many functions did not stop when told and were left behind; they run until the process ends."""
        return self._runs.left if self._notice.noted else 0

    def _finished_all(self) -> bool:
        return self._runs.cut_short == 0

    # ---- the loop

    def _serve(self) -> None:
        self._tasks.declare_schedules(self._store)
        self._ready.set()
        while not self._stopping:
            try:
                try:
                    self._cycle()
                finally:  # claims that are refused must not stop its heartbeat
                    self._process_lock.check()
                    if not self._maintenance.tick(self.id, idle=not self._runs.busy):
                        self._register_again()
                if self._until_idle and self._is_idle():
                    if self._sure:
                        break
                    # not before a look after maintenance, which may fire
                    self._sure, self._maybe_ready = True, set(self._kinds)
                self._wait()
            except WRONG_FILE:
                self._wrong_file = True
                raise
            except Exception as error:
                self._stumble(error)
        self._end()
        self._process_lock.check()

    def _stumble(self, error: Exception) -> None:
        """Keep ended runs to settle them again: the disk is full, the file locked for long, or no descriptor left."""
        if isinstance(error, StoreError):
            log.error("the file could not be written: %s; trying again in %s", error, text(BACK_OFF))
        elif isinstance(error, OSError) and error.errno == errno.EBADF:
            raise error  # a job has closed descriptors that are ours, the lock among them
        else:
            log.error("the worker's loop failed; trying again in %s", text(BACK_OFF), error=error)
        self._note_tasks()  # what runs may know of more by now
        self._reconciliation.open = True
        over = self._clock.monotonic() + BACK_OFF
        while not self._stopping and (left := over - self._clock.monotonic()) > 0:
            self._listener.wait(left)

    def _cycle(self) -> None:
        """Settle ended runs and claim jobs that can start, in one transaction."""
        self._process_lock.check()
        if self._tasks.follow(self.id, self._store, self._runs, self._maintenance):
            self._note_tasks()
        self._runs.check()
        self._reconciliation.look(self.id)
        ended, demands = self._runs.take_ended(), self._demands()
        if ended or demands:
            self._take_over(self._settle_and_claim(demands, ended))

    def _take_over(self, turn: Cycle) -> None:
        """Begin what was claimed, with care where workers died under it."""
        if not turn.registered:
            self._register_again()
        elif turn.claimed:
            self._runs.start(self._quarantine.pick_out(turn.claimed))

    def _settle_and_claim(self, demands: list[Demand], ended: list[Ended]) -> Cycle:
        try:
            turn = self._store.runs.claim(self.id, demands, self.queues, ended)
        except BaseException:
            self._runs.keep_ended(ended)
            raise
        self._maintenance.jobs_changed()  # a cycle also ends what has expired
        self._note_settled(ended, turn.lost)
        self._next_at = turn.next_at
        # a demand that was not met in full: there is no more of its kind
        self._maybe_ready -= {demand.tasks for demand in demands if not demand.met_by(turn.claimed)}
        if turn.claimed:
            self.claimed, self._sure = self.claimed + len(turn.claimed), False
        return turn

    def _demands(self) -> list[Demand]:
        """Return what could start now: nothing while stopping, or while a job is quarantined here."""
        quarantine = self._quarantine
        if self._stopping or quarantine.one is not None:
            return []
        if quarantine.skips_quarantined and not self._runs.busy:
            quarantine.skips_quarantined, self._maybe_ready = False, set(self._kinds)
        rooms = ((kind, self._runs.room(kind)) for kind in self._maybe_ready)
        return [
            Demand(kind, 1 if quarantine.one_at_a_time else room, quarantine.most_deaths)
            for kind, room in rooms
            if room > 0
        ]

    def _is_idle(self) -> bool:
        """Whether no job runs or waits here, and none is known to be ready."""
        known = (
            self._maybe_ready
            or self._runs.busy
            or self._runs.ended
            or self._quarantine.one
            or self._quarantine.skips_quarantined
        )
        return not (known or self._reconciliation.open or self._is_due())

    def _wait(self) -> None:
        """Sleep until a notification, an end, or the next due time; at most `POLL` seconds."""
        if self._quarantine.tend():
            self._maybe_ready = set(self._kinds)
        if self._demands():
            messages = self._listener.wait(0.0)
        elif self._is_idle() and self._quarantine.none and not (self._until_idle or self._stopping):
            messages = self._idle.sleep(self._timeout())
        else:
            messages = self._listener.wait(self._timeout())
        self._note_what_ran()
        self._hear(messages)
        self._poll()

    def _claim_all(self) -> Claim:
        """Claim, in an idle thread while the loop sleeps, as many jobs as there is room for."""
        self._process_lock.check()
        self._maybe_ready, known = set(self._kinds), self._next_at
        turn = self._settle_and_claim(self._demands(), [])
        return Claim(turn, sooner=turn.next_at is not None and (known is None or turn.next_at < known))

    def _reconcile(self) -> None:
        """Have the loop look for claims that it knows nothing of; from any thread."""
        self._reconciliation.open = True
        self._listener.wake()

    def _settle_at_once(self, end: Ended) -> list[Ended] | None:
        """In the thread that ran it: record the end of the only run, if there is nothing to claim along with it."""
        if not (self._maybe_ready or self._quarantine.one is not None or not self._process_lock.intact):
            with suppress(Exception):  # also of `on_connect`: then the loop tries again, and says what is wrong
                return self._store.runs.settle([end])
        return None

    def _note_what_ran(self) -> None:
        """Count the jobs that were dispatched to us, and those whose threads have settled them."""
        dispatched, settled = self._runs.take_notes()
        self.claimed += dispatched
        for end, lost in settled:
            self._note_settled([end], lost)
            self._maintenance.jobs_changed()

    def _hear(self, messages: list[bytes]) -> None:
        if CANCEL in messages or self._listener.missed or self._clock.monotonic() >= self._cancels_at:
            self._look_for_cancels()
        if SCHEDULES in messages or self._listener.missed:
            self._maintenance.schedules_changed()
        if JOBS in messages or self._listener.missed:
            self._maybe_ready = set(self._kinds)

    def _timeout(self) -> float:
        now = self._clock.now()
        waits = [self._runs.due_in(), min(self._polled + POLL, self._cancels_at) - self._clock.monotonic()]
        waits += [moment - now for moment in (self._next_at, self._maintenance.next_fire) if moment is not None]
        return max(0.0, min(waits))

    def _is_due(self) -> bool:
        return self._next_at is not None and self._next_at <= self._clock.now()

    def _poll(self) -> None:
        """The safety net behind the notifier: once a second, check whether anything was written."""
        now = self._clock.monotonic()
        if self._is_due():  # forgotten until the next cycle: with no room to claim, the loop must not spin
            self._maybe_ready, self._next_at = set(self._kinds), None
        if now - self._polled < POLL:
            return
        self._polled = now
        self._notice.keep_short()
        version = self._store.maintenance.version()
        if version not in (None, self._version):
            self._version, self._maybe_ready = version, set(self._kinds)
            self._maintenance.schedules_changed()
            self._maintenance.jobs_changed()
            if self._runs.busy:
                self._look_for_cancels()

    def _look_for_cancels(self) -> None:
        told = [self._runs.cancel(job_id, attempt) for job_id, attempt in self._store.runs.requested_cancels(self.id)]
        self._cancels_at = math.inf if all(told) else self._clock.monotonic() + CANCEL_AGAIN

    def _note_settled(self, ended: Sequence[Ended], lost: Sequence[Ended]) -> None:
        self.settled += len(ended) - len(lost)
        self.released += sum(type(end.outcome) is Released for end in ended)
        self.lost += len(lost)
        for end in lost:
            log.warning("%s[%s]: attempt %d ended too late and was dropped", end.job.task, end.job.id, end.job.attempt)
        if self._quarantine.one is not None and any(end.job is self._quarantine.one for end in ended):
            self._quarantine.one, self._maybe_ready = None, set(self._kinds)
        if ended and self._until_idle:
            self._maintenance.schedules_changed()  # they may have added some, of which a new listener was not told

    # ---- the end

    def _end(self) -> None:
        """Let running jobs end within the grace, release the rest, and settle everything."""
        self._notice.say()
        self._runs.accept_no_more()
        deadline = self._clock.monotonic() + self.grace
        self._runs.release_backlog()
        self._quarantine.release_unbegun()
        while self._runs.busy and not self._hurry and self._clock.monotonic() < deadline:
            self._settle(deadline)
            if self._runs.busy:
                self._rest(min(DRAIN_LOOK, deadline - self._clock.monotonic()))
                self._notice.say()
                self._process_lock.check()
                self._keep_up()
        self._runs.interrupt_all()
        patience = self._clock.monotonic() + LAST_PATIENCE
        while self._runs.busy and self._clock.monotonic() < patience:
            self._rest(LAST_PATIENCE / 10)
            self._runs.interrupt_all()
        self._runs.write_off_all()
        while self._runs.busy and self._clock.monotonic() < patience + LAST_PATIENCE:
            self._rest(LAST_PATIENCE / 10)  # these were just ending, or beginning
            self._runs.interrupt_all()
        self._settle(max(deadline, self._clock.monotonic() + LAST_SETTLE))
        self._note_what_ran()

    def _keep_up(self) -> None:
        """While ending: send heartbeats, enforce limits, obey cancels."""
        self._runs.check()
        try:
            self._maintenance.tick(self.id, idle=False)
            self._look_for_cancels()
        except Exception as error:
            log.warning("maintenance failed while the worker was ending: %s", error)

    def _settle(self, deadline: float) -> None:
        """Settle the ends; if the store fails, try again until the deadline."""
        while self._process_lock.intact and not self._wrong_file and (ended := self._runs.take_ended()):
            try:
                self._note_settled(ended, self._store.runs.settle(ended))
            except WRONG_FILE:
                self._wrong_file = True
                raise
            except Exception as error:
                self._runs.keep_ended(ended)
                if self._hurry or self._clock.monotonic() >= deadline:
                    jobs = ", ".join(f"{end.job.task}[{end.job.id}]" for end in self._runs.ended)
                    log.critical("the file could not be written: %s; these jobs will run again: %s", error, jobs)
                    return
                log.error("the file could not be written: %s; trying again in %s", error, text(BACK_OFF))
                self._rest(min(BACK_OFF, deadline - self._clock.monotonic()))

    def _rest(self, span: float) -> None:
        """Sleep until a notification, at most so long; also where the listener is broken: what has ended is kept."""
        try:
            self._listener.wait(max(0.0, span))
        except OSError:
            time.sleep(max(0.0, span))

    def __repr__(self) -> str:
        running = len(self._runs.running) if self._notice.noted else 0
        return f"<Worker running={running}/{self.threads + self.coroutines} claimed={self.claimed} lost={self.lost}>"
