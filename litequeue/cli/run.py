"""The command `run`: one worker process, or several under a supervisor."""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import click

from litequeue.cli import arguments, banner, log_output
from litequeue.cli.locate import Mistake, file_of, import_named, import_patterns, load, names_app
from litequeue.cli.stack_signal import StackSignal
from litequeue.ipc.service_manager import service_manager
from litequeue.limits.served_queues import queues_text
from litequeue.queue import Queue, default_queue
from litequeue.worker.signals import STOPS, handle_signals
from litequeue.worker.supervisor import RELEASED, Supervisor
from litequeue.worker.tether import STACKS, STOP_NOW, Tether
from litequeue.worker.watchdog import Manager, Watcher
from litequeue.worker.worker import Worker

BEYOND_GRACE = 30.0  # seconds after the grace in which a worker process has to be gone
CHILD = "import sys; sys.path[:] = {path!r}; from litequeue.cli import main; main(prog_name='litequeue')"
NO_INTERPRETER = (
    "--processes starts this program's Python interpreter, but the program is frozen or embeds Python, so it has none. "
    "Start the program several times instead, without --processes"
)


@click.command()
@click.argument("target", metavar="APP", required=False, type=arguments.Target())
@click.option("--threads", type=click.IntRange(1), help="Plain functions run at once (cores + 4, at most 8).")
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
@click.option("--until-idle", is_flag=True, help="Run the jobs that are ready, then stop.")
@click.option("--processes", type=click.IntRange(1), help="Run this many worker processes, and replace those that die.")
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
    target: str | None,
    processes: int | None,
    supervised: str | None,
    alive_every: float,
    **options: Any,
) -> None:
    """Run jobs of an app, such as app:queue; its tasks are imported from the current folder.

    The first SIGINT, SIGTERM or SIGHUP lets running jobs end within --grace. A second one, at least one second later,
    releases them at once. Exits with 0 if every job that had begun has ended, with 75 if jobs were released.
    """
    if target is None and not options["imports"]:
        raise click.UsageError("name the app, such as app:queue, or modules with tasks on the default queue: -I MODULE")
    quiet, verbose = options.pop("quiet"), options.pop("verbose")
    options["log_level"] = options["log_level"] or ("warning" if quiet else "debug" if verbose else None)
    logged = options["log_format"], options["log_level"]
    if processes is not None:
        interpreter = _interpreter()
        log_output.set_up(*logged, supervised=True)
        supervisor = Supervisor(
            lambda first: [
                *interpreter,
                *_arguments(target, options, "first" if first else "other", supervisor.alive_every),
            ],
            processes,
            until_idle=options["until_idle"],
            patience=options["grace"] + BEYOND_GRACE,
            manager=service_manager(os.environ),
        )
        code = supervisor.run()
        _ignore_signals()
        ctx.exit(code)
    stacks, tether = StackSignal(), Tether(alive_every) if supervised else None
    manager = None if supervised else service_manager(os.environ)
    log_output.before_import(options["log_format"])
    unserved: list[click.ClickException] | None = [] if options["import_errors"] == "warn" else None
    queue = _queue(target, options["imports"], unserved)
    log_output.set_up(*logged, supervised=tether is not None)
    for error in unserved or ():
        log_output.log.warning("%s; its tasks are not run here", error.message)
    watcher = None if manager is None else Manager(manager)
    code, left = _work(queue, options, tether or watcher, stacks, says_all=supervised != "other")
    _ignore_signals()
    if left:  # a function that does not stop may hold up the interpreter's end as well
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    ctx.exit(code)


