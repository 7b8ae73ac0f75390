"""The worker: the only loop. Claims, starts, settles and stops."""

from __future__ import annotations

import errno
import math
import os
import time
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import TYPE_CHECKING, cast

from litequeue.core.clock import SystemClock
from litequeue.core.duration import seconds, text
from litequeue.core.engine import Demand, NewWorker
from litequeue.core.logger import log
from litequeue.core.outcome import Released
from litequeue.errors import SchemaTooNew, StoreDamaged, StoreError, StoreReplaced
from litequeue.ipc.dispatch import IdleWorker, Serves
from litequeue.ipc.notifier import CANCEL, HAND, JOBS, SCHEDULES, WORK, Listener
from litequeue.ipc.process_identity import Identity
from litequeue.ipc.process_lock import ProcessLock, open_directory
from litequeue.options import at_once, queue_names
from litequeue.scheduling.schedules import declared
from litequeue.worker.lifecycle import Lifecycle
from litequeue.worker.maintenance import Maintenance
from litequeue.worker.quarantine import Quarantine
from litequeue.worker.reconcile import Reconciliation
from litequeue.worker.running_jobs import Limits, RunningJobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litequeue.core.engine import Cycle
    from litequeue.core.outcome import Ended
    from litequeue.core.retry import Duration
    from litequeue.queue import Queue

POLL = 1.2  # seconds between looks when no notifier rings: with the beats that stays under one statement a second
BACK_OFF = 1.0  # seconds to wait after the store refused
LATE = 0.3  # seconds by which a worker at rest may oversleep; one that is later is given no job
CANCEL_AGAIN = 0.02  # seconds until a cancel is tried again whose job was neither in line nor running
DRAIN_LOOK = 0.25  # seconds between looks while the last jobs end
LAST_PATIENCE = 0.5  # seconds for what was told to end, before it is left behind
WRONG_FILE = (StoreReplaced, StoreDamaged, SchemaTooNew)  # nothing more is written to it
LAST_SETTLE = 5.0  # seconds in which the last ends are offered to a store that refuses


