"""Who acts in a simulation: one `Actor` each. Whatever they do goes through a `Mirror`, which checks it."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import apsw

from litequeue.core.engine import ScheduleRecord
from litequeue.core.records import NewJob, Status
from litequeue.errors import KeyConflict, LiteQueueError
from litequeue.scheduling import triggers
from litequeue.worker.maintenance import BEAT_EVERY, FROZEN_LOOKS
from model.mirror import RolledBack
from model.world import QUEUES, TASKS, Actor

if TYPE_CHECKING:
    from random import Random

    from model.mirror import Mirror
    from model.world import World

HOUR = 3600.0
KEYS = ("k1", "k2", "k3", "k4")
NAMES = ("tick", "tock", "tack")


def new_job(world: World) -> NewJob:
    """Some job; half of them plain."""
    chance, now = world.chance, world.clock.now()
    call: dict[str, Any] = {"task": chance.choice(TASKS), "payload": b"[%d]" % chance.randrange(3), "created_at": now}
    if chance.random() < 0.5:
        return NewJob(queue=QUEUES[0], **call)
    call |= {"queue": chance.choice(QUEUES), "priority": chance.choice((0, 0, 1, -1, 100, -100))}
    call |= {"tags": chance.choice(((), ("red",), ("red", "blue")))}
    if chance.random() < 0.4:
        call["run_at"] = now + chance.choice((0.0, 0.001, 1.0, 30.0, 900.0))
    if chance.random() < 0.2:
        call["expires_at"] = max(now, call.get("run_at", now)) + chance.choice((0.5, 10.0, 100.0, 2 * HOUR))
    if chance.random() < 0.5:
        call["key"] = chance.choice(KEYS)
        call["key_scope"] = chance.choice(("kept", "unfinished", "queued"))
        call["on_conflict"] = chance.choice(("return", "raise", "replace"))
    return NewJob(**call)


# ---- those who enqueue


class Enqueue(Actor):
    weight = 22.0

    def act(self, world: World) -> None:
        if world.backlog < world.limits.backlog:
            world.caller().submit([new_job(world)])


class EnqueueMany(Actor):
    weight = 1.5

    def act(self, world: World) -> None:
        if world.backlog < world.limits.backlog:
            world.caller().submit([new_job(world) for _ in range(world.chance.randint(2, 12))])


class Alike(Actor):
    """More of the same at one moment than fit into one chunk: due, expiring, and pruned together."""

    weight = 0.3

    def act(self, world: World) -> None:
        if world.backlog < world.limits.backlog:
            chance, now = world.chance, world.clock.now()
            moment = chance.choice(({"run_at": now + 1.0}, {"expires_at": now + 1.0}, {}))
            call = {"task": chance.choice(TASKS), "queue": chance.choice(QUEUES), "payload": b"[]", "created_at": now}
            world.caller().submit([NewJob(**call, **moment)] * chance.randint(5, 20))


class Cancel(Actor):
    weight = 4.0

    def act(self, world: World) -> None:
        world.caller().cancel(world.job_id())


class Retry(Actor):
    weight = 4.0

    def act(self, world: World) -> None:
        world.caller().retry(world.job_id())


class Transaction(Actor):
    """Several things at once, or none of them, on the queue's own connection."""

    weight = 2.0

    def act(self, world: World) -> None:
        if world._holder is None:
            caller = world.caller()
            with caller.transaction():
                for _ in range(world.chance.randint(1, 4)):
                    self._do_something(world, caller)
                if world.chance.random() < 0.3:
                    raise RolledBack

    def _do_something(self, world: World, caller: Mirror) -> None:
        count = world.chance.choice((1, 1, 3))
        deeds = (
            lambda: caller.submit([new_job(world) for _ in range(count)]),
            lambda: caller.cancel(world.job_id()),
            lambda: caller.retry(world.job_id()),
            lambda: caller.pause_schedule(world.chance.choice(NAMES)),
        )
        with suppress(LiteQueueError):  # the caller goes on, and commits the rest
            world.chance.choices(deeds, (6, 1, 1, 1))[0]()


