"""The command `run`: one worker process, or several under a supervisor."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
from typing import Any

import click

from litequeue.cli import arguments, log_output
from litequeue.cli.children import arguments as arguments_of_child
from litequeue.cli.children import interpreter
from litequeue.cli.locate import import_apps
from litequeue.cli.reload import ImportedFiles
from litequeue.cli.serve import Ended, hear, serve
from litequeue.cli.stack_signal import StackSignal
from litequeue.ipc.service_manager import service_manager
from litequeue.worker.signals import STOPS
from litequeue.worker.supervisor import AGAIN, Supervisor
from litequeue.worker.tether import Tether
from litequeue.worker.watchdog import Manager

BEYOND_GRACE = 30.0  # seconds after the grace in which a worker process has to be gone
NOT_SHARED = (
    "--offer is what one app's worker has for its jobs; of several apps each would count it anew: run each by itself"
)
NOT_BOTH = "--reload waits for changes of the code, and --until-idle for the end of the jobs; give one of them"


@click.command()
@click.argument("targets", metavar="APP...", nargs=-1, type=arguments.Target())
@click.option("--threads", type=arguments.Threads(), help="Plain functions run at once (cores + 4, at most 8).")
@click.option("--coroutines", type=click.IntRange(1), default=100, show_default=True, help="Coroutines run at once.")
@click.option(
    "--queues",
    type=arguments.Queues(),
    metavar="NAMES",
    help="Serve only these queues, in turn; at most so many jobs of one at once: email,reports:2.",
)
@click.option(
    "--offer",
    "offers",
    type=arguments.Resource(),
    multiple=True,
    callback=arguments.offers,
    metavar="NAME=AMOUNT",
    help="Offer a resource to tasks with uses=, such as gpu=2; once for each.",
)
@click.option(
    "--grace", type=arguments.Duration(), default="30s", show_default=True, help="How long running jobs may take."
)
@click.option("--children", type=click.IntRange(0), help="Child processes for tasks with process=True (the cores).")
@click.option("--max-jobs-per-child", type=click.IntRange(1), help="End each child process after so many jobs.")
@click.option("--max-memory-per-child", type=arguments.Size(), help="End a child that holds more, such as 500MB.")
@click.option("--until-idle", is_flag=True, help="Run the jobs that are ready, then stop.")
@click.option("--processes", type=click.IntRange(1), help="Run this many worker processes, and replace those that die.")
@click.option("--max-jobs", type=click.IntRange(1), help="End each worker process after so many jobs of an app.")
@click.option("--max-memory", type=arguments.Size(), help="End a worker process that holds more, such as 500MB.")
@click.option("--reload", is_flag=True, help="Start anew when the code changes; for development.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Format of the log (default: text).")
@click.option("--log-level", type=click.Choice([*log_output.LEVELS]), help="Log from this level on (default: info).")
@click.option("-v", "--verbose", is_flag=True, help="The same as --log-level debug.")
@click.option("-q", "--quiet", is_flag=True, help="The same as --log-level warning.")
@click.option(
    "-I", "--import", "imports", multiple=True, metavar="MODULE", help="Import this module too, or all of 'shop.*'."
)
@click.option(
    "--import-errors", type=click.Choice(["stop", "warn"]), default="stop", show_default=True,
    help="What to do if such a module cannot be imported.",
)  # fmt: skip
@click.option("--supervised", type=click.Choice(["first", "other"]), hidden=True)
@click.option("--alive-every", type=float, default=math.inf, hidden=True)
@click.pass_context
@log_output.failures_as_json
def run(
    ctx: click.Context,
    /,
    targets: tuple[str, ...],
    processes: int | None,
    supervised: str | None,
    alive_every: float,
    **options: Any,
) -> None:
    """Run jobs of an app, such as app:queue; its tasks are imported from the current folder.

    Of several apps, each has a worker of its own with these options, in the same process. The first SIGINT, SIGTERM or
    SIGHUP lets running jobs end within --grace. A second one, at least one second later, releases them at once. Exits
    with 0 if every job that had begun has ended, with 75 if jobs were released.
    """
    if not targets and not options["imports"]:
        raise click.UsageError("name the app, such as app:queue, or modules with tasks on the default queue: -I MODULE")
    if len(set(targets)) < len(targets):
        raise click.UsageError(f"an app is named twice: {' '.join(targets)}")
    if len(targets) > 1 and options["offers"]:
        raise click.UsageError(NOT_SHARED)
    if options["reload"] and options["until_idle"]:
        raise click.UsageError(NOT_BOTH)
    quiet, verbose = options.pop("quiet"), options.pop("verbose")
    options["log_level"] = options["log_level"] or ("warning" if quiet else "debug" if verbose else None)
    if not supervised and (processes is not None or options["reload"]):
        code = _supervise(targets, processes, options)
        _ignore_signals()
        ctx.exit(code)
    ended = _work(targets, options, Tether(alive_every) if supervised else None, says_all=supervised != "other")
    _ignore_signals()
    if ended.at_once:  # a function that does not stop may hold up the interpreter's end as well
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended.code)
    ctx.exit(ended.code)


def _ignore_signals() -> None:
    """Ignore signals at the end: one that arrives now must not replace the exit code."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


