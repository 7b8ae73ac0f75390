"""How `run` starts its worker processes: their interpreter and their arguments. Knows no supervisor."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import click

from litequeue.limits.served_queues import queues_text

CHILD = "import sys; sys.path[:] = {path!r}; from litequeue.cli import main; main(prog_name='litequeue')"
NO_INTERPRETER = (
    "{option} starts this program's Python interpreter, but the program is frozen or embeds Python, so it has none. "
    "Start the program {instead}, without {option}"
)


def interpreter(option: str) -> list[str]:
    """Return how a child's Python is started: with our flags and path; the current folder adds no module.

    HAZARD: the interpreter of a frozen program is the program itself, which would start itself without end.
    """
    if getattr(sys, "frozen", False) or not sys.executable:
        instead = "several times instead" if option == "--processes" else "anew by hand"
        raise click.UsageError(NO_INTERPRETER.format(option=option, instead=instead))
    # as multiprocessing does; it leaves out -X options that it does not know
    flags: list[str] = getattr(subprocess, "_args_from_interpreter_flags", list)()
    given = (name if value is True else f"{name}={value}" for name, value in sys._xoptions.items())  # noqa: SLF001
    flags += [f"-X{option}" for option in given if option not in flags]
    return [sys.executable, *flags, "-c", CHILD.format(path=[place for place in sys.path if isinstance(place, str)])]


def arguments(targets: tuple[str, ...], options: dict[str, Any], supervised: str, alive_every: float) -> list[str]:
    """Return a child's arguments, with the same options."""
    command = ["run", "--supervised", supervised, "--alive-every", str(alive_every)]
    for name in ("threads", "coroutines", "max_jobs", "max_memory", "log_format", "log_level", "import_errors"):
        if options[name] is not None:
            command += [f"--{name.replace('_', '-')}", str(options[name])]
    command += ["--grace", f"{options['grace']}s"]
    command += ["--queues", queues_text(options["queues"])] if options["queues"] else []
    for name, amount in options["offers"].items():
        command += ["--offer", f"{name}={amount}"]
    command += ["--until-idle"] if options["until_idle"] else []
    command += ["--reload"] if options["reload"] else []
    for module in options["imports"]:
        command += ["--import", module]
    return [*command, "--", *targets]
