"""The command `enqueue`: one call, with arguments as typed in a shell."""

from __future__ import annotations

import json
import re
from typing import Any

import click

from litequeue.cli import arguments
from litequeue.cli.locate import import_patterns, load, names_app, open_file
from litequeue.cli.mistake import Mistake
from litequeue.cli.printing import emit
from litequeue.errors import UnknownTask
from litequeue.job import Job
from litequeue.queue import Queue
from litequeue.serialization.json_codec import JsonCodec
from litequeue.sqlite.file.opening import Driver
from litequeue.task import Task

_PAIR = re.compile(r"([^\W\d]\w*)=(.*)", re.DOTALL)


@click.command()
@click.argument("target", type=arguments.Target())
@click.argument("task_name", metavar="TASK")
@click.argument("words", nargs=-1, metavar="[ARGUMENT]...")
@click.option("--args", "args_json", metavar="JSON", help="Positional arguments, as a JSON list.")
@click.option("--kwargs", "kwargs_json", metavar="JSON", help="Keyword arguments, as a JSON object.")
@click.option("--delay", type=arguments.Duration(), help="Run it after this delay.")
@click.option("--at", type=arguments.Moment(), help="Run it at this time, for example 2026-11-23T06:00:00+01:00.")
@click.option("--priority", type=click.IntRange(-100, 100), help="Higher runs first.")
@click.option("--queue", help="Put it into this queue.")
@click.option("--key", help="Idempotency key: the same key and arguments give the same job.")
@click.option("--tag", "tags", multiple=True, help="A tag; may be given several times.")
@click.option("--wait", is_flag=True, help="Wait for the job to end, and print its result.")
@click.option("--timeout", type=arguments.Duration(), help="Wait at most this long; implies --wait.")
@click.option(
    "-I", "--import", "imports", multiple=True, metavar="MODULE", help="Import this module too, or all of 'shop.*'."
)
@arguments.driver
@arguments.as_json
def enqueue(
    target: str, task_name: str, words: tuple[str, ...], *, args_json: str | None, kwargs_json: str | None,
    wait: bool, timeout: float | None, imports: tuple[str, ...], driver: Driver, as_json: bool, **options: Any
) -> None:  # fmt: skip
    """Enqueue one call and print its job's id.

    ARGUMENTs are a JSON list or object, or one by one: `5`, `text`, `name=value`. An app checks them; with a file alone
    the worker does.
    """
    queue = _queue(target, task_name, imports, driver)
    try:
        task = find_task(queue, task_name) if names_app(target) else None
        job = _enqueued(queue, task_name, *_call(task, words, args_json, kwargs_json), options)
        answer: dict[str, Any] = {"id": job.id}
        if wait or timeout is not None:
            answer["result"] = _result(queue, job, timeout)
    finally:
        queue.close()
    if as_json:
        emit(answer)
    else:
        click.echo(json.dumps(answer["result"], ensure_ascii=False) if "result" in answer else job.id)


def _enqueued(
    queue: Queue, name: str, args: list[Any], kwargs: dict[str, Any], options: dict[str, Any]
) -> Job[Any]:  # fmt: skip
    given: Any = {option: value for option, value in options.items() if value not in (None, ())}
    try:
        return queue.using(**given).enqueue(name, *args, **kwargs)
    except (TypeError, ValueError) as error:
        raise Mistake(str(error)) from error


def _result(queue: Queue, job: Job[Any], timeout: float | None) -> Any:
    """Wait, and return the result as plain data, or its repr where the codec is not JSON."""
    try:
        result = job.result(timeout)
    except TimeoutError as error:
        raise click.ClickException(str(error)) from error
    codec = queue.codec
    if isinstance(codec, JsonCodec):  # also where that is encrypted on its way into the file
        codec = JsonCodec()
    try:
        return json.loads(codec.encode(result))
    except ValueError:
        return repr(result)


def _queue(target: str, name: str, imports: tuple[str, ...], driver: Driver) -> Queue:
    if not names_app(target):
        if imports:
            raise Mistake(f"-I imports tasks, and {target!r} is a file that knows none; name the app: app:queue")
        open_file(target, driver).close()  # which makes none
        return Queue(target, driver=driver)
    import_patterns(imports)
    queue = load(target)[0]
    if name not in queue.tasks:
        queue.import_modules(import_patterns)
    return queue


def find_task(queue: Queue, name: str) -> Task[..., Any]:
    """Return the task of that name, or suggest the one that may have been meant."""
    try:
        return queue.tasks[name]
    except UnknownTask as error:
        raise Mistake(str(error)) from None


def _call(
    task: Task[..., Any] | None, words: tuple[str, ...], args_json: str | None, kwargs_json: str | None
) -> tuple[list[Any], dict[str, Any]]:
    args = _parsed(args_json, list, "--args takes a JSON list, such as '[1, 2]'")
    kwargs = _parsed(kwargs_json, dict, "--kwargs takes a JSON object, such as '{\"a\": 1}'")
    whole = _value(words[0]) if len(words) == 1 else None
    if isinstance(whole, dict):
        return args, whole | kwargs
    if isinstance(whole, list) and args_json is None:
        return whole, kwargs
    texts: set[str] = set() if task is None else task.signature.text_parameters()
    names = [] if task is None else [one.name for one in task.signature.calling.parameters]
    for word in words:
        pair = _PAIR.fullmatch(word)
        if pair:
            kwargs[pair[1]] = pair[2] if pair[1] in texts else _value(pair[2])
        elif args_json is not None:
            raise click.UsageError("give positional arguments as words or with --args, not both")
        else:
            name = names[len(args)] if len(args) < len(names) else ""
            args.append(word if name in texts else _value(word))
    return args, kwargs


def _parsed(text: str | None, kind: type, message: str) -> Any:
    if text is None:
        return kind()
    value = _value(text)
    if not isinstance(value, kind):
        raise Mistake(f"{message}, got {text!r}")
    return value


def _value(text: str) -> Any:
    """Read JSON, or take the text as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text
