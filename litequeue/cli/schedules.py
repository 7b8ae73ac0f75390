"""The command `schedules`: list them, tell everything about one, change one."""

from __future__ import annotations

from typing import Any

import click

from litequeue.cli import arguments
from litequeue.cli.job_report import call_fields, call_text, job_fields
from litequeue.cli.locate import Place, open_place
from litequeue.cli.mistake import Mistake
from litequeue.cli.printing import distance, emit, local, one_line, table
from litequeue.cli.report import Crew, is_due, options_text, schedule_fields, trigger_text, trigger_words, upcoming
from litequeue.core.duration import text, utc
from litequeue.core.names import some
from litequeue.core.schedules import ScheduleRecord
from litequeue.core.stored_names import in_words, task_of
from litequeue.sqlite.file.opening import Driver
from litequeue.sqlite.store import SqliteStore

ACTIONS = ("list", "show", "pause", "resume", "trigger", "remove")
NEXT = 5  # times that are shown
HISTORY = 10  # jobs that `show` lists
LONGEST = 10_000  # characters of a trigger that `show` shows


@click.command()
@click.argument("words", nargs=-1, metavar="[TARGET] [ACTION NAME]", type=arguments.Target())
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="List at most this many.")
@click.option("--run-missed", is_flag=True, help="With resume: what it has missed while it was paused fires now.")
@arguments.driver
@arguments.as_json
def schedules(words: tuple[str, ...], driver: Driver, *, limit: int, run_missed: bool, as_json: bool) -> None:
    """List the schedules with their next times, or show, pause, resume, trigger or remove the one called NAME."""
    target, rest = arguments.split_target(words, ACTIONS.__contains__)
    action, *names = rest or ("list",)
    if action not in ACTIONS:
        raise click.UsageError(f"there is no action {action!r}; use one of {', '.join(ACTIONS)}")
    if len(names) != (0 if action == "list" else 1):
        raise click.UsageError("list takes no name" if action == "list" else f"name the schedule to {action}")
    if run_missed and action != "resume":
        raise click.UsageError("--run-missed is for resume")
    place = open_place(target, driver)
    try:
        if action == "list":
            _list(place, limit, as_json=as_json)
        elif action == "show":
            _show(place, names[0], as_json=as_json)
        else:
            _change(place.store, action, names[0], run_missed=run_missed, as_json=as_json)
    finally:
        place.close()


# ---- list


def _list(place: Place, limit: int, *, as_json: bool) -> None:
    found, now, crew = place.store.schedules.list(), place.store.clock.now(), Crew.of(place.store)
    if as_json:
        emit([schedule_fields(each, now, crew) | call_fields(each.payload, place.queue) for each in found])
        return
    if found:
        click.echo("\n".join(_lines(found[:limit], now, crew)))
        if len(found) > limit:
            click.echo(f"and {len(found) - limit:,} more; --limit shows more, --json all")
    else:
        click.echo("no schedules")
    absent = _not_in_the_file(place, {schedule.name for schedule in found})
    if absent:
        click.echo(f"declared in the code, but not in the file until a worker starts: {some(absent)}")


def _lines(found: list[ScheduleRecord], now: float, crew: Crew) -> list[str]:
    headings = ["NAME", "TASK", "WHEN", "NEXT", "LAST", "LAST JOB", "FROM"]
    heading, *rows = table(headings, [_row(schedule, now) for schedule in found]).splitlines()
    lines = [heading]
    for schedule, row in zip(found, rows, strict=True):
        lines.append(row)
        lines += [f"    {each}" for each in (_then(schedule), _with(schedule), *_notes(schedule, now, crew)) if each]
    return lines


def _row(schedule: ScheduleRecord, now: float) -> list[str]:
    return [
        one_line(schedule.name, 40),
        one_line(task_of(schedule.task), 40),
        one_line(trigger_words(schedule)),
        _next(schedule, now),
        "-" if schedule.last_at is None else distance(schedule.last_at, now),
        schedule.last_job or "-",
        one_line(schedule.module or "file"),
    ]


def _next(schedule: ScheduleRecord, now: float) -> str:
    if schedule.paused:
        return click.style("paused", fg="yellow")
    if schedule.next_at is None:
        return "never"
    return click.style("due", fg="yellow") if is_due(schedule, now) else local(schedule.next_at, now)


