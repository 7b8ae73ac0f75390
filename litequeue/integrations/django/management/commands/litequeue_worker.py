"""`manage.py litequeue_worker`: `litequeue run` for the queue of a Django project."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from litequeue.integrations.django.worker_target import target_of, task_modules

CHILDREN = ("children", "max_jobs_per_child", "max_memory_per_child")
OPTIONS = ("queues", "threads", "coroutines", *CHILDREN, "grace", "processes", "max_jobs", "max_memory", "log_format")
VERBOSITY: dict[int, list[str]] = {0: ["-q"], 1: [], 2: ["-v"], 3: ["-v"]}


class Command(BaseCommand):  # type: ignore[misc]
    """Run the jobs of the project's queue."""

    help = (
        "Runs jobs, with the tasks in the `tasks` modules of INSTALLED_APPS. The queue is the one that they use, or "
        'the one of the setting LITEQUEUE = {"QUEUE": "shop.queue:queue"}.'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the options of `litequeue run`, which checks them."""
        parser.add_argument(
            "--queues", metavar="A,B", help="Serve only these queues, in turn; at most N jobs of A at once: A:N."
        )
        parser.add_argument("--offer", action="append", default=[], metavar="NAME=N", help="Offer a resource: gpu=2.")
        parser.add_argument(
            "--threads", metavar="N", help="Plain functions run at once, or auto (cores + 4, at most 8)."
        )
        parser.add_argument("--coroutines", metavar="N", help="Coroutines run at once (100).")
        parser.add_argument("--children", metavar="N", help="Child processes for tasks with process=True (the cores).")
        parser.add_argument("--max-jobs-per-child", metavar="N", help="End each child process after so many jobs.")
        parser.add_argument(
            "--max-memory-per-child", metavar="SIZE", help="End a child that holds more, such as 500MB."
        )
        parser.add_argument("--grace", metavar="DURATION", help="How long running jobs may take at a stop (30s).")
        parser.add_argument("--processes", metavar="N", help="Run so many worker processes, and replace dead ones.")
        parser.add_argument("--max-jobs", metavar="N", help="End each worker process after so many jobs.")
        parser.add_argument("--max-memory", metavar="SIZE", help="End a worker process that holds more, such as 500MB.")
        parser.add_argument("--log-format", choices=["text", "json"], help="Format of the log (text).")
        parser.add_argument("--until-idle", action="store_true", help="Run the jobs that are ready, then stop.")

    def handle(self, **options: Any) -> None:
        """Run it in this process; exits as `litequeue run` does."""
        import click

        from litequeue.cli import main

        modules = task_modules()
        try:
            target = target_of(modules)
            code = main(_arguments(modules, target, options), prog_name="litequeue", standalone_mode=False)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        except click.ClickException as error:
            raise CommandError(error.format_message(), returncode=error.exit_code) from error
        sys.exit(code)


def _arguments(modules: list[str], target: str | None, options: dict[str, Any]) -> list[str]:
    command = ["run", *VERBOSITY[options["verbosity"]]]
    for name in OPTIONS:
        if options[name] is not None:
            command += [f"--{name.replace('_', '-')}", options[name]]
    for resource in options["offer"]:
        command += ["--offer", resource]
    command += ["--until-idle"] if options["until_idle"] else []
    for module in modules:
        command += ["-I", module]
    return command if target is None else [*command, "--", target]
