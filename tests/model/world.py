"""One seed: a file, a clock, processes and workers, and who acts next. Nothing in it but the seed is left to chance.

Actors take turns; inside one's turn, before each call of the store, another may get the turn: that is the race.
"""

from __future__ import annotations

import copy
import random
import shutil
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from litequeue.core.records import FOREVER
from litequeue.errors import Fenced, LiteQueueError, StoreBusy, StoreError
from litequeue.sqlite.store import SqliteStore
from litequeue.testing import ManualClock
from model import watch
from model.crew import Died, Worker
from model.kernel import Kernel
from model.mirror import Mirror, RolledBack
from model.quick import CHUNK, quickly
from model.remote import Remote
from model.row import RUNNING, Broken, must_be
from model.truth import Truth

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from litequeue.core.records import Claimed

SHARED_MEMORY = Path("/dev/shm")
RESULT_TTL, FAILED_TTL = 600.0, 3600.0
EVERY = 100  # steps between looks at the whole file
DEEPEST = 2
LAST_ROUNDS = 400

TASKS = ("add", "send", "aload", "asave")
QUEUES = ("default", "email", "slow")


class Limits(NamedTuple):
    """How much there is of everything."""

    callers: int = 2
    workers: int = 4
    backlog: int = 60
    remote: bool = False  # each store of a worker is in a process of its own


ORDINARY = Limits()


class World:
    """All of it; `step` lets one actor act."""

    def __init__(
        self, seed: int, folder: Path, *, driver: Literal["apsw", "sqlite3"], limits: Limits = ORDINARY
    ) -> None:
        self.chance = random.Random(seed)
        self.limits = limits
        self.clock = ManualClock()
        self.kernel = Kernel()
        self.truth = Truth(RESULT_TTL, FAILED_TTL, CHUNK)
        self.steps = 0
        options = {"driver": driver, "durability": "normal", "create": True}
        options |= {"result_ttl": RESULT_TTL, "failed_ttl": FAILED_TTL}
        path, kind = folder / "app.db", Remote if limits.remote else SqliteStore.open
        self.callers = [
            Mirror(self, SqliteStore.open(path, clock=self.clock, **options)) for _ in range(limits.callers)
        ]
        self.processes = [Mirror(self, kind(path, clock=self.clock, **options)) for _ in range(limits.workers)]
        self.crew: list[Worker] = []
        self.dispatched: tuple[Worker, int, list[Claimed]] | None = None  # by the last call that enqueues
        self.tally: Counter[str] = Counter()  # what has come about, to see that nothing is left out
        self.acting: Worker | None = None
        self._depth = 0
        self._holder: Mirror | None = None
        self._committed = self.truth
        self._quiet = False
        watch.set_up(self.callers[0].store)

    def close(self) -> None:
        for mirror in (*self.callers, *self.processes):
            mirror.store.close()

    # ---- steps

    def step(self) -> None:
        """Let somebody act, and look whether the file holds the truth."""
        self.steps += 1
        self._act()
        touched, self.truth.touched = self.truth.touched, set()
        watch.check_rows(self.callers[0].store, self.truth, touched)
        if self.steps % EVERY == 0:
            watch.check_all(self.callers[0].store, self.truth)

    def _act(self) -> None:
        actor = self.chance.choices(Actor.all, Actor.weights)[0]
        acting, self.acting = self.acting, None
        self._depth += 1
        try:
            actor.act(self)
        except (LiteQueueError, Fenced, RolledBack) as error:  # as the truth said it must be: see Mirror
            if isinstance(error, StoreError) and not isinstance(error, StoreBusy):
                raise Broken(repr(error)) from error
            self.tally[type(error).__name__] += 1
        finally:
            self._depth -= 1
            self.acting = acting

    def interleave(self) -> None:
        """Before a call of the store: perhaps it is somebody else's turn first."""
        likely = 0.1 if self._holder is None else 0.5
        if self._depth <= DEEPEST and not self._quiet and self.chance.random() < likely:
            self._act()
        self.perhaps_die()

    def perhaps_die(self) -> None:
        """Whoever acts may die, before what it was about to do and after what it did."""
        if self.acting is not None and not self._quiet and self.chance.random() < 0.002:
            raise Died

    @contextmanager
    def working(self, worker: Worker) -> Generator[Worker, None, None]:
        """Let this worker act; nobody else moves it meanwhile."""
        self.acting, worker.busy = worker, True
        try:
            yield worker
        except Died:
            worker.die()
        finally:
            self.acting, worker.busy = None, False
            self.crew = [each for each in self.crew if not each.gone]

    # ---- transactions

    @contextmanager
    def holding(self, mirror: Mirror) -> Generator[None, None, None]:
        """For the time of the block others cannot write, and see what was there before."""
        saved = self.truth.saved()
        self._holder, self._committed = mirror, copy.copy(self.truth)
        self._committed.ticks = copy.copy(self.truth.ticks)
        self._committed.restore(saved)
        try:
            yield
        except BaseException:
            self.truth.restore(saved)
            raise
        finally:
            self._holder, self._committed = None, self.truth

    def holds(self, mirror: Mirror) -> bool:
        return self._holder is mirror

    def locked_against(self, mirror: Mirror) -> bool:
        return self._holder is not None and self._holder is not mirror

    @contextmanager
    def committed(self) -> Generator[Truth, None, None]:
        yield self._committed if self._holder is not None else self.truth

    # ---- who and what

    def caller(self) -> Mirror:
        """A process that enqueues, and has no transaction open."""
        return self.chance.choice([mirror for mirror in self.callers if mirror is not self._holder])

    def worker(self, wanted: Callable[[Worker], bool] = lambda worker: not worker.frozen) -> Worker | None:
        """One that is not in the middle of something."""
        there = [worker for worker in self.crew if not worker.busy and not worker.gone and wanted(worker)]
        return self.chance.choice(there) if there else None

    def hire(self, tasks: Sequence[str], queues: tuple[str, ...] | None) -> None:
        mirror = self.processes[self.chance.randrange(len(self.processes))]
        worker = Worker(self, mirror, frozenset(tasks), queues)
        with self.working(worker):
            try:
                worker.register()
            except LiteQueueError:
                self.kernel.locks.pop(worker.token)
                worker.die()
                raise
            self.crew.append(worker)

    def job_id(self) -> str:
        """A job, most likely one on record."""
        if self.truth.jobs and self.chance.random() < 0.98:
            return str(self.chance.choice(list(self.truth.jobs)))
        return str(self.chance.randrange(1, self.truth.last_job + 3))

    def keep_for(self) -> float:
        return self.chance.choice((RESULT_TTL, RESULT_TTL, 1.0, FOREVER if self.chance.random() < 0.02 else 60.0))

    @property
    def backlog(self) -> int:
        return sum(row.state <= RUNNING for row in self.truth.jobs.values())

    # ---- the end

    def settle_down(self) -> None:
        """All of them die but a new one that knows everything: it must bring all of it to an end."""
        self._quiet = True
        for worker in self.crew:
            worker.die()
        self.crew.clear()
        for lock in self.kernel.locks.values():
            lock.held = False  # also what children of the dead hold on
        for name in list(self.truth.ticks.schedules):
            self.callers[0].remove_schedule(name)
        self.hire(TASKS, None)
        [last] = self.crew
        for _ in range(LAST_ROUNDS):
            if not self.backlog and len(self.truth.workers) == len(self.kernel.locks) == 1 and last.idle:
                break
            self._last_round(last)
        watch.check_all(self.callers[0].store, self.truth)
        left = [row for row in self.truth.jobs.values() if row.state <= RUNNING]
        must_be(not left, f"never end: {left[:3]}")
        must_be(list(self.truth.workers) == [last.number], f"never buried: {self.truth.workers}")
        must_be(list(self.kernel.locks) == [last.token], f"locks of the dead: {list(self.kernel.locks)}")
        must_be(self.callers[0].store.admin.integrity() == [], "the file is damaged")
        self.tally["jobs"] += self.truth.last_job

    def _last_round(self, last: Worker) -> None:
        self.clock.advance(20.0 if len(self.truth.workers) > 1 else 300.0)
        with self.working(last):
            last.keep()
            last.turn()
            if self.chance.random() < 0.1:
                last.release()
            while last.line or last.running:
                last.begin()
                last.end()