def _then(schedule: ScheduleRecord) -> str:
    _, *later = upcoming(schedule, NEXT) or [0.0]
    if not later:
        return ""
    times = [utc(moment).astimezone() for moment in later]
    exact = any(time.microsecond for time in times)
    said = [f"{time:%Y-%m-%d %H:%M:%S}" + (f".{time.microsecond // 1000:03}" if exact else "") for time in times]
    return f"then {', '.join(said)} {times[-1]:%Z}"


def _with(schedule: ScheduleRecord) -> str:
    options = one_line(options_text(schedule))
    return options and f"with {options}"


def _notes(schedule: ScheduleRecord, now: float, crew: Crew) -> list[str]:
    notes = [_skips(schedule, now), crew.orphan(schedule) or ""]
    return [click.style(note, fg="yellow") for note in notes if note]


def _skips(schedule: ScheduleRecord, now: float) -> str:
    if not schedule.skipped:
        return ""
    since = f", {schedule.skipping} since {local(schedule.skipping_since, now)}" if schedule.skipping else ""
    return f"skipped {schedule.skipped} ticks{since}"


def _not_in_the_file(place: Place, known: set[str]) -> list[str]:
    declared = [] if place.queue is None else place.queue.declared.records()
    return sorted(record.name for record in declared if record.name not in known)


# ---- one


def _show(place: Place, name: str, *, as_json: bool) -> None:
    store = place.store
    schedule, now, crew = store.schedules.get(name), store.clock.now(), Crew.of(store)
    jobs = store.jobs.list(schedule=name, limit=HISTORY, timeout=2.0)
    call = call_fields(schedule.payload, place.queue)
    if as_json:
        history = [job_fields(store.jobs.look_up(job.id), place.queue) for job in jobs]
        emit(schedule_fields(schedule, now, crew) | call | {"jobs": history})
        return
    priority = f"priority {schedule.priority}"
    pairs = [
        ("schedule", f"{one_line(schedule.name)}  {_next(schedule, now)}"),
        ("task", f"{one_line(in_words(schedule.task))}, queue {one_line(schedule.queue)}, {priority}"),
        ("arguments", call_text(call)),
        ("when", one_line(trigger_words(schedule), LONGEST)),
        ("trigger", one_line(trigger_text(schedule), LONGEST)),
        ("then", _then(schedule).removeprefix("then ")),
        ("overlap", f"{schedule.overlap}, catch up {schedule.catch_up}"),
        ("ends", _ends(schedule, now)),
        ("expires", "" if schedule.expires is None else f"{text(schedule.expires)} after the tick"),
        ("options", one_line(options_text(schedule), LONGEST)),
        ("from", one_line(schedule.module or "file")),
        ("ran", f"{schedule.runs} jobs of its ticks, the last tick {local(schedule.last_at, now)}"),
        ("skipped", _skips(schedule, now).removeprefix("skipped ")),
        ("orphan", crew.orphan(schedule) or ""),
    ]
    click.echo("\n".join(f"{heading:<10} {value}" for heading, value in pairs if value))
    if jobs:
        rows = [[job.id, str(job.status), local(job.run_at, now), one_line(job.last_error or "")] for job in jobs]
        click.echo("\n" + table(["JOB", "STATUS", "TICK", "ERROR"], rows, right=[0]))


def _ends(schedule: ScheduleRecord, now: float) -> str:
    ends = [] if schedule.until is None else [f"at {local(schedule.until, now)}"]
    return ", ".join([*ends, *([] if schedule.max_runs is None else [f"after {schedule.max_runs} jobs"])])


def _change(store: SqliteStore, action: str, name: str, *, run_missed: bool, as_json: bool) -> None:
    answer: dict[str, Any] = {"schedule": name, "action": action}
    match action:
        case "pause":
            store.schedules.pause(name)
        case "resume":
            store.schedules.resume(name, run_missed=run_missed)
        case "remove":
            store.schedules.remove(name)
        case "trigger":
            answer["job"] = store.schedules.trigger(name).id
        case _:
            raise Mistake(f"there is no action {action!r}")
    if as_json:
        emit(answer)
    elif "job" in answer:
        click.echo(answer["job"])
    else:
        click.echo({"pause": "paused", "resume": "resumed", "remove": "removed"}[action] + f" {one_line(name)}")
