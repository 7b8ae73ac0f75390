"""How another process of this program is started: the interpreter, its flags, its path. Knows no worker.

HAZARD: `python -m` puts the current folder first, where any `types.py` would be imported; and the interpreter of a
frozen program is the program itself, which would start itself without end.
"""

from __future__ import annotations

import subprocess
import sys

CHILD = "from litequeue.worker.child.main import main; main({number})"
FROZEN_CHILD = "--litequeue-child"  # the first argument of a frozen program that is to be a child
RUN_ELSEWHERE = "give this worker children=0, and run these tasks in a worker that Python itself has started"
BUILD_ANEW = (
    "build it with PyInstaller from an environment in which litequeue is installed, where PyInstaller finds the hook "
    f"by itself (docs/frozen.md); or {RUN_ELSEWHERE}"
)


def has_interpreter() -> bool:
    """Whether Python can be started anew from here: not in a frozen program, nor where Python is embedded."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


def why_no_child() -> tuple[str, str] | None:
    """Return why no child can be started from this program, and what to do; None: it can."""
    if has_interpreter() or (sys.executable and hasattr(sys, "litequeue_hook")):  # the mark of pyi_rth_litequeue.py
        return None
    if getattr(sys, "frozen", False):
        return "this program is frozen, without litequeue's hook for PyInstaller", BUILD_ANEW
    return "Python is embedded here, and sys.executable does not say where its interpreter is", RUN_ELSEWHERE


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
