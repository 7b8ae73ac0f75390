"""The command line: `litequeue run`, and commands to read and change a queue."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from click.shell_completion import get_completion_class

from litequeue import __version__
from litequeue.cli.backup import backup
from litequeue.cli.change import cancel, prune, retry
from litequeue.cli.doctor import doctor
from litequeue.cli.enqueue import enqueue
from litequeue.cli.limits import limits
from litequeue.cli.logs import logs
from litequeue.cli.look import jobs, status
from litequeue.cli.pauses import pause, resume
from litequeue.cli.printing import harmless
from litequeue.cli.run import run
from litequeue.cli.schedules import schedules
from litequeue.cli.show import show
from litequeue.cli.stream import stream
from litequeue.core.hints import of_command, of_command_option
from litequeue.errors import LiteQueueError

__all__ = ["main"]


class Commands(click.Group):
    """The commands, in the order of their use; an error of litequeue is shown without a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Start the command line; called by the console script and by `python -m litequeue`."""
        open_missing_streams()
        for output in (sys.stdout, sys.stderr):
            if isinstance(output, io.TextIOWrapper):  # names of files and what jobs say may not fit its encoding
                output.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options before the command."""
        with _hints():
            return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command."""
        if args and self.get_command(ctx, args[0]) is None and (hint := of_command(args[0])):
            ctx.fail(f"No such command {args[0]!r}; use {hint}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they were added."""
        del ctx
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            with _hints():
                return super().invoke(ctx)
        except LiteQueueError as error:
            raise click.ClickException(harmless(str(error))) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # click ends quietly then
                raise
            raise click.ClickException(f"the system refused: {error}") from error


@contextmanager
def _hints() -> Iterator[None]:
    """Say what to use in place of another queue's option."""
    try:
        yield
    except click.NoSuchOption as error:
        runs = error.ctx is None or error.ctx.info_name == "run" or error.ctx.parent is None
        hint = of_command_option(error.option_name) if runs else ""
        if not hint:
            raise
        raise click.UsageError(f"No such option {error.option_name!r}; {hint}", error.ctx) from error


def open_missing_streams() -> None:
    """Open the null device in place of each standard stream that is closed.

    HAZARD: the next file to be opened would get the free number, and the command's output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="litequeue")
@click.pass_context
def main(ctx: click.Context) -> None:
    """litequeue: a task queue in one SQLite file.

    TARGET is a queue's file (app.db) or an app (app:queue); without it, $LITEQUEUE_PATH or ./litequeue.db.
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands in a shell: eval "$(litequeue completion bash)"."""
    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"no completion is available for {shell}")
    click.echo(found(main, {}, "litequeue", "_LITEQUEUE_COMPLETE").source())


for _command in (
    run, status, jobs, show, logs, stream, enqueue, retry, cancel, schedules, limits, pause, resume,
    prune, backup, doctor, completion,
):  # fmt: skip
    main.add_command(_command)
