"""What `run` says when it starts: what a worker is about to serve. Knows no signals."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from litequeue.cli.log_output import log
from litequeue.cli.printing import distance, iso, limit_text, one_line
from litequeue.core.duration import instant, text
from litequeue.limits.resources import amounts
from litequeue.scheduling import start, triggers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litequeue.core.schedules import ScheduleRecord
    from litequeue.queue import Queue
    from litequeue.sqlite.store import SqliteStore
    from litequeue.task import Task
    from litequeue.worker.worker import Worker

_LONGEST_LIST = 40


def announce(worker: Worker, queue: Queue, store: SqliteStore) -> None:
    """Log what a worker is about to serve."""
    found = serving(worker, queue, store)
    log.info("%s", _banner(found, queue.now()), extra={"serving": {"event": "serving", **found}})
    if not found["tasks"]:
        log.warning("no tasks are declared on this queue; import the modules that have them with -I MODULE")


def serving(worker: Worker, queue: Queue, store: SqliteStore) -> dict[str, Any]:
    """Gather what a worker serves, as plain values."""
    schedules, more_schedules = _schedules(queue, store)
    return {
        "file": str(store.path),
        "driver": store.driver_name,
        "sqlite": store.library_version,
        "durability": store.durability,
        "tasks": [_task_fields(task) for _, task in sorted(queue.tasks.items())],
        "queues": None if worker.queues is None else list(worker.queues),
        "slots": dict(worker.slots),
        "offers": dict(worker.offers),
        "schedules": schedules,
        "more_schedules": more_schedules,
        "timeout": limit_text(queue.defaults.timeout),
        "result_ttl": limit_text(queue.defaults.result_ttl),
        "failed_ttl": limit_text(queue.defaults.failed_ttl),
        "threads": worker.threads,
        "coroutines": worker.coroutines,
        "children": worker.children,
        "max_jobs_per_child": worker.max_jobs_per_child,
        "max_memory_per_child": worker.max_memory_per_child,
        "grace": text(worker.grace),
        "max_jobs": worker.max_jobs,
        "max_memory": worker.max_memory,
        "pid": os.getpid(),
    }


def _task_fields(task: Task[..., Any]) -> dict[str, Any]:
    options = task.options
    return {
        "task": task.name,
        "version": options.version,
        "aliases": list(options.aliases),
        "queue": task.queue,
        "retries": options.policy.retries,
        "process": options.process,
        "timeout": None if options.timeout is None else limit_text(options.timeout),
    }


def _schedules(queue: Queue, store: SqliteStore) -> tuple[list[dict[str, Any]], int]:
    """List the first of those in the file and of those that this worker will put there; tell how many are left out."""
    served = {stored for task in queue.tasks.values() for stored in task.served}
    there = {record.name: record for record in store.schedules.list() if record.task in served}
    in_code = {record.name: record for record in queue.declared.records()}
    names, rows = sorted(there.keys() | in_code.keys()), []
    for name in names[:_LONGEST_LIST]:  # a cron expression takes long to compute
        row = _schedule(there.get(name), in_code.get(name), queue.now())
        if row is not None:
            trigger, next_at = row
            rows.append({"schedule": name, "trigger": triggers.describe(trigger), "next_at": iso(next_at)})
    return rows, len(names[_LONGEST_LIST:])


def _schedule(
    record: ScheduleRecord | None, in_code: ScheduleRecord | None, now: float
) -> tuple[triggers.Trigger, float | None] | None:
    """The trigger that will hold, and when it is due; None if it is not understood."""
    changes = in_code is not None and (record is None or record.declared != in_code.declared)
    before = None if record is None else start.Before(record.trigger, record.next_at, record.last_at is not None)
    try:
        if in_code is not None and changes and not (record is not None and record.paused):
            text, next_at = start.start(in_code.trigger, now, before)
            return triggers.decode(text), next_at
        return None if record is None else (triggers.decode(record.trigger), None if record.paused else record.next_at)
    except ValueError:
        return None  # of a newer release; the worker says so when it is due


def _banner(found: dict[str, Any], now: float) -> str:
    library = f"{found['driver']}, SQLite {found['sqlite']}, durability {found['durability']}"
    kept = f"results kept {found['result_ttl']}, failures {found['failed_ttl']}"
    pairs = (
        ("tasks", _listed(map(_task_text, found["tasks"]))),
        ("queues", _queues(found)),
        ("schedules", _listed((_schedule_text(each, now) for each in found["schedules"]), found["more_schedules"])),
        ("defaults", f"timeout {found['timeout']}, retries 0, {kept}"),
        (
            "runs",
            f"{found['threads']} threads, {found['coroutines']} coroutines{_children(found)}, grace {found['grace']}",
        ),
        *([("offers", amounts(found["offers"]))] if found["offers"] else []),
        *([("ends", ends)] if (ends := _ends(found)) else []),
    )
    head = f"serving {found['file']} ({library}), pid {found['pid']}"
    return "\n".join([head, *(f"    {name:<10} {value}" for name, value in pairs)])


def _queues(found: dict[str, Any]) -> str:
    if found["queues"] is None:
        return "all"
    slots = found["slots"]
    return ", ".join(f"{name} (at most {slots[name]} at once)" if name in slots else name for name in found["queues"])


def _children(found: dict[str, Any]) -> str:
    """Tell of child processes where a task wants one."""
    if not any(task["process"] for task in found["tasks"]):
        return ""
    if not found["children"]:
        return ", no child processes (tasks with process=True are left to other workers)"
    ends = _ends_of(found["max_jobs_per_child"], found["max_memory_per_child"])
    many = "1 child process" if found["children"] == 1 else f"{found['children']} child processes"
    return f", {many}" + (f" ({ends})" if ends else "")


def _ends(found: dict[str, Any]) -> str:
    return _ends_of(found["max_jobs"], found["max_memory"])


def _ends_of(jobs: int | None, memory: int | None) -> str:
    after = [] if jobs is None else ["after 1 job" if jobs == 1 else f"after {jobs:,} jobs"]
    return ", ".join(after if memory is None else [*after, f"above {memory / 1e6:.0f} MB"])


def _task_text(task: dict[str, Any]) -> str:
    options = [f"version {task['version']}"] if task["version"] > 1 else []
    options += [f"before: {', '.join(task['aliases'])}"] if task["aliases"] else []
    options += [f"queue {task['queue']}"]
    options += [f"retries {task['retries']}"] if task["retries"] else []
    options += [f"timeout {task['timeout']}"] if task["timeout"] is not None else []
    return f"{task['task']} ({', '.join(options)})"


def _schedule_text(schedule: dict[str, Any], now: float) -> str:
    moment = schedule["next_at"]
    return f"{schedule['schedule']} ({schedule['trigger']}, {distance(instant(moment), now) if moment else 'paused'})"


def _listed(items: Iterable[str], left_out: int = 0) -> str:
    shown = [one_line(item, 200) for item in items]
    more = len(shown[_LONGEST_LIST:]) + left_out
    return ", ".join(shown[:_LONGEST_LIST] + [f"and {more:,} more"] * bool(more)) or "none"