class Within(Actor):
    """The same on a connection of the caller's own."""

    weight = 0.5

    def act(self, world: World) -> None:
        if world._holder is None:
            caller = world.caller()
            with closing(self._connection(caller)) as db:
                db.execute("BEGIN IMMEDIATE")
                with world.holding(caller):
                    for _ in range(world.chance.randint(1, 3)):
                        with suppress(KeyConflict):
                            caller.submit_within(db, [new_job(world) for _ in range(world.chance.choice((1, 3)))])
                    world.interleave()
                    if world.chance.random() < 0.3:
                        db.execute("ROLLBACK")
                        raise RolledBack
                    db.execute("COMMIT")

    def _connection(self, caller: Mirror) -> Any:
        if caller.store.driver_name == "apsw":
            return apsw.Connection(str(caller.store.path))
        import sqlite3

        return sqlite3.connect(caller.store.path, isolation_level=None)


class Look(Actor):
    weight = 3.0

    def act(self, world: World) -> None:
        caller, chance = world.caller(), world.chance
        caller.look_up(world.job_id())
        caller.list_jobs(
            status=chance.choice((None, *Status)),
            task=chance.choice((None, *TASKS)),
            queue=chance.choice((None, *QUEUES)),
            tag=chance.choice((None, None, "red", "blue")),
            limit=chance.choice((1, 5, 1000)),
            before=chance.choice((None, world.job_id())),
        )
        caller.counts()


class Reopen(Actor):
    """A process lets go of its connections, or is killed with them open."""

    weight = 0.3

    def act(self, world: World) -> None:
        world.chance.choice([world.caller(), *world.processes]).store.close()


# ---- workers


class Hire(Actor):
    weight = 2.0

    def act(self, world: World) -> None:
        if len(world.crew) < world.limits.workers:
            chance = world.chance
            tasks = TASKS if chance.random() < 0.6 else chance.sample(TASKS, 2)
            queues = None if chance.random() < 0.6 else tuple(chance.sample(QUEUES, 2))
            world.hire(tasks, queues)


class Crew(Actor):
    """One of the workers does one thing; Actor for each below."""

    weight = 0.0

    def act(self, world: World) -> None:
        worker = world.worker()
        if worker is not None:
            with world.working(worker):
                self.move(worker)

    def move(self, worker: Any) -> None:
        """Do it."""


class Cycle(Crew):
    weight = 20.0

    def move(self, worker: Any) -> None:
        worker.turn()


class Begin(Crew):
    weight = 20.0

    def move(self, worker: Any) -> None:
        worker.begin()


class End(Crew):
    weight = 18.0

    def move(self, worker: Any) -> None:
        worker.end()


class Complete(Crew):
    weight = 4.0

    def move(self, worker: Any) -> None:
        worker.complete()


class Report(Crew):
    weight = 1.0

    def move(self, worker: Any) -> None:
        worker.report()


class HearCancels(Crew):
    weight = 2.0

    def move(self, worker: Any) -> None:
        worker.hear_cancels()


class PutBack(Crew):
    weight = 0.7

    def move(self, worker: Any) -> None:
        worker.release()


class Keep(Crew):
    """The product's own maintenance: beat, bury the dead, fire, shrink the file."""

    weight = 10.0

    def move(self, worker: Any) -> None:
        worker.keep()


class Leave(Crew):
    weight = 0.3

    def move(self, worker: Any) -> None:
        worker.leave()


class Die(Crew):
    weight = 1.0

    def move(self, worker: Any) -> None:
        worker.die(child=worker.identity.pid % 5 == 0)


class Rest(Crew):
    weight = 4.0

    def move(self, worker: Any) -> None:
        worker.rest()


class Lull(Actor):
    """What is ready is worked off, and then a job comes while a worker rests."""

    weight = 0.8

    def act(self, world: World) -> None:
        for worker in list(world.crew):
            if not (worker.busy or worker.gone or worker.frozen):
                with world.working(worker):
                    self._work_off(worker)
                    worker.rest()
        call = {"task": world.chance.choice(TASKS), "payload": b"[]", "created_at": world.clock.now()}
        world.caller().submit([NewJob(queue=QUEUES[0], **call)])

    def _work_off(self, worker: Any) -> None:
        worker.room = max(worker.room, 30)
        for _ in range(3):
            worker.turn()
            while worker.line:
                worker.begin()
                worker.end()
        worker.turn()


