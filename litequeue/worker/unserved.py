"""Ready jobs that no worker takes: looked for now and then, and logged once. Knows no schedule and no run.

None has their task, or those that have it do not offer the resources that it uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.logger import log
from litequeue.core.stored_names import in_words, other_version, task_of, version_of
from litequeue.limits.resources import asked_for, covers, unmet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from litequeue.core.store import ReadyJobs, Store, WorkerRecord

LOOK_EVERY = 10.0  # seconds, by the monotonic clock
FIRST_LOOK = 1.0  # a program that has a worker inside may still be importing its tasks
MOST_TASKS = 20  # logged at one look
MOST_QUEUES = 3  # named of one task
NOTHING: Mapping[str, int] = MappingProxyType({})  # what a worker offers unless it is told
NO_CHILDREN = "it has process=True, and this worker has children=0; start one that has child processes"
NOT_IMPORTED = (
    "the module that declares it was not imported here; import it where the worker starts: litequeue run -I MODULE"
)


class _Waiting(NamedTuple):
    """All ready jobs of one task. Not `exact`: or more. `uses`: what workers that have it do not offer."""

    task: str
    queues: tuple[str, ...]
    jobs: int
    exact: bool
    uses: Mapping[str, int]
    unmet: str | None


class Unserved:
    """What one worker has logged about jobs that wait for a task that it does not have, or offers too little for.

    `left_out`: returns the tasks that it has and does not run, because it has no child processes.
    """

    def __init__(
        self,
        store: Store,
        queues: tuple[str, ...] | None,
        offers: Mapping[str, int] = NOTHING,
        left_out: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._store, self._queues, self._offers, self._left_out = store, queues, offers, left_out
        self._logged: dict[str, int] = {}  # how many digits the number of jobs had, by task
        self.stale: bool = True  # jobs have come or gone since the last look

    def look(self, tasks: frozenset[str]) -> None:
        """Log the tasks whose ready jobs no worker runs: each once, and again when there are ten times as many."""
        self.stale = False
        uses = self._store.limits.uses()
        mine = frozenset(task for task in tasks if covers(self._offers, uses.get(task_of(task), NOTHING)))
        found = self._store.runs.ready_without(mine, self._queues)
        workers = self._store.workers.list() if found else []
        served = tasks.union(*(worker.tasks for worker in workers))
        waiting = _by_task(found, workers, uses)
        before, self._logged = self._logged, {}
        for task, each in list(waiting.items())[:MOST_TASKS]:
            digits = len(str(each.jobs))
            if digits > before.get(task, 0):
                _log(each, served, left_out=task in self._left_out())
            self._logged[task] = max(digits, before.get(task, 0))


def _by_task(
    found: Iterable[ReadyJobs], workers: list[WorkerRecord], all_uses: Mapping[str, Mapping[str, int]]
) -> dict[str, _Waiting]:
    """Add up what no worker runs."""
    waiting: dict[str, _Waiting] = {}
    for queue, task, jobs, exact in found:
        serving = [each for each in workers if task in each.tasks and (each.queues is None or queue in each.queues)]
        uses = all_uses.get(task_of(task), NOTHING)
        missing = unmet(uses, [worker.offers for worker in serving]) if serving else None
        if serving and missing is None:  # another worker runs it
            continue
        known = waiting.get(task, _Waiting(task, (), 0, True, uses, missing))
        waiting[task] = known._replace(
            queues=(*known.queues, queue), jobs=known.jobs + jobs, exact=known.exact and exact
        )
    return waiting


def _log(waiting: _Waiting, served: frozenset[str], *, left_out: bool) -> None:
    jobs = "1 job is" if waiting.jobs == 1 else f"{waiting.jobs:,} jobs{'' if waiting.exact else ' or more'} are"
    more = len(waiting.queues) - MOST_QUEUES
    where = ", ".join(waiting.queues[:MOST_QUEUES]) + (f" and {more} more queues" if more > 0 else "")
    task = task_of(waiting.task)
    extra = {"task": task, "version": version_of(waiting.task), "queue": waiting.queues[0], "waiting": waiting.jobs}
    if waiting.unmet is not None:
        log.warning(
            "%s waiting for the task `%s` (queue %s), which %s. If this machine has it, start a worker with %s",
            *(jobs, in_words(waiting.task), where, waiting.unmet, asked_for(waiting.uses)),
            extra=extra,
        )
        return
    why = NO_CHILDREN if left_out else other_version(waiting.task, served) or NOT_IMPORTED
    log.warning(
        "%s waiting for the task `%s`, which no running worker has (queue %s): %s",
        *(jobs, in_words(waiting.task), where, why),
        extra=extra,
    )
