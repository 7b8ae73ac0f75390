"""How many jobs a worker asks for, and the transaction that claims them and settles ends. Knows no function."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.capacity import Capacity
from litequeue.core.logger import about, log
from litequeue.core.outcome import Died, Released
from litequeue.core.store import Demand

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from litequeue.core.clock import Clock
    from litequeue.core.engine import RunOptions
    from litequeue.core.outcome import Ended
    from litequeue.core.store import Cycle, Runs
    from litequeue.ipc.process_lock import ProcessLock
    from litequeue.worker.counts import Counts
    from litequeue.worker.executor.executor import Executor
    from litequeue.worker.executor.mailbox import Mailbox
    from litequeue.worker.maintenance import Maintenance
    from litequeue.worker.quarantine import Quarantine
    from litequeue.worker.running_jobs import RunningJobs
    from litequeue.worker.stop_request import StopRequest


class Claim(NamedTuple):
    """What came of a claim beside the loop. `sooner`: something is due before the loop knew of it."""

    turn: Cycle
    sooner: bool


def at_most(left: int, demands: list[Demand]) -> list[Demand]:
    """Ask for no more than `left` jobs in all."""
    less = []
    for demand in demands:
        limit = min(demand.limit, left)
        left -= limit
        less += [demand._replace(limit=limit)] if limit > 0 else []
    return less


class Claiming:
    """Asks for as many jobs as there is room for, of the kinds of tasks of which there may be ready jobs."""

    def __init__(
        self,
        store: Runs,
        options: RunOptions,
        counts: Counts,
        stop: StopRequest,
        clock: Clock,
        *,
        process_lock: ProcessLock,
        executor: Executor,
        mailbox: Mailbox,
        runs: RunningJobs,
        quarantine: Quarantine,
        maintenance: Maintenance,
    ) -> None:
        self._store, self._options, self._counts, self._stop, self._clock = store, options, counts, stop, clock
        self._bounded = bool(options.slots or options.offers)
        self._process_lock, self._executor, self._mailbox, self._runs = process_lock, executor, mailbox, runs
        self._quarantine, self._maintenance, self._max_jobs = quarantine, maintenance, options.max_jobs
        self.queues: tuple[str, ...] | None = options.queues
        self.kinds: frozenset[frozenset[str]] = frozenset()
        self._at_most_once: Collection[str] = ()
        self.next_at: float | None = None  # when a scheduled job is due
        self.opens_at: float = math.inf  # when a full limit has room again, by the monotonic clock
        self._maybe_ready: set[frozenset[str]] = set()
        self._last: frozenset[str] | None = None  # the kind that came first in the last claim of several

    def serve(self, names: frozenset[str], at_most_once: Collection[str] = ()) -> None:
        """Claim jobs of these tasks, of each kind by themselves; of some, none twice."""
        self._at_most_once, self.kinds = at_most_once, self._executor.kinds(names)
        self.look_again()

    def note_freed(self, ended: Sequence[Ended]) -> None:
        """Runs have ended that may let others begin.

        They held places of a limit, or slots or resources of this worker; or the one before was waited for.
        """
        held = self._mailbox.limited and any(end.job.held is not None for end in ended)
        if ended and (self._bounded or self._mailbox.follows or held):
            self.look_again()

    def capacity(self, ended: Sequence[Ended] = ()) -> Capacity | None:
        """Return what this worker has for its jobs, once these runs have ended; None: no slots, no resources."""
        if not self._bounded:
            return None
        return Capacity(self._options.slots, self._options.offers, self._runs.present(ended))

    def look_again(self) -> None:
        """There may be ready jobs of any kind."""
        self._maybe_ready = set(self.kinds)

    @property
    def claimed(self) -> int:
        """How many jobs have been claimed so far."""
        return self._counts.claimed

    @property
    def left(self) -> int | None:
        """How many more jobs may be claimed in the life of this worker; None: any number."""
        return (
            None
            if self._max_jobs is None
            else self._max_jobs - self._counts.claimed + self._runs.unbegun + self._mailbox.late
        )

    @property
    def is_due(self) -> bool:
        """Whether a scheduled job is due, or a limit has room again."""
        due = self.next_at is not None and self.next_at <= self._clock.now()
        return due or self.opens_at <= self._clock.monotonic()

    def due_in(self) -> float:
        """Return in how many seconds that is."""
        in_time = math.inf if self.next_at is None else self.next_at - self._clock.now()
        return min(in_time, self.opens_at - self._clock.monotonic())

    def look_if_due(self) -> None:
        """Look for the job that is due; not again before the next claim: with no room, the loop must not spin."""
        if self.is_due:
            self.look_again()
            self.next_at, self.opens_at = None, math.inf

    @property
    def nothing_to_claim(self) -> bool:
        """Whether no ready job is known that could be claimed now or later, and none is quarantined here."""
        return not (self._maybe_ready or self._quarantine.one or self._quarantine.skips_quarantined or self.is_due)

    def demands(self) -> list[Demand]:
        """Return what could start now: nothing while stopping, while a job is quarantined here, or results pile up."""
        quarantine = self._quarantine
        if self._stop.made or self._stop.drains or quarantine.one is not None or self._mailbox.is_behind:
            return []
        if quarantine.skips_quarantined and not self._executor.busy:
            quarantine.skips_quarantined = False
            self.look_again()
        rooms = [(kind, self._executor.room(kind)) for kind in self._maybe_ready]
        if len(rooms) > 1:  # what they share, such as slots, goes to each in turn
            rooms.sort(key=lambda each: each[0] == self._last)
        demands = [
            Demand(
                kind,
                1 if quarantine.one_at_a_time else room,
                None if kind <= self._executor.apart else quarantine.most_deaths,
                self._executor.free(kind),
                self._executor.patience,
                bool(self._at_most_once) and not kind.isdisjoint(self._at_most_once),
            )
            for kind, room in rooms
            if room > 0
        ]
        return demands if self._max_jobs is None else at_most(self.left or 0, demands)

    def claim(self, demands: list[Demand], ended: list[Ended]) -> Cycle:
        """Settle these ends and claim, in one transaction."""
        try:
            turn = self._store.claim(self._runs.worker, demands, self.queues, ended, self.capacity(ended))
        except BaseException:
            self._mailbox.keep(ended)
            raise
        self._maintenance.jobs_changed()  # a cycle also ends what has expired
        self._note_settled(ended, turn.lost)
        if ended:
            self._mailbox.follows = self._store.let_begin
        self.next_at, self.opens_at = turn.next_at, turn.opens_at
        # a demand that was not met in full: there is no more of its kind
        if not turn.cut:
            self._maybe_ready -= {demand.tasks for demand in demands if not demand.met_by(turn.claimed)}
        self._counts.claimed += len(turn.claimed)
        if len(demands) > 1 and turn.claimed:
            first = turn.claimed[0].task
            self._last = next((demand.tasks for demand in demands if first in demand.tasks), self._last)
        return turn

    def claim_all(self) -> Claim:
        """Claim, in an idle thread while the loop sleeps, as many jobs as there is room for."""
        self._process_lock.check()
        self.loop_wakes()
        self.look_again()
        known = self.due_in()
        turn = self.claim(self.demands(), [])
        self.loop_sleeps()
        return Claim(turn, sooner=self.due_in() < known)

    def loop_sleeps(self) -> None:
        """From now on a thread may settle the end of its run itself, if there is nothing to claim along with it."""
        self._mailbox.worker_sleeps = not (self._maybe_ready or self._quarantine.one)

    def loop_wakes(self) -> None:
        """From now on the loop settles all ends."""
        self._mailbox.worker_sleeps = False

    def settle(self, ended: list[Ended]) -> None:
        """Settle these ends, and claim nothing."""
        try:
            self._note_settled(ended, self._store.settle(ended))
            self._mailbox.follows = self._store.let_begin
        except BaseException:
            self._mailbox.keep(ended)
            raise

    def note_what_ran(self) -> None:
        """Count the jobs that were dispatched to us, and those whose threads have settled them."""
        self._counts.claimed += self._runs.take_dispatched()
        settled = self._mailbox.take_settled()
        if settled:
            self._mailbox.follows = self._store.let_begin
        for end, lost in settled:
            self.note_freed([end])
            self._note_settled([end], lost)
            self._maintenance.jobs_changed()

    def _note_settled(self, ended: Sequence[Ended], lost: Sequence[Ended]) -> None:
        if self._process_lock.kept:
            for end in ended:
                self._process_lock.drop(f"{end.job.id}:{end.job.attempt}")
        counts = self._counts
        counts.settled += len(ended) - len(lost)
        counts.released += sum(type(end.outcome) is Released for end in ended)
        if any(type(end.outcome) is Died for end in ended):
            self.look_again()  # it is queued, and nobody is told
        counts.lost += len(lost)
        for end in lost:
            named = end.job.task_name, end.job.id, end.job.attempt
            log.warning("%s[%s]: run %d ended too late and was dropped", *named, extra=about(end.job))
        if self._quarantine.one is not None and any(end.job is self._quarantine.one for end in ended):
            self._quarantine.one = None
            self.look_again()
        if ended and self._stop.when_idle:
            self._maintenance.schedules_changed()  # they may have added some, of which a new listener was not told
