"""Ticks: schedules that are due fire, and those that code declares are put into the file or removed from it."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from litequeue.core.logger import later, say
from litequeue.core.names import SHOWN, some
from litequeue.ipc.notifier import JOBS, SCHEDULES
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs import due_ticks, stored_schedules
from litequeue.sqlite.jobs.user_answers import Answers, answered
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from litequeue.core.schedules import ScheduleRecord
    from litequeue.core.store import Declared, Firing
    from litequeue.sqlite.drivers.connection import Connection, Statement
    from litequeue.sqlite.jobs.due_ticks import Chunk, Found
    from litequeue.sqlite.jobs.user_answers import Ask
    from litequeue.sqlite.kernel import Kernel


class Ticks:
    """The due times of one file's schedules, as a worker sees them."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._writer = kernel, kernel.writer

    def declare(self, code: Declared) -> None:
        """Make the file's declared schedules those of the code, and remove what its modules declare no more.

        Some at a time, each in a transaction of its own, and without one where nothing differs.
        """
        changed, size = self._remove_gone(code), stored_schedules.CHUNK
        for start in range(0, len(code.schedules), size):
            changed = self._declare(code.schedules[start : start + size]) or changed
        if changed:
            self._kernel.notifier.notify(SCHEDULES)

    def _remove_gone(self, code: Declared) -> bool:
        names = frozenset(new.name for new in code.schedules)
        gone = self._kernel.read_listing(lambda db: stored_schedules.gone(db, code, names))
        for start in range(0, len(gone), stored_schedules.CHUNK):
            few = gone[start : start + stored_schedules.CHUNK]
            one = {"names": json.dumps([name for name, _ in few]), "modules": json.dumps([module for _, module in few])}
            self._writer.run(partial(_rows, sql=SQL["remove_declared"], values=one))
        return bool(gone)

    def _declare(self, declared: Sequence[ScheduleRecord]) -> bool:
        now, answers = self._kernel.clock.now(), Answers()

        def differences(db: Connection, ask: Ask) -> list[Statement]:
            return stored_schedules.differences(db, declared, now, ask)

        def change(db: Connection, ask: Ask) -> None:
            for statement in differences(db, ask):
                db.rows(*statement)

        differs = answered(lambda ask: self._kernel.read(lambda db: differences(db, ask)), answers)
        if differs:
            answered(lambda ask: self._writer.run(lambda db: change(db, ask)), answers)
        return bool(differs)

    def bring_near(self, tasks: frozenset[str]) -> Firing:
        """After the clock was set back: let these tasks' schedules fire at their next ticks by it, in steps.

        A tick can then be due so far ahead that it is not this schedule's next. Returns when the next is due.
        """
        moved = yield from self._fire("schedules_ahead", tasks, [])
        if moved:
            later.warning("the clock was set back; the next ticks of these schedules were recomputed: %s", some(moved))
            say()
        return self.next_at(tasks)

    def fire(self, tasks: frozenset[str]) -> Firing:
        """Enqueue what is due of these tasks' schedules, in steps of a transaction; return when the next is due."""
        next_at = self.next_at(tasks)
        if next_at is None or next_at > self._kernel.clock.now():
            return next_at
        wrong: list[tuple[Found, str]] = []
        yield from self._fire("due_schedules", tasks, wrong)
        if wrong:
            faults = [f"{found.name!r} ({fault})" for found, fault in wrong[:SHOWN]]
            later.error("these schedules cannot fire here: %s", some(faults, len(wrong)))
            say()
        return self.next_at(tasks, [found.key for found, _ in wrong])

    def _fire(
        self, which: str, tasks: frozenset[str], wrong: list[tuple[Found, str]]
    ) -> Generator[None, None, list[str]]:
        """Fire each schedule that a statement names; yield between the transactions, and return who has fired.

        Each once, though it has missed more ticks than fit: the others are not to wait for all of those.
        """
        clock, known, last = self._kernel.clock, json.dumps(sorted(tasks)), None
        until, seen, fired = clock.now(), set[str](), list[str]()
        while found := self._kernel.read(partial(due_ticks.page, which=which, tasks=known, now=until, after=last)):
            last, fresh = found[-1], [each for each in found if each.key not in seen]
            while fresh:
                if seen:
                    yield
                chunk = due_ticks.chunk(fresh, clock.now(), wrong)
                seen.update(each.key for each in fresh[: chunk.looked_at])
                fresh = fresh[chunk.looked_at :]
                fired += self._write(chunk, wrong) if chunk.firing else []
        return fired

    def _write(self, chunk: Chunk, wrong: list[tuple[Found, str]]) -> list[str]:
        kept = self._kernel.retention.result_ttl
        fired = self._writer.run(lambda db: perform(db, due_ticks.fire(chunk, kept)))
        if fired.ticks:
            self._kernel.notifier.notify(JOBS)
        if fired.cancelled:
            self._kernel.tell_cancelled(None, fired.cancelled)
        self._kernel.tell(fired.then)
        wrong += fired.wrong
        return fired.names

    def next_at(self, tasks: frozenset[str], broken: Sequence[str] = ()) -> float | None:
        """When the next schedule of these tasks is due. `broken`: those that cannot fire here."""
        known = {"tasks": json.dumps(sorted(tasks)), "broken": json.dumps(broken)}
        [(moment,)] = self._kernel.read(lambda db: db.rows(SQL["next_schedule"], known))
        return None if moment is None else float(moment)


def _rows(db: Connection, sql: str, values: dict[str, str]) -> None:
    db.rows(sql, values)
