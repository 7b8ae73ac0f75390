"""Workers: register them and what they run, record heartbeats, and tell which are alive by their locks."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from litequeue.core.store import Beat
from litequeue.ipc.process_lock import loop_silent_since
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs import line, row_values, workers
from litequeue.sqlite.jobs.control import CHUNK
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    import builtins
    from collections.abc import Sequence

    from litequeue.core.store import NewWorker, Parameters, WorkerRecord
    from litequeue.sqlite.drivers.connection import Connection, Row
    from litequeue.sqlite.kernel import Kernel


class Workers:
    """The workers of one file, in all processes."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._writer = kernel, kernel.writer

    def register(self, worker: NewWorker) -> int:
        """Register a worker; return its number."""
        now = self._kernel.clock.now()
        self._mend_lines(now)
        return self._writer.run(lambda db: workers.register(db, worker, now), durable=False)

    def _mend_lines(self, now: float) -> None:
        """Let the jobs begin that wait for others of their schedules which someone has deleted by hand."""
        stuck = self._kernel.read_listing(lambda db: db.rows(SQL["stuck_lines"]))
        for start in range(0, len(stuck), CHUNK):  # once: what cannot be mended, for its name is not text, stays
            self._writer.run(partial(_mend, stuck[start : start + CHUNK], now))

    def serve(
        self,
        worker: int,
        tasks: frozenset[str],
        modules: Sequence[str],
        parameters: Parameters,
        at_most_once: Sequence[str] = (),
    ) -> None:
        """Record which tasks a registered worker runs now, their modules, how they are called, and those run once."""
        values = {"worker": worker, "tasks": json.dumps(sorted(tasks)), "modules": json.dumps(modules)}
        values["at_most_once"] = json.dumps(at_most_once)

        def work(db: Connection) -> None:
            db.rows(SQL["serve_tasks"], values)
            workers.note_parameters(db, parameters)

        self._writer.run(work, durable=False)

    def beat(self, worker: int) -> Beat:
        """Send the worker's heartbeat; return whether it is registered, and whether others may have to be reaped."""
        values = {"worker": worker, "now": self._kernel.clock.now(), "version": self._kernel.fence.version}

        def work(db: Connection) -> builtins.list[Row]:
            rows = db.rows(SQL["beat"], values)
            if not rows:
                self._kernel.fence.explain(db)
            return rows

        self._kernel.owner.enter()
        rows = self._writer.run(work, durable=False, single=True, news=False)
        return Beat(known=bool(rows), others=not rows or bool(rows[0][0]))

    def list(self) -> builtins.list[WorkerRecord]:
        """Return the registered workers."""
        return self._kernel.read(row_values.workers)

    def living(self) -> builtins.list[WorkerRecord]:
        """Return the registered workers whose lock is held."""
        return [worker for worker in self.list() if self.lives(worker.token)]

    def lives(self, token: str) -> bool:
        """Whether the worker of that token holds its lock."""
        return self._kernel.lives(token)

    def loop_silent_since(self, token: str) -> float | None:
        """Return since when, in unix seconds, an event loop of that worker has not answered; None: it answers."""
        return loop_silent_since(self._kernel.directory, token)

    def ownerless(self) -> builtins.list[int]:
        """Return the numbers of workers that have running jobs but are not registered."""
        return self._kernel.read(lambda db: [number for (number,) in db.rows(SQL["ownerless"])])


def _mend(stuck: Sequence[Row], now: float, db: Connection) -> None:
    for (name,) in stuck:
        perform(db, line.mend(name, now))
