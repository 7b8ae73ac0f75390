"""Ready jobs whose task no worker has: looked for now and then, and logged once. Knows no schedule and no run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.logger import log
from litequeue.core.stored_names import in_words, other_version, task_of, version_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litequeue.core.store import ReadyJobs, Store, WorkerRecord

LOOK_EVERY = 10.0  # seconds, by the monotonic clock
FIRST_LOOK = 1.0  # a program that has a worker inside may still be importing its tasks
MOST_TASKS = 20  # logged at one look
MOST_QUEUES = 3  # named of one task


class _Waiting(NamedTuple):
    """All ready jobs of one task. Not `exact`: or more."""

    task: str
    queues: tuple[str, ...]
    jobs: int
    exact: bool


class Unserved:
    """What one worker has logged about jobs that wait for a task that it does not have."""

    def __init__(self, store: Store, queues: tuple[str, ...] | None) -> None:
        self._store, self._queues = store, queues
        self._logged: dict[str, int] = {}  # how many digits the number of jobs had, by task
        self.stale: bool = True  # jobs have come or gone since the last look

    def look(self, tasks: frozenset[str]) -> None:
        """Log the tasks whose ready jobs no worker runs: each once, and again when there are ten times as many."""
        self.stale = False
        found = self._store.runs.ready_without(tasks, self._queues)
        workers = self._store.workers.list() if found else []
        served = tasks.union(*(worker.tasks for worker in workers))
        waiting = _by_task(_without_others(found, workers))
        before, self._logged = self._logged, {}
        for task, each in list(waiting.items())[:MOST_TASKS]:
            digits = len(str(each.jobs))
            if digits > before.get(task, 0):
                _log(each, served)
            self._logged[task] = max(digits, before.get(task, 0))


def _without_others(found: list[ReadyJobs], workers: list[WorkerRecord]) -> list[ReadyJobs]:
    """Leave out what another worker runs."""
    return [
        each
        for each in found
        if not any(
            each.task in worker.tasks and (worker.queues is None or each.queue in worker.queues) for worker in workers
        )
    ]


def _by_task(found: Iterable[ReadyJobs]) -> dict[str, _Waiting]:
    waiting: dict[str, _Waiting] = {}
    for queue, task, jobs, exact in found:
        known = waiting.get(task, _Waiting(task, (), 0, exact=True))
        waiting[task] = _Waiting(task, (*known.queues, queue), known.jobs + jobs, known.exact and exact)
    return waiting


def _log(waiting: _Waiting, served: frozenset[str]) -> None:
    jobs = "1 job is" if waiting.jobs == 1 else f"{waiting.jobs:,} jobs{'' if waiting.exact else ' or more'} are"
    more = len(waiting.queues) - MOST_QUEUES
    where = ", ".join(waiting.queues[:MOST_QUEUES]) + (f" and {more} more queues" if more > 0 else "")
    task = task_of(waiting.task)
    why = other_version(waiting.task, served) or (
        "the module that declares it was not imported here; import it where the worker starts: litequeue run -I MODULE"
    )
    log.warning(
        "%s waiting for the task `%s`, which no running worker has (queue %s): %s",
        *(jobs, in_words(waiting.task), where, why),
        extra={"task": task, "version": version_of(waiting.task), "queue": waiting.queues[0], "waiting": waiting.jobs},
    )
