"""The command `show`: a job or a group, and what runs before and after it."""

from __future__ import annotations

from typing import Any

import click

from litequeue.cli import arguments
from litequeue.cli.job_report import call_text, group_fields, job_fields, progress_text, took, tries_text
from litequeue.cli.locate import Place, open_place
from litequeue.cli.printing import emit, harmless, iso, local, one_line, status_text, to_json
from litequeue.core.records import JobRecord, Status, reason_of
from litequeue.core.source import MOST_BEFORE
from litequeue.core.stored_names import in_words
from litequeue.core.tree import Branch, Tree
from litequeue.sqlite.file.opening import Driver

LONGEST_WHY = 1_000  # characters


@click.command()
@click.argument("words", nargs=-1, metavar="[TARGET] ID", type=arguments.Target())
@arguments.driver
@arguments.as_json
def show(words: tuple[str, ...], driver: Driver, *, as_json: bool) -> None:
    """Tell everything about one job: arguments, result, errors with their tracebacks, what runs before and after it.

    Or about one group of jobs, by its id, such as g7.
    """
    target, ids = arguments.split_target(words, arguments.is_job_or_group)
    if len(ids) != 1:
        raise click.UsageError("give the id of one job or group, for example: litequeue show app.db 42")
    place = open_place(target, driver)
    try:
        shown = _job(place, ids[0]) if arguments.is_id(ids[0]) else _group(place, ids[0])
    finally:
        place.close()
    fields, lines = shown
    if as_json:
        emit(fields)
    else:
        click.echo("\n".join(lines))


def _group(place: Place, group_id: str) -> tuple[dict[str, Any], list[str]]:
    found, tree = place.store.compositions.summary(group_id), place.store.compositions.tree(group_id)
    fields, now = group_fields(found) | {"tree": tree.to_json()}, place.store.clock.now()
    counted = ", ".join(f"{count:,} {status_text(Status(status))}" for status, count in fields["by_status"].items())
    pairs = [
        ("group", f"{found.id}  {fields['total']:,} jobs, {fields['done']:,} have ended"),
        ("jobs", counted),
        ("failed", f"job {found.failed} has not succeeded" if found.failed else ""),
        ("enqueued", local(found.created_at, now)),
    ]
    return fields, [*_titled(pairs), *_tree_lines(tree)]


def _job(place: Place, job_id: str) -> tuple[dict[str, Any], list[str]]:
    job, now = place.store.jobs.look_up(job_id), place.store.clock.now()
    tree = place.store.compositions.tree(job.id)
    fields, tries = job_fields(job, place.queue), tries_text(job, place.queue)
    fields["why"] = place.store.jobs.why(job.id)
    fields["position"] = place.store.jobs.position(job.id) if job.status is Status.QUEUED else None
    fields["tree"] = tree.to_json()
    return fields, _lines(job, fields, tries, tree, now)


def _lines(job: JobRecord, fields: dict[str, Any], tries: str, tree: Tree, now: float) -> list[str]:
    pairs = [
        ("job", f"{job.id}  {one_line(in_words(job.task))}  {status_text(job.status)}"),
        ("queue", f"{one_line(job.queue)}, priority {job.priority}"),
        ("position", _position(fields["position"])),
        ("arguments", call_text(fields)),
        ("enqueued", local(job.created_at, now)),
        ("why", "" if job.status.finished or job.status is Status.RUNNING else one_line(fields["why"], LONGEST_WHY)),
        ("reason", one_line(reason_of(job) or "", LONGEST_WHY) if job.status is Status.CANCELLED else ""),
        ("may run", local(job.run_at, now) if job.run_at > job.created_at else ""),
        ("started", local(job.started_at, now) if job.started_at else ""),
        ("finished", local(job.finished_at, now) + f", took {took(job, now)}" if job.finished_at else ""),
        ("expires", local(job.expires_at, now) if job.expires_at and not job.status.finished else ""),
        ("try", f"{tries}, run {job.attempt}{_deaths(job)}" if job.attempt else ""),
        ("worker", f"{job.worker}{', cancel requested' if job.cancel_requested else ''}" if job.worker else ""),
        ("progress", progress_text(job)),
        ("key", one_line(job.key or "")),
        ("tags", one_line(", ".join(job.tags))),
        ("schedule", one_line(job.schedule or "")),
        ("result", _result(job, fields)),
    ]
    lines = [*_titled(pairs), *_tree_lines(tree)]
    for error in job.errors:
        heading = f"run {error.attempt}, {iso(error.at)}: {one_line(error.type)}: {one_line(error.message, 200)}"
        lines += ["", click.style(heading, fg="red"), harmless(error.traceback.rstrip())]
    return lines


def _titled(pairs: list[tuple[str, str]]) -> list[str]:
    return [f"{name:<10} {value}" for name, value in pairs if value]


def _tree_lines(tree: Tree) -> list[str]:
    """Draw what stands before and after: what hangs on a line is indented below it."""
    return [*_side("after", tree.before), *_side("then", tree.after)]


def _side(title: str, root: Branch) -> list[str]:
    drawn = _drawn(root, "")
    return [f"{title if number == 0 else '':<10} {line}" for number, line in enumerate(drawn)]


def _drawn(branch: Branch, indent: str) -> list[str]:
    lines: list[str] = []
    for each in branch.branches:
        lines += [indent + _node(each), *_drawn(each, indent + "  ")]
    if branch.more:
        how = f" (litequeue show {branch.id})" if indent else ""
        lines.append(f"{indent}{'and ' if branch.branches else ''}{branch.more:,} more{how}")
    return lines


def _node(branch: Branch) -> str:
    if branch.is_group:
        unended = f", {branch.unended:,} have not ended" if branch.unended else ", all have ended"
        failed = f", job {branch.failed} has not succeeded" if branch.failed else ""
        line = f"{branch.id}  {branch.members:,} members{unended}{failed}"
    else:
        status = "not in this file any more" if branch.status is None else status_text(branch.status)
        reason = f": {one_line(branch.reason)}" if branch.reason else ""
        line = f"{branch.id}  {one_line(in_words(branch.task or ''))}  {status}{reason}{_ONLY.get(branch.runs_on, '')}"
    return f"{line} (see {branch.id} in this tree)" if branch.again else line


_ONLY: dict[str | None, str] = {"end": ", runs however that ends", "failure": ", runs only if that fails"}


def _position(before: int | None) -> str:
    if not before:
        return "" if before is None else "the next of its queue"
    more = " or more" if before >= MOST_BEFORE else ""
    return f"behind {before:,}{more} job{'s' * (before != 1)} of its queue"


def _deaths(job: JobRecord) -> str:
    return f", {job.deaths} ended by the death of a process" if job.deaths else ""


def _result(job: JobRecord, fields: dict[str, Any]) -> str:
    return "" if job.result is None else to_json(fields["result"])