class Worker(Lifecycle):
    """Runs jobs of one queue's file: plain functions in threads, coroutines on a loop, together.

    Use it as a context manager, sync or async (it then runs beside your code and ends with the block: what runs is
    finished, what has not begun stays queued), or call `run()`, which blocks and handles signals.
    """

    def __init__(
        self,
        queue: Queue,
        *,
        threads: int | None = None,
        coroutines: int = 100,
        queues: Sequence[str] | None = None,
        grace: Duration = "30s",
        name: str | None = None,
        signals: bool = False,
    ) -> None:
        super().__init__(name, seconds(grace, "grace"), signals=signals)
        self.queue = queue
        self.threads: int = at_once(min(8, (os.cpu_count() or 1) + 4) if threads is None else threads, "threads")
        self.coroutines: int = at_once(coroutines, "coroutines")
        self.queues: tuple[str, ...] | None = queue_names(queues)
        self.claimed: int = 0
        self.settled: int = 0
        self.lost: int = 0
        self.released: int = 0
        self.id: int = 0

    def _check_process(self) -> None:
        self.queue.store.check_process()

    def _open(self) -> None:
        queue = self.queue
        self._store, self._clock, tasks = queue.store, queue.clock, dict(queue.tasks)
        self._names, self._token = frozenset(tasks), os.urandom(16).hex()
        self._serves, directory = Serves(self._names, self.queues), open_directory(self._store.path)
        # the lock first: nobody ever sees this worker on record without it
        with ExitStack() as made:
            self._process_lock = made.enter_context(
                closing(ProcessLock(directory, self._token, self.threads + self.coroutines))
            )
            self._listener = made.enter_context(closing(Listener(directory, WORK)))
            self._handed_to = made.enter_context(closing(Listener(directory, HAND)))
            self._runs = RunningJobs(
                tasks,
                Limits(queue.timeout, queue.result_ttl, queue.failed_ttl),
                threads=self.threads,
                coroutines=self.coroutines,
                loop=self._loop,
                clock=self._clock,
                recorder=self._store,
                process_lock=self._process_lock,
                wake=self._listener.wake,
                listener=self._handed_to,
                settle=self._settle_at_once,
            )
            self._notice.note_in(self._process_lock, stopping=self._stopping)  # may want a descriptor, too
            made.pop_all()
        self._kinds = frozenset(kind for kind in (self._runs.plain, self._names - self._runs.plain) if kind)
        self._hungry = set(self._kinds)  # kinds of tasks of which there may be ready jobs
        self._next_at: float | None = None
        self._quarantine = Quarantine(self._runs, self._clock)
        self._reconciliation = Reconciliation(
            self._store, self._runs, self._quarantine, SystemClock()
        )  # threads begin in real time
        self._astray = self._sure = False  # astray: what we write goes to a wrong place
        self._version, self._polled, self._cancels_at = cast("object", None), 0.0, math.inf
        self._maintenance = Maintenance(self._store, self._clock, self._token, self._names)

    def _register(self) -> None:
        self.id = self._runs.worker = self._store.register(
            NewWorker(
                token=self._token,
                identity=Identity.current().to_text(),
                queues=self.queues,
                tasks=tuple(sorted(self._names)),
                threads=self.threads,
                coroutines=self.coroutines,
            )
        )

    def _register_again(self) -> None:
        """Whoever declared us dead has put back what we had; what has not begun is not begun any more."""
        log.warning("%s was declared dead while it stood still; it signs on anew", self.name)
        self._runs.forget_backlog()
        self._quarantine.forget_unbegun()
        self._register()

    def _close(self) -> None:
        try:
            self._runs.stop()
            if self._astray or not self._process_lock.intact:
                self._process_lock.abandon(() if self._process_lock.intact else self._runs.begun())
            else:
                self._store.rescue(self.id, None, blame=False)
        except BaseException as error:
            self._process_lock.abandon()  # whoever takes the lock puts our jobs back
            if not isinstance(error, StoreError) or isinstance(error, StoreDamaged):
                raise
        finally:
            for made in (self._listener, self._handed_to, self._process_lock):
                made.close()

    def _wake(self) -> None:
        if self._notice.noted:
            self._listener.wake()

    @property
    def left_running(self) -> int:
        """How many functions it had to leave behind: they did not stop when told, and run until the process ends."""
        return self._runs.left if self._notice.noted else 0

    def _finished_all(self) -> bool:
        return self._runs.cut_short == 0

    # ---- the loop

    def _serve(self) -> None:
        tasks = self.queue.tasks.values()
        self._store.declare([declared(task, when) for task in tasks if (when := task.options.schedule)], self._names)
        self._ready.set()
        while not self._stopping:
            try:
                try:
                    self._cycle()
                finally:  # claims that are refused must not keep it from beating
                    self._process_lock.check()
                    if not self._maintenance.tick(self.id, idle=not self._runs.busy):
                        self._register_again()
                if self._until_idle and self._is_idle():
                    if self._sure:
                        break
                    self._sure, self._hungry = (
                        True,
                        set(self._kinds),
                    )  # not before a look after maintenance, which may fire
                self._wait()
            except WRONG_FILE:
                self._astray = True
                raise
            except Exception as error:
                self._stumble(error)
        self._end()
        self._process_lock.check()

    def _stumble(self, error: Exception) -> None:
        """A full disk, a file locked for long, no descriptor left: what has ended is kept and offered again."""
        if isinstance(error, StoreError):
            log.error("the store refused: %s; trying again in %s", error, text(BACK_OFF))
        elif isinstance(error, OSError) and error.errno == errno.EBADF:
            raise error  # a job has closed descriptors that are ours, the lock among them
        else:
            log.error("the worker's loop failed; trying again in %s", text(BACK_OFF), error=error)
        self._hungry, self._reconciliation.open = set(self._kinds), True
        over = self._clock.monotonic() + BACK_OFF
        while not self._stopping and (left := over - self._clock.monotonic()) > 0:
            self._listener.wait(left)

    def _cycle(self) -> None:
        """Settle what has ended and claim what can start, in one transaction."""
        self._process_lock.check()
        self._runs.check()
        self._reconciliation.look(self.id)
        ended, demands = self._runs.take_ended(), self._demands()
        if not ended and not demands:
            return
        turn = self._settle_and_claim(demands, ended)
        self._next_at = turn.next_at
        if not turn.registered:
            self._register_again()
            return
        # a demand that was not met in full: there is no more of its kind
        self._hungry -= {demand.tasks for demand in demands if not demand.met_by(turn.claimed)}
        if turn.claimed:
            self.claimed, self._sure = self.claimed + len(turn.claimed), False
            self._runs.start(self._quarantine.pick_out(turn.claimed))

    def _settle_and_claim(self, demands: list[Demand], ended: list[Ended]) -> Cycle:
        try:
            turn = self._store.claim(self.id, demands, self.queues, ended)
        except BaseException:
            self._runs.keep_ended(ended)
            raise
        self._maintenance.jobs_changed()  # a turn also marks what has expired
        self._note_settled(ended, turn.lost)
        return turn

    def _demands(self) -> list[Demand]:
        """What could start now; nothing while stopping, or while a suspect runs or waits to run alone."""
        quarantine = self._quarantine
        if self._stopping or quarantine.one is not None:
            return []
        if quarantine.shunning and not self._runs.busy:
            quarantine.shunning, self._hungry = False, set(self._kinds)
        rooms = ((kind, self._runs.room(kind)) for kind in self._hungry)
        return [
            Demand(kind, 1 if quarantine.wary else room, quarantine.most_deaths) for kind, room in rooms if room > 0
        ]

    def _is_idle(self) -> bool:
        """Whether nothing is at hand, and nothing is known to be ready."""
        known = self._hungry or self._runs.busy or self._runs.ended or self._quarantine.one or self._quarantine.shunning
        return not (known or self._reconciliation.open or self._is_due())

    def _wait(self) -> None:
        """Sleep until a notifier, an end, or the time of what is due; at most `POLL` seconds."""
        if self._quarantine.tend():
            self._hungry = set(self._kinds)
        if self._demands():
            messages = self._listener.wait(0.0)
        elif self._is_idle() and self._quarantine.none and not (self._until_idle or self._stopping):
            messages = self._rest_on_offer()
        else:
            messages = self._listener.wait(self._timeout())
        self._note_what_ran()
        self._hear(messages)
        self._poll()

    def _rest_on_offer(self) -> list[bytes]:
        """Sleep, and let whoever enqueues a job meanwhile hand it over."""
        span = self._timeout()
        self._runs.post_a_sentry()
        try:
            taker = IdleWorker(self.id, self._serves, partial(self._runs.accept, self.id))
            self._store.offer(taker, self._handed_to.name, span + LATE)
            return self._listener.wait(span)
        finally:
            self._store.withdraw(self.id)

    def _settle_at_once(self, end: Ended) -> list[Ended] | None:
        """In the thread that ran it: record the end of the only run, if there is nothing to claim along with it."""
        if not (self._hungry or self._quarantine.one is not None or not self._process_lock.intact):
            with suppress(StoreError):  # then the loop tries again, and says what is wrong
                return self._store.settle([end])
        return None

    def _note_what_ran(self) -> None:
        """Count the jobs that were handed to us, and those whose threads have settled them."""
        handed, settled = self._runs.take_notes()
        self.claimed += handed
        for end, lost in settled:
            self._note_settled([end], lost)
            self._maintenance.jobs_changed()

    def _hear(self, messages: list[bytes]) -> None:
        if CANCEL in messages or self._listener.missed or self._clock.monotonic() >= self._cancels_at:
            self._look_for_cancels()
        if SCHEDULES in messages or self._listener.missed:
            self._maintenance.schedules_changed()
        if JOBS in messages or self._listener.missed:
            self._hungry = set(self._kinds)

    def _timeout(self) -> float:
        now = self._clock.now()
        waits = [self._runs.due_in(), min(self._polled + POLL, self._cancels_at) - self._clock.monotonic()]
        waits += [moment - now for moment in (self._next_at, self._maintenance.next_fire) if moment is not None]
        return max(0.0, min(waits))

    def _is_due(self) -> bool:
        return self._next_at is not None and self._next_at <= self._clock.now()

    def _poll(self) -> None:
        """The safety net behind the notifier: once a second, see whether anything was written."""
        now = self._clock.monotonic()
        if self._is_due():  # forgotten until the next turn: with no room to claim, the loop must not spin
            self._hungry, self._next_at = set(self._kinds), None
        if now - self._polled < POLL:
            return
        self._polled = now
        self._notice.keep_short()
        self._runs.receive_waiting()
        version = self._store.version()
        if version not in (None, self._version):
            self._version, self._hungry, self._reconciliation.open = version, set(self._kinds), True
            self._maintenance.schedules_changed()
            self._maintenance.jobs_changed()
            if self._runs.busy:
                self._look_for_cancels()

    def _look_for_cancels(self) -> None:
        told = [self._runs.cancel(job_id, attempt) for job_id, attempt in self._store.requested_cancels(self.id)]
        self._cancels_at = math.inf if all(told) else self._clock.monotonic() + CANCEL_AGAIN

    def _note_settled(self, ended: Sequence[Ended], lost: Sequence[Ended]) -> None:
        self.settled += len(ended) - len(lost)
        self.released += sum(type(end.outcome) is Released for end in ended)
        self.lost += len(lost)
        for end in lost:
            log.warning("%s[%s]: attempt %d ended too late; dropped", end.job.task, end.job.id, end.job.attempt)
        if self._quarantine.one is not None and any(end.job is self._quarantine.one for end in ended):
            self._quarantine.one, self._hungry = None, set(self._kinds)
        if ended and self._until_idle:
            self._maintenance.schedules_changed()  # they may have added some, whose ring a young listener does not hear

    # ---- the end

    def _end(self) -> None:
        """Let what runs end within the grace, release the rest, and settle everything."""
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
        """While ending: keep beating, watch limits, hear cancels."""
        self._runs.check()
        try:
            self._maintenance.tick(self.id, idle=False)
            self._look_for_cancels()
        except Exception as error:
            log.warning("maintenance failed while the worker ends: %s", error)

    def _settle(self, deadline: float) -> None:
        """Record the ends, offering them again to a store that refuses until the deadline."""
        while self._process_lock.intact and not self._astray and (ended := self._runs.take_ended()):
            try:
                self._note_settled(ended, self._store.settle(ended))
            except WRONG_FILE:
                self._astray = True
                raise
            except Exception as error:
                self._runs.keep_ended(ended)
                if self._hurry or self._clock.monotonic() >= deadline:
                    jobs = ", ".join(f"{end.job.task}[{end.job.id}]" for end in self._runs.ended)
                    log.critical("the store refused: %s; these ended, and will run again: %s", error, jobs)
                    return
                log.error("the store refused: %s; trying again in %s", error, text(BACK_OFF))
                self._rest(min(BACK_OFF, deadline - self._clock.monotonic()))

    def _rest(self, span: float) -> None:
        """Sleep until a ring, at most so long; also where the notifier is broken, which must not cost what has ended."""
        try:
            self._listener.wait(max(0.0, span))
        except OSError:
            time.sleep(max(0.0, span))

    def __repr__(self) -> str:
        running = len(self._runs.running) if self._notice.noted else 0
        return f"<Worker running={running}/{self.threads + self.coroutines} claimed={self.claimed} lost={self.lost}>"
