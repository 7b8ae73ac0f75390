"""The commands that change jobs and schedules: retry, cancel, prune, schedules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import click

from litequeue.cli import arguments
from litequeue.cli.locate import Mistake, Place, open_place
from litequeue.cli.printing import distance, emit, one_line, size, table
from litequeue.cli.report import is_due, schedule_fields, trigger_text
from litequeue.core.engine import ScheduleRecord
from litequeue.core.records import Status
from litequeue.errors import LiteQueueError
from litequeue.sqlite.file.opening import Driver
from litequeue.sqlite.store import SqliteStore

CHUNK = 500  # jobs changed in one transaction
ACTIONS = ("list", "pause", "resume", "trigger", "remove")
_RETRIABLE = [str(Status.FAILED), str(Status.CANCELLED), str(Status.EXPIRED)]
_UNFINISHED = (Status.SCHEDULED, Status.QUEUED, Status.RUNNING)


@click.command()
@click.argument("words", nargs=-1, metavar="[TARGET] ID...", type=arguments.Target())
@click.option("--all", "every", is_flag=True, help="All failed jobs, or those that match the options below.")
@click.option("--status", type=click.Choice(_RETRIABLE), default="failed", show_default=True, help="With --all.")
@click.option("--task", help="With --all: only jobs of this task.")
@click.option("--queue", help="With --all: only jobs of this queue.")
@arguments.driver
@arguments.as_json
def retry(
    words: tuple[str, ...],
    driver: Driver,
    *,
    every: bool,
    status: str,
    task: str | None,
    queue: str | None,
    as_json: bool,
) -> None:
    """Queue ended jobs again, with all their retries. A scheduled job runs at once."""
    place, ids = _place_and_ids(words, driver, every=every, narrowed=bool(task or queue))
    store = place.store

    def one(job_id: str) -> bool:
        store.jobs.retry(job_id)
        return True

    try:
        chosen = _matching(store, (Status(status),), task, queue) if every else iter(ids)
        _report(*_each(store, chosen, one, ""), "retried", as_json=as_json)
    finally:
        place.close()


@click.command()
@click.argument("words", nargs=-1, metavar="[TARGET] ID...", type=arguments.Target())
@click.option("--all", "every", is_flag=True, help="All unfinished jobs, or those that match the options below.")
@click.option("--status", type=click.Choice([str(status) for status in _UNFINISHED]), help="With --all.")
@click.option("--task", help="With --all: only jobs of this task.")
@click.option("--queue", help="With --all: only jobs of this queue.")
@arguments.driver
@arguments.as_json
def cancel(
    words: tuple[str, ...],
    driver: Driver,
    *,
    every: bool,
    status: str | None,
    task: str | None,
    queue: str | None,
    as_json: bool,
) -> None:
    """Cancel jobs. A job that has not begun ends at once; a running job is asked to end."""
    place, ids = _place_and_ids(words, driver, every=every, narrowed=bool(task or queue or status))
    wanted = _UNFINISHED if status is None else (Status(status),)
    try:
        chosen = _matching(place.store, wanted, task, queue) if every else iter(ids)
        done, refused = _each(place.store, chosen, place.store.jobs.cancel, "has already ended")
        _report(done, refused, "cancelled", as_json=as_json)
    finally:
        place.close()


def _place_and_ids(words: tuple[str, ...], driver: Driver, *, every: bool, narrowed: bool) -> tuple[Place, list[str]]:
    target, ids = arguments.split_target(words, str.isdecimal)
    wrong = [word for word in ids if not word.isdecimal()]
    if wrong:
        raise click.UsageError(f"{wrong[0]!r} is not the id of a job")
    if every == bool(ids):
        raise click.UsageError("give the ids of jobs, or --all")
    if narrowed and not every:
        raise click.UsageError("--task, --queue and --status need --all")
    return open_place(target, driver), list(dict.fromkeys(ids))


def _matching(store: SqliteStore, statuses: tuple[Status, ...], task: str | None, queue: str | None) -> Iterator[str]:
    """Yield the ids of jobs that now match, newest first in each status."""
    for status in statuses:
        before = None
        while page := store.jobs.list(status=status, task=task, queue=queue, limit=CHUNK, before=before):
            before = page[-1].id
            yield from [job.id for job in page]


def _each(
    store: SqliteStore, ids: Iterator[str], change: Callable[[str], bool], refusal: str
) -> tuple[list[str], dict[str, str]]:
    """Change jobs, many to a transaction; return the ids of those changed, and why others were not."""
    done: list[str] = []
    refused: dict[str, str] = {}
    chosen = list(ids)
    for start in range(0, len(chosen), CHUNK):
        with store.transactions.transaction() if len(chosen) > 1 else nullcontext():
            for job_id in chosen[start : start + CHUNK]:
                try:
                    if change(job_id):
                        done.append(job_id)
                    else:
                        refused[job_id] = f"job {job_id} {refusal}"
                except LiteQueueError as error:
                    refused[job_id] = str(error)
    return done, refused


def _report(done: list[str], refused: dict[str, str], verb: str, *, as_json: bool) -> None:
    if as_json:
        emit({verb: done, "refused": refused})
    elif len(done) == 1:
        click.echo(f"{verb} job {done[0]}")
    elif done or not refused:
        click.echo(f"{verb} {len(done)} jobs")
    if refused:
        raise click.ClickException("\n       ".join(refused.values()))


@click.command()
@arguments.target
@arguments.as_json
def prune(target: str | None, driver: Driver, *, as_json: bool) -> None:
    """Delete ended jobs that have been kept long enough, and give the room back to the file system, in small steps.

    Workers do this by themselves.
    """
    place = open_place(target, driver)
    try:
        deleted = _in_steps(place.store, place.store.maintenance.prune)
        given_back = _in_steps(place.store, place.store.maintenance.vacuum)
    finally:
        place.close()
    if as_json:
        emit({"deleted": deleted, "given_back": given_back})
    else:
        click.echo(f"deleted {deleted} jobs" + (f" and gave {size(given_back)} back" if given_back else ""))


def _in_steps(store: SqliteStore, step: Callable[[], int]) -> int:
    """Repeat until nothing is left to do; after each step others have as long to write."""
    total, began = 0, store.clock.monotonic()
    while count := step():
        total += count
        store.maintenance.checkpoint()
        time.sleep(store.clock.monotonic() - began)
        began = store.clock.monotonic()
    return total


@click.command()
@click.argument("words", nargs=-1, metavar="[TARGET] [ACTION NAME]", type=arguments.Target())
@arguments.driver
@arguments.as_json
def schedules(words: tuple[str, ...], driver: Driver, *, as_json: bool) -> None:
    """List the schedules, or change one: pause, resume, trigger or remove NAME."""
    target, rest = arguments.split_target(words, ACTIONS.__contains__)
    action, *names = rest or ("list",)
    if action not in ACTIONS:
        raise click.UsageError(f"there is no action {action!r}; use one of {', '.join(ACTIONS)}")
    if len(names) != (0 if action == "list" else 1):
        raise click.UsageError("list takes no name" if action == "list" else f"name the schedule to {action}")
    place = open_place(target, driver)
    try:
        if action == "list":
            _list_schedules(place, as_json=as_json)
        else:
            _change_schedule(place.store, action, names[0], as_json=as_json)
    finally:
        place.close()


def _list_schedules(place: Place, *, as_json: bool) -> None:
    found, now = place.store.schedules.list(), place.store.clock.now()
    if as_json:
        emit([schedule_fields(schedule, now) for schedule in found])
        return
    headings = ["NAME", "TASK", "WHEN", "NEXT", "LAST", "LAST JOB", "FROM"]
    if found:
        click.echo(table(headings, [_schedule_row(schedule, now) for schedule in found]))
    else:
        click.echo("no schedules")
    absent = _not_in_the_file(place, {schedule.name for schedule in found})
    if absent:
        click.echo(f"declared in the code, but not in the file until a worker starts: {', '.join(absent)}")


def _not_in_the_file(place: Place, known: set[str]) -> list[str]:
    tasks = {} if place.queue is None else place.queue.tasks
    return sorted(name for name, task in tasks.items() if task.options.schedule is not None and name not in known)


def _schedule_row(schedule: ScheduleRecord, now: float) -> list[str]:
    return [
        one_line(schedule.name, 40),
        one_line(schedule.task, 40),
        one_line(trigger_text(schedule)),
        _next(schedule, now),
        "-" if schedule.last_at is None else distance(schedule.last_at, now),
        schedule.last_job or "-",
        "code" if schedule.declared else "file",
    ]


def _next(schedule: ScheduleRecord, now: float) -> str:
    if schedule.paused:
        return click.style("paused", fg="yellow")
    if schedule.next_at is None:
        return "never"
    return click.style("due", fg="yellow") if is_due(schedule, now) else distance(schedule.next_at, now)


def _change_schedule(store: SqliteStore, action: str, name: str, *, as_json: bool) -> None:
    answer: dict[str, Any] = {"schedule": name, "action": action}
    match action:
        case "pause":
            store.schedules.pause(name)
        case "resume":
            store.schedules.resume(name)
        case "remove":
            store.schedules.remove(name)
        case "trigger":
            answer["job"] = store.schedules.trigger(name)
        case _:
            raise Mistake(f"there is no action {action!r}")
    if as_json:
        emit(answer)
    elif "job" in answer:
        click.echo(answer["job"])
    else:
        click.echo({"pause": "paused", "resume": "resumed", "remove": "removed"}[action] + f" {one_line(name)}")
