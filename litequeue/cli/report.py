"""Gather what `status` and `doctor` show of a store, as plain values. Prints nothing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from litequeue.cli.printing import iso, one_line
from litequeue.core import scheduled_call
from litequeue.core.duration import text
from litequeue.core.limits import LimitRecord, PauseRecord
from litequeue.core.records import ListedJob, Status
from litequeue.core.schedules import ScheduleRecord
from litequeue.core.store import WorkerRecord
from litequeue.core.stored_names import other_version, task_of, version_of
from litequeue.ipc.process_identity import Identity
from litequeue.limits.resources import asked_for, unmet
from litequeue.scheduling import triggers
from litequeue.scheduling.words import words
from litequeue.sqlite.jobs.counts import Ready
from litequeue.sqlite.store import SqliteStore

RECENT_FAILURES = 5
PATIENCE = 3  # ticks in a row that a schedule may skip before it is a fault


@dataclass(frozen=True)
class Crew:
    """The registered workers, alive and dead, and what tasks use of what they offer."""

    living: tuple[WorkerRecord, ...]
    dead: tuple[WorkerRecord, ...]
    uses: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: SqliteStore) -> Crew:
        """Ask the kernel which of the registered workers are alive."""
        workers = [(worker, store.workers.lives(worker.token)) for worker in store.workers.list()]
        return cls(
            tuple(worker for worker, lives in workers if lives),
            tuple(worker for worker, lives in workers if not lives),
            store.limits.uses(),
        )

    def why_not(self, task: str, queue: str) -> str | None:
        """Return why no running worker takes this task from this queue, or None if one does."""
        if not self.living:
            return "no worker is running. Start one: litequeue run app:queue"
        knowing = [worker for worker in self.living if task in worker.tasks]
        if not knowing:
            other = other_version(task, (each for worker in self.living for each in worker.tasks))
            return other or "no running worker has this task. Start one that imports its module"
        serving = [worker for worker in knowing if worker.queues is None or queue in worker.queues]
        if not serving:
            return "no running worker that has this task serves this queue. Start one that serves it"
        uses = self.uses.get(task_of(task), {})
        missing = unmet(uses, [worker.offers for worker in serving])
        return None if missing is None else f"the task {missing}. Start one that does: litequeue run {asked_for(uses)}"

    def orphan(self, schedule: ScheduleRecord) -> str | None:
        """Return what is wrong where no running worker has imported the module that declares a schedule, or None."""
        module = schedule.module
        if module is None or not self.living or any(module in worker.modules for worker in self.living):
            return None
        return (
            f"no running worker has imported {one_line(module)}, which declares it; if that is gone for good: "
            f"litequeue schedules remove {one_line(schedule.name)}"
        )


def task_fields(stored: str) -> dict[str, Any]:
    """Return the name of a task and its version, of the name under which calls of it are stored."""
    return {"task": task_of(stored), "version": version_of(stored)}


def unserved(ready: list[Ready], crew: Crew) -> list[dict[str, Any]]:
    """List ready jobs that no running worker takes, by queue and task."""
    return [
        {"queue": lane.queue, **task_fields(lane.task), "jobs": lane.jobs, "exact": lane.exact, "why": why}
        for lane in ready
        if (why := crew.why_not(lane.task, lane.queue)) is not None
    ]


def unserved_text(row: dict[str, Any]) -> str:
    """Return in words which ready jobs wait, and why."""
    jobs, verb = ("job", "is") if row["jobs"] == 1 else ("jobs", "are")
    task = row["task"] if row["version"] == 1 else f"{row['task']} (version {row['version']})"
    where = f"of `{one_line(task)}` in queue `{one_line(row['queue'])}`"
    more = "" if row["exact"] else " or more"
    return f"{row['jobs']}{more} {jobs} {where} {verb} waiting, and {row['why']}"


def overview(store: SqliteStore, *, exact: bool = False) -> dict[str, Any]:
    """Gather everything that `status` tells; `exact`: estimate no number of jobs, but read all of them."""
    now, crew, ready = store.clock.now(), Crew.of(store), store.admin.ready()
    return {
        "file": str(store.path),
        "bytes": store.path.stat().st_size,
        "wal_bytes": store.admin.wal_size(),
        "driver": store.driver_name,
        "sqlite": store.library_version,
        "queues": _queues(store, ready, now, exact=exact),
        "tasks": _tasks(store),
        "workers": [
            *(
                worker_fields(worker, alive=True, silent_since=store.workers.loop_silent_since(worker.token))
                for worker in crew.living
            ),
            *(worker_fields(worker, alive=False) for worker in crew.dead),
        ],
        "unserved": unserved(ready, crew),
        "schedules": [schedule_fields(schedule, now, crew) for schedule in store.schedules.list()],
        "paused": [pause_fields(pause) for pause in store.rules.pauses()],
        "limits": [limit_fields(limit) for limit in store.rules.list()],
        "recent_failures": [_failure(job) for job in store.jobs.list(status=Status.FAILED, limit=RECENT_FAILURES)],
    }


def _queues(store: SqliteStore, ready: list[Ready], now: float, *, exact: bool) -> list[dict[str, Any]]:
    waiting: dict[str, float] = {}
    for lane in ready:
        waiting[lane.queue] = min(lane.oldest, waiting.get(lane.queue, lane.oldest))
    queues: dict[str, dict[str, Any]] = {}
    counts = store.jobs.counts(exact=exact)
    succeeded_exact = all(count.exact for count in counts)
    for count in counts:
        row = queues.setdefault(count.queue, {"queue": count.queue} | {str(status): 0 for status in Status})
        row[str(count.status)] = count.jobs
        row["succeeded_exact"] = succeeded_exact
    for name, row in queues.items():
        row["oldest_waiting_seconds"] = max(0.0, now - waiting[name]) if name in waiting else None
    return [queues[name] for name in sorted(queues)]


def _tasks(store: SqliteStore) -> list[dict[str, Any]]:
    found = store.admin.durations()
    return [
        {"task": task, "recent_runs": len(found[task]), **spread(found[task])} for task in sorted(found) if found[task]
    ]


def spread(spans: Iterable[float]) -> dict[str, float]:
    """Return the median and the 95th percentile (nearest rank) of seconds."""
    ranked = sorted(max(0.0, span) for span in spans)
    return {
        "median_seconds": statistics.median(ranked),
        "p95_seconds": ranked[max(0, -(-len(ranked) * 95 // 100) - 1)],
    }


def worker_fields(worker: WorkerRecord, *, alive: bool, silent_since: float | None = None) -> dict[str, Any]:
    """Return a worker as plain values. `silent_since`: when its event loop answered last, if it does not now."""
    identity = Identity.from_text(worker.identity)
    return {
        "id": worker.id,
        "alive": alive,
        "pid": identity.pid,
        "host": identity.host,
        "queues": None if worker.queues is None else list(worker.queues),
        "slots": worker.slots,
        "offers": worker.offers,
        "tasks": list(dict.fromkeys(map(task_of, worker.tasks))),
        "threads": worker.threads,
        "coroutines": worker.coroutines,
        "running": worker.running,
        "started_at": iso(worker.started_at),
        "loop_silent_since": iso(silent_since),
    }


def schedule_fields(schedule: ScheduleRecord, now: float, crew: Crew) -> dict[str, Any]:
    """Return a schedule as plain values."""
    return {
        "name": schedule.name,
        **task_fields(schedule.task),
        "queue": schedule.queue,
        "trigger": trigger_text(schedule),
        "words": trigger_words(schedule),
        "overlap": schedule.overlap,
        "catch_up": schedule.catch_up,
        "until": iso(schedule.until),
        "max_runs": schedule.max_runs,
        "expires": schedule.expires,
        "options": call_options(schedule),
        "declared": schedule.declared is not None,
        "module": schedule.module,
        "orphan": crew.orphan(schedule) is not None,
        "paused": schedule.paused,
        "next_at": None if schedule.paused else iso(schedule.next_at),
        "upcoming": [iso(moment) for moment in upcoming(schedule)],
        "due": is_due(schedule, now),
        "last_at": iso(schedule.last_at),
        "last_job": schedule.last_job,
        "runs": schedule.runs,
        "skipped": schedule.skipped,
        "skipping": schedule.skipping,
        "skipping_since": iso(schedule.skipping_since),
    }


def pause_fields(pause: PauseRecord) -> dict[str, Any]:
    """Return a pause as plain values."""
    return {"kind": pause.kind, "name": pause.name, "paused_at": iso(pause.paused_at)}


def limit_fields(limit: LimitRecord) -> dict[str, Any]:
    """Return a limit as plain values."""
    fields: dict[str, Any] = msgspec.structs.asdict(limit)
    return fields | {"operator_at": iso(limit.operator_at), "opens_at": iso(limit.opens_at), "tasks": list(limit.tasks)}


def call_options(schedule: ScheduleRecord) -> dict[str, Any]:
    """Return the options of a schedule's call that have no field of their own."""
    try:
        return scheduled_call.decode(schedule.options).shown()
    except ValueError as error:
        return {"not understood by this release": str(error)}