def _supervise(targets: tuple[str, ...], processes: int | None, options: dict[str, Any]) -> int:
    """Run worker processes under a supervisor, which starts others in their places; return the exit code."""
    command = interpreter("--reload" if processes is None else "--processes")
    log_output.set_up(options["log_format"], options["log_level"], supervised=True)

    def child(first: bool) -> list[str]:  # noqa: FBT001
        which = "first" if first or processes is None else "other"  # after a reload, what is served may differ
        return [*command, *arguments_of_child(targets, options, which, supervisor.alive_every)]

    supervisor = Supervisor(
        child,
        processes or 1,
        until_idle=options["until_idle"],
        patience=options["grace"] + BEYOND_GRACE,
        manager=service_manager(os.environ),
    )
    return supervisor.run()


def _work(targets: tuple[str, ...], options: dict[str, Any], tether: Tether | None, *, says_all: bool) -> Ended:
    """Work in this process."""
    logged = options["log_format"], options["log_level"]
    files = ImportedFiles() if options["reload"] and tether is not None else None
    # two changes within a second that keep a file's size would else run the bytecode of the first
    sys.dont_write_bytecode = sys.dont_write_bytecode or files is not None
    stacks = StackSignal()
    manager = None if tether is not None else service_manager(os.environ)
    log_output.before_import(options["log_format"])
    unserved: list[click.ClickException] | None = [] if options["import_errors"] == "warn" else None
    try:
        queues = import_apps(targets, options["imports"], unserved)
    except click.ClickException as error:
        if files is None or tether is None:
            raise
        log_output.set_up(*logged, supervised=True)
        return _wait_for_a_change(error, files, tether, stacks, options["log_format"])
    log_output.set_up(*logged, supervised=tether is not None)
    for broken in unserved or ():
        log_output.log.warning("%s; its tasks are not run here", broken.message)
        if files is not None:
            files.add_those_of(broken)
    watcher = None if manager is None else Manager(manager)
    return serve(queues, options, tether or watcher, stacks, files, says_all=says_all)


def _wait_for_a_change(
    error: click.ClickException, files: ImportedFiles, tether: Tether, stacks: StackSignal, log_format: str | None
) -> Ended:
    """Show what is wrong with the code, and end when it changes, for the next try, or when told to."""
    files.add_those_of(error)
    log_output.show_failure(error, log_format)
    over = threading.Event()
    hear(tether, lambda _who, _times: over.set(), stacks)
    change = files.wait_for_another_try(over)
    return Ended(
        0 if change is None else AGAIN, at_once=True
    )  # of threads that the code has started, none is waited for
