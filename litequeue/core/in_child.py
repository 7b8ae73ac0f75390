"""Whether this process is a child that a worker has started for tasks with `process=True`. Knows no worker.

Such a process imports the application's modules, and runs functions: what they declare starts nothing in it.
"""

from __future__ import annotations

_marked = False


def mark() -> None:
    """Note that this process is one; called before anything of the application is imported."""
    global _marked  # noqa: PLW0603
    _marked = True


def in_child() -> bool:
    """Whether it is."""
    return _marked