def options_text(schedule: ScheduleRecord) -> str:
    """Return them as one line of text."""
    return ", ".join(_option_text(name, value) for name, value in call_options(schedule).items())


def _option_text(name: str, value: Any) -> str:
    match name, value:
        case (("delay" | "timeout" | "expires"), float()):
            said = text(value)
        case "timeout", None:
            said = "none"
        case "tags", _:
            said = " ".join(value)
        case (("on_success" | "on_failure"), _):
            said = str(value["task"])
        case _:
            said = str(value)
    return f"{name} {said}"


def trigger_text(schedule: ScheduleRecord) -> str:
    """Return when a schedule fires, as one line of text."""
    try:
        return triggers.describe(triggers.decode(schedule.trigger))
    except ValueError:
        return f"not understood by this release: {schedule.trigger}"


def trigger_words(schedule: ScheduleRecord) -> str:
    """Return the same in words."""
    try:
        return words(triggers.decode(schedule.trigger))
    except ValueError:
        return trigger_text(schedule)


def upcoming(schedule: ScheduleRecord, count: int = 5) -> list[float]:
    """Return the next times at which a schedule fires, as far as they are known."""
    if schedule.paused:
        return []
    try:
        times = triggers.upcoming(triggers.decode(schedule.trigger), schedule.next_at, count)
    except ValueError:
        return []
    last = math.inf if schedule.until is None else schedule.until
    left = count if schedule.max_runs is None else max(0, schedule.max_runs - schedule.runs)
    return [moment for moment in times if moment <= last][:left]


def is_due(schedule: ScheduleRecord, now: float) -> bool:
    """Whether a schedule ought to have fired by now."""
    return not schedule.paused and schedule.next_at is not None and schedule.next_at <= now


def _failure(job: ListedJob) -> dict[str, Any]:
    return {
        "id": job.id,
        **task_fields(job.task),
        "queue": job.queue,
        "finished_at": iso(job.finished_at),
        "error": job.last_error,
    }
