"""Every command with every option and argument that click knows of it, well-formed and hostile, in this process."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import click
from click.shell_completion import BashComplete
from hypothesis import strategies as st

from fuzz import hostile
from fuzz.app import TASKS, folder
from fuzz.looking import invoke
from fuzz.targets import Target
from litequeue import Job, Queue
from litequeue.cli import arguments, main
from litequeue.cli.schedules import ACTIONS
from litequeue.worker.signals import HANDLERS
from litequeue.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Generator

APP = "fuzz_app"  # what is imported by this name is not the canary
CODE = """
from fuzz.app import declare
from litequeue import Queue

queue = declare(Queue("app.db", durability="normal"))
"""
TARGETS_NAMED = (
    "app.db", APP, f"{APP}:queue", f"{APP}:nothing", f"{APP}:queue.path", f"{APP}.py", "nothing.db", "nothing:queue",
    "os:system",
    "sys:exit", "os.path:join", "litequeue", ".", "app.db-wal", "app.db/x", f"{APP}:queue:queue", f"{APP}:",
    ":queue", "é:é",
)  # fmt: skip
IDS = ("1", "2", "5", "0", "999", "-1", str(hostile.LARGEST), "9" * 30, "9" * 5000, "٣", "²")
CALLS = ("1", "n=1", "n=x", "[1]", '{"n": 1}', "=", "n=", "[" * 400 + "]" * 400, "__import__('os')", "n=eval('1')")


def _typed(word: str) -> bool:
    """Whether a shell can pass it, and no path in it leads out of the folder."""
    try:
        os.fsencode(word)
    except UnicodeEncodeError:
        return False
    return "\0" not in word and len(word) < 100_000 and not os.path.isabs(word) and ".." not in Path(word).parts


words = st.sampled_from([*TARGETS_NAMED, *IDS, *TASKS, *ACTIONS, *CALLS, "copy.db", "x,y", ","]) | hostile.texts.filter(
    _typed
)


# What stands for the words in a usage line.
FITTING = {"TARGET": ("app.db", f"{APP}:queue"), "APP": (f"{APP}:queue",), "ID": IDS[:4], "COPY": ("copy.db",),
    "ACTION": ACTIONS,
           "NAME": TASKS, "TASK": TASKS, "ARGUMENT": CALLS}  # fmt: skip


def _values(kind: click.ParamType, *, fits: bool) -> st.SearchStrategy[str]:
    """Values of that type, or others."""
    if not fits:
        return words
    match kind:
        case click.Choice():
            return st.sampled_from([str(one) for one in kind.choices])
        case click.IntRange():
            return st.sampled_from([str(number) for number in (kind.min, kind.max, 1, 2) if number is not None])
        case arguments.Duration():
            return st.sampled_from(["0", "0.01", "10ms", *hostile.DURATIONS])
        case arguments.Moment():
            return st.sampled_from(hostile.INSTANTS)
        case arguments.Target():
            return st.sampled_from(TARGETS_NAMED)
        case _:
            return st.sampled_from(TASKS) | st.sampled_from(CALLS) | words


def _arguments(argument: click.Argument, *, fits: bool) -> st.SearchStrategy[list[str]]:
    """One after another, by the usage line if they are to fit."""
    if not fits:
        return st.lists(words, max_size=4 if argument.nargs == -1 else 1)
    names = re.findall("[A-Z]+", argument.metavar or argument.human_readable_name.upper())
    kinds = [st.sampled_from(FITTING[name]) if name in FITTING else _values(argument.type, fits=True) for name in names]
    return st.tuples(*kinds).map(list)


mostly = st.sampled_from([True, True, True, False])


@st.composite
def lines(draw: st.DrawFn) -> tuple[str, ...]:
    """A command line."""
    name = draw(st.sampled_from(sorted(main.commands)))
    parts: list[list[str]] = []
    options = [one for one in main.commands[name].params if isinstance(one, click.Option)]
    for option in draw(st.lists(st.sampled_from(options), max_size=2)) if options else []:
        flag = option.is_flag or option.count
        value = [] if flag else [draw(_values(option.type, fits=draw(mostly)))]
        parts.append([draw(st.sampled_from(option.opts)), *value])
    given = [one for one in main.commands[name].params if isinstance(one, click.Argument)]
    named = [[word] for argument in given for word in draw(_arguments(argument, fits=draw(mostly)))]
    order = draw(st.sampled_from([parts + named, named + parts]) | st.permutations(parts + named))
    return (name, *(word for part in order for word in part))


def run_line(line: tuple[str, ...]) -> None:
    """Run it in a folder with an app and its file."""
    with folder() as place, _in_place(place):
        invoke(list(line))
        assert sorted(place.parent.parent.glob("*.db*")) == [], "it wrote outside of its folder"
        with Queue("app.db") as queue:
            assert queue.engine.admin.integrity() == []


@contextlib.contextmanager
def _in_place(place: Path) -> Generator[None, None, None]:
    (place / f"{APP}.py").write_text(CODE)
    before, path, signals = (
        Path.cwd(),
        sys.path[:],
        {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)},
    )
    log = logging.getLogger("litequeue")
    handlers, level, propagate = log.handlers[:], log.level, log.propagate
    os.chdir(place)
    try:
        with ExitStack() as stack:
            stack.enter_context(mock.patch.dict(os.environ, LITEQUEUE_PATH="app.db"))
            for patched in _short():
                stack.enter_context(patched)
            yield
    finally:
        os.chdir(before)
        module = sys.modules.pop(APP, None)
        if module is not None:
            module.queue.close()
        sys.path[:] = path
        log.handlers[:], log.level, log.propagate = handlers, level, propagate
        HANDLERS.after_fork()  # `run` leaves its own to the end of the process
        for number, handler in signals.items():
            signal.signal(number, handler)


class Alone:
    """In the place of the supervisor: what it would start is listed, and not started."""

    alive_every = 1.0

    def __init__(self, command: Any, processes: int, **options: Any) -> None:
        self._command = command

    def run(self) -> int:
        commands = [self._command(first) for first in (True, False)]
        assert all(isinstance(word, str) for command in commands for word in command)
        return 0


class NoTether:
    """There is no supervisor to speak to."""

    def __new__(cls, *_: object) -> Any:
        return None


def _short() -> list[Any]:
    """No command waits for what does not come, or starts a process by itself."""
    work, result = Worker.run, Job.result
    return [
        mock.patch.object(Worker, "run", lambda self, until_idle=False: work(self, until_idle=True)),
        mock.patch.object(BashComplete, "_check_version"),  # click asks bash
        mock.patch.object(Job, "result", lambda self, timeout=None: result(self, min(0.01, timeout or 0.01))),
        mock.patch.object(sys.modules["litequeue.cli.run"], "Supervisor", Alone),
        mock.patch.object(sys.modules["litequeue.cli.run"], "Tether", NoTether),
    ]


TARGETS = (Target("commands", lines(), run_line, share=4),)
