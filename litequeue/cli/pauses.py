"""The commands `pause` and `resume`: let no job of a queue or a task start, and let them start again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from litequeue.cli import arguments
from litequeue.cli.locate import Place, names_app, open_place
from litequeue.cli.mistake import Mistake
from litequeue.cli.printing import emit, one_line
from litequeue.core.limits import PauseKind
from litequeue.core.names import check_name, some, task_name
from litequeue.core.stored_names import task_of
from litequeue.sqlite.file.opening import Driver


@click.command()
@click.argument("words", nargs=-1, metavar="TARGET [QUEUE]...", type=arguments.Target())
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="Pause this task; may be given several times.")
@arguments.driver
@arguments.as_json
def pause(words: tuple[str, ...], driver: Driver, *, tasks: tuple[str, ...], as_json: bool) -> None:
    """Let no job of these queues or tasks start until they are resumed, at once and in all workers.

    What runs goes on.
    """
    place, named = _named(words, tasks, driver, "pause")
    try:
        _each(place, named, place.store.rules.pause, "paused", as_json=as_json)
    finally:
        place.close()


@click.command()
@click.argument("words", nargs=-1, metavar="TARGET [QUEUE]...", type=arguments.Target())
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="Resume this task; may be given several times.")
@click.option("--all", "every", is_flag=True, help="Resume all that is paused.")
@arguments.driver
@arguments.as_json
def resume(words: tuple[str, ...], driver: Driver, *, tasks: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Let the jobs of queues or tasks that were paused start again."""
    place, named = _named(words, tasks, driver, "resume", every=every)
    try:
        chosen = [(each.kind, each.name) for each in place.store.rules.pauses()] if every else named
        _each(place, chosen, place.store.rules.resume, "resumed", as_json=as_json)
    finally:
        place.close()


def _named(
    words: tuple[str, ...], tasks: tuple[str, ...], driver: Driver, verb: str, *, every: bool = False
) -> tuple[Place, list[tuple[PauseKind, str]]]:
    """Open the target, which must be named: a queue's name may be that of a file or a module."""
    target, *queues = words or (None,)
    if target is None or not (Path(target).exists() or names_app(target)):
        found = "" if target is None else f"{target!r} is no file and no app; "
        raise click.UsageError(f"{found}name the file or the app first: litequeue {verb} app.db email")
    if every is bool(queues or tasks):
        other = ", or --all" if verb == "resume" else ""
        raise click.UsageError(f"name the queues to {verb}, or tasks by --task{other}")
    try:
        named: list[tuple[PauseKind, str]] = [("queue", check_name(name, "a queue's name")) for name in queues]
        named += [("task", task_name(name)) for name in tasks]
    except ValueError as error:
        raise Mistake(str(error)) from error
    return open_place(target, driver), list(dict.fromkeys(named))


def _each(
    place: Place,
    named: list[tuple[PauseKind, str]],
    change: Callable[[PauseKind, str], bool],
    verb: str,
    *,
    as_json: bool,
) -> None:
    answers: list[dict[str, Any]] = [
        {"kind": kind, "name": name, "changed": change(kind, name)} for kind, name in named
    ]
    if as_json:
        emit(answers)
    else:
        for each in answers:
            was = "" if each["changed"] else {"paused": " (it was already)", "resumed": " (it was not paused)"}[verb]
            click.echo(f"{verb} {each['kind']} {one_line(each['name'])}{was}")
    if verb == "paused":
        _warn_of_unknown(place, named)


def _warn_of_unknown(place: Place, named: list[tuple[PauseKind, str]]) -> None:
    """Say so where nothing here has such a name, which may be a slip."""
    for kind in get_args(PauseKind):
        known = _known_queues(place) if kind == "queue" else _known_tasks(place)
        for other, name in named:
            if other == kind and known and name not in known:
                there = some(sorted(known))
                click.echo(f"note: no job and no worker here knows a {kind} {name!r}; there are {there}", err=True)


def _known_queues(place: Place) -> set[str]:
    workers = place.store.workers.list()
    tasks = () if place.queue is None else place.queue.tasks.values()
    return {
        *(count.queue for count in place.store.jobs.counts()),
        *(queue for worker in workers for queue in worker.queues or ()),
        *(task.options.queue for task in tasks if task.options.queue is not None),
    }


def _known_tasks(place: Place) -> set[str]:
    tasks = {task for worker in place.store.workers.list() for task in worker.tasks}
    return {task_of(task) for task in tasks | set(() if place.queue is None else place.queue.tasks)}
