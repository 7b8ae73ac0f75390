"""The program of a child process: imports what it is told to, then runs one job after another. Knows no store."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import threading
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from litequeue.children.channel import ChildsChannel
from litequeue.children.log_records import send_records
from litequeue.children.main_module import run_again
from litequeue.children.messages import LOST, Logged, Ready
from litequeue.core import in_child
from litequeue.core.current_run import current_run
from litequeue.core.logger import log
from litequeue.worker.child.runner import Runner
from litequeue.worker.executor.job_filter import JobFilter

if TYPE_CHECKING:
    from litequeue.children.messages import Setup

STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def main(number: int) -> None:
    """Be a child of the process that holds the other end of this descriptor, until that closes it."""
    in_child.mark()
    parent = os.getppid()
    _die_with_parent()
    channel = ChildsChannel.of_descriptor(number)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_be_a_copy)
    try:
        setup: Setup = channel.receive()
    except (EOFError, OSError):
        return
    if os.getppid() != parent:  # it died before we had asked to be told
        return
    for stop in STOPS:  # the worker decides; and not ignored, which processes that a job starts would inherit
        signal.signal(stop, _do_nothing)
    with suppress(OSError, ValueError, AttributeError):  # its stderr is replaced
        faulthandler.enable(all_threads=False)
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # what it prints before a crash is seen
    sys.path[:], sys.argv[:] = setup.path, setup.argv
    send_records(partial(_send_record, channel), setup.levels, JobFilter())
    runner = Runner(channel, setup)
    _import(setup, runner)
    threading.Thread(target=runner.listen, name="litequeue-channel", daemon=True).start()
    try:
        channel.send(Ready())
        runner.work()
    except OSError as error:  # the worker is gone, or a job has closed what is ours
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(f"litequeue: this child process ends: {error}\n")
        sys.exit(LOST)


def _send_record(channel: ChildsChannel, fields: dict[str, Any]) -> None:
    run = current_run.get(None)
    with suppress(OSError):  # where nobody listens any more, this process ends soon
        channel.send(Logged(fields, None if run is None else (run.id, run.attempt)))


def _do_nothing(_number: int, _frame: object) -> None:
    return None


def _be_a_copy() -> None:
    """A job has forked this process: it is none of the worker's, and ends by the signals that end others."""
    for number in STOPS:
        if signal.getsignal(number) is _do_nothing:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _die_with_parent() -> None:
    """Have the system kill us when the thread that started us ends: a job in C code hears of nothing else."""
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)


def _import(setup: Setup, runner: Runner) -> None:
    """Import what the jobs need; what cannot be imported fails the jobs that need it."""
    try:
        for each in setup.prepare:
            module, _, function = each.partition(":")
            getattr(import_module(module), function)()
        if setup.main is not None:
            run_again(setup.main)
    except BaseException as error:
        log.error("a child process could not be prepared", error=error)
    for found in setup.tasks:
        with suppress(BaseException):  # met again, and told, by the first job of it
            runner.task_of(found)
