"""Tables, ages and JSON for the terminal. Knows no queue."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from typing import Any, TypeVar

import click

from litequeue.core.duration import text, utc
from litequeue.core.records import Status

_COLOURS = {
    Status.RUNNING: "cyan",
    Status.SUCCEEDED: "green",
    Status.FAILED: "red",
    Status.CANCELLED: "yellow",
    Status.EXPIRED: "yellow",
}
T = TypeVar("T")
LINES = 20  # of one kind that `status` shows
# what a terminal would obey: control characters, C1 included
DEEPEST = 50  # levels that are shown of what is nested too deeply
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def emit(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(to_json(value, indent=2))


def emit_each(values: Iterable[Any]) -> None:
    """Print values as a JSON list, each as soon as it is there."""
    separator = "[\n"
    for value in values:
        click.echo(separator + textwrap.indent(to_json(value, indent=2), "  "), nl=False)
        separator = ",\n"
    click.echo("[]" if separator == "[\n" else "\n]")


def to_json(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON; a value that is nested too deeply is cut."""
    try:
        return json.dumps(value, indent=indent, default=str)
    except RecursionError:
        return json.dumps(_cut(value, DEEPEST), indent=indent, default=str)


def _cut(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        return {name: _cut(inner, depth - 1) for name, inner in value.items()} if depth else "…"
    if isinstance(value, (list, tuple)):
        return [_cut(inner, depth - 1) for inner in value] if depth else "…"
    return value


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> str:
    """Align cells, styled or not, under their headings; the columns numbered in `right` to the right."""
    lines = [[click.style(heading, bold=True) for heading in headings], *(list(row) for row in rows)]
    widths = [max(len(click.unstyle(line[number])) for line in lines) for number in range(len(headings))]
    to_right = frozenset(right)
    return "\n".join(_row(line, widths, to_right) for line in lines)


def _row(cells: Sequence[str], widths: Sequence[int], to_right: frozenset[int]) -> str:
    padded = []
    for number, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        gap = " " * (width - len(click.unstyle(cell)))
        padded.append(gap + cell if number in to_right else cell + gap)
    return "  ".join(padded).rstrip()


def largest(rows: Sequence[T], key: Callable[[T], int]) -> list[T]:
    """Return the rows as they are, or, if these are too many to show, the largest ones."""
    return list(rows) if len(rows) <= LINES else sorted(rows, key=key, reverse=True)[:LINES]


def more(rows: Sequence[object], what: str) -> list[str]:
    """Return a line that says how many rows are not shown, if any are."""
    return [f"and {len(rows) - LINES:,} more {what} (all of them: --json)"] if len(rows) > LINES else []


def capped(lines: Sequence[str], what: str) -> list[str]:
    """Return the first lines, and one that says how many others there are."""
    return [*lines[:LINES], *more(lines, what)]


def one_line(value: object, longest: int = 70) -> str:
    """Return a value as one short line without control characters."""
    line = _CONTROL.sub(" ", str(value)).strip()
    return line if len(line) <= longest else line[: longest - 1] + "…"


def harmless(value: str) -> str:
    """Return text without control characters other than its line breaks."""
    return "\n".join(_CONTROL.sub(" ", line.expandtabs()) for line in value.splitlines())


def status_text(status: Status) -> str:
    """Return a status in its colour."""
    return click.style(str(status), fg=_COLOURS.get(status))


def iso(moment: float | datetime | None) -> str | None:
    """Return unix seconds or a datetime as ISO text in UTC, for JSON."""
    if moment is None:
        return None
    value = moment if isinstance(moment, datetime) else utc(moment)
    return value.astimezone(timezone.utc).isoformat()


def local(moment: float | None, now: float) -> str:
    """Return unix seconds as local time and how far that is from now."""
    if moment is None:
        return "never"
    return f"{utc(moment).astimezone():%Y-%m-%d %H:%M:%S} ({distance(moment, now)})"


def distance(moment: float, now: float) -> str:
    """Return `3m ago` or `in 2h`."""
    return f"in {text(moment - now)}" if moment > now else f"{text(now - moment)} ago"


def size(count: int) -> str:
    """Return bytes as `12 B`, `3.4 KiB`, `1.2 MiB`."""
    amount, units = float(count), ["B", "KiB", "MiB", "GiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:.0f} {units[0]}" if units[0] == "B" else f"{amount:.1f} {units[0]}"


def limit_text(seconds: float) -> str:
    """Return a time limit as text; it may be absent."""
    return "none" if seconds == math.inf else text(seconds)
