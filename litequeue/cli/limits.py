"""The command `limits`: list the limits with what is taken of them, or change one."""

from __future__ import annotations

from typing import Any

import click

from litequeue.cli import arguments
from litequeue.cli.locate import Place, open_place
from litequeue.cli.mistake import Mistake
from litequeue.cli.printing import distance, emit, one_line, table
from litequeue.cli.report import limit_fields
from litequeue.core.limits import LimitRecord, LimitSettings
from litequeue.core.names import some
from litequeue.limits.stored import checked_settings, words
from litequeue.sqlite.file.opening import Driver

ACTIONS = ("list", "set", "reset", "remove")


@click.command()
@click.argument("words", nargs=-1, metavar="[TARGET] [ACTION NAME]", type=arguments.Target())
@click.option("--concurrency", metavar="N", help="With set: how many run at once; none: any number.")
@click.option("--rate", metavar="RATE", help="With set: how many start in a window, such as 250/m; none: any number.")
@click.option("--smooth/--no-smooth", default=None, help="With set: whether the starts of the rate are spaced evenly.")
@arguments.driver
@arguments.as_json
def limits(
    words: tuple[str, ...],
    driver: Driver,
    *,
    concurrency: str | None,
    rate: str | None,
    smooth: bool | None,
    as_json: bool,
) -> None:
    """List the limits, with what is taken of each and what waits, or set, reset or remove the one called NAME."""
    target, rest = arguments.split_target(words, ACTIONS.__contains__)
    action, *names = rest or ("list",)
    if action not in ACTIONS:
        raise click.UsageError(f"there is no action {action!r}; use one of {', '.join(ACTIONS)}")
    if len(names) != (0 if action == "list" else 1):
        raise click.UsageError("list takes no name" if action == "list" else f"name the limit to {action}")
    settings = _settings(concurrency, rate, smooth=smooth)
    if settings and action != "set":
        raise click.UsageError("--concurrency, --rate and --smooth are for set")
    place = open_place(target, driver)
    try:
        if action == "list":
            _list(place, as_json=as_json)
        else:
            _change(place, action, names[0], settings, as_json=as_json)
    except (ValueError, TypeError) as error:
        raise Mistake(str(error)) from error
    finally:
        place.close()


def _settings(concurrency: str | None, rate: str | None, *, smooth: bool | None) -> LimitSettings:
    found: LimitSettings = {}
    if concurrency is not None:
        found["concurrency"] = None if concurrency == "none" else _whole(concurrency)
    if rate is not None:
        found["rate"] = None if rate == "none" else rate
    if smooth is not None:
        found["smooth"] = smooth
    return found


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise click.UsageError(f"--concurrency must be a whole number or none, got {text!r}") from None


def _list(place: Place, *, as_json: bool) -> None:
    found, now = place.store.rules.list(), place.store.clock.now()
    if as_json:
        emit([limit_fields(limit) for limit in found])
        return
    headings = ["NAME", "ALLOWED", "TAKEN", "WAITING", "TASKS"]
    click.echo(table(headings, [_row(limit, now) for limit in found], right=[3]) if found else "no limits")
    absent = sorted(_declared(place) - {limit.name for limit in found})
    if absent:
        click.echo(f"declared in the code, but not in the file until a worker starts: {some(absent)}")


def _declared(place: Place) -> set[str]:
    if place.queue is None:
        return set()
    tasks = place.queue.tasks.values()
    return {*place.queue.limits_declared.all, *(use.name for task in tasks for use in task.limits)}


def _row(limit: LimitRecord, now: float) -> list[str]:
    return [
        one_line(limit.name, 40),
        _allowed(limit, now),
        click.style(_taken(limit), fg="yellow") if limit.full else _taken(limit),
        str(limit.waiting + limit.parked),
        one_line(", ".join(limit.tasks)) or "none",
    ]


def _allowed(limit: LimitRecord, now: float) -> str:
    each = " for each key" if limit.keyed else ""
    if limit.operator_at is None:
        return words(limit.allowed) + each
    declared = "not declared" if limit.declared is None else words(limit.declared)
    return f"{declared} -> {words(limit.allowed)}{each}, set {distance(limit.operator_at, now)}"


def _taken(limit: LimitRecord) -> str:
    """Return how much of it is taken: "8 of 8 running, 120 of 500/m"."""
    if limit.keyed:
        return f"{limit.running} running" + (f", {limit.full_keys} full keys" if limit.full_keys else "")
    most, rate = limit.allowed.get("concurrency"), limit.allowed.get("rate")
    said = [f"{limit.running}{'' if most is None else f' of {most}'} running"]
    return ", ".join(said if rate is None else [*said, f"{limit.started} of {rate}"])


def _change(place: Place, action: str, name: str, settings: LimitSettings, *, as_json: bool) -> None:
    rules = place.store.rules
    match action:
        case "set":
            changed = rules.change(name, checked_settings(settings))
        case "reset":
            changed = rules.change(name, None)
        case _:
            rules.remove(name, _declared(place))
            _say({"limit": name, "action": action}, f"removed {one_line(name)}", as_json=as_json)
            return
    limit = rules.get(name)
    same = "" if changed else " already"
    said = f"{one_line(name)} allows {words(limit.allowed)}{' for each key' if limit.keyed else ''}{same}"
    _say(limit_fields(limit) | {"action": action, "changed": changed}, said, as_json=as_json)


def _say(answer: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        emit(answer)
    else:
        click.echo(text)
