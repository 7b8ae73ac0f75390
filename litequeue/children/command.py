"""How another process of this program is started: the interpreter, its flags, its path. Knows no worker.

HAZARD: `python -m` puts the current folder first, where any `types.py` would be imported; and the interpreter of a
frozen program is the program itself, which would start itself without end.
"""

from __future__ import annotations

import subprocess
import sys

CHILD = "from litequeue.worker.child.main import main; main({number})"
FROZEN_CHILD = "--litequeue-child"  # the first argument of a frozen program that is to be a child: see frozen_child.py


def has_interpreter() -> bool:
    """Whether Python can be started anew from here: not in a frozen program, nor where Python is embedded."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


def hands_over_when_frozen() -> bool:
    """Whether this frozen program begins with our hook, which turns a process of it into a child when asked to."""
    return bool(sys.executable) and bool(getattr(sys, "litequeue_hook", False))


def interpreter_with(code: str) -> list[str]:
    """Return how Python is started with our flags and path, and runs this code; the current folder adds no module."""
    # as multiprocessing does; it leaves out -X options that it does not know
    flags: list[str] = getattr(subprocess, "_args_from_interpreter_flags", list)()
    given = (name if value is True else f"{name}={value}" for name, value in sys._xoptions.items())  # noqa: SLF001
    flags += [f"-X{option}" for option in given if option not in flags]
    path = [place for place in sys.path if isinstance(place, str)]
    return [sys.executable, *flags, "-c", f"import sys; sys.path[:] = {path!r}; {code}"]


def child_command(number: int) -> list[str]:
    """Return how a child is started; `number`: the descriptor of its end of the channel."""
    if has_interpreter():
        return interpreter_with(CHILD.format(number=number))
    return [sys.executable, FROZEN_CHILD, str(number)]
