"""The last line of a worker of `run`: what it has run, and what `--until-idle` has left. Knows no signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from litequeue.cli.log_output import log
from litequeue.core.records import Status
from litequeue.core.stored_names import task_of
from litequeue.limits.resources import covers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from litequeue.core.store import ReadyJobs
    from litequeue.queue import Queue
    from litequeue.sqlite.store import SqliteStore
    from litequeue.worker.worker import Worker


class Left(NamedTuple):
    """Jobs that `--until-idle` does not wait for; `words`: what they are. Not `exact`: or more."""

    kind: str
    jobs: int
    words: str
    exact: bool = True

    def __str__(self) -> str:
        """Return it as text."""
        return f"{self.jobs:,}{'' if self.exact else ' or more'} {self.words}"


def say_stopped(worker: Worker, queue: Queue, store: SqliteStore, *, counts_left: bool) -> None:
    """Log that the worker has stopped, and, if asked to, how many jobs are left, and why."""
    ended = worker.settled - worker.released
    ends = "1 run" if ended == 1 else f"{ended:,} runs"
    left = list(_left(worker, queue, store)) if counts_left else []
    rest = f"; left: {', '.join(map(str, left)) or 'nothing'}" if counts_left else ""
    fields = {"left": {each.kind: each.jobs for each in left}} if counts_left else {}
    log.info("%s has stopped: %s ended, %d released%s", worker.name, ends, worker.released, rest, extra=fields)


def _left(worker: Worker, queue: Queue, store: SqliteStore) -> Iterator[Left]:
    """Count what could not start now, in the queues that the worker serves."""
    counts = [each for each in store.jobs.counts() if worker.queues is None or each.queue in worker.queues]
    for status, words in ((Status.SCHEDULED, "scheduled"), (Status.WAITING, "waiting for other jobs")):
        jobs = sum(each.jobs for each in counts if each.status is status)
        if jobs:
            yield Left(str(status), jobs, words)
    yield from _ruled_out(worker, store)
    uses = store.limits.uses()
    served = {name for task in queue.tasks.values() for name in task.served}
    startable = frozenset(name for name in served if covers(worker.offers, uses.get(task_of(name), {})))
    waiting = store.runs.ready_without(startable, worker.queues)
    unserved = [each for each in waiting if each.task not in served]
    unmet = [each for each in waiting if each.task in served]
    yield from _ready("unserved", unserved, "of tasks that are not declared here")
    yield from _ready("unmet", unmet, "that use what is not offered here")


def _ruled_out(worker: Worker, store: SqliteStore) -> Iterator[Left]:
    """Count what a pause or a full limit holds back."""
    pauses = {(pause.kind, pause.name) for pause in store.rules.pauses()}
    full = {task for limit in store.rules.list() if limit.full for task in limit.tasks}
    paused, limited = Left("paused", 0, "paused"), Left("limited", 0, "waiting for a limit")
    for lane in store.admin.ready():
        task = task_of(lane.task)
        if worker.queues is not None and lane.queue not in worker.queues:
            continue
        if ("queue", lane.queue) in pauses or ("task", task) in pauses:
            paused = paused._replace(jobs=paused.jobs + lane.jobs, exact=paused.exact and lane.exact)
        elif task in full:
            limited = limited._replace(jobs=limited.jobs + lane.jobs, exact=limited.exact and lane.exact)
    parked = sum(n for queue, n in store.admin.parked().items() if worker.queues is None or queue in worker.queues)
    limited = limited._replace(jobs=limited.jobs + parked)
    yield from (each for each in (paused, limited) if each.jobs)


def _ready(kind: str, jobs: list[ReadyJobs], words: str) -> Iterator[Left]:
    if jobs:
        yield Left(kind, sum(each.jobs for each in jobs), words, all(each.exact for each in jobs))
