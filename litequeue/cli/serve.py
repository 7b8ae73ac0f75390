"""One worker process of `run`: run a worker of each app, and say how they ended. Knows no supervisor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from litequeue.cli import banner, log_output
from litequeue.cli.closing import say_stopped
from litequeue.cli.mistake import Mistake
from litequeue.cli.reload import Change, ImportedFiles
from litequeue.cli.stack_signal import StackSignal
from litequeue.core.current_run import current_app
from litequeue.core.engine import Runner
from litequeue.sqlite.store import SqliteStore
from litequeue.worker.signals import handle_signals
from litequeue.worker.supervisor import AGAIN, RELEASED
from litequeue.worker.tether import STACKS, STOP_NOW, Tether
from litequeue.worker.together import Together
from litequeue.worker.watchdog import Manager, Watcher
from litequeue.worker.web_server import RELOAD_GRACE
from litequeue.worker.worker import Worker

if TYPE_CHECKING:
    from litequeue.queue import Queue
    from litequeue.worker_options import WorkerOptions


class Ended(NamedTuple):
    """How the process is to end: its exit code, and whether at once, because functions were left running."""

    code: int
    at_once: bool = False


class Served(NamedTuple):
    """An app, its queue with its file, and its worker."""

    app: str
    queue: Queue
    store: SqliteStore
    worker: Worker


def serve(
    queues: dict[str, Queue],
    options: dict[str, Any],
    watcher: Watcher | None,
    stacks: StackSignal,
    files: ImportedFiles | None,
    *,
    says_all: bool,
) -> Ended:
    """Run the workers to their end. `files`: end when one changes; `says_all`: what is served, and what is left."""
    runners = {app: _runner(queue, options) for app, queue in queues.items()}
    served = [
        Served(app, queues[app], store, runner)
        for app, runner in runners.items()
        if isinstance(store := queues[app].engine, SqliteStore) and isinstance(runner, Worker)
    ]
    if len(served) < len(runners):
        return _serve_elsewhere(*runners.values(), watcher=watcher, until_idle=options["until_idle"])
    crew: Worker | Together = served[0].worker
    if len(served) > 1:
        crew = Together({each.app: each.worker for each in served})
    # a signal just before it runs, or just after, must not kill the process
    listener = crew if isinstance(crew, Together) else crew.stop_request
    listener.returns = True  # as run() says
    handle_signals(listener)
    if says_all:
        _for_each(served, lambda each: banner.announce(each.worker, each.queue, each.store))
    stacks.serve(crew.log_stacks)
    _watch(crew, watcher)
    changes: list[Change] = []
    if files is not None:
        files.watch(lambda change: _let_go(listener, change, changes))
    teller = _fasten(crew, served, watcher, stacks) if isinstance(watcher, Tether) else None
    finished = crew.run(until_idle=options["until_idle"])
    if teller is not None:
        teller.join()  # however short its life was, the supervisor hears that it worked
    counts_left = says_all and options["until_idle"]
    _for_each(served, lambda each: _say_stopped(each, counts_left=counts_left))
    for each in served:
        each.queue.close()
    code = _code(crew, changes, finished, supervised=teller is not None)
    return Ended(code, at_once=crew.left_running > 0 or (bool(changes) and _others_run()))


def _others_run() -> bool:
    """Whether threads of the application's own would keep the interpreter from ending."""
    ours = threading.current_thread(), threading.main_thread()
    return any(not (thread.daemon or thread in ours) for thread in threading.enumerate())


def _runner(queue: Queue, options: dict[str, Any]) -> Runner:
    of_children = "children", "max_jobs_per_child", "max_memory_per_child"
    names = ("threads", "coroutines", *of_children, "queues", "offers", "grace", "max_jobs", "max_memory")
    given = cast("WorkerOptions", {name: options[name] for name in names if options[name] is not None})
    try:
        return queue.worker(**given)
    except (ValueError, TypeError) as error:
        raise Mistake(str(error)) from error


def _serve_elsewhere(runner: Runner, *others: Runner, watcher: Watcher | None, until_idle: bool) -> Ended:
    """Run the jobs of an engine other than the file."""
    if others:
        raise Mistake("apps of other engines than the SQLite file cannot run beside others; start each by itself")
    if isinstance(watcher, Manager):
        watcher.claims("an engine of its own runs the jobs")
    return Ended(0 if runner.run(until_idle=until_idle) else RELEASED)


def _for_each(served: list[Served], do: Callable[[Served], object]) -> None:
    """Do it for each app; with several, log records name it."""
    for each in served:
        token = current_app.set(each.app) if len(served) > 1 else None
        do(each)
        if token is not None:
            current_app.reset(token)


def _say_stopped(each: Served, *, counts_left: bool) -> None:
    say_stopped(each.worker, each.queue, each.store, counts_left=counts_left)


def _watch(crew: Worker | Together, watcher: Watcher | None) -> None:
    if isinstance(crew, Worker):
        crew.watcher = watcher
    elif watcher is not None:
        crew.watch(watcher)


def _let_go(listener: Any, change: Change, changes: list[Change]) -> None:
    """End soon: what runs is asked to end, and released."""
    changes.append(change)
    listener.shorten(RELOAD_GRACE)
    listener.told(str(change), 1)


def _code(crew: Worker | Together, changes: list[Change], finished: bool, *, supervised: bool) -> int:  # noqa: FBT001
    if supervised and (changes or crew.recycled):
        return AGAIN
    if crew.recycled:
        log_output.log.info("the process ends; to have another take its place, restart it from outside, or --processes")
    return 0 if finished else RELEASED


def _fasten(crew: Worker | Together, served: list[Served], tether: Tether, stacks: StackSignal) -> threading.Thread:
    """Tell the supervisor when the workers have started; stop them if the supervisor says so, or has ended."""
    stop = crew if isinstance(crew, Together) else crew.stop_request  # as signals tell it
    hear(tether, stop.told, stacks)

    def tell() -> None:
        if crew.wait_until_started():
            tether.say_ready()
            _for_each(served, lambda each: log_output.log.info("%s has started", each.worker.name))

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    return teller


def hear(tether: Tether, told: Callable[[str, int], object], stacks: StackSignal) -> None:
    """Listen, in a thread, to what the supervisor says; `told`: as of a `Listener`."""

    def listen() -> None:
        while word := tether.hear():
            if word == STACKS:
                stacks.ask()
            else:
                told("the supervisor asks for a stop", 2 if word == STOP_NOW else 1)
        told("the supervisor has ended", 1)

    threading.Thread(target=listen, daemon=True).start()
