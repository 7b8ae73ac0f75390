"""A worker's maintenance: reap dead workers, heartbeat, fire schedules, shrink the file. Knows no job's function."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from litequeue.core.logger import keep_enabled, log
from litequeue.core.store import Store
from litequeue.errors import StoreError
from litequeue.ipc.process_identity import Identity, alive, cpu_seconds
from litequeue.ipc.process_lock import DeadProcess, forget, noted, take, tokens, told
from litequeue.worker.shrinking import Shrinking
from litequeue.worker.unserved import FIRST_LOOK, LOOK_EVERY, NOTHING, Unserved

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from litequeue.core.clock import Clock
    from litequeue.core.store import Firing, WorkerRecord

# Seconds between looks, by the monotonic clock.
DEATHS_EVERY = 1.0
BEAT_EVERY = 15.0
SET_BACK = 1.0  # seconds that the wall clock must lose on the monotonic one at once
FIRE_AGAIN = 1.0
PRUNE_EVERY = 10.0
TIDY_EVERY = 30.0
# A worker whose heartbeat has not moved for so long, over so many looks of ours, is dead.
FROZEN_AFTER = 60.0
FROZEN_LOOKS = 4
QUIET = 1.0  # seconds without a run, after which a worker counts as idle


class Sight:
    """The last heartbeat that we saw of another worker."""

    __slots__ = ("beats", "cpu", "looks", "since")

    def __init__(self, beats: int, cpu: float | None, since: float) -> None:
        self.beats: int = beats
        self.cpu: float | None = cpu
        self.since: float = since
        self.looks: int = 1


class Maintenance:
    """One worker's maintenance; `tick` is called about once a second."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        token: str,
        tasks: frozenset[str],
        queues: tuple[str, ...] | None = None,
        offers: Mapping[str, int] = NOTHING,
        left_out: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._store, self._clock, self._token, self._tasks = store, clock, token, tasks
        self._unserved = Unserved(store, queues, offers, left_out)
        self._directory = store.directory  # kept: to follow the path's links again costs a look at each of its parts
        self._self = Identity.current()
        self._seen: dict[int, Sight] = {}
        self._ahead = -math.inf  # the wall clock of the monotonic one, at the last look
        now = clock.monotonic()
        self._due = {"fire": 0.0, "deaths": 0.0, "beat": 0.0, "prune": 0.0}
        self._due |= {"tidy": now + TIDY_EVERY, "unserved": now + FIRST_LOOK}
        self.next_fire: float | None = None
        self._fire_known = False
        self._firing: Firing | None = None  # begun, and not yet at its end
        self._are_near = False  # the clock may have been set back while no worker ran
        self._prune_at = -math.inf  # by the wall clock, or so long as nothing is known
        self._shrinking = Shrinking(store.maintenance, clock)
        self.shrink_at: float = math.inf  # the next step, by the monotonic clock
        self._ran_at = -math.inf  # by the monotonic clock

    def schedules_changed(self) -> None:
        """Check the schedules at the next tick, even if none is known to be due."""
        self._fire_known = False

    def serve(self, tasks: frozenset[str]) -> None:
        """Fire the schedules of these tasks."""
        self._tasks, self._firing, self._are_near = tasks, None, False
        self._unserved.stale = True
        self.schedules_changed()

    def jobs_changed(self) -> None:
        """Check soon for jobs to prune, even if none is known to be due."""
        self._prune_at = -math.inf
        self._unserved.stale = True

    def look_for_unserved(self) -> None:
        """Log the tasks whose ready jobs no worker runs."""
        self._try(partial(self._unserved.look, self._tasks))

    def tick(self, worker: int, *, idle: bool) -> bool:
        """Do what is due; return whether this worker is still registered."""
        known, others = True, False
        keep_enabled()
        if self._is_due("beat", BEAT_EVERY):  # first: a worker without a heartbeat is taken for frozen
            known, others = self._store.workers.beat(worker)
        if self._is_due("deaths", DEATHS_EVERY) or others:
            self._store.maintenance.check()
            self._try(self._reap_the_dead)
            self._try(self._store.maintenance.spread)
        if others:  # after the dead processes are reaped: it finds those without a lock
            self._try(self._rescue_unlocked)
        self._try(self._look_at_the_clock)
        self._try(self._fire)
        if self._unserved.stale and self._is_due("unserved", LOOK_EVERY):
            self.look_for_unserved()
        self._shrink(worker, idle=self._is_quiet(idle=idle))
        return known

    def _try(self, step: Callable[[], None]) -> None:
        """Do one task; an error in it, for example over a malformed row, must not keep the others from being done."""
        try:
            step()
        except StoreError:
            raise
        except Exception as error:
            name = getattr(step, "func", step).__name__.strip("_")
            log.error("maintenance failed at %s", name, error=error)

    def _is_due(self, what: str, every: float) -> bool:
        now = self._clock.monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = now + every
        return True

    @property
    def may_fire(self) -> bool:
        """Whether a schedule is known to be due."""
        return self.next_fire is not None and self.next_fire <= self._clock.now()

    def _look_at_the_clock(self) -> None:
        """Recompute schedules after the wall clock was set back, so that they do not wait until it has caught up."""
        ahead = self._clock.now() - self._clock.monotonic()
        if ahead < self._ahead - SET_BACK:
            self._firing, self._are_near, self._fire_known = None, False, False
        self._ahead = ahead

    def _fire(self) -> None:
        """Do one step of what is due: the worker claims jobs before the next."""
        if self._firing is None:
            if self._fire_known and not self.may_fire:
                return
            if self._clock.monotonic() < self._due["fire"]:
                return
        # until it has succeeded nothing is known to be due: a fire that fails must not keep the worker from sleeping
        self.next_fire, self._fire_known, self._due["fire"] = None, False, self._clock.monotonic() + FIRE_AGAIN
        begun, self._firing = self._firing, None
        firing = begun or self._fire_all()
        try:
            next(firing)
        except StopIteration as end:
            self.next_fire, self._fire_known = end.value, True
        else:
            self.next_fire, self._firing = -math.inf, firing  # go on at once
        self._due["fire"] = 0.0

    def _fire_all(self) -> Firing:
        if not self._are_near:
            yield from self._store.ticks.bring_near(self._tasks)
            self._are_near = True
        return (yield from self._store.ticks.fire(self._tasks))

    # ---- the file

    def _is_quiet(self, *, idle: bool) -> bool:
        """Whether nothing has run for a moment: between two runs no page is given back that the next one needs."""
        now = self._clock.monotonic()
        if not idle:
            self._ran_at = now
        return now - self._ran_at >= QUIET

    def _shrink(self, worker: int, *, idle: bool) -> None:
        if self._prune_at <= self._clock.now() and self._is_due("prune", PRUNE_EVERY):
            self._try(self._look_for_old_jobs)
        if idle and self._is_due("tidy", TIDY_EVERY):
            self.shrink_at = -math.inf
        if self.shrink_at <= self._clock.monotonic():
            self.shrink_at = math.inf  # first: after an error it is tried again at the next look
            self._try(partial(self._take_step, worker, idle=idle))

    def _look_for_old_jobs(self) -> None:
        moment = self._store.maintenance.next_prune()
        if moment is not None and moment <= self._clock.now():
            self.shrink_at = min(self.shrink_at, self._clock.monotonic())
        else:
            self._prune_at = math.inf if moment is None else moment

    def _take_step(self, worker: int, *, idle: bool) -> None:
        rest = self._shrinking.step(worker, idle=idle)
        if rest is None:
            return
        self.shrink_at = self._clock.monotonic() + rest
        if not idle:
            self._due["tidy"] = 0.0  # as soon as it is idle

    # ---- deaths

    def reap(self) -> None:
        """Reap every dead worker, and release jobs of workers that are not registered."""
        self._reap_the_dead()
        self._rescue_unlocked()

    def _reap_the_dead(self) -> None:
        """Take every other worker's lock that can be taken: the kernel frees a lock when its process dies."""
        for token in tokens(self._directory):
            if token == self._token:
                continue
            dead_process = take(self._directory, token)
            if dead_process is not None:
                self._reap(token, dead_process)

    def _reap(self, token: str, dead_process: DeadProcess) -> None:
        try:
            record = next((worker for worker in self._store.workers.list() if worker.token == token), None)
            if record is not None:
                executing = None if dead_process.missing else frozenset(dead_process.executing)
                self._rescue(record, executing, "its process died", stopped=dead_process.told)
        except BaseException:
            dead_process.release()  # what it notes is needed at the next look
            raise
        dead_process.reap()

    def _rescue(self, worker: WorkerRecord, executing: frozenset[str] | None, why: str, *, stopped: bool) -> None:
        identity = Identity.from_text(worker.identity)
        # no job is to blame where the machine went down, or the worker was told to stop and then killed
        same_boot = not identity.boot or identity.same_boot(self._self)
        executing = executing if same_boot else None  # the notes are not on the disk
        why = f"it was told to stop, and {why}" if stopped else why
        rescued = self._store.runs.rescue(worker.id, executing, blame=same_boot and not stopped, why=why)
        self._seen.pop(worker.id, None)
        log.warning(
            "worker %d (pid %d) is gone: %s; %d jobs released, %d failed",
            worker.id, identity.pid, why, len(rescued.returned), len(rescued.dead_lettered) + len(rescued.interrupted),
        )  # fmt: skip

    def _rescue_unlocked(self) -> None:
        """Find dead workers without a lock file, frozen workers, and jobs of workers that are not registered."""
        directory = self._directory
        workers = self._store.workers.list()  # before the locks: a worker that registers meanwhile has its lock already
        locked = set(tokens(directory))
        self._seen = {worker.id: self._seen[worker.id] for worker in workers if worker.id in self._seen}
        for worker in workers:
            if worker.token == self._token:
                continue
            lives = alive(Identity.from_text(worker.identity))
            if worker.token not in locked:
                if lives is not True:
                    self._rescue(worker, None, "its lock file is missing", stopped=False)
                continue
            stopped = told(directory, worker.token)
            if lives is False:
                why = "its process died, and a child process holds its lock"
                self._rescue(worker, noted(directory, worker.token), why, stopped=stopped)
                forget(directory, worker.token)
            elif self._is_frozen(worker):
                self._rescue(worker, None, f"it has sent no heartbeat for {FROZEN_AFTER:.0f} s", stopped=stopped)
        for number in self._store.workers.ownerless():
            self._store.runs.rescue(number, None, blame=False)

    def _is_frozen(self, worker: WorkerRecord) -> bool:
        """Decide by our own monotonic clock and several looks, never by comparing wall clocks."""
        now = self._clock.monotonic()
        cpu = cpu_seconds(Identity.from_text(worker.identity))
        sight = self._seen.get(worker.id)
        if sight is None or sight.beats != worker.beats or _has_worked(sight, cpu):
            self._seen[worker.id] = Sight(worker.beats, cpu, now)
            return False
        sight.looks += 1
        return sight.looks >= FROZEN_LOOKS and now - sight.since >= FROZEN_AFTER


def _has_worked(sight: Sight, cpu: float | None) -> bool:
    """A process that uses CPU without sending heartbeats is in a C call that holds the interpreter, not frozen."""
    return cpu is not None and sight.cpu is not None and cpu - sight.cpu > 1.0
