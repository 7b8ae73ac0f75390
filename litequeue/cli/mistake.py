"""The error of a command that is not valid. Knows no command."""

from __future__ import annotations

import click


class Mistake(click.ClickException):
    """The command or its arguments are not valid; exit code 2."""

    exit_code = 2
