"""What the demo looks like: bars while it runs, tables and the proof at the end. Knows no queue."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from examples.demo.proof import Check

SUFFIXES = 8


class Show:
    """The screen. On a terminal the bars move; into a pipe they are printed once, at the end."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.began = time.monotonic()
        self._bars: dict[str, Any] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30, complete_style="cyan", finished_style="green"),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            refresh_per_second=10,
        )

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Keep the bars on the screen for the block."""
        with self._progress:
            yield

    def elapsed(self) -> float:
        """Seconds since the first bar."""
        return time.monotonic() - self.began

    def bar(self, name: str, total: int) -> None:
        """Add a bar."""
        self._bars[name] = self._progress.add_task(name, total=total, note="")
        self.began = time.monotonic()

    def move(self, name: str, done: int, note: str) -> None:
        """Move a bar, and say something beside it."""
        self._progress.update(self._bars[name], completed=done, note=note)

    def mark(self, name: str, style: str) -> None:
        """Give the name of a bar another colour."""
        self._progress.update(self._bars[name], description=f"[{style}]{name}[/]")

    def say(self, what: str, style: str = "") -> None:
        """Print a line above the bars, with the time."""
        self.console.print(Text.assemble((f"{self.elapsed():6.2f} s  ", "dim"), (what, style)), soft_wrap=True)


def headline(console: Console, text: str) -> None:
    """Print what is about to happen."""
    console.print(Text(text, style="bold"), soft_wrap=True)


def by_suffix(console: Console, rows: list[tuple[Any, ...]]) -> None:
    """Print the roll-up: the most frequent suffixes, the others, and all."""
    table = _table("The roll-up, by suffix", ("suffix", "files", "bytes", "lines", "words", "seconds"), texts=1)
    others = rows[SUFFIXES:]
    for suffix, *numbers in rows[:SUFFIXES]:
        table.add_row(Text(suffix or "(none)"), *_numbers(numbers))
    if others:
        table.add_row(f"{len(others)} others", *_numbers(_sums(others)), style="dim")
    table.add_section()
    table.add_row("all", *_numbers(_sums(rows)), style="bold")
    console.print(table)


def slowest(console: Console, root: Path, rows: list[tuple[Any, ...]], names: dict[int, str]) -> None:
    """Print the jobs that took longest."""
    table = _table("The slowest jobs", ("file", "worker", "bytes", "seconds"), texts=2)
    for path, size, seconds, pid in rows:
        name = _shortened(str(Path(path).relative_to(root)), console.width - 40)
        table.add_row(Text(name), names.get(pid, str(pid)), *_numbers((size, seconds)))
    console.print(table)


def unread(console: Console, errors: list[str]) -> None:
    """Print the files that could not be read."""
    for error in errors[:10]:
        console.print(Text(f"not counted: {error}", style="yellow"), soft_wrap=True)
    if len(errors) > 10:
        console.print(Text(f"not counted: {len(errors) - 10:,} more", style="yellow"))


def verdict(console: Console, checks: list[Check]) -> None:
    """Print each claim of the proof, and whether it holds."""
    for holds, claim in checks:
        mark = ("  ok    ", "bold green") if holds else ("  WRONG ", "bold red")
        console.print(Text.assemble(mark, claim), soft_wrap=True)


def _table(title: str, columns: tuple[str, ...], texts: int) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=True)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < texts else "right", no_wrap=True)
    return table


def _shortened(path: str, width: int) -> str:
    return path if len(path) <= width else f"...{path[-max(width, 20) :]}"


def _sums(rows: list[tuple[Any, ...]]) -> list[float]:
    return [sum(column) for column in list(zip(*rows, strict=True))[1:]]


def _numbers(values: Any) -> list[str]:
    return [f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" for value in values]
