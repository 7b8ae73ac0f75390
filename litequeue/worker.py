"""The worker: the only loop. Claims, starts, settles and stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import threading
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

from litequeue.coroutines import Coroutines
from litequeue.doorbell import Ear
from litequeue.duration import seconds, text
from litequeue.engine import Demand, NewWorker, ScheduleRecord
from litequeue.errors import StoreError, StoreReplaced
from litequeue.execute import Run, written_off
from litequeue.job import Cancelled, Claimed, Ended, Failed, Outcome, Released, Retried, Settled, Snoozed, Succeeded
from litequeue.liveness import Identity, Lifeline, open_directory
from litequeue.pace import Pace
from litequeue.schedule import encode
from litequeue.task import check_name
from litequeue.threads import Threads
from litequeue.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import FrameType, TracebackType

    from litequeue.queue import Queue
    from litequeue.retry import Duration

log = logging.getLogger("litequeue")

POLL = 1.0  # seconds between looks when no bell rings
LATE_GRACE = 5.0  # seconds that a run told to stop may take to do so
BACK_OFF = 1.0  # seconds to wait after the store refused
SUSPECT = 2  # deaths under a job after which it is run alone
DEFAULT_TASK_GRACE = 30.0


class Worker:
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
    ) -> None:
        self.queue = queue
        self.threads = _positive(min(8, (os.cpu_count() or 1) + 4) if threads is None else threads, "threads")
        self.coroutines = _positive(coroutines, "coroutines")
        self.queues = _queues(queues)
        self.grace = seconds(grace, "grace")
        self.name = name or f"worker-{os.getpid()}"
        self.claimed = self.settled = self.lost = self.released = 0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: BaseException | None = None
        self._ready = threading.Event()
        self._stopping = self._hurry = self._until_idle = False

    # ---- lifecycle

    def run(self, *, until_idle: bool = False) -> bool:
        """Work in this thread until a signal, or `stop()`; with `until_idle`, until no job is ready.

        In the main thread the first SIGINT or SIGTERM stops claiming and lets running jobs end within `grace`; a second puts
        them back at once. Returns True if all that was begun was finished, False if jobs were put back.
        """
        self._until_idle = until_idle
        with _signals(self._on_signal):
            self._work()
        if self._failure is not None:
            raise self._failure
        return self.released == 0

    def stop(self, *, now: bool = False) -> None:
        """Stop claiming and end when what runs has ended, or, with `now`, put it back. From any thread; does not wait."""
        self._stopping = True
        self._hurry = self._hurry or now
        ear = getattr(self, "_ear", None)
        if ear is not None:
            ear.wake()

    def __enter__(self) -> Worker:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._join()

    async def __aenter__(self) -> Worker:
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        await asyncio.to_thread(self._join)

    def _start(self) -> None:
        if self._thread is not None:
            raise RuntimeError("this worker has been started already; make another with queue.worker()")
        self._thread = threading.Thread(target=self._work, name=f"litequeue-{self.name}", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._stopping:
            log.warning("%s again: putting running jobs back now", signal.Signals(number).name)
        else:
            log.warning(
                "%s: finishing what runs, up to %s; again to put it back now",
                signal.Signals(number).name,
                text(self.grace),
            )
        self.stop(now=self._stopping)

    def _work(self) -> None:
        """Sign on, loop, sign off; whatever goes wrong reaches the one who started us."""
        try:
            self._open()
            self._ready.set()
            try:
                self._serve()
            finally:
                self._close()
        except BaseException as error:
            self._failure = error
            log.critical("worker %s stops: %s", self.name, error)
        finally:
            self._ready.set()

    def _open(self) -> None:
        queue = self.queue
        self._store, self._clock = queue.store, queue.clock
        self._tasks = dict(queue.tasks)
        self._names = frozenset(self._tasks)
        self._sync = frozenset(name for name, task in self._tasks.items() if not task.is_coroutine)
        self._token = uuid.uuid4().hex
        directory = open_directory(self._store.path)
        # the lock first: nobody ever sees this worker on record without it
        self._lifeline = Lifeline(directory, self._token, self.threads + self.coroutines)
        self._ear = Ear(directory, "work")
        self._ended: deque[Ended] = deque()
        self._runs: dict[str, Run] = {}
        self._kinds = [kind for kind in (self._sync, self._names - self._sync) if kind]
        self._hungry = set(self._kinds)  # kinds of tasks of which there may be ready jobs
        self._next_at: float | None = None
        self._alone: Claimed | None = None
        self._version = -1
        self._polled = self._line_since = 0.0
        self._limit_check = math.inf
        self._pace = Pace()
        self._pool = Threads(self.threads, self._begin, self._end, self._ear.wake)
        self._fibres = Coroutines(self.coroutines, self._begin, self._end, first_slot=self.threads, loop=self._loop)
        self._upkeep = Upkeep(self._store, self._clock, self._token, self._names)
        self._sign_on()
        self._store.declare([_declared(task) for task in self._tasks.values() if task.options.schedule], self._names)

    def _sign_on(self) -> None:
        self.id = self._store.sign_on(
            NewWorker(
                token=self._token,
                identity=Identity.current().to_text(),
                queues=self.queues,
                tasks=tuple(sorted(self._names)),
                threads=self.threads,
                coroutines=self.coroutines,
            )
        )

    def _close(self) -> None:
        self._pool.stop()
        self._fibres.stop()
        with contextlib.suppress(StoreError):
            self._store.rescue(self.id, frozenset(), blame=False)
        self._ear.close()
        self._lifeline.close()

    # ---- the loop

    def _serve(self) -> None:
        while True:
            try:
                self._round()
                if self._stopping:
                    break
                if self._until_idle and self._is_idle():
                    break
                self._wait()
            except StoreReplaced:
                raise
            except StoreError as error:
                # a full disk, a file locked for long: what has ended is kept and offered again
                log.error("the store refused: %s; trying again in %s", error, text(BACK_OFF))
                self._hungry = set(self._kinds)
                self._ear.wait(BACK_OFF)
                if self._stopping:
                    break
        self._drain()

    def _round(self) -> None:
        """Settle what has ended and claim what can start, in one transaction."""
        self._tick()
        ended = self._take_ended()
        demands = self._demands()
        if not ended and not demands:
            return
        try:
            turn = self._store.claim(self.id, demands, self.queues, ended)
        except BaseException:
            self._ended.extendleft(reversed(ended))
            raise
        self._note_settled(ended, turn.lost)
        self._next_at = turn.next_at
        if not turn.registered:
            log.warning("worker %s was declared dead while it stood still; it signs on anew", self.name)
            self._sign_on()
            return
        if demands:
            # a demand that was not met in full: there is no more of its kind
            self._hungry -= {demand.tasks for demand in demands if _count(turn.claimed, demand) < demand.limit}
        self._dispatch(turn.claimed)

    def _take_ended(self) -> list[Ended]:
        ended: list[Ended] = []
        while self._ended and len(ended) < 500:
            ended.append(self._ended.popleft())
        return ended

    def _demands(self) -> list[Demand]:
        """What could start now; nothing while stopping, or while a suspect runs or waits to run alone."""
        if self._stopping or self._alone is not None:
            return []
        return [Demand(kind, room) for kind in self._hungry if (room := self._room(kind)) > 0]

    def _room(self, kind: frozenset[str]) -> int:
        if kind is not self._sync:
            return self._fibres.free
        free = self._pool.free
        return self._pace.claim_size(free, self.threads) if free > 0 else 0

    def _dispatch(self, claimed: list[Claimed]) -> None:
        self.claimed += len(claimed)
        suspect = next((job for job in claimed if job.deaths >= SUSPECT), None)
        if suspect is not None:
            self._put_back(job for job in claimed if job is not suspect)
            self._alone = suspect
            log.warning(
                "job %s (%s) was running when %d workers died; it is run alone",
                suspect.id,
                suspect.task,
                suspect.deaths,
            )
            self._start_alone()
            return
        self._begin_all(claimed)

    def _begin_all(self, claimed: list[Claimed]) -> None:
        if not claimed:
            return
        plain = [job for job in claimed if job.task in self._sync]
        if plain:
            self._line_since = self._clock.monotonic()
            self._pool.start(plain)
        if len(plain) < len(claimed):
            self._fibres.start(job for job in claimed if job.task not in self._sync)

    def _start_alone(self) -> None:
        """Start the suspect once nothing else runs in this process."""
        suspect = self._alone
        if suspect is None or suspect.id in self._runs or self._is_busy():
            return
        self._begin_all([suspect])

    def _put_back(self, jobs: Iterable[Claimed]) -> None:
        now = self._clock.now()
        self._ended.extend(Ended(job, Released(), now, 0.0) for job in jobs)

    def _is_busy(self) -> bool:
        return bool(self._runs or self._pool.line or self._pool.busy or self._fibres.busy)

    def _is_idle(self) -> bool:
        return not (self._hungry or self._ended or self._is_busy() or self._alone)

    def _wait(self) -> None:
        """Sleep until a bell, an end, or the time of what is due; at most `POLL` seconds."""
        if self._alone is not None:
            self._start_alone()
        if self._ended and not self._pool.line:
            return
        if self._demands():
            return
        messages = self._ear.wait(self._timeout())
        if any(messages) or self._ear.missed:
            self._look_for_cancels()
        if messages:
            self._hungry = set(self._kinds)
            self._upkeep.schedules_changed() if b"" in messages else None
        self._poll()

    def _timeout(self) -> float:
        now, moments = self._clock.now(), [self._next_at, self._upkeep.next_fire]
        waits = [moment - now for moment in moments if moment is not None]
        waits.append(self._polled + POLL - self._clock.monotonic())
        waits.append(self._limit_check - self._clock.monotonic())
        return max(0.0, min(waits))

    def _poll(self) -> None:
        """The safety net behind the doorbell: once a second, see whether anything was written."""
        now = self._clock.monotonic()
        if self._next_at is not None and self._next_at <= self._clock.now():
            self._hungry = set(self._kinds)
        if now - self._polled < POLL:
            return
        self._polled = now
        version = self._store.version()
        if version != self._version:
            self._version = version
            self._hungry = set(self._kinds)
            self._upkeep.schedules_changed()
            if self._runs:
                self._look_for_cancels()

    def _tick(self) -> None:
        self._check_limits()
        self._release_stale()
        if not self._upkeep.tick(self.id, idle=not self._runs):
            log.warning("worker %s was declared dead while it stood still; it signs on anew", self.name)
            self._sign_on()

    def _release_stale(self) -> None:
        """Jobs that wait in our line behind long ones go back, for whoever is free."""
        if self._pool.line and self._clock.monotonic() - self._line_since > self._pace.patience:
            self._pace.slow_down()
            self._put_back(self._pool.take_back())

    # ---- runs

    def _begin(self, job: Claimed, slot: int) -> Run:
        task = self._tasks[job.task]
        limit = job.timeout if job.timeout is not None else task.options.timeout
        ttl = task.options.result_ttl
        run = Run(
            job,
            task,
            self._clock,
            self._store,
            self.queue.timeout if limit is None else limit,
            self.queue.result_ttl if ttl is None else ttl,
        )
        self._lifeline.enter(slot, f"{job.id}:{job.attempt}")
        self._runs[job.id] = run
        self._limit_check = min(self._limit_check, run.deadline)
        return run

    def _end(self, run: Run, outcome: Outcome, slot: int) -> None:
        """A run has ended: note it, and wake the loop when there is enough to do, or nothing else to come."""
        self._lifeline.leave(slot)
        self._runs.pop(run.job.id, None)
        self._report(run, outcome)
        if not self._pool.line or len(self._ended) >= self._pace.batch:
            self._ear.wake()

    def _report(self, run: Run, outcome: Outcome) -> None:
        span = self._clock.monotonic() - run.started
        self._pace.note(span)
        kept = run.keep_for if isinstance(outcome, (Succeeded, Cancelled, Settled)) else self.queue.failed_ttl
        self._ended.append(Ended(run.job, outcome, self._clock.now(), kept))
        if log.isEnabledFor(logging.INFO) or isinstance(outcome, (Failed, Retried)):
            _log_end(run, outcome, span)

    def _note_settled(self, ended: Sequence[Ended], lost: Sequence[Ended]) -> None:
        self.settled += len(ended) - len(lost)
        for end in lost:
            self.lost += 1
            log.warning(
                "job %s (%s): attempt %d ended too late; its answer is dropped",
                end.job.id,
                end.job.task,
                end.job.attempt,
            )
        if self._alone is not None and any(end.job.id == self._alone.id for end in ended):
            self._alone, self._hungry = None, set(self._kinds)

    def _check_limits(self) -> None:
        """Stop runs whose time is over, and write off those that do not stop."""
        now = self._clock.monotonic()
        if now < self._limit_check:
            return
        self._limit_check = math.inf
        for run in list(self._runs.values()):
            if run.interrupted != math.inf:
                if now - run.interrupted >= LATE_GRACE:
                    self._write_off(run, written_off(run))
                    continue
                self._limit_check = min(self._limit_check, run.interrupted + LATE_GRACE)
            elif now >= run.deadline:
                run.timed_out = True
                self._interrupt(run)
            else:
                self._limit_check = min(self._limit_check, run.deadline)

    def _interrupt(self, run: Run) -> None:
        run.interrupted = self._clock.monotonic()
        self._limit_check = min(self._limit_check, run.interrupted + LATE_GRACE)
        self._pool_of(run).interrupt(run)

    def _pool_of(self, run: Run) -> Threads | Coroutines:
        return self._pool if run.job.task in self._sync else self._fibres

    def _write_off(self, run: Run, outcome: Outcome) -> None:
        if self._pool_of(run).write_off(run):
            self._runs.pop(run.job.id, None)
            self._report(run, outcome)
            if isinstance(outcome, (Failed, Retried)):
                log.error(
                    "job %s (%s) does not stop; it is left running in its thread and counted as ended",
                    run.id,
                    run.job.task,
                )

    def _look_for_cancels(self) -> None:
        for job_id, attempt in self._store.requested_cancels(self.id):
            run = self._runs.get(job_id)
            if run is None or run.attempt != attempt:
                self._cancel_in_line(job_id)
            elif not run.cancel_requested:
                run.cancel_requested = True
                if run.job.task not in self._sync:
                    self._fibres.interrupt(run)

    def _cancel_in_line(self, job_id: str) -> None:
        for job in list(self._pool.line):
            if job.id == job_id:
                with contextlib.suppress(ValueError):
                    self._pool.line.remove(job)
                    self._ended.append(Ended(job, Cancelled(), self._clock.now(), self.queue.result_ttl))

    # ---- the end

    def _drain(self) -> None:
        """Let what runs end within the grace, put the rest back, and settle everything."""
        self._stopping = True
        deadline = self._clock.monotonic() + self.grace
        self._put_back(self._pool.take_back())
        if self._alone is not None and self._alone.id not in self._runs:
            self._put_back([self._alone])
        while self._is_busy() and not self._hurry and self._clock.monotonic() < deadline:
            self._settle_all()
            if self._is_busy():
                self._ear.wait(min(0.25, max(0.0, deadline - self._clock.monotonic())))
                self._tick()
        self._give_up_running()
        self._settle_all()

    def _give_up_running(self) -> None:
        """Put back what still runs: coroutines are cancelled, threads are told and left behind."""
        for run in list(self._runs.values()):
            run.put_back = True
            self._interrupt(run)
        patience = self._clock.monotonic() + 0.5
        while self._is_busy() and self._clock.monotonic() < patience:
            self._ear.wait(0.05)
        for run in list(self._runs.values()):
            self._write_off(run, Released())

    def _settle_all(self) -> None:
        ended = self._take_ended()
        while ended:
            try:
                self._note_settled(ended, self._store.settle(ended))
            except StoreError as error:
                log.error("the store refused: %s; trying again in %s", error, text(BACK_OFF))
                self._ended.extendleft(reversed(ended))
                self._ear.wait(BACK_OFF)
                if self._hurry:
                    return
            else:
                self.released += sum(isinstance(end.outcome, Released) for end in ended)
            ended = self._take_ended()

    def __repr__(self) -> str:
        running = len(self._runs) if self._ready.is_set() and self._failure is None else 0
        return f"<Worker running={running}/{self.threads + self.coroutines} claimed={self.claimed} lost={self.lost}>"


def _declared(task: Any) -> ScheduleRecord:
    call = task.s()
    return ScheduleRecord(
        name=task.name,
        task=task.name,
        queue=call.queue,
        payload=call.payload,
        priority=call.priority,
        trigger=encode(task.options.schedule),
        declared=True,
    )


def _count(claimed: list[Claimed], demand: Demand) -> int:
    return sum(job.task in demand.tasks for job in claimed)


def _positive(value: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{what} must be a positive whole number, got {value!r}")
    return value


def _queues(queues: Sequence[str] | None) -> tuple[str, ...] | None:
    if queues is None:
        return None
    if isinstance(queues, str):
        raise TypeError(f"queues must be a list of names, got one text; write [{queues!r}]")
    names = tuple(dict.fromkeys(check_name(name, "a queue's name") for name in queues))
    if not names:
        raise ValueError("queues must name at least one queue, or be None for all")
    return names


def _log_end(run: Run, outcome: Outcome, span: float) -> None:
    extra = {
        "job": run.id,
        "task": run.job.task,
        "queue": run.job.queue,
        "attempt": run.attempt,
        "seconds": round(span, 6),
    }
    name = f"{run.job.task}[{run.id}]"
    match outcome:
        case Succeeded() | Settled():
            log.info("%s succeeded in %s", name, text(span), extra=extra | {"outcome": "succeeded"})
        case Failed(error):
            log.error(
                "%s failed after %s: %s: %s\n%s",
                name,
                text(span),
                error.type,
                error.message,
                error.traceback.rstrip(),
                extra=extra | {"outcome": "failed", "error": error.type},
            )
        case Retried(run_at, error):
            log.warning(
                "%s failed after %s and will be tried again: %s: %s",
                name,
                text(span),
                error.type,
                error.message,
                extra=extra | {"outcome": "retried", "error": error.type, "run_at": run_at},
            )
        case Snoozed(run_at):
            log.info(
                "%s comes back later, after %s",
                name,
                text(span),
                extra=extra | {"outcome": "snoozed", "run_at": run_at},
            )
        case Cancelled():
            log.info("%s was cancelled after %s", name, text(span), extra=extra | {"outcome": "cancelled"})
        case Released():
            log.info("%s is put back after %s", name, text(span), extra=extra | {"outcome": "released"})


@contextlib.contextmanager
def _signals(handler: Any) -> Any:
    """Handle SIGINT and SIGTERM for the block, in the main thread; elsewhere signals are the application's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
