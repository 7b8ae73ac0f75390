"""How `run` starts its worker processes: their interpreter and their arguments. Knows no supervisor."""

from __future__ import annotations

from typing import Any

import click

from litequeue.children.command import has_interpreter, interpreter_with
from litequeue.limits.served_queues import queues_text

WORKER = "from litequeue.cli import main; main(prog_name='litequeue')"
NO_INTERPRETER = (
    "{option} starts this program's Python interpreter, but the program is frozen or embeds Python, so it has none. "
    "Start the program {instead}, without {option}"
)


def interpreter(option: str) -> list[str]:
    """Return how a worker process's Python is started; refuse it where there is none to start."""
    if not has_interpreter():
        instead = "several times instead" if option == "--processes" else "anew by hand"
        raise click.UsageError(NO_INTERPRETER.format(option=option, instead=instead))
    return interpreter_with(WORKER)


def arguments(targets: tuple[str, ...], options: dict[str, Any], supervised: str, alive_every: float) -> list[str]:
    """Return a child's arguments, with the same options."""
    command = ["run", "--supervised", supervised, "--alive-every", str(alive_every)]
    of_children = "children", "max_jobs_per_child", "max_memory_per_child"
    for name in (
        "threads",
        "coroutines",
        *of_children,
        "max_jobs",
        "max_memory",
        "log_format",
        "log_level",
        "import_errors",
    ):
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