class Hear(Crew):
    weight = 5.0

    def move(self, worker: Any) -> None:
        worker.hear()


class Poison(Actor):
    """One task's functions kill their workers, given a certain argument."""

    weight = 3.0

    def act(self, world: World) -> None:
        worker = world.worker(
            lambda worker: any(job.task == TASKS[0] and job.payload == b"[2]" for job in worker.running)
        )
        if worker is not None:
            worker.die()


class Freeze(Actor):
    """A process is stopped, or goes on."""

    weight = 0.8

    def act(self, world: World) -> None:
        worker = world.worker(lambda _: True)
        if worker is not None:
            worker.frozen = not worker.frozen


class Stall(Actor):
    """A worker stands still until another has declared it dead and taken over; then it goes on, too late."""

    weight = 1.5

    def act(self, world: World) -> None:
        late = world.worker(lambda worker: bool(worker.running))
        other = world.worker(lambda worker: worker is not late and not worker.frozen)
        if late is not None and other is not None:
            late.busy = True
            try:
                for _ in range(FROZEN_LOOKS + 2):
                    world.clock.advance(BEAT_EVERY + 0.5)
                    if other.gone:  # it died at the last look
                        break
                    with world.working(other):
                        other.keep()
                        other.turn()
                        other.begin()
            finally:
                late.busy = False


class Reboot(Actor):
    """All workers are gone at once, and no job is to blame."""

    weight = 0.05

    def act(self, world: World) -> None:
        if not any(worker.busy for worker in world.crew):
            for worker in world.crew:
                worker.die()
            world.crew.clear()
            world.kernel.boot += 1


# ---- time


class Wait(Actor):
    weight = 10.0

    def act(self, world: World) -> None:
        world.clock.advance(round(10 ** world.chance.uniform(-3.0, 1.5), 3))


class Jump(Actor):
    """The wall clock is set, by an hour or a little."""

    weight = 0.15

    def act(self, world: World) -> None:
        world.clock.step(world.chance.choice((-HOUR, HOUR, -5.0, 5.0, -0.5)))


# ---- schedules


def trigger(chance: Random, now: float) -> triggers.Trigger:
    match chance.randrange(6):
        case 0:
            return triggers.At(now + chance.choice((-1.0, 0.0, 60.0, HOUR)))
        case 1:
            return triggers.Cron(chance.choice(("*/5 * * * *", "0 * * * *")), "UTC")
        case 2:
            return triggers.every(f"{chance.choice((1, 2))} day", at=chance.choice(("00:00", "12:30")), tz="UTC")
        case 3:
            return triggers.first_of(triggers.every(chance.choice((60, 90))), triggers.cron("0 * * * *", tz="UTC"))
        case _:
            return triggers.Every(chance.choice((7.0, 60.0, 0.9 * HOUR)), 0.0)


def schedule(world: World, name: str) -> ScheduleRecord:
    chance = world.chance
    call = {"task": chance.choice(TASKS), "queue": chance.choice(QUEUES), "payload": b"[]"}
    when = triggers.encode(trigger(chance, world.clock.now()))
    fields = {"priority": chance.choice((0, 5)), "catch_up": chance.choice(("one", "one", "one", "all", "none"))}
    return ScheduleRecord(name=name, **call, **fields, trigger=when, declared=False)


class Schedule(Actor):
    """Somebody adds, changes, pauses, resumes, triggers or removes one."""

    weight = 1.5

    def act(self, world: World) -> None:
        caller, chance = world.caller(), world.chance
        name = chance.choice(NAMES)
        deeds = (
            lambda: caller.put_schedule(schedule(world, name), replace=chance.random() < 0.8),
            lambda: caller.pause_schedule(name),
            lambda: caller.resume_schedule(name),
            lambda: caller.trigger_schedule(name),
            lambda: caller.remove_schedule(name),
            lambda: caller.next_schedule(frozenset(TASKS)),
        )
        chance.choices(deeds, (4, 1, 2, 1, 1, 1))[0]()


class Declare(Crew):
    """A worker starts with schedules in its code."""

    weight = 0.2

    def move(self, worker: Any) -> None:
        worker.declare()