class Actor:
    """One thing that somebody does. To add one, write a subclass in `actors.py`: it is in the game by that.

    `weight`: how often it gets its turn, beside the others'. What it does, it does through a `Mirror`.
    """

    all: ClassVar[list[Actor]] = []
    weights: ClassVar[list[float]] = []
    weight: ClassVar[float] = 1.0

    def __init_subclass__(cls) -> None:
        Actor.all.append(cls())
        Actor.weights.append(cls.weight)

    def act(self, world: World) -> None:
        raise NotImplementedError


@contextmanager
def seeded(seed: int, limits: Limits = ORDINARY) -> Generator[World, None, None]:
    """The world of a seed, on a file of its own; the driver goes by the seed, too."""
    from model import actors  # noqa: F401  they enter themselves

    folder = Path(tempfile.mkdtemp(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
    try:
        with quickly(many_lanes=seed % 2 == 1):
            world = World(seed, folder, driver="sqlite3" if seed % 4 == 3 else "apsw", limits=limits)
            try:
                with world.kernel.in_place():
                    yield world
            finally:
                world.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Played(NamedTuple):
    """How far a seed was played, and what came about."""

    steps: int
    tally: Counter[str]


def play(seed: int, steps: int, *, limits: Limits = ORDINARY, over: Callable[[], bool] = lambda: False) -> Played:
    """Play a seed for so many steps, and bring it to an end. Raises `Broken`, saying what replays it."""
    with seeded(seed, limits) as world:
        try:
            while world.steps < steps and not over():
                world.step()
            world.settle_down()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise Broken(f"seed {seed}, step {world.steps}: {error!r}") from error
        return Played(world.steps, world.tally)
