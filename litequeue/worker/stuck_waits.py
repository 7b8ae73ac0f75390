"""Names jobs that take every slot of a worker and wait for jobs that have not begun. Knows no function and no SQL."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from litequeue.core.logger import log
from litequeue.core.names import some
from litequeue.ipc.result_waiters import waits_in
from litequeue.worker.executor.context import current

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from litequeue.core.clock import Clock
    from litequeue.core.store import Runs
    from litequeue.worker.executor.context import Run
    from litequeue.worker.executor.executor import Executor

SAY_AGAIN = 60.0  # seconds

_Key = tuple[str, int]  # a run, by its job's id and its attempt


class StuckWaits:
    """One worker's slots, of threads and of coroutines; each kind is named once a minute.

    It has to be found so at two looks: another worker may be about to claim what is waited for.
    """

    def __init__(self, name: str, store: Runs, executor: Executor, running: Mapping[_Key, Run], clock: Clock) -> None:
        self._name, self._store, self._executor, self._running, self._clock = name, store, executor, running, clock
        self._seen: dict[str, set[_Key]] = {}
        self._said: dict[str, float] = {}

    def look(self, directory: Path) -> None:
        """Look whether it is so, as is done about once a second; `directory`: that of the worker's file."""
        runs = list(self._running.values())
        for kind, size in self._executor.slots().items():
            mine = [run for run in runs if self._executor.slot_kind(run.job) == kind]
            stuck = self._stuck(mine, directory) if len(mine) >= size else []
            keys = {(run.id, run.attempt) for run, _ in stuck}
            if keys and self._seen.get(kind) == keys:
                self._say(kind, size, stuck)
            self._seen[kind] = keys

    def _stuck(self, runs: list[Run], directory: Path) -> list[tuple[Run, str]]:
        """Return the runs, each with a job that it waits for and that is queued; none if one of them has no such."""
        awaited: dict[int, list[str]] = {}
        for context, job_id in waits_in(directory):
            if current in context:
                awaited.setdefault(id(context[current]), []).append(job_id)
        if not all(id(run) in awaited for run in runs):
            return []
        queued = set(self._store.queued_among([job_id for run in runs for job_id in awaited[id(run)]]))
        found = [(run, next((job_id for job_id in awaited[id(run)] if job_id in queued), None)) for run in runs]
        stuck = [(run, job_id) for run, job_id in found if job_id is not None]
        return stuck if len(stuck) == len(runs) else []

    def _say(self, kind: str, size: int, stuck: list[tuple[Run, str]]) -> None:
        now = self._clock.monotonic()
        if now - self._said.get(kind, -math.inf) < SAY_AGAIN:
            return
        self._said[kind] = now
        waits = [f"{run.job.task_name}[{run.id}] waits for job {job_id}" for run, job_id in stuck]
        log.warning(
            "all %d %s of %s are in jobs that wait for jobs which have not begun, so it can begin none of them: %s; "
            "give it more (%s=), enqueue the next step at the end of the function in place of waiting for its result, "
            "or let a worker of its own run what is waited for (queues=)",
            *(size, kind, self._name, some(waits), kind),
        )
