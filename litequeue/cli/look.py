"""The commands that only read: status, jobs, show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import click

from litequeue.cli import arguments
from litequeue.cli.job_report import job_fields, progress_text, took, tries_text
from litequeue.cli.locate import Place, open_place
from litequeue.cli.printing import (
    LINES,
    capped,
    distance,
    emit,
    emit_each,
    largest,
    more,
    one_line,
    size,
    status_text,
    table,
)
from litequeue.cli.report import PATIENCE, overview, unserved_text
from litequeue.core.duration import instant, text
from litequeue.core.records import ListedJob, Page, Status, reason_of
from litequeue.errors import JobNotFound
from litequeue.limits.resources import amounts
from litequeue.limits.served_queues import queues_text
from litequeue.queue import Queue
from litequeue.sqlite.file.opening import Driver

LONGEST_WHY = 1_000  # characters
SOON = 2.0  # seconds for which a person may wait for a listing
_SHOWN = list(Status)


@click.command()
@arguments.target
@arguments.as_json
@click.option("--check", is_flag=True, help="Exit 1 if no worker is running, or an event loop does not answer.")
@click.option(
    "--max-age", type=arguments.Duration(), help="Exit 1 also if a ready job has waited longer; implies --check."
)
@click.option("--exact", is_flag=True, help="Count the succeeded jobs of a large file, too: this reads all of them.")
@click.pass_context
def status(
    ctx: click.Context,
    target: str | None,
    driver: Driver,
    *,
    as_json: bool,
    check: bool,
    max_age: float | None,
    exact: bool,
) -> None:
    """Show the depth of the queues, the workers, and what needs attention."""
    place = open_place(target, driver)
    try:
        found, now = overview(place.store, exact=exact), place.store.clock.now()
    finally:
        place.close()
    if as_json:
        emit(found)
    else:
        click.echo("\n\n".join(_sections(found, now)))
    problems = _problems(found, max_age, now) if check or max_age is not None else []
    for problem in capped(problems, "problems"):
        click.secho(problem, fg="red", err=True)
    ctx.exit(1 if problems else 0)


def _problems(found: dict[str, Any], max_age: float | None, now: float) -> list[str]:
    problems = [] if any(worker["alive"] for worker in found["workers"]) else ["no worker is running"]
    problems += _hanging_loops(found["workers"], now)
    for queue in found["queues"]:
        age = queue["oldest_waiting_seconds"]
        if max_age is not None and age is not None and age > max_age:
            problems.append(f"queue {queue['queue']}: the oldest job has waited {text(age)}, over {text(max_age)}")
    return problems


def _hanging_loops(workers: list[dict[str, Any]], now: float) -> list[str]:
    return [
        f"worker {worker['id']} (pid {worker['pid']}): its event loop has not answered for "
        f"{text(max(0.0, now - instant(since)))}, because a coroutine blocks it; the worker's log has the stack"
        for worker in workers
        if (since := worker["loop_silent_since"]) is not None
    ]


def _sections(found: dict[str, Any], now: float) -> list[str]:
    head = f"{found['file']}  {size(found['bytes'])}, WAL {size(found['wal_bytes'])}"
    sections = [f"{head}, SQLite {found['sqlite']} ({found['driver']})", _queue_table(found["queues"])]
    sections.append(_worker_table(found["workers"], now))
    sections += [click.style(line, fg="red") for line in capped(_hanging_loops(found["workers"], now), "such loops")]
    for what, section in (("tasks", _task_table), ("unserved", _unserved_lines), ("recent_failures", _failure_lines)):
        if found[what]:
            sections.append(section(found[what]))
    if found["paused"]:
        sections.append(_paused_line(found["paused"], now))
    if full := [limit for limit in found["limits"] if limit["full"] or limit["full_keys"]]:
        sections.append(_limits_line(full))
    if found["schedules"]:
        sections.append(_schedule_line(found["schedules"], now))
    return sections


def _queue_table(queues: list[dict[str, Any]]) -> str:
    if not queues:
        return "no jobs"
    statuses = [s for s in Status if s is not Status.WAITING or any(queue[str(s)] for queue in queues)]
    shown = largest(queues, lambda queue: sum(queue[str(s)] for s in Status if not s.finished))
    headings = ["QUEUE", *(str(s).upper() for s in statuses), "OLDEST WAITING"]
    rows = [
        [
            one_line(queue["queue"]),
            *(_count(queue[str(s)], s, exact=queue["succeeded_exact"] or s is not Status.SUCCEEDED) for s in statuses),
            "-" if queue["oldest_waiting_seconds"] is None else text(queue["oldest_waiting_seconds"]),
        ]
        for queue in shown
    ]
    return "\n".join([table(headings, rows, right=range(1, len(headings))), *more(queues, "queues")])


def _count(jobs: int, status: Status, *, exact: bool) -> str:
    if not exact:
        return f"about {about(jobs):,}"
    return click.style(str(jobs), fg="red") if jobs and status is Status.FAILED else str(jobs)


def about(number: int) -> int:
    """Round to two digits, which an estimate may claim."""
    return round(number, min(0, 2 - len(str(number))))


def _worker_table(workers: list[dict[str, Any]], now: float) -> str:
    if not any(worker["alive"] for worker in workers):
        note = click.style("no worker is running", fg="yellow") + "; start one: litequeue run app:queue"
    else:
        note = ""
    rows = [
        [
            str(worker["id"]),
            click.style("alive", fg="green") if worker["alive"] else click.style("dead", fg="red"),
            f"{worker['pid']}@{one_line(worker['host'])}",
            f"{worker['running']}/{worker['threads']}+{worker['coroutines']}",
            _served(worker),
            distance(instant(worker["started_at"]), now),
        ]
        for worker in workers[:LINES]
    ]
    listing = table(["WORKER", "STATE", "PROCESS", "RUNNING", "QUEUES", "STARTED"], rows, right=[0]) if rows else ""
    return "\n".join(part for part in (note, listing, *more(workers, "workers")) if part)


def _served(worker: dict[str, Any]) -> str:
    """The queues of a worker with their slots, and what it offers."""
    names = worker["queues"]
    served = "all" if names is None else queues_text({name: worker["slots"].get(name) for name in names})
    offers = f" (offers {amounts(worker['offers'])})" if worker["offers"] else ""
    return one_line(served.replace(",", ", ") + offers)


def _task_table(tasks: list[dict[str, Any]]) -> str:
    rows = [
        [one_line(task["task"]), str(task["recent_runs"]), text(task["median_seconds"]), text(task["p95_seconds"])]
        for task in largest(tasks, lambda task: task["recent_runs"])
    ]
    return "\n".join([table(["TASK", "RECENT RUNS", "MEDIAN", "P95"], rows, right=[1, 2, 3]), *more(tasks, "tasks")])


def _unserved_lines(rows: list[dict[str, Any]]) -> str:
    lines = (click.style(unserved_text(row), fg="yellow") for row in largest(rows, lambda row: row["jobs"]))
    return "\n".join([*lines, *more(rows, "such tasks and queues")])


def _failure_lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(
        click.style("failed", fg="red") + f"  {row['id']}  {one_line(row['task'])}  {one_line(row['error'] or '')}"
        for row in rows
    )


def _paused_line(paused: list[dict[str, Any]], now: float) -> str:
    named = [
        f"{each['kind']} {one_line(each['name'])} ({distance(instant(each['paused_at']), now)})" for each in paused
    ]
    return click.style("paused", fg="yellow") + f": {', '.join(capped(named, 'pauses'))}"


def _limits_line(full: list[dict[str, Any]]) -> str:
    said = [
        f"{one_line(limit['name'])} ({limit['full_keys']} keys, {limit['parked']} jobs wait)"
        if limit["keyed"]
        else f"{one_line(limit['name'])} ({limit['waiting']} jobs wait)"
        for limit in full
    ]
    return f"full limits: {', '.join(capped(said, 'limits'))}"


def _schedule_line(schedules: list[dict[str, Any]], now: float) -> str:
    due = [schedule["name"] for schedule in schedules if schedule["due"]]
    coming = [(schedule["next_at"], schedule["name"]) for schedule in schedules if schedule["next_at"]]
    line = "1 schedule" if len(schedules) == 1 else f"{len(schedules)} schedules"
    paused = sum(schedule["paused"] for schedule in schedules)
    line += f", {paused} paused" if paused else ""
    skipping = [schedule["name"] for schedule in schedules if schedule["skipping"] > PATIENCE]
    orphans = [schedule["name"] for schedule in schedules if schedule["orphan"]]
    line += f", skipping tick after tick: {one_line(', '.join(skipping))}" if skipping else ""
    line += f", declared by modules that no running worker has: {one_line(', '.join(orphans))}" if orphans else ""
    if due:
        line += f", due now: {one_line(', '.join(due))}"
    elif coming:
        moment, name = min(coming)
        line += f", next is {one_line(name)} {distance(instant(moment), now)}"
    return line


@click.command()
@arguments.target
@click.option("--status", type=click.Choice([str(status) for status in _SHOWN]), help="Only jobs with this status.")
@click.option("--task", help="Only jobs of this task.")
@click.option("--queue", help="Only jobs of this queue.")
@click.option("--tag", help="Only jobs with this tag.")
@click.option("--schedule", help="Only jobs of this schedule.")
@click.option("--group", metavar="ID", help="Only jobs of this group, such as g7.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Show at most this many.")
@click.option(
    "--before", metavar="ID", type=click.IntRange(0, 2**63 - 1), help="Only jobs older than this one: the next page."
)
@click.option(
    "--timeout",
    type=arguments.Duration(),
    help=f"Stop looking for jobs after this long ({SOON:g}s; with --json there is no limit).",
)
@arguments.as_json
def jobs(
    target: str | None,
    driver: Driver,
    *,
    status: str | None,
    before: int | None,
    timeout: float | None,
    as_json: bool,
    **where: Any,
) -> None:
    """List jobs, newest first."""
    place = open_place(target, driver)
    try:
        page = place.store.jobs.list(
            status=None if status is None else Status(status),
            before=None if before is None else str(before),
            timeout=SOON if timeout is None and not as_json else timeout,
            **where,
        )
        if as_json:
            emit_each(_whole(place, page))
        else:
            _print_jobs(page, place.queue, place.store.clock.now())
    finally:
        place.close()
    if len(page) < where["limit"] and page.older is not None:
        click.echo(f"stopped after the time limit; to look further: --before {page.older}", err=as_json)
    elif page.older is not None and not as_json:
        click.echo(f"for older jobs: --before {page.older}")


def _whole(place: Place, page: Iterable[ListedJob]) -> Iterator[dict[str, Any]]:
    """Yield everything about each job that is still there, one at a time: arguments and results may be large."""
    for job in page:
        with suppress(JobNotFound):
            yield job_fields(place.store.jobs.look_up(job.id), place.queue)


def _print_jobs(page: Page[ListedJob], queue: Queue | None, now: float) -> None:
    if not page:
        click.echo("no jobs match" if page.older is None else "no jobs that match were found yet")
        return
    headings = ["ID", "TASK", "QUEUE", "STATUS", "TRY", "ENQUEUED", "TOOK", "NOTE"]
    click.echo(table(headings, [_job_row(job, queue, now) for job in page], right=[0, 4]))


def _job_row(job: ListedJob, queue: Queue | None, now: float) -> list[str]:
    return [
        job.id,
        one_line(job.task_name, 40),
        one_line(job.queue, 20),
        status_text(job.status),
        tries_text(job, queue),
        distance(job.created_at, now),
        took(job, now),
        _note(job, now),
    ]


def _note(job: ListedJob, now: float) -> str:
    if job.status is Status.SCHEDULED:
        return distance(job.run_at, now)
    if job.status is Status.RUNNING and job.progress is not None:
        return progress_text(job)
    if (reason := reason_of(job)) is not None:
        return one_line(reason)
    if job.last_error is not None and job.status is not Status.SUCCEEDED:
        return one_line(job.last_error)
    return "cancel requested" if job.cancel_requested and job.status is Status.RUNNING else ""
