"""A worker that is moved by hand, step by step: it claims, begins, ends and settles, dies, freezes and comes back.

It does at the store's seam what `litequeue.worker.worker` does, with the product's own maintenance; functions are dice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

from litequeue.core.dispatch import IdleWorker
from litequeue.core.outcome import Cancelled, Ended, ErrorInfo, Failed, Outcome, Released, Retried, Snoozed, Succeeded
from litequeue.core.schedules import ScheduleRecord
from litequeue.core.store import Demand, NewWorker
from litequeue.errors import StoreError
from litequeue.ipc.process_identity import Identity
from litequeue.scheduling.triggers import encode, every
from litequeue.worker.maintenance import Maintenance
from model.kernel import Lock

if TYPE_CHECKING:
    from litequeue.core.records import Claimed
    from model.mirror import Mirror
    from model.world import World

BOOM = ErrorInfo("ValueError", "boom", "Traceback ...")
SUSPECT = 2


class Died(BaseException):
    """The process of a worker ends here, without a word."""


class Worker:
    """One worker process."""

    def __init__(self, world: World, mirror: Mirror, tasks: frozenset[str], queues: tuple[str, ...] | None) -> None:
        chance = world.chance
        self._world, self._mirror, self.tasks, self.queues = world, mirror, tasks, queues
        self.identity = world.kernel.start(hidden=chance.random() < 0.2)
        self.token = f"{self.identity.pid:08}"
        self.room = chance.choice((1, 2, 5, 30))
        self.line: list[Claimed] = []  # claimed, not begun
        self.running: list[Claimed] = []
        self.ended: list[Ended] = []
        self.mail: list[tuple[int, Claimed]] = []  # jobs dispatched to it, of which it has not heard yet
        self.withdrawn: set[tuple[str, int]] = set()  # put back before it heard of them
        self.frozen = self.busy = self.gone = False
        self.lock = world.kernel.locks[self.token] = Lock()
        with mock.patch.object(Identity, "current", return_value=self.identity):
            self.maintenance = Maintenance(mirror, world.clock, self.token, tasks)
        self.number = 0

    def register(self) -> None:
        identity, tasks = self.identity.to_text(), tuple(sorted(self.tasks))
        new = NewWorker(token=self.token, identity=identity, queues=self.queues, tasks=tasks, threads=1, coroutines=1)
        self.number = self._mirror.register(new)

    @property
    def idle(self) -> bool:
        return not (self.line or self.running or self.ended)

    # ---- what it does

    def turn(self) -> None:
        """Settle what has ended, and claim what there is room for."""
        ended, self.ended = self.ended, []
        try:
            turn = self._mirror.claim(self.number, self._demands(), self.queues, ended)
        except BaseException:
            self.ended = ended + self.ended
            raise
        if self._world.chance.random() < 0.01:  # it never hears of it: the same ends are told again
            self.ended = ended + self.ended
        elif turn.registered:
            self.line += turn.claimed
        else:
            self._register_again()

    def _demands(self) -> list[Demand]:
        room = self.room - len(self.line) - len(self.running)
        if room <= 0:
            return []
        most = SUSPECT - 1 if self._world.chance.random() < 0.2 else None
        return [Demand(kind, self._world.chance.randint(1, room), most) for kind in self._kinds() if kind]

    def _register_again(self) -> None:
        self.line.clear()  # whoever declared it dead has put them back
        self.register()

    # ---- what is dispatched

    def rest(self) -> None:
        """Let whoever enqueues a job dispatch it; that the worker is idle may be true no more when that happens."""
        if self.idle:
            idle = IdleWorker(self.number, frozenset(self._kinds()), self.queues, self._given, self.reconcile)
            for caller in self._world.callers:
                caller.store.dispatch.offer(idle)

    def reconcile(self) -> None:
        """`release` looks anyway."""

    def _kinds(self) -> tuple[frozenset[str], frozenset[str]]:
        coroutines = frozenset(task for task in self.tasks if task.startswith("a"))
        return coroutines, self.tasks - coroutines

    def _given(self, number: int, claimed: list[Claimed]) -> None:
        """The worker is told at once, later, or never."""
        self._world.dispatched = self, number, claimed
        if self._world.chance.random() < 0.9:
            self.mail += [(number, job) for job in claimed]

    def hear(self) -> None:
        """Read what has come."""
        mail, self.mail = self.mail, []
        for number, job in mail:
            if number == self.number and (job.id, job.attempt) not in self.withdrawn:
                self.line.append(job)

    def begin(self) -> None:
        """Call the next function; a suspect's while nothing else runs."""
        alone = any(job.deaths >= SUSPECT for job in (*self.running, *self.line[:1]))
        if self.line and not (alone and self.running):
            job = self.line.pop(0)
            self.lock.executing.add(f"{job.id}:{job.attempt}")
            self.running.append(job)

    def end(self) -> None:
        """A function returns, or raises."""
        if self.running:
            job = self.running.pop(self._world.chance.randrange(len(self.running)))
            self._end(job, self._outcome())

    def _end(self, job: Claimed, outcome: Outcome) -> None:
        self.lock.executing.discard(f"{job.id}:{job.attempt}")
        self.ended.append(Ended(job, outcome, self._world.clock.now(), self._world.keep_for()))

    def _outcome(self) -> Outcome:
        chance, now = self._world.chance, self._world.clock.now()
        dice = chance.random()
        if dice < 0.6:
            return Succeeded(b"%d" % chance.randrange(10))
        if dice < 0.7:
            return Failed(BOOM)
        if dice < 0.85:
            return Retried(now + chance.choice((0.0, 1.0, 60.0)), BOOM)
        if dice < 0.93:
            return Snoozed(now + chance.choice((0.0, 5.0, 600.0)))
        return Cancelled() if dice < 0.97 else Released(begun=True)

    def complete(self) -> None:
        """A function stores its success with rows of its own; in a late run that raises."""
        if self.running:
            job = self.running[0]
            fails = self._world.chance.random() < 0.2
            self._mirror.completing(job, b"1", self._world.keep_for(), fails=fails)
            self.running.remove(job)
            self.lock.executing.discard(f"{job.id}:{job.attempt}")

    def report(self) -> None:
        if self.running:
            job = self._world.chance.choice(self.running)
            self._mirror.note_progress(job, '{"done":1}')

    def hear_cancels(self) -> None:
        """Whatever waits in line ends at once; a coroutine is cancelled, most of the time."""
        asked = set(self._mirror.requested_cancels(self.number))
        for jobs in (self.line, self.running):
            for job in [job for job in jobs if (job.id, job.attempt) in asked]:
                if jobs is self.line or self._world.chance.random() < 0.7:
                    jobs.remove(job)
                    self._end(job, Cancelled())

    def release(self) -> None:
        """Give back what has not begun, and what the file says it has and it never heard of."""
        self.ended += [self._released(job) for job in self.line]
        self.line.clear()
        known = {(job.id, job.attempt) for job in [*self.running, *(end.job for end in self.ended)]}
        claims = self._mirror.store.runs.claims_of(self.number)
        unheard = [job for job in claims if (job.id, job.attempt) not in known]
        self.withdrawn |= {(job.id, job.attempt) for job in unheard}
        self.ended += [self._released(job) for job in unheard]

    def _released(self, job: Claimed) -> Ended:
        return Ended(job, Released(), self._world.clock.now(), self._world.keep_for())

    def keep(self) -> None:
        """The product's own housekeeping."""
        if not self.maintenance.tick(self.number, idle=self.idle):
            self._register_again()

    def declare(self) -> None:
        """Its code has other schedules than before."""
        names = self._world.chance.sample(sorted(self.tasks), self._world.chance.randint(0, 1))
        trigger = encode(every(self._world.chance.choice((30.0, 120.0))))
        call = {
            "queue": "default",
            "payload": b"[]",
            "priority": 0,
            "trigger": trigger,
            "module": "app",
            "declared": trigger,
        }
        self._mirror.declare([ScheduleRecord(name=name, task=name, **call) for name in names], self.tasks)

    # ---- how it comes to an end

    def leave(self) -> None:
        """In good order: what has not begun is put back, what runs is told to end."""
        self.release()
        for job in self.running[:]:
            self.running.remove(job)
            self._end(job, Released(begun=True))
        try:
            self._mirror.settle(self.ended)
            self._mirror.rescue(self.number, None, blame=False)
        except StoreError:
            self.lock.executing.clear()
            self.die()
            return
        self._world.kernel.locks.pop(self.token, None)
        self._world.kernel.end(self.identity)
        self.gone = True

    def die(self, *, child: bool = False) -> None:
        """Without a word. `child`: a process that it forked holds its lock on."""
        self.gone = True
        self._world.tally["deaths"] += 1
        self._world.kernel.end(self.identity)
        self.lock.held = child
