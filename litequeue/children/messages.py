"""What a worker and its child processes say to each other: values. Knows no process and no task.

They travel pickled: both sides are the same program. Arguments and results in them are bytes of the queue's codec.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, NamedTuple

from litequeue.core.outcome import ErrorInfo, Outcome
from litequeue.core.records import Claimed
from litequeue.errors import StoreError


class Found(NamedTuple):
    """Where a child finds a task: `name` in `module`, which is the file `file` where it cannot be imported by name.

    `recipe`: how to make the task of the function that stands there; None: the task itself does.
    """

    module: str
    name: str
    file: str | None
    recipe: bytes | None


# ---- to the child


class Setup(NamedTuple):
    """The first message. `main`: how to run the program's own file again, if a task is in it; see `main_module`.

    `levels`: of the loggers that have one. `place`: the file of the queue. `tells_memory`: with each end of a run.
    """

    path: tuple[str, ...]
    argv: tuple[str, ...]
    main: Mapping[str, str] | None
    prepare: tuple[str, ...]
    tasks: tuple[Found, ...]
    levels: Mapping[str, int]
    place: str
    tells_memory: bool


class Start(NamedTuple):
    """Run this job. `soft`: seconds after which `JobTimeout` is raised in the function. `keep_for`: as in `Run`."""

    job: Claimed
    found: Found
    soft: float
    keep_for: float


class Told(NamedTuple):
    """The run's cancel was requested, or its worker releases it. `ends`: it is to be ended now, and not only told."""

    run: tuple[str, int]
    cancelled: bool
    released: bool
    ends: bool = False


class Lost(NamedTuple):
    """Another worker has the job: what it emits from now on is dropped."""

    run: tuple[str, int]


class Answer(NamedTuple):
    """What a call to the worker returned, or raised."""

    number: int
    value: Any
    error: BaseException | None


class AskStack(NamedTuple):
    """Say where the function is."""


# ---- to the worker

LOST = 70  # EX_SOFTWARE of sysexits.h, the exit code of a child that cannot tell the worker anything any more


class Ready(NamedTuple):
    """The modules are imported, and calls can come."""


class Begun(NamedTuple):
    """The function of the last `Start` is about to be called."""


class Ended(NamedTuple):
    """How the run ended. `memory`: the bytes that the process holds, if it was asked for, and the system tells."""

    outcome: Outcome
    memory: int | None


class NotLoaded(NamedTuple):
    """The task was not found, its module cannot be imported here, or the system gives no event loop for it."""

    error: ErrorInfo


class Called(NamedTuple):
    """Call this method of the worker's recorder with the run's job. `number`: of the answer; None: none is wanted.

    `run`: whose call it is; a thread that a job has left behind may still make some while another one runs.
    """

    number: int | None
    run: tuple[str, int]
    method: str
    arguments: tuple[Any, ...]


class Logged(NamedTuple):
    """A log record: the attributes that make one, and the run that has logged it."""

    fields: dict[str, Any]
    run: tuple[str, int] | None = None


class Stack(NamedTuple):
    """Where the function is."""

    text: str


def travelling(error: BaseException | None) -> BaseException | None:
    """Return the error as it can be read on the other side: one that cannot be pickled as a `StoreError`."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  what this line has made
    except Exception:
        return StoreError(f"{type(error).__name__}: {error}")
    return error
