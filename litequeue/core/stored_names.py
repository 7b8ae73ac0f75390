"""The name under which a task's calls are stored: the task's own, and its version. Knows no task.

Version 1 has the bare name, `send`; a later one stands behind an @, as in `send@2`. So each version is a lane of its
own, and a worker claims those that it can run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HIGHEST_VERSION = 1000

_VERSIONED = re.compile(r"(.+)@([1-9][0-9]{0,3})", re.DOTALL)


def stored_name(task: str, version: int) -> str:
    """Return the name under which calls of that version are stored.

    >>> stored_name("send", 1), stored_name("send", 2)
    ('send', 'send@2')
    """
    return task if version == 1 else f"{task}@{version}"


def stored_names(tasks: Iterable[str], version: int, oldest: int) -> tuple[str, ...]:
    """Return those of these names, and of these versions of each, the newest first.

    >>> stored_names(["send", "mail"], 2, 1)
    ('send@2', 'send', 'mail@2', 'mail')
    """
    return tuple(stored_name(task, each) for task in tasks for each in range(version, oldest - 1, -1))


def task_of(stored: str) -> str:
    """Return the name of the task, without its version.

    >>> task_of("send@2")
    'send'
    """
    return _parts(stored)[0]


def version_of(stored: str) -> int:
    """Return the version.

    >>> version_of("send"), version_of("send@2")
    (1, 2)
    """
    return _parts(stored)[1]


def in_words(stored: str) -> str:
    """Return the task's name as text, and its version where that is not the first.

    >>> in_words("send"), in_words("send@2")
    ('send', 'send (version 2)')
    """
    task, version = _parts(stored)
    return task if version == 1 else f"{task} (version {version})"


def _parts(stored: str) -> tuple[str, int]:
    if "@" not in stored:  # most
        return stored, 1
    found = _VERSIONED.fullmatch(stored)
    return (found[1], int(found[2])) if found else (stored, 1)


def checked_version(version: int) -> int:
    """Refuse an invalid version."""
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= HIGHEST_VERSION:
        raise ValueError(f"version must be a whole number from 1 to {HIGHEST_VERSION}, got {version!r}")
    return version


def other_version(stored: str, served: Iterable[str]) -> str | None:
    """Say that only other versions of a task are served, and what to do; None: none is."""
    task, version = _parts(stored)
    if all(task_of(each) != task for each in served):
        return None
    return f"version {version} of {task} needs a worker of that version, or a newer one with upgrade="
