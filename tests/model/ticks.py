"""What must be true of the schedules in a queue's file. Knows the triggers' own arithmetic, and no store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from litequeue.core.engine import ScheduleRecord
from litequeue.core.records import NewJob
from litequeue.errors import ScheduleExists, ScheduleNotFound
from litequeue.scheduling import start, triggers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from model.truth import Truth

replace = msgspec.structs.replace
CORE = ("task", "queue", "payload", "priority", "declared", "catch_up")


class Ticks:
    """The schedules that must be on record; what fires is submitted to the truth they belong to."""

    def __init__(self, truth: Truth) -> None:
        self.schedules: dict[str, ScheduleRecord] = {}
        self._truth = truth

    def _known(self, name: str) -> ScheduleRecord:
        if name not in self.schedules:
            raise ScheduleNotFound(name)
        return self.schedules[name]

    def put(self, new: ScheduleRecord, now: float, *, replace_it: bool) -> None:
        old = self.schedules.get(new.name)
        if old is None:
            begun = start.start(new.trigger, now)
            self.schedules[new.name] = replace(new, created_at=now, next_at=begun.next_at, trigger=begun.trigger)
            return
        if not replace_it:
            raise ScheduleExists(new.name)
        changes = {name: getattr(new, name) for name in CORE}
        if not start.is_same(old.trigger, new.trigger):
            before = start.Before(old.trigger, old.next_at, old.last_at is not None)
            changes |= start.start(new.trigger, now, before)._asdict()
        self.schedules[new.name] = replace(old, **changes)

    def declare(self, declared: Sequence[ScheduleRecord], tasks: frozenset[str], now: float) -> None:
        names = {schedule.name for schedule in declared}
        for old in list(self.schedules.values()):
            if old.declared and old.task in tasks and old.name not in names:
                del self.schedules[old.name]
        for new in declared:
            self.put(new, now, replace_it=True)

    def changes_by(self, act: Callable[[], object]) -> bool:
        """Whether that would change a schedule; it is not done."""
        before = dict(self.schedules)
        try:
            act()
            return self.schedules != before
        finally:
            self.schedules = before

    def bring_near(self, tasks: frozenset[str], now: float) -> float | None:
        for old in list(self.schedules.values()):
            if old.next_at is not None and old.next_at > now and not old.paused and old.task in tasks:
                near = triggers.due(triggers.decode(old.trigger), old.next_at, now, old.catch_up).next_at
                self.schedules[old.name] = replace(old, next_at=near)
        return self.next_of(tasks)

    def remove(self, name: str) -> None:
        self._known(name)
        del self.schedules[name]

    def pause(self, name: str) -> None:
        self.schedules[name] = replace(self._known(name), paused=True)

    def resume(self, name: str, now: float) -> None:
        old = self._known(name)
        if old.paused:
            spent = old.next_at is None
            next_at = None if spent else triggers.following(triggers.decode(old.trigger), now)
            self.schedules[name] = replace(old, paused=False, next_at=next_at)

    def trigger_now(self, name: str, now: float) -> str:
        old = self._known(name)
        job_id = self._enqueue(old, now, None)
        self.schedules[name] = replace(old, last_at=now, last_job=job_id)
        return job_id

    def next_of(self, tasks: frozenset[str]) -> float | None:
        mine = (each for each in self.schedules.values() if each.task in tasks and not each.paused)
        return min((each.next_at for each in mine if each.next_at is not None), default=None)

    def fire(self, tasks: frozenset[str], now: float) -> float | None:
        """Enqueue each tick that is due, once."""
        due = [each for each in self.schedules.values() if each.task in tasks and not each.paused]
        due = [each for each in due if each.next_at is not None and each.next_at <= now]
        for old in sorted(due, key=lambda each: (each.next_at, each.name)):
            ticks, next_at = self._due(old, now)
            job_id = old.last_job
            for tick in ticks:
                job_id = self._enqueue(old, now, tick)
            last_at = ticks[-1] if ticks else old.last_at
            self.schedules[old.name] = replace(old, next_at=next_at, last_at=last_at, last_job=job_id)
        return self.next_of(tasks)

    def _due(self, schedule: ScheduleRecord, now: float) -> tuple[tuple[float, ...], float | None]:
        assert schedule.next_at is not None
        due = triggers.due(triggers.decode(schedule.trigger), schedule.next_at, now, schedule.catch_up)
        return due.ticks, due.next_at

    def _enqueue(self, schedule: ScheduleRecord, now: float, run_at: float | None) -> str:
        call = {name: getattr(schedule, name) for name in ("task", "queue", "payload", "priority")}
        [submitted] = self._truth.submit([NewJob(created_at=now, run_at=run_at, schedule=schedule.name, **call)])
        return submitted.id