def _ignore_signals() -> None:
    """Ignore signals at the end: one that arrives now must not replace the exit code."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


def _queue(target: str | None, imports: tuple[str, ...], unserved: list[click.ClickException] | None) -> Queue:
    """Import the other modules, then the app, then those of the queue: each may declare tasks of the default queue.

    `unserved`: where to put the errors of modules that cannot be imported; None: they are raised.
    """

    def importer(module: str) -> object:
        try:
            return import_named(module)
        except click.ClickException as error:
            if unserved is None:
                raise
            unserved.append(error)
            return None

    import_patterns(imports, importer)
    if target is None:
        return default_queue
    if not names_app(target) and not target.endswith(".py"):
        raise Mistake(f"{target!r} is a file, and tasks are in code; name the app: litequeue run app:queue")
    queue = load(target)[0]
    queue.import_modules(lambda patterns: import_patterns(patterns, importer))
    return queue


def _interpreter() -> list[str]:
    """Return how a child's Python is started: with our flags and path; the current folder adds no module.

    HAZARD: the interpreter of a frozen program is the program itself, which would start itself without end.
    """
    if getattr(sys, "frozen", False) or not sys.executable:
        raise click.UsageError(NO_INTERPRETER)
    # as multiprocessing does; it leaves out -X options that it does not know
    flags: list[str] = getattr(subprocess, "_args_from_interpreter_flags", list)()
    given = (name if value is True else f"{name}={value}" for name, value in sys._xoptions.items())  # noqa: SLF001
    flags += [f"-X{option}" for option in given if option not in flags]
    return [sys.executable, *flags, "-c", CHILD.format(path=[place for place in sys.path if isinstance(place, str)])]


def _arguments(target: str | None, options: dict[str, Any], supervised: str, alive_every: float) -> list[str]:
    """Return a child's arguments, with the same options."""
    command = ["run", "--supervised", supervised, "--alive-every", str(alive_every)]
    for name in ("threads", "coroutines", "log_format", "log_level", "import_errors"):
        if options[name] is not None:
            command += [f"--{name.replace('_', '-')}", str(options[name])]
    command += ["--grace", f"{options['grace']}s"]
    command += ["--queues", queues_text(options["queues"])] if options["queues"] else []
    for name, amount in options["offers"].items():
        command += ["--offer", f"{name}={amount}"]
    command += ["--until-idle"] if options["until_idle"] else []
    for module in options["imports"]:
        command += ["--import", module]
    return command if target is None else [*command, "--", target]


def _work(
    queue: Queue, options: dict[str, Any], watcher: Watcher | None, stacks: StackSignal, *, says_all: bool
) -> tuple[int, int]:
    """Return the exit code, and how many functions were left running."""
    try:
        worker = queue.worker(
            threads=options["threads"],
            coroutines=options["coroutines"],
            queues=options["queues"],
            offers=options["offers"],
            grace=options["grace"],
        )
    except (ValueError, TypeError) as error:
        raise Mistake(str(error)) from error
    if not isinstance(worker, Worker):
        if isinstance(watcher, Manager):
            watcher.claims("an engine of its own runs the jobs")
        return (0 if worker.run(until_idle=options["until_idle"]) else RELEASED), 0
    # a signal just before it runs, or just after, must not kill the process
    worker.stop_request.returns = True  # as run() says
    handle_signals(worker.stop_request)
    if says_all:
        banner.announce(worker, queue, file_of(queue, "this queue"))
    stacks.serve(worker.log_stacks)
    worker.watcher = watcher
    teller = _fasten(worker, watcher, stacks) if isinstance(watcher, Tether) else None
    finished = worker.run(until_idle=options["until_idle"])
    if teller is not None:
        teller.join()  # however short its life was, the supervisor hears that it worked
    ended = worker.settled - worker.released
    ends = "1 run" if ended == 1 else f"{ended} runs"
    log_output.log.info("%s has stopped: %s ended, %d released", worker.name, ends, worker.released)
    queue.close()
    return (0 if finished else RELEASED), worker.left_running


def _fasten(worker: Worker, tether: Tether, stacks: StackSignal) -> threading.Thread:
    """Tell the supervisor when the worker has started; stop the worker if the supervisor says so, or has ended."""
    stop = worker.stop_request  # as signals tell it

    def listen() -> None:
        while word := tether.hear():
            if word == STACKS:
                stacks.ask()
            else:
                stop.told("the supervisor asks for a stop", 2 if word == STOP_NOW else 1)
        stop.told("the supervisor has ended", 1)

    def tell() -> None:
        if worker.wait_until_started():
            tether.say_ready()
            log_output.log.info("%s has started", worker.name)

    threading.Thread(target=listen, daemon=True).start()
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    return teller
