"""Types of arguments and options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click
from click.shell_completion import CompletionItem

from litequeue.core.duration import instant, seconds
from litequeue.core.size import size
from litequeue.limits.resources import checked_resources
from litequeue.limits.served_queues import checked_slots
from litequeue.sqlite.file.opening import Driver

if TYPE_CHECKING:
    TextType = click.ParamType[str]
    SecondsType = click.ParamType[float]
    QueuesType = click.ParamType[dict[str, int | None]]
    ResourceType = click.ParamType[tuple[str, int]]
    SizeType = click.ParamType[int]
    ThreadsType = click.ParamType[int | str]
else:  # generic since click 8.4, and only for checkers
    TextType = SecondsType = QueuesType = ResourceType = SizeType = ThreadsType = click.ParamType

DRIVERS = get_args(Driver)
F = TypeVar("F", bound=Callable[..., Any])


class Target(TextType):
    """A queue's file, or an app as `module:queue`."""

    name = "file or app"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer modules of this folder; the shell adds files."""
        del ctx, param
        from litequeue.cli.locate import modules_here  # here: a command is completed seldom

        modules = [CompletionItem(name) for name in modules_here() if name.startswith(incomplete)]
        return [*modules, CompletionItem(incomplete, type="file")]


class Duration(SecondsType):
    """A duration such as `90s` or `1h30m`, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        try:
            return seconds(value, "it")
        except (ValueError, TypeError) as error:
            self.fail(str(error), param, ctx)


class Moment(TextType):
    """An instant as ISO text with an offset."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the text and return it as it is."""
        try:
            instant(value, "it")
        except (ValueError, TypeError) as error:
            self.fail(str(error), param, ctx)
        return str(value)


class Threads(ThreadsType):
    """How many threads, or `auto`."""

    name = "integer or auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number, or "auto"."""
        if value == "auto" or isinstance(value, int):
            return value  # type: ignore[no-any-return]
        if not (str(value).isdecimal() and int(value) > 0):
            self.fail(f"{value!r} is neither a whole number from 1 on nor auto", param, ctx)
        return int(value)


class Size(SizeType):
    """A size such as `500MB` or `1GiB`, in bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes."""
        try:
            return size(int(value) if str(value).isdecimal() else value, "it")
        except (ValueError, TypeError) as error:
            self.fail(str(error), param, ctx)


class Queues(QueuesType):
    """Names of queues with commas between them, each with its slots where these are bounded: `email,reports:2`."""

    name = "queues"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, int | None]:
        """Return the slots of each, None where it has none."""
        if isinstance(value, dict):
            return value
        found: dict[str, int | None] = {}
        for text in (text.strip() for text in str(value).split(",") if text.strip()):
            name, slots = self._split(text, param, ctx)
            if found.get(name, slots) != slots:
                self.fail(f"{name} is given twice, with different slots", param, ctx)
            found[name] = slots
        if not found:
            self.fail("no name is given; write for example email,default", param, ctx)
        return found

    def _split(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int | None]:
        name, colon, number = text.rpartition(":")
        if not colon or not re.fullmatch(r"\s*[-+]?[\d.]*\s*", number):
            return text, None
        try:
            return name.strip(), checked_slots(name.strip(), int(number))
        except ValueError:
            self.fail(f"{text!r}: after the colon comes how many of its jobs run at once, from 1 on", param, ctx)


class Resource(ResourceType):
    """A resource and how much of it there is: `gpu=2`."""

    name = "name=amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Return both."""
        if isinstance(value, tuple):
            return value
        name, equals, number = str(value).partition("=")
        if not equals or not re.fullmatch(r"\d+", number.strip(), re.ASCII):
            self.fail(f"{value!r} is not a name and a whole number; write for example gpu=2", param, ctx)
        try:
            [checked] = checked_resources({name.strip(): int(number)}, "it").items()
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return checked


def offers(_ctx: click.Context, param: click.Parameter, given: tuple[tuple[str, int], ...]) -> dict[str, int]:
    """Return the resources of all `--offer` options."""
    found: dict[str, int] = {}
    for name, amount in given:
        if name in found:
            raise click.BadParameter(f"{name} is given twice", param=param)
        found[name] = amount
    return found


def target(command: F) -> F:
    """Add the argument TARGET: a file or an app; without it, the default queue."""
    return click.argument("target", required=False, type=Target())(driver(command))


def driver(command: F) -> F:
    """Add the option `--driver`, with which a plain file is opened."""
    return click.option(
        "--driver",
        type=click.Choice(DRIVERS),
        default=DRIVERS[0],
        show_default=True,
        help="The driver that opens a plain file; an app has its own.",
    )(command)


def as_json(command: F) -> F:
    """Add the option `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def is_id(word: str) -> bool:
    """Whether a word is written as the ids of jobs are."""
    return re.fullmatch("[1-9][0-9]*", word) is not None


def is_job_or_group(word: str) -> bool:
    """Whether a word is written as the ids of jobs or of groups are."""
    return re.fullmatch("g?[1-9][0-9]*", word) is not None


def split_target(words: tuple[str, ...], is_first: Callable[[str], bool]) -> tuple[str | None, tuple[str, ...]]:
    """Split `[TARGET] WORD...`: there is no target where the first word is already one of the others."""
    if not words or (is_first(words[0]) and not Path(words[0]).is_file()):
        return None, words
    return words[0], words[1:]
